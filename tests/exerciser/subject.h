// The files under test, whoever keeps them: what the exerciser asks of a driver.
//
// Files are numbered from 0 and exist, empty, when the subject is made. Errors carry the errno of the matching call.
#pragma once

#include "base/result.h"
#include "exerciser/operation.h"

#include <cstddef>
#include <span>

namespace outboard::exerciser {

class Subject {
public:
  using Way = Operation::Way;
  enum class Seek { data, hole };
  virtual ~Subject() = default;

  virtual Result<std::size_t> read(unsigned file, Way way, std::uint64_t offset, std::span<std::byte> into) = 0;
  virtual Result<std::size_t> write(unsigned file, Way way, std::uint64_t offset, std::span<const std::byte> data) = 0;
  virtual Result<std::size_t> append(unsigned file, std::span<const std::byte> data) = 0;
  virtual Status truncate(unsigned file, std::uint64_t size) = 0;
  // `mode` as fallocate(2).
  virtual Status allocate(unsigned file, int mode, std::uint64_t offset, std::uint64_t length) = 0;
  virtual Result<std::size_t> copy(unsigned from, std::uint64_t offset, unsigned to, std::uint64_t target,
                                   std::size_t length) = 0;
  virtual Result<std::uint64_t> seek(unsigned file, std::uint64_t offset, Seek what) = 0;
  virtual Result<std::uint64_t> size(unsigned file) = 0;

  virtual Status sync(unsigned file, bool data_only) = 0;
  virtual Status sync_all() = 0;
  virtual Status reopen(unsigned file) = 0;
  virtual Status drop_cache(unsigned file) = 0;  // of clean pages; where there is none, nothing happens
  virtual Status remount() = 0;
  virtual Status crash() = 0;  // ends without a goodbye, and begins again
};

}  // namespace outboard::exerciser

// What the files must hold: their bytes in memory, and nothing else. And how bytes are compared and told about.
#pragma once

#include "exerciser/operation.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace outboard::exerciser {

// The bytes that operation `number` writes at `offset` of a file. Every eight of them (on multiples of eight) name the
// operation and the offset, and none is zero: bytes that turn up in the wrong place say where they come from.
void fill(std::span<std::byte> into, std::uint64_t number, std::uint64_t offset);

// "" or where the two differ first, with the bytes of both around it. `offset`: of the first byte in the file.
std::string difference(std::span<const std::byte> expected, std::span<const std::byte> found, std::uint64_t offset,
                       std::uint32_t block_size);

class Model {
public:
  explicit Model(unsigned files) : files_(files) {}
  // An operation that succeeded, the `number`-th. Those that change no contents are no business of the model.
  void apply(const Operation &operation, std::uint64_t number);

  // What an operation that ended half way has left.
  void adopt(unsigned file, std::span<const std::byte> bytes) { files_[file].assign(bytes.begin(), bytes.end()); }

  std::span<const std::byte> contents(unsigned file) const { return files_[file]; }
  std::vector<std::uint64_t> sizes() const;
  // The part of the file inside this range.
  std::span<const std::byte> part(unsigned file, std::uint64_t offset, std::uint64_t length) const;
  // The first byte at or after `offset` that is not zero; the size of the file when there is none.
  std::uint64_t first_nonzero(unsigned file, std::uint64_t offset) const;

private:
  std::vector<std::vector<std::byte>> files_;
};

}  // namespace outboard::exerciser

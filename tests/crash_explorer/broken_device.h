// Faults that a file system could have, as its device sees them: each variant is what the requests of an Outboard with that
// line of code missing would look like. They show that the explorer finds what it is there for.
#pragma once

#include "base/mutex.h"
#include "device/block_device.h"
#include "jbd2/format.h"

#include <string_view>
#include <utility>
#include <vector>

namespace outboard::crash_explorer {

enum class Fault : std::uint8_t {
  none,
  no_flush_before_commit,   // the commit block may be there without what it commits
  data_after_commit,        // file data is written when the transaction that names its blocks has its commit block
  tail_not_zeroed,          // what lies behind the end of a file is not zeroed in place
  no_revokes,               // revoke blocks are empty
  directories_not_synced,   // fsync of a directory does nothing; no fault of a device: Script::Hooks
};
std::string_view name_of(Fault fault);

// Between a file system with a log and the recording device. Thread-safe.
class BrokenDevice final : public device::BlockDevice {
public:
  BrokenDevice(device::BlockDevice &lower, Fault fault, std::uint32_t block_size)
      : lower_(lower), fault_(fault), block_size_(block_size) {}

  // How often it did something else than it was told.
  std::uint64_t faults() const EXCLUDES(mutex_);

  const device::Properties &properties() const override { return lower_.properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override EXCLUDES(mutex_);
  Status write(std::uint64_t offset, std::span<const std::byte> data) override EXCLUDES(mutex_);
  Status write_gather(std::uint64_t offset, std::span<const iovec> pieces) override;
  Status flush() override EXCLUDES(mutex_);
  Status discard(std::uint64_t offset, std::uint64_t length) override { return lower_.discard(offset, length); }
  Status zero(std::uint64_t offset, std::uint64_t length) override EXCLUDES(mutex_);

private:
  bool holds(std::span<const std::byte> data, jbd2::LogBlockType type) const;
  void empty_revokes(std::vector<std::byte> &data) REQUIRES(mutex_);
  Status release() REQUIRES(mutex_);

  device::BlockDevice &lower_;
  const Fault fault_;
  const std::uint32_t block_size_;
  mutable Mutex mutex_{Rank::folios};  // held during I/O below, and nothing of that rank is held during I/O
  bool in_commit_ GUARDED_BY(mutex_) = false;  // a descriptor or revoke block has been written, its commit block has not
  std::vector<std::pair<std::uint64_t, std::vector<std::byte>>> held_ GUARDED_BY(mutex_);  // data, in order
  jbd2::LogFormat format_ GUARDED_BY(mutex_);  // of the log, as far as revoke blocks need it
  std::uint64_t faults_ GUARDED_BY(mutex_) = 0;
};

}  // namespace outboard::crash_explorer

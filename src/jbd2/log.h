// Where the log is: journal block numbers to device bytes. The journal knows no inodes; the volume hands it this.
#pragma once

#include "base/result.h"
#include "base/units.h"
#include "device/block_device.h"

#include <cstdint>
#include <span>
#include <vector>

namespace outboard::jbd2 {

// The blocks of a log in order, on the device that holds them (the file system's own, or an external journal device).
// Journal block 0 is the journal superblock. Immutable; runs are checked by the maker to lie inside the device.
class LogArea {
public:
  LogArea(device::BlockDevice &device, std::uint32_t block_size, std::vector<BlockRun> runs);
  device::BlockDevice &device() const { return *device_; }
  std::uint32_t block_size() const { return block_size_; }
  std::uint32_t block_count() const { return block_count_; }

  // A contiguous stretch of the log: `count` blocks from journal block `first` that also lie together on the device.
  struct Piece {
    std::uint64_t device_offset = 0;  // bytes
    std::uint32_t count = 0;          // blocks, at least 1, at most what was asked
  };
  Piece locate(std::uint32_t first, std::uint32_t count) const;

  Status read(std::uint32_t first, std::span<std::byte> blocks) const;         // whole blocks
  Status write(std::uint32_t first, std::span<const std::byte> blocks) const;  // whole blocks
  // True when the range of device blocks touches the log (an internal log must not be replayed over itself).
  bool contains(BlockNumber block) const;
  const std::vector<BlockRun> &runs() const { return runs_; }

private:
  device::BlockDevice *device_;
  std::uint32_t block_size_;
  std::uint32_t block_count_ = 0;
  std::vector<BlockRun> runs_;
  std::vector<std::uint32_t> first_of_run_;  // journal block at which each run starts
};

}  // namespace outboard::jbd2

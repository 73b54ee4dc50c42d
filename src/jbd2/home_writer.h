// Writes blocks to their homes: gathered in ascending order into an aligned area, neighbours merged into one request,
// and the requests of an area handed to the device as one batch. Used by checkpoint, by commits without a log, by replay.
// One thread. Does not flush.
#pragma once

#include "base/units.h"
#include "cache/aligned_memory.h"
#include "device/block_device.h"

#include <vector>

namespace outboard::jbd2 {

class HomeWriter {
public:
  HomeWriter(device::BlockDevice &device, std::uint32_t block_size);

  std::size_t capacity() const { return capacity_; }  // blocks that fit before write_out()
  bool full() const { return blocks_.size() == capacity_; }
  // Memory for the contents of `block`, which must be greater than every block added since write_out(). Not when full().
  std::span<std::byte> add(BlockNumber block);
  // Takes the newest block back.
  void remove_last() { blocks_.pop_back(); }
  Status write_out();

private:
  device::BlockDevice &device_;
  const std::uint32_t block_size_;
  const std::size_t capacity_;
  cache::AlignedArea area_;
  std::vector<BlockNumber> blocks_;
};

}  // namespace outboard::jbd2

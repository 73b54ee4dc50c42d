// A file system of one file in a few maps, for tests of the engine: block-sized pieces in state hole, unwritten or
// mapped, fresh blocks that are recorded by ioend() only. No format, no disk structures.
#pragma once

#include "device/block_device.h"
#include "iomap/mapping.h"

#include <map>
#include <set>

namespace outboard::iomap {

class ToySource : public MappingSource {
public:
  struct Block {
    std::uint64_t device_block = 0;
    bool unwritten = false;
  };
  explicit ToySource(std::uint32_t block_size, std::uint64_t device_blocks) : block_size_(block_size) {
    for (std::uint64_t b = 1; b < device_blocks; ++b) free_.insert(b);
  }

  std::map<std::uint64_t, Block> blocks;  // file block to device block
  std::set<std::uint64_t> reserved;       // handed out by begin(), not yet settled
  std::uint64_t size = 0;
  std::uint64_t max_answer = ~std::uint64_t{0};  // blocks in one mapping, at most
  int refuse_ioend = -1;                         // the n-th ioend() from now on fails
  unsigned begins = 0, ends = 0, ioends = 0;

  void put(std::uint64_t file_block, bool unwritten) { blocks[file_block] = {take(), unwritten}; }

  Result<Mapping> begin(ByteRange range, Operation operation) override {
    ++begins;
    const std::uint64_t block = range.offset / block_size_;
    Mapping mapping;
    mapping.offset = block * block_size_;
    auto found = blocks.find(block);
    std::uint64_t count = 1;
    if (found != blocks.end()) {
      mapping.type = found->second.unwritten ? MappingType::unwritten : MappingType::mapped;
      mapping.address = found->second.device_block * block_size_;
      for (auto next = std::next(found); count < max_answer && next != blocks.end() && next->first == block + count &&
                                         next->second.device_block == found->second.device_block + count &&
                                         next->second.unwritten == found->second.unwritten;
           ++next)
        ++count;
    } else {
      auto next = blocks.upper_bound(block);
      count =
          std::min<std::uint64_t>(max_answer, (next == blocks.end() ? std::uint64_t{1} << 53 : next->first) - block);
      if (operation == Operation::delay) {
        mapping.type = MappingType::delalloc;
      } else if (operation == Operation::write) {
        const std::uint64_t want = std::min(count, divide_up<std::uint64_t>(range.end(), block_size_) - block);
        if (free_.empty()) {
          --begins;  // no answer, no end
          return fail(Error::user(ENOSPC));
        }
        mapping.type = MappingType::mapped;
        mapping.flags = kFresh;
        const std::uint64_t first = take();
        reserved.insert(first);
        for (count = 1; count < want && free_.contains(first + count); ++count) {
          free_.erase(first + count);
          reserved.insert(first + count);
        }
        mapping.address = first * block_size_;
      }
    }
    mapping.length = count * block_size_;
    return mapping;
  }

  Status ioend(ByteRange written, const Mapping &mapping) override {
    ++ioends;
    const bool refused = refuse_ioend == 0;
    if (refuse_ioend >= 0) --refuse_ioend;
    if (refused) return fail(Error::user(ENOSPC, "toy: refused"));
    const std::uint64_t last = divide_up<std::uint64_t>(written.end(), block_size_);
    for (std::uint64_t block = written.offset / block_size_; block < last; ++block) {
      if ((mapping.flags & kFresh) != 0) {
        const std::uint64_t device_block = (mapping.address + (block * block_size_ - mapping.offset)) / block_size_;
        reserved.erase(device_block);
        blocks[block] = {device_block, false};
      } else {
        blocks[block].unwritten = false;
      }
    }
    size = std::max(size, written.end());
    return {};
  }

  Status end(ByteRange, std::uint64_t, Operation operation, const Mapping &mapping) override {
    ++ends;
    if (operation != Operation::write || (mapping.flags & kFresh) == 0) return {};
    for (std::uint64_t n = 0; n < mapping.length / block_size_; ++n) {
      const std::uint64_t device_block = mapping.address / block_size_ + n;
      if (reserved.erase(device_block) != 0) free_.insert(device_block);
    }
    return {};
  }

private:
  std::uint64_t take() {
    const std::uint64_t block = *free_.begin();
    free_.erase(free_.begin());
    return block;
  }
  const std::uint32_t block_size_;
  std::set<std::uint64_t> free_;
};

}  // namespace outboard::iomap

// A file system of one file with a given list of extents: the cheapest source there can be (a binary search in memory).
#pragma once

#include "iomap/mapping.h"

#include <algorithm>
#include <vector>

namespace outboard::bench {

class ExtentList final : public iomap::MappingSource {
public:
  // `count` extents of `length` bytes each, one behind the other in the file, never so on the device: in pairs that
  // have changed places.
  ExtentList(std::uint64_t count, std::uint64_t length) {
    for (std::uint64_t n = 0; n < count; ++n)
      extents_.push_back({iomap::MappingType::mapped, 0, n * length, length, (n ^ 1) * length, sequence, {}});
  }
  Result<iomap::Mapping> begin(ByteRange range, iomap::Operation) override {
    const auto behind = std::ranges::upper_bound(extents_, range.offset, {}, &iomap::Mapping::offset);
    return *std::prev(behind);
  }
  Status end(ByteRange, std::uint64_t, iomap::Operation, const iomap::Mapping &) override { return {}; }

  const std::uint64_t sequence = 1;

private:
  std::vector<iomap::Mapping> extents_;
};

}  // namespace outboard::bench

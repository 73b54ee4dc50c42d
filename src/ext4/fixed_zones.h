// The blocks that no file may ever use: superblocks and descriptors, bitmaps, inode tables, an internal journal.
// Immutable once built, so lookups take no lock.
#pragma once

#include "ext4/format/geometry.h"

#include <optional>
#include <span>
#include <vector>

namespace outboard::ext4 {

class FixedZones {
public:
  // `zones`: bitmaps, tables and log, in any order.
  FixedZones(const format::Geometry &geometry, std::vector<BlockRun> zones);

  bool touches(BlockRun run) const;
  // A block that two of them claim, if there is one.
  std::optional<BlockNumber> conflict() const { return conflict_; }

private:
  const format::Geometry &geometry_;
  std::vector<BlockRun> zones_;  // sorted, disjoint, neighbours joined
  std::optional<BlockNumber> conflict_;
};

}  // namespace outboard::ext4

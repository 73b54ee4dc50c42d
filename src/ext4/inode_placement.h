// In which group a new inode had best be: files beside their directory, directories spread out so that what is in them has
// room (Orlov's rules, as ext4 uses them). Looks at hints only and at a bounded number of groups; the choice may be stale.
#pragma once

#include "ext4/format/geometry.h"
#include "ext4/group_table.h"

#include <cstdint>

namespace outboard::ext4 {

class InodePlacement {
public:
  InodePlacement(GroupTable &groups, const format::Geometry &geometry);

  // For a new directory. `top_level`: its parent is the root, or marked as a top of hierarchies: far from the others, at a
  // random place (`random`). Else near its parent unless that part of the volume is much fuller than the rest.
  GroupNumber for_directory(GroupNumber parent, bool top_level, std::uint64_t random) const;

  // The groups to try in turn, for i in [0, attempts()): `first`, the rest of its flex group, then at growing distances
  // (which differ by parent, so that crowded directories do not all meet), then every group.
  std::uint64_t attempts() const { return std::uint64_t{unit_} + kJumps + count_; }
  GroupNumber attempt(GroupNumber first, InodeNumber parent, std::uint64_t i) const;

private:
  static constexpr std::uint32_t kMaxUnit = 64;    // groups looked at together: a flex group, or a part of a large one
  static constexpr std::uint32_t kMaxWindow = 32;  // units compared
  static constexpr std::uint32_t kJumps = 20;

  struct Load {
    std::uint64_t free_inodes = 0, free_blocks = 0, directories = 0;
  };
  std::uint32_t units() const { return (count_ - 1) / unit_ + 1; }
  Load load_of(std::uint32_t unit) const;
  GroupNumber first_with_inodes(std::uint32_t unit, GroupNumber preferred) const;

  GroupTable &groups_;
  const format::Geometry &geometry_;
  const std::uint32_t count_;
  const std::uint32_t unit_;  // groups
};

}  // namespace outboard::ext4

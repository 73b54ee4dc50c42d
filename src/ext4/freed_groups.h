// How many groups one piece of freeing may touch: each costs its bitmap and its descriptor in the log. And how many
// blocks, where they are revoked: a transaction has room for so many revokes only.
#pragma once

#include "ext4/credits.h"
#include "ext4/volume.h"

#include <algorithm>
#include <array>

namespace outboard::ext4 {

class FreedGroups {
public:
  static constexpr unsigned kMax = 8;
  static constexpr std::uint32_t kCredits = kMax * credits::kGroup;

  FreedGroups(Volume &volume, bool metadata)
      : geometry_(volume.geometry()), blocks_left_(metadata ? volume.journal().revokes_at_once() : ~std::uint32_t{0}) {}

  // How many blocks at the *end* of the run may go: in groups that are counted already or still fit. Those are counted now.
  // `run` has been checked to lie in the file system.
  std::uint32_t admit_tail(BlockRun run) {
    std::uint32_t admitted = 0;
    while (admitted < run.count) {
      const BlockNumber last = run.start + (run.count - admitted - 1);
      const GroupNumber group = geometry_.group_of(last);
      if (!admit(group)) break;
      const BlockNumber first = std::max(run.start, geometry_.group_first_block(group));
      admitted += static_cast<std::uint32_t>(last - first) + 1;
    }
    admitted = std::min(admitted, blocks_left_);
    blocks_left_ -= admitted;
    return admitted;
  }

private:
  bool admit(GroupNumber group) {
    if (std::find(groups_.begin(), groups_.begin() + count_, group) != groups_.begin() + count_) return true;
    if (count_ == kMax) return false;
    groups_[count_++] = group;
    return true;
  }

  const format::Geometry &geometry_;
  std::array<GroupNumber, kMax> groups_;
  unsigned count_ = 0;
  std::uint32_t blocks_left_;
};

}  // namespace outboard::ext4

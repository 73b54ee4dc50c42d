#include "ext4/inode_placement.h"

#include <algorithm>
#include <array>

namespace outboard::ext4 {

InodePlacement::InodePlacement(GroupTable &groups, const format::Geometry &geometry)
    : groups_(groups), geometry_(geometry), count_(geometry.group_count()),
      unit_(static_cast<std::uint32_t>(std::min<std::uint64_t>({geometry.flex_group_size(), kMaxUnit, count_}))) {}

InodePlacement::Load InodePlacement::load_of(std::uint32_t unit) const {
  Load load;
  const std::uint32_t end = std::min(count_, (unit + 1) * unit_);
  for (std::uint32_t g = unit * unit_; g < end; ++g) {
    Group &group = groups_.at(GroupNumber(g));
    if (group.free_inodes_hint.load(std::memory_order_relaxed) == Group::kUnknown) {
      MutexLock lock(group.mutex);
      if (!groups_.describe(GroupNumber(g), group)) continue;
    }
    load.free_inodes += group.free_inodes_hint.load(std::memory_order_relaxed);
    load.free_blocks += group.free_blocks_hint.load(std::memory_order_relaxed);
    load.directories += group.directories_hint.load(std::memory_order_relaxed);
  }
  return load;
}

GroupNumber InodePlacement::first_with_inodes(std::uint32_t unit, GroupNumber preferred) const {
  const std::uint32_t first = unit * unit_, end = std::min(count_, first + unit_);
  const auto has_inodes = [&](std::uint32_t g) {
    return groups_.at(GroupNumber(g)).free_inodes_hint.load(std::memory_order_relaxed) != 0;
  };
  if (preferred.value() >= first && preferred.value() < end && has_inodes(preferred.value())) return preferred;
  for (std::uint32_t g = first; g < end; ++g)
    if (has_inodes(g)) return GroupNumber(g);
  return GroupNumber(first);
}

GroupNumber InodePlacement::for_directory(GroupNumber parent, bool top_level, std::uint64_t random) const {
  const std::uint32_t total = units();
  const std::uint32_t window = std::min(total, kMaxWindow);
  const std::uint32_t start = top_level ? static_cast<std::uint32_t>(random % total) : parent.value() / unit_;
  std::array<Load, kMaxWindow> loads;
  Load sum;
  for (std::uint32_t i = 0; i < window; ++i) {
    loads[i] = load_of((start + i) % total);
    sum.free_inodes += loads[i].free_inodes;
    sum.free_blocks += loads[i].free_blocks;
    sum.directories += loads[i].directories;
  }
  const Load average{sum.free_inodes / window, sum.free_blocks / window, sum.directories / window};
  const auto unit_at = [&](std::uint32_t i) { return (start + i) % total; };

  if (top_level) {
    std::uint32_t best = window;
    for (std::uint32_t i = 0; i < window; ++i) {
      const Load &load = loads[i];
      if (load.free_inodes == 0 || load.free_inodes < average.free_inodes || load.free_blocks < average.free_blocks) continue;
      if (best == window || load.directories < loads[best].directories) best = i;
    }
    if (best != window) return first_with_inodes(unit_at(best), GroupNumber(unit_at(best) * unit_));
  } else {
    const std::uint64_t inodes = std::uint64_t{geometry_.inodes_per_group()} * unit_;
    const std::uint64_t blocks = std::uint64_t{geometry_.clusters_per_group()} * unit_;
    const auto less = [](std::uint64_t value, std::uint64_t margin) { return value > margin ? value - margin : 0; };
    const std::uint64_t least_inodes = std::max<std::uint64_t>(1, less(average.free_inodes, inodes / 4));
    const std::uint64_t least_blocks = less(average.free_blocks, blocks / 4);
    const std::uint64_t most_directories = average.directories + inodes / 16;
    for (std::uint32_t i = 0; i < window; ++i) {
      const Load &load = loads[i];
      if (load.free_inodes >= least_inodes && load.free_blocks >= least_blocks && load.directories <= most_directories)
        return first_with_inodes(unit_at(i), parent);
    }
  }
  for (std::uint32_t i = 0; i < window; ++i)
    if (loads[i].free_inodes != 0 && loads[i].free_inodes >= average.free_inodes) return first_with_inodes(unit_at(i), parent);
  return parent;
}

GroupNumber InodePlacement::attempt(GroupNumber first, InodeNumber parent, std::uint64_t i) const {
  const std::uint32_t base = first.value() / unit_ * unit_;
  const std::uint32_t size = std::min(unit_, count_ - base);
  if (i < size) return GroupNumber(base + static_cast<std::uint32_t>((first.value() - base + i) % size));
  if (i < unit_) return first;
  i -= unit_;
  if (i < kJumps) {
    // first + parent + 1 + 2 + 4 ...
    const std::uint64_t distance = (std::uint64_t{2} << i) - 1;
    return GroupNumber(static_cast<std::uint32_t>((std::uint64_t{first.value()} + parent.value() + distance) % count_));
  }
  return GroupNumber(static_cast<std::uint32_t>((first.value() + (i - kJumps)) % count_));
}

}  // namespace outboard::ext4

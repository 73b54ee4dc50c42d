// Where blocks come from: right at the goal, then the same group, then its flex group, then the others.
// A first pass wants a stretch as long as asked for and gives up after a bounded number of groups; then the longest stretch
// seen is taken; in the end any free block will do.
#include "ext4/block_alloc_impl.h"

#include <algorithm>

namespace outboard::ext4 {
namespace {

// The order in which groups are tried: the goal's group, the rest of its flex group, all others.
class GroupOrder {
public:
  GroupOrder(const format::Geometry &geometry, GroupNumber first) : count_(geometry.group_count()), first_(first.value()) {
    const std::uint64_t size = std::min<std::uint64_t>(geometry.flex_group_size(), count_);
    flex_first_ = static_cast<std::uint32_t>(first_ / size * size);
    flex_size_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(size, count_ - flex_first_));
  }
  std::uint32_t size() const { return count_; }
  GroupNumber operator[](std::uint32_t i) const {
    // Inside the flex group, around from the first; then what follows the flex group, around.
    if (i < flex_size_) return GroupNumber(flex_first_ + (first_ - flex_first_ + i) % flex_size_);
    return GroupNumber(static_cast<std::uint32_t>((std::uint64_t{flex_first_} + i) % count_));
  }

private:
  std::uint32_t count_, first_, flex_first_ = 0, flex_size_ = 1;
};

}  // namespace

BlockAllocator::Impl::Attempt BlockAllocator::Impl::take(GroupNumber number, std::uint32_t bit, std::uint32_t want,
                                                         std::uint32_t least) {
  Attempt attempt;
  Group &group = groups.at(number);
  if (group.free_blocks_hint.load(std::memory_order_relaxed) == 0) return attempt;
  const FixedZones &zones = groups.zones();
  MutexLock guard(group.mutex);
  if (Status loaded = groups.load_blocks(number, group); !loaded) {
    attempt.error = loaded.error();
    return attempt;
  }
  if (group.available == 0) return attempt;
  if (std::min(group.longest, group.available) < least) {
    attempt.longest = std::min(group.longest, group.available);
    return attempt;
  }
  attempt.scanned = true;
  format::BitmapEdit bits = groups.in_use(number, group);
  const std::uint32_t size = bits.size();
  bit = std::min(bit, size);
  format::BitRun run;
  if (bit < size && !bits.test(bit)) {
    run = bits.next_zero_run(bit, size, want);
    if (run.count < std::min({want, least, kGoodAtGoal})) run = {};
  }
  if (run.count == 0) {
    run = bits.find_zero_run(bit, size, want);
    if (run.count < want && bit != 0) {
      const format::BitRun before = bits.find_zero_run(0, size, want);
      if (before.count > run.count) run = before;
    }
    if (run.count < want) group.longest = run.count;
    if (run.count < least) {
      attempt.longest = run.count;
      return attempt;
    }
  }
  const BlockRun blocks{volume.geometry().block_at(number, run.start), run.count};
  if (zones.touches(blocks)) {
    // The bitmap gives away what belongs to the file system itself: nothing in it can be believed.
    attempt.error = Error::corrupt("block bitmap: fixed metadata is free").in_block(blocks.start.value());
    group.bad_blocks = std::make_unique<const Error>(*attempt.error);
    group.available = 0;
    GroupTable::publish(group);
    volume.report_error(*attempt.error);
    return attempt;
  }
  bits.set(run.start, run.count);
  group.available -= run.count;
  group.busy += run.count;
  GroupTable::publish(group);
  attempt.taken = blocks;
  return attempt;
}

BlockRun BlockAllocator::Impl::take_at(GroupNumber number, std::uint32_t bit, std::uint32_t want) {
  Group &group = groups.at(number);
  MutexLock guard(group.mutex);
  if (!groups.load_blocks(number, group) || group.available == 0) return {};
  format::BitmapEdit bits = groups.in_use(number, group);
  if (bit >= bits.size() || bits.test(bit)) return {};
  const format::BitRun run = bits.next_zero_run(bit, bits.size(), want);
  const BlockRun blocks{volume.geometry().block_at(number, run.start), run.count};
  if (run.count == 0 || groups.zones().touches(blocks)) return {};
  bits.set(run.start, run.count);
  group.available -= run.count;
  group.busy += run.count;
  GroupTable::publish(group);
  return blocks;
}

Result<BlockRun> BlockAllocator::Impl::search(const BlockGoal &goal, std::uint32_t want) {
  const format::Geometry &geometry = volume.geometry();
  format::BlockLocation at{goal.group, 0};
  if (goal.near && geometry.contains(goal.near)) at = geometry.locate(goal.near);
  if (at.group.value() >= geometry.group_count()) at = {};
  const GroupOrder order(geometry, at.group);

  std::optional<Error> broken;
  std::uint32_t scanned = 0, visited = 0, best = 0, best_place = 0;
  const auto attempt = [&](std::uint32_t i, std::uint32_t least) -> std::optional<BlockRun> {
    Attempt result = take(order[i], i == 0 ? at.bit : 0, want, least);
    if (result.error && !broken) broken = std::move(result.error);
    if (result.scanned) ++scanned;
    if (result.longest > 0) ++visited;
    if (result.longest > best) best = result.longest, best_place = i;
    return result.taken;
  };
  for (std::uint32_t i = 0; i < order.size(); ++i) {
    if (auto run = attempt(i, want)) return *run;
    if (best > 0 && (scanned >= kMaxScanned || visited >= kMaxVisited)) break;
  }
  if (best > 0)
    if (auto run = attempt(best_place, 1)) return *run;
  // Somebody else took it. Anything will do now.
  for (std::uint32_t i = 0; i < order.size(); ++i)
    if (auto run = attempt(i, 1)) return *run;
  if (broken && !broken->is(ENOSPC)) return fail(*broken);
  return fail(Error::user(ENOSPC));
}

}  // namespace outboard::ext4

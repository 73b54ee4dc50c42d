// Reserving, claiming and freeing blocks. The search for where is in block_search.cc.
#include "ext4/block_alloc.h"

#include "base/log.h"
#include "ext4/block_alloc_impl.h"
#include "ext4/trace.h"

#include <algorithm>
#include <cassert>

namespace outboard::ext4 {

BlockAllocator::BlockAllocator(Volume &volume) : impl_(std::make_unique<Impl>(volume)) {}
BlockAllocator::~BlockAllocator() = default;

// --- what is promised -----------------------------------------------------------------------------------------------------

BlockAllocator::Impl::Impl(Volume &v) : volume(v), groups(v.groups()), root_blocks(v.superblock().reserved_blocks) {
  // As ext4: a small part of the volume is for metadata that must not fail (tree nodes of extents that split). Block maps need
  // no more than the indirect blocks of what is being written.
  const std::uint64_t most = v.superblock().has(format::Incompat::extents) ? kMetadataBlocks : kIndirectBlocks;
  const std::uint8_t bits = v.superblock().cluster_bits;  // ext4 counts this pool in clusters
  metadata_blocks = std::min<std::uint64_t>((v.superblock().blocks_count >> bits) / 50, most) << bits;
}

std::uint64_t BlockAllocator::Impl::room(Kept kept) const {
  std::uint64_t taken = reserved + promised;
  if (kept != Kept::data_promises) taken += promised_map;
  if (kept == Kept::for_metadata || kept == Kept::for_root) taken += metadata_blocks;
  if (kept == Kept::for_root) taken += root_blocks;
  const std::uint64_t free = groups.free_blocks();
  return free > taken ? free - taken : 0;
}

std::uint32_t BlockAllocator::Impl::admit(std::uint32_t want, Kept kept) {
  MutexLock guard(counters);
  const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(want, room(kept)));
  reserved += count;
  return count;
}

void BlockAllocator::Impl::unreserve(std::uint32_t count) {
  MutexLock guard(counters);
  assert(count <= reserved);
  reserved -= count;
}

Status BlockAllocator::promise(std::uint64_t blocks, Use use, bool keep_for_root) {
  MutexLock guard(impl_->counters);
  const std::uint64_t room = impl_->room(keep_for_root ? Kept::for_root : Kept::for_metadata);
  if (blocks > room) return fail(Error::user(ENOSPC));
  (use == Use::map ? impl_->promised_map : impl_->promised) += blocks;
  return {};
}

void BlockAllocator::withdraw(std::uint64_t blocks, Use use) {
  MutexLock guard(impl_->counters);
  std::uint64_t &promised = use == Use::map ? impl_->promised_map : impl_->promised;
  assert(blocks <= promised);
  promised -= blocks;
}

std::uint64_t BlockAllocator::free_blocks() const {
  MutexLock guard(impl_->counters);
  return impl_->room(Kept::nothing) + impl_->ahead;
}

std::uint64_t BlockAllocator::kept_blocks() const {
  return impl_->root_blocks + (impl_->volume.superblock().has(format::Incompat::extents) ? impl_->metadata_blocks : 0);
}

bool BlockAllocator::may_hold_file_data(BlockRun run) const {
  return impl_->volume.geometry().contains(run.start, run.count) && !impl_->groups.zones().touches(run);
}

// --- reserve, claim -------------------------------------------------------------------------------------------------------

Result<BlockRun> BlockAllocator::reserve(const BlockGoal &goal, std::uint32_t want, bool keep_for_root) {
  return impl_->reserve(goal, want, keep_for_root ? Kept::for_root : Kept::for_metadata);
}

Result<BlockRun> BlockAllocator::Impl::reserve(const BlockGoal &goal, std::uint32_t want, Kept kept) {
  assert(want > 0);
  groups.shed();
  want = std::min(want, volume.geometry().clusters_per_group());
  const std::uint32_t admitted = admit(want, kept);
  if (admitted == 0) return fail(Error::user(ENOSPC));
  Result<BlockRun> run = search(goal, admitted);
  unreserve(run ? admitted - run->count : admitted);
  const BlockRun got = run.value_or(BlockRun{});
  trace::blocks_reserve(got.start, got.count, want, run);
  return run;
}

Result<BlockRun> BlockAllocator::reserve_promised(const BlockGoal &goal, std::uint32_t want) {
  assert(want > 0);
  impl_->groups.shed();
  want = std::min(want, impl_->volume.geometry().clusters_per_group());
  const auto move = [&](std::uint32_t count, bool back) {
    MutexLock guard(impl_->counters);
    std::uint64_t &from = back ? impl_->reserved : impl_->promised, &to = back ? impl_->promised : impl_->reserved;
    assert(count <= from);
    from -= count;
    to += count;
  };
  move(want, false);
  Result<BlockRun> run = impl_->search(goal, want);
  move(run ? want - run->count : want, true);
  const BlockRun got = run.value_or(BlockRun{});
  trace::blocks_reserve(got.start, got.count, want, run);
  return run;
}

BlockRun BlockAllocator::reserve_ahead(BlockRun run, std::uint32_t want) {
  const format::BlockLocation last = impl_->volume.geometry().locate(run.end() - 1);
  {
    MutexLock guard(impl_->counters);
    const std::uint64_t half = impl_->room(Kept::for_root) / 2;
    const std::uint64_t spare = half > impl_->reserved ? half - impl_->reserved : 0;
    want = static_cast<std::uint32_t>(std::min<std::uint64_t>(want, spare / 4));
    if (want == 0) return {};
    impl_->reserved += want;
  }
  const BlockRun ahead = impl_->take_at(last.group, last.bit + 1, want);
  MutexLock guard(impl_->counters);
  impl_->reserved -= want - ahead.count;
  impl_->ahead += ahead.count;
  return ahead;
}

void BlockAllocator::use_ahead(BlockRun run) {
  MutexLock guard(impl_->counters);
  assert(run.count <= impl_->ahead);
  impl_->ahead -= run.count;
}

void BlockAllocator::release(BlockRun run) {
  if (run.count == 0) return;
  trace::blocks_release(run.start, run.count);
  if (impl_->volume.journal().aborted()) return;
  impl_->give_back(run);
  impl_->unreserve(run.count);
}

// The run's bits leave in_use: it lies in one group.
void BlockAllocator::Impl::give_back(BlockRun run) {
  const format::BlockLocation at = volume.geometry().locate(run.start);
  Group &group = groups.at(at.group);
  MutexLock guard(group.mutex);
  format::BitmapEdit bits = groups.in_use(at.group, group);
  assert(bits.all_set(at.bit, run.count) && group.busy >= run.count);
  bits.clear(at.bit, run.count);
  group.available += run.count;
  group.busy -= run.count;
  group.longest = Group::kUnknown;
  GroupTable::publish(group);
}

Status BlockAllocator::claim(jbd2::Handle &handle, BlockRun run) {
  const format::BlockLocation at = impl_->volume.geometry().locate(run.start);
  GroupTable &groups = impl_->groups;
  Group &group = groups.at(at.group);
  MutexLock guard(group.mutex);
  assert(groups.in_use(at.group, group).all_set(at.bit, run.count) && group.busy >= run.count);
  const GroupTable::Change change = TRY(groups.begin_blocks(handle, at.group, group));
  format::BitmapEdit bits(change.bitmap, impl_->volume.geometry().clusters_in_group(at.group));
  assert(bits.all_clear(at.bit, run.count) && group.desc.free_blocks >= run.count);
  bits.set(at.bit, run.count);
  group.desc.free_blocks -= run.count;
  group.busy -= run.count;
  groups.finish_blocks(at.group, group, change);
  groups.add_free_blocks(-std::int64_t{run.count});
  impl_->unreserve(run.count);
  trace::blocks_claim(run.start, run.count, handle.tid());
  return {};
}

Result<BlockNumber> BlockAllocator::allocate(jbd2::Handle &handle, const BlockGoal &goal, bool promised) {
  const BlockRun run = TRY(impl_->reserve(goal, 1, promised ? Kept::data_promises : Kept::nothing));
  Status claimed = claim(handle, run);
  if (!claimed) {
    release(run);
    return std::unexpected(std::move(claimed).error());
  }
  return run.start;
}

// --- free -----------------------------------------------------------------------------------------------------------------

Status BlockAllocator::Impl::check_allocated(GroupNumber number, std::uint32_t bit, std::uint32_t count) {
  Group &group = groups.at(number);
  MutexLock guard(group.mutex);
  TRY(groups.load_blocks(number, group));
  const BlockNumber first = volume.geometry().block_at(number, bit);
  if (!group.block_bitmap ||
      !format::BitmapView(group.block_bitmap->bytes(), volume.geometry().clusters_in_group(number)).all_set(bit, count))
    return fail(Error::corrupt("block freed that is free already").in_block(first.value()));
  return {};
}

Status BlockAllocator::Impl::free_part(jbd2::Handle &handle, GroupNumber number, std::uint32_t bit, std::uint32_t count) {
  Group &group = groups.at(number);
  MutexLock guard(group.mutex);
  // Between the check and now nobody else may have touched blocks that their owner gives away; only shed() may have passed.
  TRY(groups.load_blocks(number, group));
  const std::uint32_t size = volume.geometry().clusters_in_group(number);
  if (!group.block_bitmap || !format::BitmapView(group.block_bitmap->bytes(), size).all_set(bit, count))
    return fail(Error::corrupt("block freed twice at once").in_block(volume.geometry().block_at(number, bit).value()));
  const GroupTable::Change change = TRY(groups.begin_blocks(handle, number, group));
  format::BitmapEdit(change.bitmap, size).clear(bit, count);
  group.desc.free_blocks += count;
  group.busy += count;
  groups.finish_blocks(number, group, change);
  groups.add_free_blocks(count);
  remember_freed(handle, {volume.geometry().block_at(number, bit), count});
  return {};
}

// One listener per transaction: freed runs stay in in_use until the transaction is durable.
void BlockAllocator::Impl::remember_freed(jbd2::Handle &handle, BlockRun run) {
  const jbd2::Tid tid = handle.tid();
  bool first = false;
  {
    MutexLock guard(freed_lock);
    auto [place, made] = freed.try_emplace(tid);
    first = made;
    std::vector<BlockRun> &runs = place->second;
    // Joined only within a group: give_back() works on one.
    const bool touches = !runs.empty() && volume.geometry().group_of(runs.back().start) == volume.geometry().group_of(run.start);
    if (touches && runs.back().end() == run.start) runs.back().count += run.count;
    else if (touches && run.end() == runs.back().start) runs.back() = {run.start, runs.back().count + run.count};
    else runs.push_back(run);
  }
  if (first) handle.after_commit([this, tid] { settle_freed(tid); });
}

void BlockAllocator::Impl::settle_freed(jbd2::Tid tid) {
  std::vector<BlockRun> runs;
  {
    MutexLock guard(freed_lock);
    auto found = freed.find(tid);
    if (found == freed.end()) return;
    runs = std::move(found->second);
    freed.erase(found);
  }
  for (const BlockRun &run : runs) {
    if (volume.options().discard) discard(run);
    give_back(run);
  }
}

bool BlockAllocator::Impl::discard(BlockRun run) {
  const std::uint64_t size = volume.block_size();
  Status status = volume.device().discard(run.start.value() * size, run.count * size);
  if (!status && !discard_failed.exchange(true))
    log(LogLevel::warning, "ext4: the device does not discard: {}", status.error().message());
  return status.has_value();
}

Status BlockAllocator::free(jbd2::Handle &handle, BlockRun run, bool metadata) {
  if (run.count == 0) return {};
  if (!may_hold_file_data(run)) return fail(Error::corrupt("block freed that no file may have").in_block(run.start.value()));
  // Everything is checked before anything is changed.
  TRY(impl_->each_group(run, [&](GroupNumber group, std::uint32_t bit, std::uint32_t count) {
    return impl_->check_allocated(group, bit, count);
  }));
  if (metadata)
    for (std::uint32_t i = 0; i < run.count; ++i) TRY(handle.revoke(run.start + i));
  trace::blocks_free(run.start, run.count, handle.tid(), metadata);
  return impl_->each_group(run, [&](GroupNumber group, std::uint32_t bit, std::uint32_t count) {
    return impl_->free_part(handle, group, bit, count);
  });
}

// --- trim -----------------------------------------------------------------------------------------------------------------

// Discards the free stretches among bits [from, limit) of a group. A stretch is in use while it is being discarded, and the
// lock is not held then.
Result<std::uint64_t> BlockAllocator::Impl::trim_group(GroupNumber number, std::uint32_t from, std::uint32_t limit,
                                                       std::uint32_t minimum) {
  Group &group = groups.at(number);
  std::uint64_t trimmed = 0;
  while (from < limit) {
    format::BitRun run;
    {
      MutexLock guard(group.mutex);
      TRY(groups.load_blocks(number, group));
      format::BitmapEdit bits = groups.in_use(number, group);
      run = bits.next_zero_run(from, limit);
      if (run.count == 0) return trimmed;
      if (run.count >= minimum) {
        bits.set(run.start, run.count);
        group.available -= run.count;
        group.busy += run.count;
        GroupTable::publish(group);
      }
    }
    from = run.end();
    if (run.count < minimum) continue;
    const BlockRun blocks{volume.geometry().block_at(number, run.start), run.count};
    const bool done = discard(blocks);
    give_back(blocks);
    if (!done) return fail(Error::user(EOPNOTSUPP, "the device does not discard"));
    trimmed += run.count;
  }
  return trimmed;
}

Result<std::uint64_t> BlockAllocator::trim(BlockNumber start, BlockNumber end, std::uint32_t minimum) {
  const format::Geometry &geometry = impl_->volume.geometry();
  start = std::max(start, geometry.first_data_block());
  end = std::min(end, BlockNumber(geometry.blocks_count()));
  if (!impl_->volume.device().properties().discards) return fail(Error::user(EOPNOTSUPP, "the device does not discard"));
  std::uint64_t trimmed = 0;
  while (start < end) {
    impl_->groups.shed();
    const format::BlockLocation at = geometry.locate(start);
    const std::uint32_t size = geometry.clusters_in_group(at.group);
    const auto limit = static_cast<std::uint32_t>(std::min<std::uint64_t>(size, at.bit + (end - start)));
    Result<std::uint64_t> here = impl_->trim_group(at.group, at.bit, limit, std::max(minimum, 1u));
    if (here) trimmed += *here;
    else if (!here.error().is_corrupt()) return here;  // a group that cannot be trusted is left alone
    start = geometry.group_first_block(at.group) + size;
  }
  return trimmed;
}

}  // namespace outboard::ext4

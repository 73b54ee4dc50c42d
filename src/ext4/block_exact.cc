// Blocks that somebody else has chosen: the driver whose fast commits are replayed. The volume has no other user meanwhile.
#include "ext4/block_alloc_impl.h"

namespace outboard::ext4 {

Status BlockAllocator::set_aside(BlockRun run) {
  return impl_->each_group(run, [&](GroupNumber group, std::uint32_t bit, std::uint32_t count) {
    return impl_->set_aside_part(group, bit, count);
  });
}

Status BlockAllocator::claim_exact(jbd2::Handle &handle, BlockRun run) {
  return impl_->each_group(run, [&](GroupNumber group, std::uint32_t bit, std::uint32_t count) {
    return impl_->claim_part(handle, group, bit, count);
  });
}

// As if reserved: set in in_use, clear in the bitmap, counted.
Status BlockAllocator::Impl::set_aside_part(GroupNumber number, std::uint32_t bit, std::uint32_t count) {
  Group &group = groups.at(number);
  std::uint32_t taken = 0;
  {
    MutexLock guard(group.mutex);
    TRY(groups.load_blocks(number, group));
    format::BitmapEdit bits = groups.in_use(number, group);
    taken = bits.count_zeros(bit, count);
    bits.set(bit, count);
    group.available -= taken;
    group.busy += taken;
    GroupTable::publish(group);
  }
  MutexLock guard(counters);
  reserved += taken;
  return {};
}

// A free block is one of three: set aside, freed by a transaction that is not durable yet, or nothing special.
Status BlockAllocator::Impl::claim_part(jbd2::Handle &handle, GroupNumber number, std::uint32_t bit, std::uint32_t count) {
  Group &group = groups.at(number);
  const BlockRun run{volume.geometry().block_at(number, bit), count};
  std::uint32_t aside = 0;
  {
    MutexLock guard(group.mutex);
    TRY(groups.load_blocks(number, group));
    const std::uint32_t size = volume.geometry().clusters_in_group(number);
    const GroupTable::Change change = TRY(groups.begin_blocks(handle, number, group));
    format::BitmapEdit bitmap(change.bitmap, size);
    if (!bitmap.all_clear(bit, count) || group.desc.free_blocks < count)
      return fail(Error::corrupt("fast commit: adds a block that is in use").in_block(run.start.value()));
    bitmap.set(bit, count);
    format::BitmapEdit bits = groups.in_use(number, group);
    const std::uint32_t busy = count - bits.count_zeros(bit, count);
    bits.set(bit, count);
    group.available -= count - busy;
    group.busy -= busy;
    group.desc.free_blocks -= count;
    groups.finish_blocks(number, group, change);
    aside = busy - take_back_freed(run);
  }
  groups.add_free_blocks(-std::int64_t{count});
  unreserve(aside);
  return {};
}

std::uint32_t BlockAllocator::Impl::take_back_freed(BlockRun run) {
  std::uint32_t taken = 0;
  MutexLock guard(freed_lock);
  for (auto &[tid, runs] : freed) {
    std::vector<BlockRun> kept;
    for (const BlockRun &old : runs) {
      const BlockNumber first = std::max(old.start, run.start), end = std::min(old.end(), run.end());
      if (first >= end) {
        kept.push_back(old);
        continue;
      }
      taken += static_cast<std::uint32_t>(end - first);
      if (old.start < first) kept.push_back({old.start, static_cast<std::uint32_t>(first - old.start)});
      if (end < old.end()) kept.push_back({end, static_cast<std::uint32_t>(old.end() - end)});
    }
    runs = std::move(kept);
  }
  return taken;
}

}  // namespace outboard::ext4

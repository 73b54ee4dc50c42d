#include "ext4/file_growth.h"

#include "ext4/credits.h"
#include "ext4/fast_commit_tracker.h"
#include "ext4/inode_alloc.h"
#include "ext4/journaled_data.h"

#include <algorithm>

namespace outboard::ext4::growth {

std::uint32_t credits_for(const Volume &volume, const Inode &inode, const Change &change) {
  std::uint32_t total = credits::kStoreInode + credits::kSuperblock;  // the first file past 2 GiB is noted there
  if (change.kind == Kind::size_only) return total;
  total += file_map::insert_credits(volume, inode);
  if (change.kind == Kind::written) return total + file_map::insert_credits(volume, inode);
  const format::Geometry &geometry = volume.geometry();
  const std::uint32_t groups = geometry.group_of(change.run.end() - 1) - geometry.group_of(change.run.start) + 1;
  return total + groups * credits::kGroup;
}

// Map first: it fails for lack of room before it changes anything, and the blocks stay reserved. Claiming blocks that
// are reserved does not fail for lack of anything: when it does fail, the volume is in trouble, and map and bitmap
// would differ.
Status change_map(jbd2::Handle &handle, Volume &volume, Inode &inode, const Change &change) {
  if (change.kind == Kind::size_only) return {};
  if (change.kind == Kind::written)
    return file_map::mark_written(handle, volume, inode, change.first, change.run.count);
  TRY(file_map::insert(handle, volume, inode, change.first, change.run, change.kind == Kind::fresh_unwritten));
  Status claimed = volume.blocks().claim(handle, change.run);
  if (!claimed) volume.journal().abort(claimed.error());
  return claimed;
}

namespace {

Status record_once(Volume &volume, Inode &inode, const Change &change) {
  jbd2::Handle handle = TRY(volume.journal().start(credits_for(volume, inode, change)));
  handle.mark_tracked();
  volume.fast_commits().after_data();
  const std::uint64_t old_size = inode.fields.size;
  inode.fields.size = change.size;
  Status status = change_map(handle, volume, inode, change);
  if (!status) inode.fields.size = old_size;
  // Also after an error: an extent may have been split before its other half failed.
  Status stored = store_or_abort(handle, volume, inode);
  handle.finish();
  return status ? std::move(stored) : std::move(status);
}

}  // namespace

Status store_or_abort(jbd2::Handle &handle, Volume &volume, Inode &inode) {
  Status stored = volume.inodes().store(handle, inode);
  if (!stored) volume.journal().abort(stored.error());
  return stored;
}

Result<BlockGoal> goal_for(Volume &volume, const Inode &inode, FileBlock first) {
  BlockGoal goal{BlockNumber(), volume.geometry().locate(inode.number).group};
  if (first) {
    const FileMapping before = TRY(file_map::find(volume, inode, first - 1, 1));
    if (before.state != FileMapping::State::hole) {
      goal.near = before.start + 1;
      return goal;
    }
  }
  goal.near = inode.allocation_goal;
  return goal;
}

Result<BlockRun> reserve(Volume &volume, const BlockGoal &goal, std::uint32_t want, bool keep_for_root) {
  Result<BlockRun> run = volume.blocks().reserve(goal, want, keep_for_root);
  if (run || !run.error().is(ENOSPC)) return run;
  TRY(volume.journal().commit_running());
  return volume.blocks().reserve(goal, want, keep_for_root);
}

Status record(Volume &volume, Inode &inode, const Change &change) {
  Status status = record_once(volume, inode, change);
  if (status || !status.error().is(ENOSPC)) return status;
  TRY(volume.journal().commit_running());
  return record_once(volume, inode, change);
}

Status zero_mapped(Volume &volume, Inode &inode, ByteRange bytes) {
  const std::uint32_t block_size = volume.block_size();
  const std::uint64_t limit = file_map::max_file_blocks(volume, inode) * block_size;
  const std::uint64_t end = std::min(bytes.end(), limit);
  for (std::uint64_t position = bytes.offset; position < end;) {
    const std::uint64_t into = position % block_size;
    const FileBlock block(static_cast<std::uint32_t>(position / block_size));
    const auto blocks = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(divide_up<std::uint64_t>(end - position + into, block_size), ~std::uint32_t{0}));
    const FileMapping found = TRY(file_map::find(volume, inode, block, blocks));
    const std::uint64_t piece = std::min(end - position, std::uint64_t{found.count} * block_size - into);
    if (found.state == FileMapping::State::mapped && journals_data(volume, inode))
      TRY(journaled_data::zero_mapped(volume, inode, found.start, into, piece));
    else if (found.state == FileMapping::State::mapped)
      TRY(volume.device().zero(found.start.value() * block_size + into, piece));
    position += piece;
  }
  return {};
}

Status zero_behind_end(Volume &volume, Inode &inode) {
  const std::uint64_t into = inode.fields.size % volume.block_size();
  if (into == 0) return {};
  return zero_mapped(volume, inode, {inode.fields.size, volume.block_size() - into});
}

}  // namespace outboard::ext4::growth

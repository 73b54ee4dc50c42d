// fallocate(2): space for ranges of a file, ranges without space, and ranges that come or go.
#include "ext4/block_alloc.h"
#include "ext4/credits.h"
#include "ext4/delayed.h"
#include "ext4/file_growth.h"
#include "ext4/truncate.h"
#include "ext4/truncate_pieces.h"

#include <algorithm>

namespace outboard::ext4::truncate {
namespace {

struct BlockRange {
  FileBlock first, end;
  bool empty() const { return first >= end; }
};

// Blocks that the bytes touch, and blocks that lie in them whole. The range has been checked against the largest size.
BlockRange touched(ByteRange range, std::uint32_t block_size) {
  return {FileBlock(static_cast<std::uint32_t>(range.offset / block_size)),
          FileBlock(static_cast<std::uint32_t>(divide_up<std::uint64_t>(range.end(), block_size)))};
}
BlockRange covered(ByteRange range, std::uint32_t block_size) {
  return {FileBlock(static_cast<std::uint32_t>(divide_up<std::uint64_t>(range.offset, block_size))),
          FileBlock(static_cast<std::uint32_t>(range.end() / block_size))};
}

// Also sees to it that the map says everything: what is unwritten there has no data.
Status check_range(Volume &volume, Inode &inode, ByteRange range) {
  TRY(check_changeable_map(volume, inode));
  if (range.length == 0) return fail(Error::user(EINVAL, "fallocate: empty range"));
  const std::uint64_t most = max_size(volume, inode);
  if (range.offset > most || range.length > most - range.offset)
    return fail(Error::user(EFBIG, "fallocate: larger than a file can be"));
  return delayed::record_written(volume, inode);
}

Status check_extents(const Inode &inode) {
  if (inode.fields.uses_extents()) return {};
  return fail(Error::unsupported("fallocate: the file has a block map"));
}

Status check_aligned(const Volume &volume, ByteRange range) {
  if (range.offset % volume.block_size() == 0 && range.length % volume.block_size() == 0) return {};
  return fail(Error::user(EINVAL, "fallocate: not on block boundaries"));
}

Result<std::uint64_t> count_holes(Volume &volume, const Inode &inode, BlockRange blocks) {
  std::uint64_t holes = 0;
  for (FileBlock at = blocks.first; at < blocks.end;) {
    const FileMapping found = TRY(file_map::find(volume, inode, at, blocks.end - at));
    if (found.state == FileMapping::State::hole) holes += found.count;
    at += found.count;
  }
  return holes;
}

// Said at once rather than after half of the space has been taken.
Status check_room(Volume &volume, std::uint64_t blocks) {
  if (volume.counts().available_blocks >= blocks) return {};
  TRY(volume.journal().commit_running());  // what was freed comes back with the commit
  if (volume.counts().available_blocks >= blocks) return {};
  return fail(Error::user(ENOSPC));
}

Status fill_holes(Volume &volume, Inode &inode, BlockRange blocks) {
  const std::uint64_t holes = TRY(count_holes(volume, inode, blocks));
  TRY(check_room(volume, holes));
  for (FileBlock at = blocks.first; at < blocks.end;) {
    const FileMapping found = TRY(file_map::find(volume, inode, at, blocks.end - at));
    if (found.state != FileMapping::State::hole) {
      at += found.count;
      continue;
    }
    const BlockGoal goal = TRY(growth::goal_for(volume, inode, at));
    const std::uint32_t want = std::min(found.count, file_map::max_insert(volume, inode, at));
    growth::Change change;
    change.kind = growth::Kind::fresh_unwritten;
    change.first = at;
    change.run = TRY(growth::reserve(volume, goal, want, true));
    change.size = inode.fields.size;
    Status recorded = growth::record(volume, inode, change);
    if (!recorded) {
      volume.blocks().release(change.run);
      return recorded;
    }
    at += change.run.count;
  }
  return {};
}

Status make_unwritten(Volume &volume, Inode &inode, BlockRange blocks) {
  for (FileBlock at = blocks.first; at < blocks.end;) {
    const FileMapping found = TRY(file_map::find(volume, inode, at, blocks.end - at));
    if (found.state == FileMapping::State::mapped) {
      const std::uint32_t credits = 4 * file_map::insert_credits(volume, inode) + credits::kStoreInode;
      jbd2::Handle handle = TRY(volume.journal().start(credits));
      Status marked = file_map::mark_unwritten(handle, volume, inode, at, found.count);
      TRY(growth::store_or_abort(handle, volume, inode));
      handle.finish();
      TRY(std::move(marked));
    }
    at += found.count;
  }
  return {};
}

Status grow_to(Volume &volume, Inode &inode, std::uint64_t size) {
  return size > inode.fields.size ? set_size(volume, inode, size) : Status{};
}

// The parts of the range in blocks that it does not cover whole.
Status zero_edges(Volume &volume, Inode &inode, ByteRange range) {
  const std::uint64_t block_size = volume.block_size();
  const std::uint64_t head_end = std::min(round_up(range.offset, block_size), range.end());
  TRY(growth::zero_mapped(volume, inode, {range.offset, head_end - range.offset}));
  const std::uint64_t tail = std::max(round_down(range.end(), block_size), head_end);
  return growth::zero_mapped(volume, inode, {tail, range.end() - tail});
}

}  // namespace

Status preallocate(Volume &volume, Inode &inode, ByteRange range, bool keep_size) {
  TRY(check_range(volume, inode, range));
  TRY(check_extents(inode));
  TRY(fill_holes(volume, inode, touched(range, volume.block_size())));
  return keep_size ? Status{} : grow_to(volume, inode, range.end());
}

Status punch_hole(Volume &volume, Inode &inode, ByteRange range) {
  TRY(check_range(volume, inode, range));
  if (range.offset >= inode.fields.size) return {};
  const std::uint32_t block_size = volume.block_size();
  // In the block of the file's end nothing of value follows it: it may go as a whole.
  if (range.end() >= inode.fields.size)
    range.length = round_up<std::uint64_t>(inode.fields.size, block_size) - range.offset;
  TRY(zero_edges(volume, inode, range));
  const BlockRange whole = covered(range, block_size);
  if (whole.empty()) return {};
  jbd2::Handle handle = TRY(volume.journal().start(file_map::remove_credits(volume, inode) + credits::kStoreInode));
  if (!blocks_are_journaled(volume, inode)) handle.mark_tracked();
  Status freed = free_pieces(handle, volume, inode, whole.first, whole.end);
  handle.finish();
  return freed;
}

// Holes get blocks and written blocks become unwritten, so that the whole range has space; the edges are zeroed.
Status zero_range(Volume &volume, Inode &inode, ByteRange range, bool keep_size) {
  TRY(check_range(volume, inode, range));
  TRY(check_extents(inode));
  TRY(fill_holes(volume, inode, touched(range, volume.block_size())));
  TRY(zero_edges(volume, inode, range));
  const BlockRange whole = covered(range, volume.block_size());
  if (!whole.empty()) TRY(make_unwritten(volume, inode, whole));
  return keep_size ? Status{} : grow_to(volume, inode, range.end());
}

// One transaction when the journal has room for all the leaves that change, as it has for any but enormous files.
Status collapse_range(Volume &volume, Inode &inode, ByteRange range) {
  TRY(check_range(volume, inode, range));
  TRY(check_extents(inode));
  TRY(check_aligned(volume, range));
  if (range.end() >= inode.fields.size) return fail(Error::user(EINVAL, "collapse: reaches the end of the file"));
  const BlockRange gap = covered(range, volume.block_size());
  const std::uint32_t least = file_map::remove_credits(volume, inode) + credits::kStoreInode;
  const std::uint32_t all = least + TRY(file_map::shift_credits(volume, inode)) + credits::kStoreInode;
  jbd2::Handle handle = TRY(volume.journal().start(std::max(least, std::min(all, volume.journal().max_credits()))));
  Status status = free_pieces(handle, volume, inode, gap.first, gap.end);
  if (status) {
    const auto blocks = static_cast<std::int64_t>(gap.end - gap.first);
    status = file_map::shift(handle, volume, inode, gap.end, -blocks);
    if (status) inode.fields.size -= range.length;
    TRY(growth::store_or_abort(handle, volume, inode));
  }
  handle.finish();
  return status;
}

Status insert_range(Volume &volume, Inode &inode, ByteRange range) {
  TRY(check_range(volume, inode, range));
  TRY(check_extents(inode));
  TRY(check_aligned(volume, range));
  if (range.offset >= inode.fields.size) return fail(Error::user(EINVAL, "insert: at or behind the end of the file"));
  if (range.length > max_size(volume, inode) - inode.fields.size)
    return fail(Error::user(EFBIG, "insert: larger than a file can be"));
  const BlockRange gap = covered(range, volume.block_size());
  const std::uint32_t least = file_map::insert_credits(volume, inode) + credits::kStoreInode;
  const std::uint32_t all = least + TRY(file_map::shift_credits(volume, inode)) + credits::kStoreInode;
  jbd2::Handle handle = TRY(volume.journal().start(std::max(least, std::min(all, volume.journal().max_credits()))));
  // The size comes first: in a transaction that holds a part of the move, no written block may lie behind the end.
  const std::uint64_t old_size = inode.fields.size;
  inode.fields.size += range.length;
  Status status = file_map::shift(handle, volume, inode, gap.first, static_cast<std::int64_t>(gap.end - gap.first));
  if (!status && (status.error().is(ENOSPC) || status.error().is(EFBIG)))
    inode.fields.size = old_size;  // nothing has moved
  TRY(growth::store_or_abort(handle, volume, inode));
  handle.finish();
  return status;
}

}  // namespace outboard::ext4::truncate

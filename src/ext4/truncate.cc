// The end of a file moves, or the file ends.
//
// What a crash may and may not show when the size becomes smaller. Bytes behind the new end stay in the last block; if
// the file grows later they must have become zeros, and if the truncation never happened they must still be there.
//  1. One transaction records the new size, frees a first piece, and puts the inode on the orphan list if that is not
//  all.
//     Nothing touches the last block before this is durable: a crash until then leaves the old file, every byte of it.
//  2. If there is anything but zeros behind the new end, the transaction is committed, and then the rest of the block
//  is
//     zeroed on the device. A crash in between finds the inode on the orphan list: recovery sets its size again, and
//     that zeroes the rest of the block.
//  3. The remaining blocks are freed, piece by piece, and the last step takes the inode off the list.
// Where the data is journaled, steps 1 and 2 are one transaction: the rest of the block changes in it, as all data does.
// Growing, by whatever way, zeroes from the old end to the end of its block before the transaction that records the new
// size begins (commit flushes the device before its commit block): whatever anybody left there, e.g. through a mapped
// page, never becomes part of the file. That alone keeps *us* from showing old bytes; step 2 is for drivers that rely
// on it.
#include "ext4/truncate.h"

#include "ext4/credits.h"
#include "ext4/delayed.h"
#include "ext4/file_growth.h"
#include "ext4/inode_alloc.h"
#include "ext4/journaled_data.h"
#include "ext4/orphans.h"
#include "ext4/truncate_pieces.h"
#include "ext4/xattrs.h"

#include <algorithm>
#include <vector>

namespace outboard::ext4::truncate {
namespace {

Status grow(Volume &volume, Inode &inode, std::uint64_t size) {
  TRY(growth::zero_behind_end(volume, inode));
  growth::Change change;
  change.size = size;
  return growth::record(volume, inode, change);
}

// Is there anything in the block of the new end, behind it, that would show if the file grew?
Result<bool> stale_behind(Volume &volume, const Inode &inode, std::uint64_t size) {
  const std::uint32_t block_size = volume.block_size();
  const std::uint64_t into = size % block_size;
  if (into == 0) return false;
  const FileMapping last =
      TRY(file_map::find(volume, inode, FileBlock(static_cast<std::uint32_t>(size / block_size)), 1));
  if (last.state != FileMapping::State::mapped) return false;
  std::vector<std::byte> rest(block_size - into);
  TRY(volume.device().read(last.start.value() * block_size + into, rest));
  return std::any_of(rest.begin(), rest.end(), [](std::byte byte) { return byte != std::byte{0}; });
}

std::uint32_t piece_credits(const Volume &volume, const Inode &inode) {
  return file_map::remove_credits(volume, inode) + credits::kStoreInode;
}

// The block of the new end, to be zeroed behind it in the transaction that records the size. Empty: there is none.
Result<cache::BufferRef> journaled_tail(Volume &volume, const Inode &inode, std::uint64_t size) {
  if (size % volume.block_size() == 0) return cache::BufferRef();
  const FileBlock block(static_cast<std::uint32_t>(size / volume.block_size()));
  const FileMapping last = TRY(file_map::find(volume, inode, block, 1));
  if (last.state != FileMapping::State::mapped) return cache::BufferRef();
  return journaled_data::read_block(volume, last.start);
}

Status shrink(Volume &volume, Inode &inode, std::uint64_t size) {
  const std::uint32_t block_size = volume.block_size();
  const bool journaled = journals_data(volume, inode);
  const bool stale = !journaled && TRY(stale_behind(volume, inode, size));
  const cache::BufferRef tail = journaled ? TRY(journaled_tail(volume, inode, size)) : cache::BufferRef();
  const FileBlock first(static_cast<std::uint32_t>(divide_up<std::uint64_t>(size, block_size)));
  const FileBlock end(static_cast<std::uint32_t>(file_map::max_file_blocks(volume, inode)));

  jbd2::Handle handle = TRY(volume.journal().start(piece_credits(volume, inode) + Orphans::kCredits + 1));
  if (!journaled) handle.mark_tracked();
  if (tail) {
    const std::uint64_t into = size % block_size;
    TRY(journaled_data::zero(handle, *tail, into, block_size - into));
  }
  inode.fields.size = size;
  inode.allocation_goal = {};
  Result<FileBlock> reached = file_map::remove_piece(handle, volume, inode, first, end, blocks_are_journaled(volume, inode));
  TRY(growth::store_or_abort(handle, volume, inode));
  const bool unfinished = reached && (*reached > first || stale);
  const bool on_list_before = inode.on_orphan_list;
  Status status = reached ? Status{} : fail(std::move(reached).error());
  if (unfinished && !on_list_before) status = volume.orphans().add(handle, inode);
  const jbd2::Tid tid = handle.tid();
  if (unfinished && status && !stale) {
    TRY(handle.ensure(piece_credits(volume, inode)));
    status = free_pieces(handle, volume, inode, first, *reached);
  }
  handle.finish();
  if (!unfinished || !status) return status;

  if (stale) {
    TRY(volume.journal().commit_and_wait(tid));
    status = growth::zero_behind_end(volume, inode);
    jbd2::Handle more = TRY(volume.journal().start(piece_credits(volume, inode)));
    Status freed = free_pieces(more, volume, inode, first, *reached);
    more.finish();
    if (status) status = std::move(freed);
  }
  if (on_list_before || !inode.on_orphan_list) return status;
  jbd2::Handle last = TRY(volume.journal().start(Orphans::kCredits));
  Status removed = volume.orphans().remove(last, inode);
  last.finish();
  return status ? std::move(removed) : std::move(status);
}

// Does the inode's block area hold a map?
bool has_map(const Volume &volume, const Inode &inode) {
  if (inode.fields.has_flag(format::kInodeFlagInlineData)) return false;
  if (inode.is_symlink()) return !format::is_fast_symlink(volume.superblock(), inode.fields);
  return inode.is_regular() || inode.is_directory();
}

}  // namespace

Status free_pieces(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first, FileBlock end) {
  const bool metadata = blocks_are_journaled(volume, inode);
  while (end > first) {
    Result<FileBlock> reached = file_map::remove_piece(handle, volume, inode, first, end, metadata);
    TRY(growth::store_or_abort(handle, volume, inode));
    if (!reached) return fail(std::move(reached).error());
    if (*reached == first) return {};
    if (*reached >= end)
      return fail(Error::corrupt("file map: no progress while freeing").of_inode(inode.number.value()));
    end = *reached;
    TRY(handle.ensure(piece_credits(volume, inode)));
  }
  return {};
}

bool blocks_are_journaled(const Volume &volume, const Inode &inode) {
  return !inode.is_regular() || journals_data(volume, inode);
}

Status check_changeable_map(const Volume &volume, const Inode &inode) {
  TRY(volume.check_writable());
  if (inode.is_directory()) return fail(Error::user(EISDIR));
  if (!inode.is_regular()) return fail(Error::user(EINVAL, "not a regular file"));
  if (inode.fields.has_flag(format::kInodeFlagInlineData)) return fail(Error::unsupported("data in the inode"));
  return {};
}

std::uint64_t max_size(const Volume &volume, const Inode &inode) {
  return inode.fields.uses_extents() ? volume.geometry().max_extent_file_size()
                                     : volume.geometry().max_blockmap_file_size();
}

Status set_size(Volume &volume, Inode &inode, std::uint64_t size) {
  TRY(volume.check_writable());
  if (!inode.is_symlink()) TRY(check_changeable_map(volume, inode));
  if (size > max_size(volume, inode)) return fail(Error::user(EFBIG, "truncate: larger than a file can be"));
  TRY(delayed::record_written(volume, inode));
  return size > inode.fields.size ? grow(volume, inode, size) : shrink(volume, inode, size);
}

Status delete_inode(Volume &volume, Inode &inode) {
  TRY(volume.check_writable());
  // The parts of the last step, which also fit beside one piece: small files are one transaction.
  const std::uint32_t last_step = xattrs::set_credits(volume) + Orphans::kCredits + credits::kFreeInode;
  const std::uint32_t piece = piece_credits(volume, inode) + Orphans::kCredits;
  jbd2::Handle handle = TRY(volume.journal().start(piece + last_step));
  if (!journals_data(volume, inode)) handle.mark_tracked();
  const auto give_up = [&](Status why) {
    handle.finish();
    return why;
  };
  if (has_map(volume, inode)) {
    const bool metadata = blocks_are_journaled(volume, inode);
    const FileBlock end(static_cast<std::uint32_t>(file_map::max_file_blocks(volume, inode)));
    inode.fields.size = 0;
    Result<FileBlock> reached = file_map::remove_piece(handle, volume, inode, FileBlock(0), end, metadata);
    TRY(growth::store_or_abort(handle, volume, inode));
    if (!reached) return give_up(fail(std::move(reached).error()));
    if (*reached) {
      if (!inode.on_orphan_list) {
        Status added = volume.orphans().add(handle, inode);
        if (!added) return give_up(std::move(added));
      }
      TRY(handle.ensure(piece));
      Status freed = free_pieces(handle, volume, inode, FileBlock(0), *reached);
      if (!freed) return give_up(std::move(freed));
    }
    TRY(handle.ensure(last_step));
  }
  Status status = xattrs::release_block(handle, volume, inode);
  if (status && inode.on_orphan_list) status = volume.orphans().remove(handle, inode);
  if (status) status = volume.inodes().free(handle, inode);
  return give_up(std::move(status));
}

}  // namespace outboard::ext4::truncate

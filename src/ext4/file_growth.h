// How a file gets blocks and size: set aside in memory first, recorded in one transaction later. Shared by writes
// (mapper), preallocation and truncation. The inode is held exclusively; no handle is open.
#pragma once

#include "ext4/block_alloc.h"
#include "ext4/file_map.h"

namespace outboard::ext4::growth {

// Behind the file's block before `first`, else where its last write ended, else the inode's group.
Result<BlockGoal> goal_for(Volume &volume, const Inode &inode, FileBlock first);

// BlockAllocator::reserve(); when nothing is left, once more after a commit: blocks freed by the running transaction
// come back with it.
Result<BlockRun> reserve(Volume &volume, const BlockGoal &goal, std::uint32_t want, bool keep_for_root);

enum class Kind : std::uint8_t {
  size_only,
  fresh,            // reserved blocks, their data on the device, become the file's
  fresh_unwritten,  // reserved blocks become the file's and read as zeros
  written,          // unwritten blocks of the file have got their data
};
struct Change {
  Kind kind = Kind::size_only;
  FileBlock first;
  BlockRun run;
  std::uint64_t size = 0;  // of the file from now on
};
// One transaction: map, bitmap, size, inode. After an error nothing has changed (a reservation is still the caller's),
// or the journal has been aborted. ENOSPC for tree nodes is tried again after a commit.
Status record(Volume &volume, Inode &inode, const Change &change);

// What record() does inside its handle, but for size and inode: an error of change_map() leaves the map as it was, and
// the inode is to be stored all the same.
std::uint32_t credits_for(const Volume &volume, const Inode &inode, const Change &change);
Status change_map(jbd2::Handle &handle, Volume &volume, Inode &inode, const Change &change);

// Zeros on the device (through the journal, where the data goes that way) for the mapped parts of these bytes; holes and
// unwritten blocks read as zeros anyway.
Status zero_mapped(Volume &volume, Inode &inode, ByteRange bytes);
// What stands in the last block behind the end of the file, zeroed: before every growth (see truncate.cc).
Status zero_behind_end(Volume &volume, Inode &inode);

// The inode into the transaction that has changed its map. Without that the two would contradict each other: the
// journal is aborted then.
Status store_or_abort(jbd2::Handle &handle, Volume &volume, Inode &inode);

}  // namespace outboard::ext4::growth

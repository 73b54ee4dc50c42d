// File block to device block for one inode, whichever way the inode keeps it (extent tree or block map).
// No data is touched here. The inode is held exclusively by the caller for everything that takes a Handle.
#pragma once

#include "ext4/volume.h"

namespace outboard::ext4 {

struct FileMapping {
  enum class State : std::uint8_t { hole, mapped, unwritten };
  State state = State::hole;
  FileBlock first;
  std::uint32_t count = 0;  // the whole extent or hole from `first` on, at most `limit`
  BlockNumber start;        // 0 for a hole
};

namespace file_map {

// The largest stretch of one state that begins at `block`, at most `limit` blocks.
Result<FileMapping> find(Volume &volume, const Inode &inode, FileBlock block, std::uint32_t limit);

// Records claimed blocks in a hole. Merges with neighbours where it can. Claims tree blocks itself.
// Changes inode.fields (block, blocks, flags) and bumps map_sequence; the caller stores the inode.
// Fails with ENOSPC before it has changed anything. At most max_insert() blocks at once. Credits: insert_credits().
Status insert(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first, BlockRun run, bool unwritten);
// Unwritten blocks [first, first+count) become written. Credits: insert_credits() * 2.
Status mark_written(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first, std::uint32_t count);
// The other way (extents only): the blocks stay and read as zeros. Credits: insert_credits() * 2.
Status mark_unwritten(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first, std::uint32_t count);
// Unmaps [first, end) and frees the blocks, from the end towards the front, a bounded piece per call: returns the file
// block from which on everything is unmapped (== first when done); the caller restarts the handle between calls. Block
// sharing none. `metadata`: the blocks are metadata of a directory or symlink (revoked). Credits for one piece:
// remove_credits().
Result<FileBlock> remove_piece(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first, FileBlock end,
                               bool metadata);
// Moves every mapping at or after `from` by `delta` file blocks (collapse: negative, the gap is unmapped; insert:
// positive). Extents only. The handle is restarted (the inode stored before) when its credits do not reach: then a
// crash leaves a part moved.
Status shift(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock from, std::int64_t delta);

// Credits with which shift() needs one transaction only (as far as the journal allows such a handle).
Result<std::uint32_t> shift_credits(Volume &volume, Inode &inode);

// How many blocks from `first` on one insert() can take; 0 beyond the last block a file may have.
std::uint32_t max_insert(const Volume &volume, const Inode &inode, FileBlock first);
std::uint32_t insert_credits(const Volume &volume, const Inode &inode);
std::uint32_t remove_credits(const Volume &volume, const Inode &inode);
// Blocks that a file of this inode's kind can address.
std::uint64_t max_file_blocks(const Volume &volume, const Inode &inode);

}  // namespace file_map
}  // namespace outboard::ext4

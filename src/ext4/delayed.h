// Delayed allocation: promises of space for bytes that are in the page cache only, and what is put off until later.
//
// A promise counts the blocks of a hole that somebody wrote to, and the worst case of tree nodes that recording them may
// take; with it the write cannot meet ENOSPC any more (but for a volume so fragmented that the pool for metadata is
// used up). Allocation turns promised blocks into reserved ones. All functions: the inode is held exclusively.
#pragma once

#include "ext4/block_alloc.h"

namespace outboard::ext4::delayed {

// Promises the file blocks [first, end), which lie in a hole, as far as they have no promise yet. ENOSPC: nothing changed.
Status promise(Volume &volume, Inode &inode, std::uint64_t first, std::uint64_t end, bool may_use_reserved);
// The promises in [first, end) are not needed any more: written elsewhere, discarded, or punched out.
void withdraw(Volume &volume, Inode &inode, std::uint64_t first, std::uint64_t end);
// 1..want of the promised blocks from `first` on become reserved ones. What was promised for the map stays until
// recorded(), after they have become the file's (or have been given back).
Result<BlockRun> reserve(Volume &volume, Inode &inode, const BlockGoal &goal, std::uint64_t first, std::uint32_t want);
void recorded(Volume &volume, Inode &inode);

// Unwritten blocks that have got their data become written on disk, many in few handles. Before fsync commits, and before
// anything else changes the map. No handle may be open.
Status record_written(Volume &volume, Inode &inode);
// Blocks set aside for a file that seems to have stopped growing.
void release_ahead(Volume &volume, Inode &inode);
// Everything that is only in memory is given up: the inode is about to be deleted, or its data was lost.
void give_up(Volume &volume, Inode &inode);

}  // namespace outboard::ext4::delayed

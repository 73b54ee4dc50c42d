// Blocks: in-memory reservation first, bitmap in a transaction later.
//
// Invariant: what reserve() hands out is free in the running state *and* in the last committed one, and held by nobody else.
// A freed block comes back only when the freeing transaction is durable (and has then been discarded, if asked).
// Thread-safe: one lock per group (Rank::block_alloc). reserve() and release() need no transaction.
#pragma once

#include "ext4/volume.h"

namespace outboard::ext4 {

// Where blocks had best lie.
struct BlockGoal {
  BlockNumber near;         // 0: anywhere in `group`
  GroupNumber group;        // the inode's group
};

class BlockAllocator {
public:
  explicit BlockAllocator(Volume &volume);
  ~BlockAllocator();

  // 1..want contiguous blocks, the longest stretch near the goal that a bounded search finds. ENOSPC when there is none
  // (`keep_for_root` true: the superblock's reserved blocks do not count as free).
  Result<BlockRun> reserve(const BlockGoal &goal, std::uint32_t want, bool keep_for_root = false);
  // The same for writes that were promised space: `want` promised blocks become reserved ones, as far as the run goes.
  Result<BlockRun> reserve_promised(const BlockGoal &goal, std::uint32_t want);
  // Up to `want` blocks that follow `run` directly in its group, or none: for files that are likely to go on there. Never
  // takes what anybody may need soon: half of what is free, at most, is reserved when it is done. free_blocks() counts them.
  BlockRun reserve_ahead(BlockRun run, std::uint32_t want);
  // The first blocks of such a run become reserved ones like any others.
  void use_ahead(BlockRun run);
  // Reserved blocks that will not be used. Also for a run whose claim() the journal's abort may have come after: whoever
  // recorded it learns of the abort only, and release() gives nothing back then (nor is anything allocated any more).
  void release(BlockRun run);
  // Reserved blocks become allocated: bitmap, descriptor, counters. Credits: credits::claim(run).
  Status claim(jbd2::Handle &handle, BlockRun run);
  // reserve + claim of one block for metadata (tree nodes, directory and xattr blocks). `promised`: it may be one of those
  // that were promised for maps.
  Result<BlockNumber> allocate(jbd2::Handle &handle, const BlockGoal &goal, bool promised = false);
  // Gives allocated blocks back. Metadata blocks are revoked and forgotten too. Freeing a block that is free already, or that
  // holds fixed metadata (superblocks, descriptors, bitmaps, inode tables, the journal), is corrupt. May span groups.
  // Credits: credits::free_blocks(groups touched).
  Status free(jbd2::Handle &handle, BlockRun run, bool metadata);

  // For replaying fast commits, which say themselves where blocks are (block_exact.cc). Not beside other users of the
  // volume. set_aside(): what is free of the run is handed out by nobody but claim_exact() from now on. claim_exact(): these
  // blocks, all free in the running state, become allocated; corrupt when one is not. May span groups. Credits:
  // credits::free_blocks(groups touched).
  Status set_aside(BlockRun run);
  Status claim_exact(jbd2::Handle &handle, BlockRun run);

  // Space promised to writes that have no blocks yet (delayed allocation), for their data or for the map over them: counted
  // against free blocks.
  enum class Use : std::uint8_t { data, map };
  Status promise(std::uint64_t blocks, Use use, bool keep_for_root = false);
  void withdraw(std::uint64_t blocks, Use use);

  // True when every block lies in the file system and none in fixed metadata: what a file's map may point to.
  bool may_hold_file_data(BlockRun run) const;

  // FITRIM over [start, end) blocks: discards free stretches of at least `minimum` blocks. Returns blocks discarded.
  Result<std::uint64_t> trim(BlockNumber start, BlockNumber end, std::uint32_t minimum);

  std::uint64_t free_blocks() const;  // less reservations and promises
  // Of them, what ordinary writers may not use, as statfs tells it: root's share, and with extents the small pool for metadata
  // that must not fail, which allocate() alone may draw on.
  std::uint64_t kept_blocks() const;

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outboard::ext4

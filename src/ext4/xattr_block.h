// Attribute blocks: the second half of an inode's attributes, in one block that inodes with the same attributes share.
//
// A block's header counts the inodes that use it (at most kXattrMaxRefcount). A block with one user is changed in
// place, one with several is left to the others and replaced. Blocks that were read or made recently are remembered by
// the hash of their contents, so that an equal set finds the block it can share; full ones are not remembered.
//
// Who may look and change. An inode's lock guards which block it uses; while somebody uses a block it is not freed.
// Contents but the count change only while there is a single user, who holds its inode exclusively. The count, the
// question whether one is single, and the memory of blocks are guarded by `lock_` (Rank::xattr_cache): shared to copy a
// block, exclusively to change one. A block that is about to be freed is forgotten first, under the lock, so that
// nobody finds it any more.
#pragma once

#include "base/mutex.h"
#include "ext4/format/xattr.h"
#include "ext4/volume.h"

#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

namespace outboard::ext4 {

class XattrBlocks {
public:
  explicit XattrBlocks(Volume &volume) : volume_(volume) {}

  // A copy of the inode's block, verified; empty when it has none.
  Result<std::vector<std::byte>> read(const Inode &inode);

  // The inode's block becomes one with exactly these attributes, which fit a block (none: no block at all). Changes
  // inode.fields (file_acl, sectors), the caller stores the inode. ENOSPC before anything has changed. Credits:
  // kCredits.
  Status replace(jbd2::Handle &handle, Inode &inode, std::span<const format::XattrItem> items);
  // The inode gives its block up: the last user's is freed. Credits: kCredits.
  Status release(jbd2::Handle &handle, Inode &inode);
  // A block and its allocation, or a count; the old block's count, or its bitmap and descriptor.
  static constexpr std::uint32_t kCredits = 1 + 2 + 1 + 2;

private:
  static constexpr std::size_t kRemembered = 4096;  // blocks
  struct Memory {
    std::uint32_t hash = 0;
    std::list<BlockNumber>::iterator age;
  };

  // A remembered block with these contents takes one user more; none found: nullopt.
  Result<std::optional<BlockNumber>> share(jbd2::Handle &handle, std::span<const std::byte> image, BlockNumber except);
  // Into the inode's own block, if nobody else uses it. False: somebody does.
  Result<bool> rewrite(jbd2::Handle &handle, BlockNumber block, std::span<const std::byte> image);
  Result<BlockNumber> make(jbd2::Handle &handle, const Inode &inode, std::span<const std::byte> image);
  // One user less, or the block freed.
  Status drop(jbd2::Handle &handle, BlockNumber block);
  Result<cache::BufferRef> buffer(BlockNumber block);
  void attach(Inode &inode, BlockNumber block) const;

  void remember(BlockNumber block, std::span<const std::byte> bytes) REQUIRES(lock_);
  void forget(BlockNumber block) REQUIRES(lock_);

  Volume &volume_;
  SharedMutex lock_{Rank::xattr_cache};
  std::unordered_multimap<std::uint32_t, BlockNumber> by_hash_ GUARDED_BY(lock_);
  std::unordered_map<BlockNumber, Memory> memory_ GUARDED_BY(lock_);
  std::list<BlockNumber> ages_ GUARDED_BY(lock_);  // oldest first
};

}  // namespace outboard::ext4

// What the cache verifies when a block comes in and seals when it goes out: one cache::BlockType per on-disk structure.
// Built once per volume (they know block size, checksums on or off, bounds).
#pragma once

#include "cache/buffer_cache.h"
#include "ext4/format/superblock.h"

#include <memory>

namespace outboard::ext4 {

class BlockTypes {
public:
  explicit BlockTypes(const format::Superblock &superblock);
  ~BlockTypes();

  const cache::BlockType &superblock() const;     // the block that holds the primary superblock
  const cache::BlockType &descriptors() const;    // a block of group descriptors (each descriptor is verified when parsed)
  const cache::BlockType &block_bitmap() const;   // checksum lives in the descriptor: GroupTable verifies
  const cache::BlockType &inode_bitmap() const;
  const cache::BlockType &inode_table() const;    // each inode carries its own checksum
  const cache::BlockType &extent_node() const;    // seed: the inode's
  const cache::BlockType &indirect() const;       // block-mapped files: every pointer in bounds
  const cache::BlockType &directory() const;      // seed: the inode's; a linear (leaf) block or a dx node/root, told apart by content
  const cache::BlockType &xattr() const;
  const cache::BlockType &symlink() const;        // target of a slow symlink (also plain data blocks read as metadata)
  const cache::BlockType &orphan_file() const;    // seed: the inode's; the block number enters the checksum

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outboard::ext4

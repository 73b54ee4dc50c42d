// The classic map of ext2 and ext3 files: twelve direct pointers in the inode, then single, double and triple indirect
// blocks of little-endian 32-bit block numbers; 0 is a hole. Format: Documentation/filesystems/ext4/blockmap.rst.
//
// The depth of every slot follows from its position alone, so a hostile map cannot loop; every pointer is checked
// before it is followed, returned or freed. Indirect blocks that become empty are freed with the last pointer. Errors
// as in extent_tree.h: the map is whole after each; ENOSPC comes before anything has changed.
#pragma once

#include "ext4/file_map.h"

#include <array>
#include <vector>

namespace outboard::ext4 {

class BlockMap {
public:
  BlockMap(Volume &volume, Inode &inode) : volume_(volume), inode_(inode) {}

  static Result<FileMapping> find(Volume &volume, const Inode &inode, FileBlock block, std::uint32_t limit);
  static std::uint64_t max_blocks(std::uint32_t block_size);
  // How many blocks from `first` on have their pointers in one block: what one insert() can record.
  static std::uint32_t max_insert(std::uint32_t block_size, FileBlock first);

  Status insert(jbd2::Handle &handle, FileBlock first, BlockRun run);
  Result<FileBlock> remove_piece(jbd2::Handle &handle, FileBlock first, FileBlock end, bool metadata);

  static constexpr std::uint32_t kDepth = 3;

private:
  // Where a file block's pointer stands: slot[0] in the inode, slot[k] in the k-th indirect block below it.
  struct Place {
    unsigned depth = 0;  // indirect blocks on the way
    std::array<std::uint32_t, kDepth + 1> slot{};
  };
  // The blocks on the way that exist. `present` == place.depth: all of them.
  struct Walk {
    Place place;
    unsigned present = 0;
    std::array<cache::BufferRef, kDepth + 1> nodes;  // [0] unused: the inode
  };

  static Result<Place> locate(std::uint32_t block_size, std::uint64_t block);
  static Result<Walk> walk(Volume &volume, const Inode &inode, std::uint64_t block);
  static std::span<const std::byte> node_bytes(const Inode &inode, const Walk &walk, unsigned level);
  static std::uint32_t pointer(std::span<const std::byte> node, std::uint32_t slot);
  static std::uint64_t blocks_below(std::uint32_t block_size, unsigned levels);
  // The one stretch that can be seen in a single node: a run, or a hole (start 0).
  static Result<FileMapping> stretch(Volume &volume, const Inode &inode, std::uint64_t block, std::uint64_t limit);

  Result<std::span<std::byte>> writable(jbd2::Handle &handle, Walk &walk, unsigned level);
  // Frees the deepest nodes of the walk for as long as they hold no pointer.
  Status free_empty_nodes(jbd2::Handle &handle, Walk &walk);
  Result<std::uint64_t> skip_missing(jbd2::Handle &handle, Walk &walk, std::uint64_t block);
  struct Clearing;
  Result<Clearing> plan_clearing(const Walk &walk, std::uint64_t low, std::uint64_t high, bool metadata) const;
  std::uint32_t sectors(std::uint32_t blocks) const { return blocks * (volume_.block_size() / 512); }

  Volume &volume_;
  Inode &inode_;
};

}  // namespace outboard::ext4

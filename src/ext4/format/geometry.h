// Where things are: pure arithmetic from the superblock. Nothing here reads the disk; results are right for every group
// and block number in range (assertions otherwise), so callers check numbers that came from the disk first.
// Documentation/filesystems/ext4/{blockgroup,group_descr,meta_bg}.rst.
#pragma once

#include "base/units.h"
#include "ext4/format/superblock.h"

#include <cstdint>

namespace outboard::ext4::format {

struct InodeLocation {
  GroupNumber group;
  std::uint32_t index = 0;        // within the group: its bit in the inode bitmap
  std::uint32_t table_block = 0;  // block of the group's inode table
  std::uint32_t offset = 0;       // bytes within that block
};

struct BlockLocation {
  GroupNumber group;
  std::uint32_t bit = 0;  // in the group's block bitmap (clusters with bigalloc)
};

// A value: cheap to copy, immutable, needs no lock.
class Geometry {
public:
  Geometry() = default;
  explicit Geometry(const Superblock &superblock);

  std::uint32_t block_size() const { return block_size_; }
  std::uint64_t blocks_count() const { return blocks_count_; }
  std::uint32_t inodes_count() const { return inodes_count_; }
  std::uint32_t group_count() const { return group_count_; }
  std::uint32_t blocks_per_group() const { return blocks_per_group_; }
  std::uint32_t clusters_per_group() const { return clusters_per_group_; }
  std::uint32_t inodes_per_group() const { return inodes_per_group_; }
  BlockNumber first_data_block() const { return first_data_block_; }

  // Groups.
  BlockNumber group_first_block(GroupNumber group) const;
  std::uint32_t blocks_in_group(GroupNumber group) const;    // the last one may be shorter
  std::uint32_t clusters_in_group(GroupNumber group) const;  // bits in its block bitmap that mean something
  bool group_has_super(GroupNumber group) const;  // superblock or a backup, and the old-style descriptors after it
  std::uint32_t flex_group_of(GroupNumber group) const { return group.value() >> flex_bits_; }
  std::uint32_t flex_group_size() const { return std::uint32_t{1} << flex_bits_; }  // groups
  std::uint32_t flex_group_count() const { return ((group_count_ - 1) >> flex_bits_) + 1; }

  // Blocks.
  bool contains(BlockNumber block) const { return block >= first_data_block_ && block.value() < blocks_count_; }
  bool contains(BlockNumber start, std::uint64_t count) const {
    return contains(start) && count != 0 && count <= blocks_count_ - start.value();
  }
  GroupNumber group_of(BlockNumber block) const;
  BlockLocation locate(BlockNumber block) const;
  // First block of the bit (with bigalloc: of the cluster).
  BlockNumber block_at(GroupNumber group, std::uint32_t bit) const;

  // Inodes.
  bool contains(InodeNumber inode) const { return inode.value() >= 1 && inode.value() <= inodes_count_; }
  InodeLocation locate(InodeNumber inode) const;
  InodeNumber inode_at(GroupNumber group, std::uint32_t index) const;
  std::uint32_t inode_table_blocks() const { return inode_table_blocks_; }  // per group
  std::uint32_t inodes_per_block() const { return inodes_per_block_; }

  // The superblock and the group descriptors.
  BlockNumber super_block() const { return super_block_; }      // of the primary superblock: 1 with 1k blocks, else 0
  std::uint32_t super_offset() const { return super_offset_; }  // bytes within that block
  std::uint32_t descriptors_per_block() const { return descriptors_per_block_; }
  std::uint32_t descriptor_blocks() const { return descriptor_blocks_; }  // of one copy of the whole table
  // Block `index` of the primary descriptor table.
  BlockNumber descriptor_block(std::uint32_t index) const;
  // Which block of the table holds the group's descriptor, and where in it (bytes).
  std::uint32_t descriptor_index(GroupNumber group) const { return group.value() / descriptors_per_block_; }
  std::uint32_t descriptor_offset(GroupNumber group) const {
    return group.value() % descriptors_per_block_ * desc_size_;
  }
  // Descriptor blocks (primary or backup) that stand in this group, and blocks reserved for more of them.
  std::uint32_t descriptor_blocks_in(GroupNumber group) const;
  std::uint32_t reserved_descriptor_blocks_in(GroupNumber group) const;
  // Superblock copy + descriptors + reserved descriptors: blocks from the group's start on that are never anything
  // else.
  std::uint32_t base_metadata_blocks(GroupNumber group) const;
  // The block is one of those, or lies before the first data block. False for blocks out of range.
  bool overlaps_static_metadata(BlockNumber block) const;
  bool overlaps_static_metadata(BlockNumber start, std::uint64_t count) const;

  // Blocks that hold no data in a file system with nothing in it: fixed metadata of all groups, bitmaps, inode tables,
  // and what lies before the first data block. The journal is the caller's to add.
  std::uint64_t static_overhead_blocks() const;

  // Bytes: the largest size a file of each kind may have, as ext4 computes s_maxbytes and s_bitmap_maxbytes.
  std::uint64_t max_extent_file_size() const { return max_extent_file_size_; }
  std::uint64_t max_blockmap_file_size() const { return max_blockmap_file_size_; }

private:
  std::uint32_t block_size_ = 0;
  std::uint8_t cluster_bits_ = 0;
  std::uint8_t flex_bits_ = 0;
  bool meta_bg_ = false, sparse_super_ = false, sparse_super2_ = false;
  std::uint64_t blocks_count_ = 0;
  std::uint32_t inodes_count_ = 0, group_count_ = 0;
  std::uint32_t blocks_per_group_ = 0, clusters_per_group_ = 0, inodes_per_group_ = 0;
  BlockNumber first_data_block_, super_block_;
  std::uint32_t super_offset_ = 0;
  std::uint16_t inode_size_ = 0, desc_size_ = 0, reserved_gdt_blocks_ = 0;
  std::uint32_t first_meta_bg_ = 0;
  std::uint32_t backup_bgs_[2] = {0, 0};
  std::uint32_t inode_table_blocks_ = 0, inodes_per_block_ = 0;
  std::uint32_t descriptors_per_block_ = 1, descriptor_blocks_ = 0;
  std::uint64_t max_extent_file_size_ = 0, max_blockmap_file_size_ = 0;
};

}  // namespace outboard::ext4::format

// Group descriptors: 32 bytes, or s_desc_size (64 and more) with the 64bit feature, whose second half holds the high
// parts. Documentation/filesystems/ext4/group_descr.rst. Checksums: metadata_csum: low 16 bits of crc32c(seed, group
// le32, descriptor with bg_checksum zero); gdt_csum (uninit_bg): crc16(~0, uuid, group le32, descriptor without
// bg_checksum). Also here: the checksums of the bitmaps that a descriptor carries, and what the bitmap of an
// uninitialised group is.
#pragma once

#include "base/endian.h"
#include "base/result.h"
#include "base/units.h"
#include "ext4/format/geometry.h"
#include "ext4/format/superblock.h"

#include <cstdint>
#include <span>

namespace outboard::ext4::format {

inline constexpr std::size_t kSmallDescSize = 32;
inline constexpr std::size_t kLargeDescSize = 64;

// bg_flags
inline constexpr std::uint16_t kGroupInodeUninit = 0x0001;
inline constexpr std::uint16_t kGroupBlockUninit = 0x0002;
inline constexpr std::uint16_t kGroupItableZeroed = 0x0004;

struct RawGroupDesc {
  le32 bg_block_bitmap_lo;
  le32 bg_inode_bitmap_lo;
  le32 bg_inode_table_lo;
  le16 bg_free_blocks_count_lo;
  le16 bg_free_inodes_count_lo;
  le16 bg_used_dirs_count_lo;
  le16 bg_flags;
  le32 bg_exclude_bitmap_lo;
  le16 bg_block_bitmap_csum_lo;
  le16 bg_inode_bitmap_csum_lo;
  le16 bg_itable_unused_lo;
  le16 bg_checksum;
  // With 64bit only.
  le32 bg_block_bitmap_hi;
  le32 bg_inode_bitmap_hi;
  le32 bg_inode_table_hi;
  le16 bg_free_blocks_count_hi;
  le16 bg_free_inodes_count_hi;
  le16 bg_used_dirs_count_hi;
  le16 bg_itable_unused_hi;
  le32 bg_exclude_bitmap_hi;
  le16 bg_block_bitmap_csum_hi;
  le16 bg_inode_bitmap_csum_hi;
  le32 bg_reserved;
};
LAYOUT_SIZE(RawGroupDesc, 64);
LAYOUT_FIELD(RawGroupDesc, bg_block_bitmap_lo, 0x0);
LAYOUT_FIELD(RawGroupDesc, bg_inode_bitmap_lo, 0x4);
LAYOUT_FIELD(RawGroupDesc, bg_inode_table_lo, 0x8);
LAYOUT_FIELD(RawGroupDesc, bg_free_blocks_count_lo, 0xC);
LAYOUT_FIELD(RawGroupDesc, bg_free_inodes_count_lo, 0xE);
LAYOUT_FIELD(RawGroupDesc, bg_used_dirs_count_lo, 0x10);
LAYOUT_FIELD(RawGroupDesc, bg_flags, 0x12);
LAYOUT_FIELD(RawGroupDesc, bg_exclude_bitmap_lo, 0x14);
LAYOUT_FIELD(RawGroupDesc, bg_block_bitmap_csum_lo, 0x18);
LAYOUT_FIELD(RawGroupDesc, bg_inode_bitmap_csum_lo, 0x1A);
LAYOUT_FIELD(RawGroupDesc, bg_itable_unused_lo, 0x1C);
LAYOUT_FIELD(RawGroupDesc, bg_checksum, 0x1E);
LAYOUT_FIELD(RawGroupDesc, bg_block_bitmap_hi, 0x20);
LAYOUT_FIELD(RawGroupDesc, bg_inode_bitmap_hi, 0x24);
LAYOUT_FIELD(RawGroupDesc, bg_inode_table_hi, 0x28);
LAYOUT_FIELD(RawGroupDesc, bg_free_blocks_count_hi, 0x2C);
LAYOUT_FIELD(RawGroupDesc, bg_free_inodes_count_hi, 0x2E);
LAYOUT_FIELD(RawGroupDesc, bg_used_dirs_count_hi, 0x30);
LAYOUT_FIELD(RawGroupDesc, bg_itable_unused_hi, 0x32);
LAYOUT_FIELD(RawGroupDesc, bg_exclude_bitmap_hi, 0x34);
LAYOUT_FIELD(RawGroupDesc, bg_block_bitmap_csum_hi, 0x38);
LAYOUT_FIELD(RawGroupDesc, bg_inode_bitmap_csum_hi, 0x3A);
LAYOUT_FIELD(RawGroupDesc, bg_reserved, 0x3C);

struct GroupDesc {
  BlockNumber block_bitmap;
  BlockNumber inode_bitmap;
  BlockNumber inode_table;        // first of Geometry::inode_table_blocks()
  std::uint32_t free_blocks = 0;  // clusters with bigalloc; at most those in the group
  std::uint32_t free_inodes = 0;
  std::uint32_t used_dirs = 0;
  // Without group checksums the disk's flags mean nothing: these are false then, and itable_unused 0, and encoding
  // leaves them.
  std::uint32_t itable_unused = 0;  // never-used inodes at the end of the table
  bool inode_uninit = false;        // the inode bitmap was never written: all free
  bool block_uninit = false;        // the block bitmap was never written: initial_block_bitmap() is its content
  bool itable_zeroed = false;
  // metadata_csum only, else 0. 32-byte descriptors keep the low 16 bits: compare with bitmap_checksum_matches().
  std::uint32_t block_bitmap_csum = 0;
  std::uint32_t inode_bitmap_csum = 0;

  friend bool operator==(const GroupDesc &, const GroupDesc &) = default;
};

// `raw`: superblock.desc_size bytes. Verifies the checksum, that bitmaps and table lie in the file system (in the group
// itself without flex_bg), not on each other nor on the primary superblock and descriptors, and that no counter exceeds
// the group.
Result<GroupDesc> parse_group_desc(const Superblock &superblock, GroupNumber group, std::span<const std::byte> raw);
// Writes all of GroupDesc and the checksum; other bytes are kept.
void encode_group_desc(const Superblock &superblock, GroupNumber group, const GroupDesc &desc,
                       std::span<std::byte> raw);
bool group_desc_checksum_matches(const Superblock &superblock, GroupNumber group, std::span<const std::byte> raw);

// The value for GroupDesc::block_bitmap_csum / inode_bitmap_csum; 0 without metadata_csum. `bitmap`: the whole block.
std::uint32_t block_bitmap_checksum(const Superblock &superblock, std::span<const std::byte> bitmap);
std::uint32_t inode_bitmap_checksum(const Superblock &superblock, std::span<const std::byte> bitmap);
// True without metadata_csum; else compares as many bits as the descriptor keeps.
bool bitmap_checksum_matches(const Superblock &superblock, std::uint32_t stored, std::uint32_t computed);

// What stands in the bitmap of a group that is marked uninitialised. `bitmap`: a whole block, overwritten.
void initial_block_bitmap(const Geometry &geometry, GroupNumber group, const GroupDesc &desc,
                          std::span<std::byte> bitmap);
void initial_inode_bitmap(const Geometry &geometry, std::span<std::byte> bitmap);

}  // namespace outboard::ext4::format

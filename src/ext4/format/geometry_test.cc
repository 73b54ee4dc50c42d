#include "ext4/format/geometry.h"

#include <gtest/gtest.h>

#include <set>

namespace outboard::ext4::format {
namespace {

// Places on real images are compared with dumpe2fs in image_test.cc; here are sizes that no test image has.
Superblock volume(std::uint8_t block_bits, std::uint32_t groups) {
  Superblock sb;
  sb.block_bits = block_bits;
  sb.block_size = sb.cluster_size = std::uint32_t{1} << block_bits;
  sb.blocks_per_group = sb.clusters_per_group = 8 * sb.block_size;
  sb.inodes_per_group = 8192;
  sb.inode_size = 256;
  sb.desc_size = 64;
  sb.first_data_block = BlockNumber(block_bits == 10 ? 1 : 0);
  sb.group_count = groups;
  sb.blocks_count = std::uint64_t{groups} * sb.blocks_per_group + sb.first_data_block.value();
  sb.inodes_count = groups * sb.inodes_per_group;
  sb.features.ro_compat = 0x46b;
  sb.features.incompat = 0x2c2;
  return sb;
}

TEST(Geometry, BackupsStandInPowersOfThreeFiveAndSeven) {
  const Geometry geometry(volume(12, 3000));
  std::set<std::uint32_t> found;
  for (std::uint32_t g = 0; g < 3000; ++g)
    if (geometry.group_has_super(GroupNumber(g))) found.insert(g);
  EXPECT_EQ(found, (std::set<std::uint32_t>{0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343, 625, 729, 2187, 2401}));
}

TEST(Geometry, SparseSuper2NamesItsTwoBackups) {
  Superblock sb = volume(12, 100);
  sb.features.compat |= 0x200;
  sb.backup_bgs = {1, 99};
  const Geometry geometry(sb);
  for (std::uint32_t g = 0; g < 100; ++g)
    EXPECT_EQ(geometry.group_has_super(GroupNumber(g)), g == 0 || g == 1 || g == 99);
}

TEST(Geometry, LargestFilesAreThoseOfTheKernel) {
  EXPECT_EQ(Geometry(volume(12, 10)).max_extent_file_size(), 17592186040320u);
  EXPECT_EQ(Geometry(volume(10, 10)).max_extent_file_size(), 4398046510080u);
  EXPECT_EQ(Geometry(volume(10, 10)).max_blockmap_file_size(), 17247252480u);
  EXPECT_EQ(Geometry(volume(11, 10)).max_blockmap_file_size(), 275415851008u);
  EXPECT_EQ(Geometry(volume(12, 10)).max_blockmap_file_size(), 4402345721856u);
  // Without huge_file the 32-bit sector count is the limit.
  Superblock sb = volume(12, 10);
  sb.features.ro_compat &= ~0x8u;
  EXPECT_EQ(Geometry(sb).max_extent_file_size(), 2199023251456u);
  EXPECT_EQ(Geometry(sb).max_blockmap_file_size(), 2196873666560u);
  // File block numbers have 32 bits, whatever the tree could hold.
  EXPECT_EQ(Geometry(volume(16, 2)).max_blockmap_file_size(), 0xffffffffULL << 16);
}

TEST(Geometry, NumbersGoThereAndBack) {
  for (const std::uint8_t bits : {std::uint8_t{10}, std::uint8_t{12}, std::uint8_t{16}}) {
    const Geometry geometry(volume(bits, 50));
    for (std::uint64_t i = 0; i < geometry.blocks_count(); i += 4099) {
      const BlockNumber block = geometry.first_data_block() + i;
      if (!geometry.contains(block)) continue;
      const BlockLocation at = geometry.locate(block);
      EXPECT_EQ(at.group, geometry.group_of(block));
      EXPECT_EQ(geometry.block_at(at.group, at.bit), block);
    }
    for (std::uint32_t i = 1; i <= geometry.inodes_count(); i += 37) {
      const InodeLocation at = geometry.locate(InodeNumber(i));
      EXPECT_EQ(geometry.inode_at(at.group, at.index), InodeNumber(i));
      EXPECT_LT(at.table_block, geometry.inode_table_blocks());
      EXPECT_LE(at.offset + 256, geometry.block_size());
      EXPECT_EQ(at.table_block * geometry.inodes_per_block() + at.offset / 256, at.index);
    }
    EXPECT_FALSE(geometry.contains(InodeNumber(0)));
    EXPECT_FALSE(geometry.contains(InodeNumber(geometry.inodes_count() + 1)));
  }
}

TEST(Geometry, StaticMetadataIsSuperblocksAndDescriptors) {
  Superblock sb = volume(12, 200);
  sb.reserved_gdt_blocks = 10;
  const Geometry geometry(sb);
  EXPECT_EQ(geometry.descriptor_blocks(), 4u);  // 64 descriptors each
  EXPECT_EQ(geometry.base_metadata_blocks(GroupNumber(0)), 15u);
  EXPECT_EQ(geometry.base_metadata_blocks(GroupNumber(2)), 0u);
  EXPECT_EQ(geometry.base_metadata_blocks(GroupNumber(3)), 15u);
  EXPECT_TRUE(geometry.overlaps_static_metadata(BlockNumber(0)));
  EXPECT_TRUE(geometry.overlaps_static_metadata(BlockNumber(14)));
  EXPECT_FALSE(geometry.overlaps_static_metadata(BlockNumber(15)));
  const BlockNumber third = geometry.group_first_block(GroupNumber(3));
  EXPECT_TRUE(geometry.overlaps_static_metadata(third));
  EXPECT_FALSE(geometry.overlaps_static_metadata(third - 1));
  EXPECT_FALSE(geometry.overlaps_static_metadata(third - 10, 10));
  EXPECT_TRUE(geometry.overlaps_static_metadata(third - 10, 11));
  EXPECT_FALSE(geometry.overlaps_static_metadata(third + 15, 100));
  EXPECT_FALSE(geometry.overlaps_static_metadata(BlockNumber(geometry.blocks_count()), 5));
}

TEST(Geometry, LastGroupMayBeShort) {
  Superblock sb = volume(12, 3);
  sb.blocks_count -= 30000;
  const Geometry geometry(sb);
  EXPECT_EQ(geometry.blocks_in_group(GroupNumber(1)), 32768u);
  EXPECT_EQ(geometry.blocks_in_group(GroupNumber(2)), 2768u);
  sb.log_groups_per_flex = 1;
  EXPECT_EQ(Geometry(sb).flex_group_count(), 2u);
  EXPECT_EQ(Geometry(sb).flex_group_of(GroupNumber(2)), 1u);
}

}  // namespace
}  // namespace outboard::ext4::format

#include "ext4/format/inode.h"

#include "ext4/format/test_volume.h"

#include <gtest/gtest.h>

#include <limits>

namespace outboard::ext4::format {
namespace {

constexpr InodeNumber kNumber{12};

Superblock volume(std::uint16_t inode_size = 256) {
  Superblock sb;
  sb.block_size = sb.cluster_size = 4096;
  sb.block_bits = 12;
  sb.blocks_count = std::uint64_t{1} << 40;
  sb.inode_size = inode_size;
  sb.checksum_seed = 0x12345678;
  sb.features.incompat = 0x2c2;
  sb.features.ro_compat = 0x46b | 0x2000;
  return sb;
}

InodeFields sample() {
  InodeFields f;
  f.mode = kModeRegular | 0644;
  f.uid = 0x12345678;
  f.gid = 0x87654321;
  f.size = std::uint64_t{5} << 33;
  f.links = 65000;
  f.sectors = 4242;
  f.flags = kInodeFlagExtents | kInodeFlagNoAtime;
  f.generation = 99;
  f.file_acl = BlockNumber((std::uint64_t{1} << 33) + 7);
  f.atime = {1'700'000'000, 999'999'999};
  f.mtime = {-5, 1};
  f.ctime = {std::int64_t{3} << 32, 2};
  f.crtime = {1, 3};
  f.dtime = 77;
  f.version = std::uint64_t{7} << 32 | 8;
  f.extra_isize = 32;
  f.projid = 1001;
  for (std::size_t i = 0; i < f.block.size(); ++i) f.block[i] = static_cast<std::byte>(i);
  return f;
}

Result<InodeFields> through_disk(const Superblock &sb, const InodeFields &fields) {
  Bytes raw(sb.inode_size);
  TRY(encode_inode(sb, kNumber, fields, raw));
  return parse_inode(sb, kNumber, raw);
}

TEST(Inode, EveryFieldSurvivesTheDisk) {
  const Superblock sb = volume();
  ASSIGN_OK(const InodeFields back, through_disk(sb, sample()));
  EXPECT_EQ(back, sample());
}

TEST(Inode, SmallRecordKeepsWhatItHasRoomFor) {
  const Superblock sb = volume(128);
  InodeFields fields = sample();
  fields.extra_isize = 0;
  ASSIGN_OK(const InodeFields back, through_disk(sb, fields));
  EXPECT_EQ(back.size, fields.size);
  EXPECT_EQ(back.uid, fields.uid);
  EXPECT_EQ(back.atime, (Timestamp{1'700'000'000, 0}));
  EXPECT_EQ(back.mtime, (Timestamp{-5, 0}));
  EXPECT_EQ(back.ctime, (Timestamp{std::numeric_limits<std::int32_t>::max(), 0}));
  EXPECT_EQ(back.crtime, Timestamp{});
  EXPECT_EQ(back.version, 8u);
  EXPECT_EQ(back.projid, 0u);
}

TEST(Inode, UnknownBytesAndAttributesAreKept) {
  const Superblock sb = volume();
  std::mt19937 random(4);
  Bytes raw(sb.inode_size);
  fill_random(raw, random);
  const Bytes before = raw;
  ASSERT_OK(encode_inode(sb, kNumber, sample(), raw));
  EXPECT_TRUE(std::equal(raw.begin() + 160, raw.end(), before.begin() + 160));
  EXPECT_TRUE(std::equal(raw.begin() + 0x70, raw.begin() + 0x74, before.begin() + 0x70));  // i_obso_faddr
  const auto area = inline_xattr_area(std::span<const std::byte>(raw), 32);
  EXPECT_EQ(area.data(), raw.data() + 160);
  EXPECT_EQ(area.size(), 96u);
  EXPECT_TRUE(inline_xattr_area(std::span<const std::byte>(raw), 0).empty());
  EXPECT_TRUE(inline_xattr_area(std::span<const std::byte>(raw).first(128), 0).empty());
}

TEST(Inode, ChecksumCoversNumberAndGeneration) {
  const Superblock sb = volume();
  Bytes raw(sb.inode_size);
  ASSERT_OK(encode_inode(sb, kNumber, sample(), raw));
  EXPECT_TRUE(inode_checksum_matches(sb, kNumber, raw));
  EXPECT_FALSE(inode_checksum_matches(sb, InodeNumber(13), raw));
  set_raw_inode_dtime(raw, 1234);
  EXPECT_EQ(raw_inode_dtime(raw), 1234u);
  EXPECT_EQ(parse_inode(sb, kNumber, raw).error().kind(), ErrorKind::bad_checksum);
  seal_inode(sb, kNumber, raw);
  ASSIGN_OK(const InodeFields back, parse_inode(sb, kNumber, raw));
  EXPECT_EQ(back.dtime, 1234u);
}

TEST(Inode, OfZerosIsAnUnusedOne) {
  ASSIGN_OK(const InodeFields fields, parse_inode(volume(), kNumber, Bytes(256)));
  EXPECT_EQ(fields.mode, 0);
}

TEST(Inode, ContradictionsAreCorrupt) {
  const Superblock sb = volume();
  const auto expect_corrupt = [&](auto change) {
    Bytes raw(sb.inode_size);
    ASSERT_OK(encode_inode(sb, kNumber, sample(), raw));
    change(edit_as<RawInode>(raw));
    seal_inode(sb, kNumber, raw);
    const auto parsed = parse_inode(sb, kNumber, raw);
    ASSERT_FALSE(parsed.has_value());
    EXPECT_EQ(parsed.error().kind(), ErrorKind::corrupt);
    EXPECT_EQ(parsed.error().inode(), kNumber.value());
  };
  expect_corrupt([](RawInode &r) { r.i_extra_isize.set(132); });
  expect_corrupt([](RawInode &r) { r.i_extra_isize.set(30); });
  expect_corrupt([](RawInode &r) { r.i_size_high.set(0x80000000); });
  expect_corrupt([](RawInode &r) { r.i_file_acl_high.set(0xffff); });
}

TEST(Inode, BlockCountsTakeTheFormTheyNeed) {
  Superblock sb = volume();
  InodeFields fields = sample();
  for (const std::uint64_t sectors : {std::uint64_t{0}, std::uint64_t{0xffffffff}, std::uint64_t{1} << 32,
                                      (std::uint64_t{1} << 48) - 1, std::uint64_t{1} << 48, std::uint64_t{1} << 50}) {
    fields.sectors = sectors;
    ASSIGN_OK(const InodeFields back, through_disk(sb, fields));
    EXPECT_EQ(back.sectors, sectors);
    EXPECT_EQ(back.has_flag(kInodeFlagHugeFile), sectors >= std::uint64_t{1} << 48);
  }
  fields.sectors = std::uint64_t{1} << 52;
  EXPECT_ERROR(through_disk(sb, fields), EFBIG);
  sb.features.ro_compat &= ~0x8u;
  fields.sectors = std::uint64_t{1} << 32;
  EXPECT_ERROR(through_disk(sb, fields), EFBIG);
  fields.sectors = 0xffffffff;
  EXPECT_OK(through_disk(sb, fields));
}

TEST(Inode, TimesReachTo2446AndAreClamped) {
  const Superblock sb = volume();
  const std::int64_t last = (std::int64_t{1} << 34) - (std::int64_t{1} << 31) - 1;
  EXPECT_EQ(latest_time(32).sec, last);
  EXPECT_EQ(latest_time(0).sec, std::numeric_limits<std::int32_t>::max());
  EXPECT_EQ(earliest_time().sec, std::numeric_limits<std::int32_t>::min());
  InodeFields fields = sample();
  for (const std::int64_t sec : {std::int64_t{-2147483648}, std::int64_t{-1}, std::int64_t{0}, std::int64_t{2147483647},
                                 std::int64_t{2147483648}, std::int64_t{4294967295}, std::int64_t{4294967296}, last}) {
    fields.atime = {sec, 5};
    ASSIGN_OK(const InodeFields back, through_disk(sb, fields));
    EXPECT_EQ(back.atime, fields.atime) << sec;
  }
  for (const std::int64_t sec :
       {last + 1, std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()}) {
    fields.atime = {sec, 5};
    ASSIGN_OK(const InodeFields back, through_disk(sb, fields));
    EXPECT_EQ(back.atime, sec < 0 ? earliest_time() : latest_time(32));
    EXPECT_EQ(back.atime, storable_time(fields.atime, 32));
  }
  EXPECT_EQ(storable_time({5, 7}, 0), (Timestamp{5, 0}));
}

TEST(Inode, HighHalfOfTheSizeIsForFilesOnly) {
  Superblock sb = volume();
  InodeFields fields = sample();
  fields.mode = kModeDirectory | 0755;
  fields.size = 4096;
  Bytes raw(sb.inode_size);
  ASSERT_OK(encode_inode(sb, kNumber, fields, raw));
  edit_as<RawInode>(raw).i_size_high.set(5);
  seal_inode(sb, kNumber, raw);
  ASSIGN_OK(const InodeFields plain, parse_inode(sb, kNumber, raw));
  EXPECT_EQ(plain.size, 4096u);
  sb.features.incompat |= 0x4000;
  ASSIGN_OK(const InodeFields large, parse_inode(sb, kNumber, raw));
  EXPECT_EQ(large.size, (std::uint64_t{5} << 32) + 4096);
}

TEST(Inode, SymlinkIsFastWhenItHasNoBlocksOfItsOwn) {
  const Superblock sb = volume();
  InodeFields fields;
  fields.mode = kModeSymlink | 0777;
  fields.size = 59;
  EXPECT_TRUE(is_fast_symlink(sb, fields));
  fields.file_acl = BlockNumber(100);
  fields.sectors = 8;
  EXPECT_TRUE(is_fast_symlink(sb, fields));
  fields.sectors = 16;
  EXPECT_FALSE(is_fast_symlink(sb, fields));
  fields.sectors = 8;
  fields.size = 60;
  EXPECT_FALSE(is_fast_symlink(sb, fields));
  fields.mode = kModeRegular;
  fields.size = 5;
  EXPECT_FALSE(is_fast_symlink(sb, fields));
}

TEST(Inode, DeviceNumbersSurvive) {
  for (const DeviceNumber device : {DeviceNumber{0, 0}, {8, 1}, {255, 255}, {256, 0}, {1, 256}, {0xfff, 0xfffff}}) {
    InodeFields fields = sample();
    encode_device(fields, device);
    EXPECT_EQ(decode_device(fields), device);
  }
}

TEST(Inode, NoiseNeverCrashes) {
  std::mt19937 random(5);
  for (const std::uint16_t size : {std::uint16_t{128}, std::uint16_t{256}, std::uint16_t{1024}}) {
    const Superblock sb = volume(size);
    Bytes raw(size);
    for (int i = 0; i < 5000; ++i) {
      fill_random(raw, random);
      if (size > 128 && i % 2 == 0)
        edit_as<RawInode>(raw).i_extra_isize.set(static_cast<std::uint16_t>(random() % 40 * 4));
      seal_inode(sb, kNumber, raw);
      const auto parsed = parse_inode(sb, kNumber, raw);
      if (!parsed) continue;
      // What was accepted can be written, and reads back the same.
      Bytes again = raw;
      ASSERT_OK(encode_inode(sb, kNumber, *parsed, again));
      ASSIGN_OK(const InodeFields back, parse_inode(sb, kNumber, again));
      EXPECT_EQ(back.sectors, parsed->sectors);
      EXPECT_EQ(back.atime, parsed->atime);
    }
  }
}

}  // namespace
}  // namespace outboard::ext4::format

#include "ext4/format/superblock.h"

#include "ext4/format/test_volume.h"

#include <gtest/gtest.h>

namespace outboard::ext4::format {
namespace {

class SuperblockOfFreshImage : public ::testing::Test {
protected:
  void SetUp() override {
    const testing::TemporaryDirectory directory;
    const std::string path = directory.file("image");
    ASSERT_OK(testing::make_image(
        path, 32 << 20, {"-L", "label", "-U", "01020304-0506-0708-090a-0b0c0d0e0f10", "-m", "5", "-e", "panic"}));
    ASSIGN_OK(const std::string contents, testing::read_file(path));
    raw_ = to_bytes(std::string_view(contents).substr(kSuperblockOffset, kSuperblockSize));
  }
  RawSuperblock &raw() { return edit_as<RawSuperblock>(raw_); }
  // The edited superblock with a right checksum: what is refused then is refused for its content.
  Result<Superblock> parse_sealed() {
    seal_superblock(raw_);
    return parse_superblock(raw_);
  }
  // Rejected for its content, whatever the checksum says.
  void expect_corrupt(const char *what) {
    const Result<Superblock> parsed = parse_sealed();
    ASSERT_FALSE(parsed.has_value()) << what;
    EXPECT_EQ(parsed.error().kind(), ErrorKind::corrupt) << what;
  }
  Bytes raw_;
};

TEST_F(SuperblockOfFreshImage, IsDecoded) {
  ASSIGN_OK(const Superblock sb, parse_superblock(raw_));
  EXPECT_EQ(sb.block_size, 4096u);
  EXPECT_EQ(sb.blocks_count, 8192u);
  EXPECT_EQ(sb.reserved_blocks, 409u);
  EXPECT_EQ(sb.group_count, 1u);
  EXPECT_EQ(sb.inode_size, 256u);
  EXPECT_EQ(sb.want_extra_isize, 32u);
  EXPECT_EQ(sb.desc_size, 64u);
  EXPECT_EQ(sb.label, "label");
  EXPECT_EQ(std::to_integer<int>(sb.uuid[15]), 0x10);
  EXPECT_EQ(sb.journal_inode, kJournalInode);
  EXPECT_TRUE(sb.journal_backup.valid);
  EXPECT_GT(sb.journal_backup.size, 0u);
  EXPECT_EQ(sb.errors, ErrorBehaviour::panic);
  EXPECT_EQ(sb.state, kStateClean);
  EXPECT_EQ(sb.default_hash_version, 1);
  EXPECT_EQ(sb.first_ino, InodeNumber(11));
  EXPECT_GT(sb.mkfs_time, 1'000'000'000);
  EXPECT_TRUE(sb.has(Compat::has_journal));
  EXPECT_TRUE(sb.contains(BlockNumber(8191)));
  EXPECT_FALSE(sb.contains(BlockNumber(8192)));
  EXPECT_FALSE(sb.contains(BlockNumber(8191), 2));
}

TEST_F(SuperblockOfFreshImage, SealChangesNothing) {
  const Bytes before = raw_;
  seal_superblock(raw_);
  EXPECT_EQ(raw_, before);
}

TEST_F(SuperblockOfFreshImage, AnyFlippedBitIsNoticed) {
  for (std::size_t i = 0; i < raw_.size(); i += 7) {
    Bytes bad = raw_;
    bad[i] ^= std::byte{0x10};
    EXPECT_FALSE(parse_superblock(bad).has_value()) << "byte " << i;
  }
}

TEST_F(SuperblockOfFreshImage, BadChecksumIsSaidToBeOne) {
  raw().s_mnt_count.set(77);
  const Result<Superblock> parsed = parse_superblock(raw_);
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().kind(), ErrorKind::bad_checksum);
}

TEST_F(SuperblockOfFreshImage, ContradictionsAreRefusedDespiteAGoodChecksum) {
  const Bytes good = raw_;
  const auto with = [&](const char *what, auto change) {
    raw_ = good;
    change(raw());
    expect_corrupt(what);
  };
  with("block size", [](RawSuperblock &r) { r.s_log_block_size.set(7); });
  with("block size overflow", [](RawSuperblock &r) { r.s_log_block_size.set(0xfffffff0); });
  with("inode size", [](RawSuperblock &r) { r.s_inode_size.set(0); });
  with("inode size odd", [](RawSuperblock &r) { r.s_inode_size.set(200); });
  with("inode size large", [](RawSuperblock &r) { r.s_inode_size.set(8192); });
  with("descriptor size", [](RawSuperblock &r) { r.s_desc_size.set(32); });
  with("descriptor size odd", [](RawSuperblock &r) { r.s_desc_size.set(96); });
  with("blocks per group 0", [](RawSuperblock &r) { r.s_blocks_per_group.set(0); });
  with("blocks per group large", [](RawSuperblock &r) { r.s_blocks_per_group.set(32768 + 8); });
  with("inodes per group 0", [](RawSuperblock &r) { r.s_inodes_per_group.set(0); });
  with("inodes per group large", [](RawSuperblock &r) { r.s_inodes_per_group.set(32768 + 8); });
  with("inodes count", [](RawSuperblock &r) { r.s_inodes_count.set(r.s_inodes_count.get() + 8); });
  with("blocks count", [](RawSuperblock &r) { r.s_blocks_count_lo.set(0); });
  with("blocks count high", [](RawSuperblock &r) { r.s_blocks_count_hi.set(0xffffffff); });
  with("more groups", [](RawSuperblock &r) { r.s_blocks_count_lo.set(32768 * 3); });
  with("first data block", [](RawSuperblock &r) { r.s_first_data_block.set(1); });
  with("first inode", [](RawSuperblock &r) { r.s_first_ino.set(1); });
  with("reserved descriptors", [](RawSuperblock &r) { r.s_reserved_gdt_blocks.set(0xffff); });
  with("magic", [](RawSuperblock &r) { r.s_magic.set(0xEF52); });
}

TEST_F(SuperblockOfFreshImage, UnknownFeaturesDoNotHinderParsing) {
  raw().s_feature_incompat.set(raw().s_feature_incompat.get() | 0x80000000);
  ASSIGN_OK(const Superblock sb, parse_sealed());
  EXPECT_EQ(unsupported_incompat(sb.features), "FEATURE_I31");
}

TEST_F(SuperblockOfFreshImage, JournalDeviceIsUnsupportedAsAFileSystem) {
  set_feature(raw_, Incompat::journal_dev, true);
  const Result<Superblock> parsed = parse_sealed();
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().kind(), ErrorKind::unsupported);
}

TEST_F(SuperblockOfFreshImage, ChangesReadBack) {
  set_free_counts(raw_, 123, 45);
  set_state(raw_, kStateErrors);
  set_mount_time(raw_, std::int64_t{5} << 32);
  set_write_time(raw_, 99);
  set_mount_count(raw_, 3);
  set_last_orphan(raw_, InodeNumber(12));
  set_needs_recovery(raw_, true);
  set_orphan_present(raw_, true);
  set_label(raw_, "sixteen bytes ok");
  set_overhead(raw_, 77);
  set_kbytes_written(raw_, 1 << 20);
  EXPECT_FALSE(parse_superblock(raw_).has_value());
  ASSIGN_OK(const Superblock sb, parse_sealed());
  EXPECT_EQ(sb.free_blocks, 123u);
  EXPECT_EQ(sb.free_inodes, 45u);
  EXPECT_EQ(sb.state, kStateErrors);
  EXPECT_EQ(sb.mount_time, std::int64_t{5} << 32);
  EXPECT_EQ(sb.write_time, 99);
  EXPECT_EQ(sb.mount_count, 3);
  EXPECT_EQ(sb.last_orphan, InodeNumber(12));
  EXPECT_EQ(last_orphan(raw_), InodeNumber(12));
  EXPECT_TRUE(sb.has(Incompat::recover));
  EXPECT_TRUE(sb.has(RoCompat::orphan_present));
  EXPECT_EQ(sb.label, "sixteen bytes ok");
  EXPECT_EQ(label(raw_), "sixteen bytes ok");
  EXPECT_EQ(sb.overhead_clusters, 77u);
  EXPECT_EQ(sb.kbytes_written, 1u << 20);
  set_needs_recovery(raw_, false);
  EXPECT_FALSE(features(raw_).has(Incompat::recover));
}

TEST_F(SuperblockOfFreshImage, RemembersTheFirstAndTheLastError) {
  record_error(raw_, {1000, InodeNumber(12), BlockNumber(34), "first_function", 56, EUCLEAN});
  record_error(raw_, {2000, InodeNumber(13), BlockNumber(35), "second", 57, EIO});
  EXPECT_EQ(raw().s_error_count.get(), 2u);
  EXPECT_EQ(raw().s_first_error_time.get(), 1000u);
  EXPECT_EQ(raw().s_first_error_ino.get(), 12u);
  EXPECT_EQ(raw().s_first_error_block.get(), 34u);
  EXPECT_STREQ(raw().s_first_error_func, "first_function");
  EXPECT_EQ(raw().s_first_error_line.get(), 56u);
  EXPECT_EQ(raw().s_first_error_errcode, 5);
  EXPECT_EQ(raw().s_last_error_time.get(), 2000u);
  EXPECT_STREQ(raw().s_last_error_func, "second");
  EXPECT_EQ(raw().s_last_error_errcode, 2);
  EXPECT_EQ(state(raw_), kStateClean | kStateErrors);
}

TEST(Superblock, OfExternalJournalIsReadable) {
  const testing::TemporaryDirectory directory;
  for (const std::uint32_t block_size : {1024u, 4096u}) {
    const std::string path = directory.file("journal");
    ASSERT_OK(testing::make_image(path, 8 << 20, {"-O", "journal_dev"}, block_size));
    ASSIGN_OK(const std::string contents, testing::read_file(path));
    const Bytes raw = to_bytes(std::string_view(contents).substr(kSuperblockOffset, kSuperblockSize));
    ASSIGN_OK(const JournalDevice device, parse_journal_device(raw));
    EXPECT_EQ(device.block_size, block_size);
    EXPECT_EQ(device.blocks_count, (8u << 20) / block_size);
    // jbd2's magic number stands there.
    const auto at = device.journal_block.value() * block_size;
    EXPECT_EQ(contents.substr(at, 4), std::string("\xc0\x3b\x39\x98", 4));
  }
}

TEST(Superblock, NoiseIsNeverAccepted) {
  std::mt19937 random(1);
  Bytes raw(kSuperblockSize);
  for (int i = 0; i < 20000; ++i) {
    fill_random(raw, random);
    auto &sb = edit_as<RawSuperblock>(raw);
    // Past the first hurdles, so that the arithmetic sees the noise.
    sb.s_magic.set(kSuperblockMagic);
    sb.s_log_block_size.set(sb.s_log_block_size.get() % 7);
    sb.s_checksum_type = 1;
    if (i % 2 == 0) sb.s_inode_size.set(256), sb.s_desc_size.set(64);
    seal_superblock(raw);
    const Result<Superblock> parsed = parse_superblock(raw);
    if (parsed) {
      const Geometry geometry(*parsed);
      EXPECT_EQ(geometry.group_count(), parsed->group_count);
    }
    (void)parse_journal_device(raw);
  }
  EXPECT_FALSE(looks_like_ext(std::span(raw).first(100)));
  EXPECT_FALSE(parse_superblock(std::span(raw).first(100)).has_value());
}

}  // namespace
}  // namespace outboard::ext4::format

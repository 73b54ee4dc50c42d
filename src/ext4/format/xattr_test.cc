#include "ext4/format/xattr.h"

#include "ext4/format/test_volume.h"

#include <gtest/gtest.h>

namespace outboard::ext4::format {
namespace {

const std::vector<XattrItem> kItems{
    {kXattrUser, "long-name", to_bytes("value of nine")},
    {kXattrUser, "x", to_bytes("")},
    {kXattrAclAccess, "", to_bytes("abcd")},
    {kXattrSecurity, "selinux", to_bytes("system_u:object_r:tmp_t:s0")},
    {kXattrUser, "\xfc\xe4", to_bytes("\x80\x81\x82")},
};

TEST(Xattr, NamesSplitAndJoin) {
  const auto there_and_back = [](const char *full, std::uint8_t index, std::string_view rest) {
    const auto split = split_xattr_name(full);
    ASSERT_TRUE(split.has_value()) << full;
    EXPECT_EQ(*split, (XattrName{index, rest}));
    EXPECT_EQ(full_xattr_name(*split), full);
  };
  there_and_back("user.x", kXattrUser, "x");
  there_and_back("trusted.overlay.opaque", kXattrTrusted, "overlay.opaque");
  there_and_back("security.capability", kXattrSecurity, "capability");
  there_and_back("system.posix_acl_access", kXattrAclAccess, "");
  there_and_back("system.posix_acl_default", kXattrAclDefault, "");
  there_and_back("system.data", kXattrSystem, "data");
  there_and_back("system.richacl", kXattrRichacl, "");
  for (const char *bad : {"", "user.", "user", "unknown.x", "trusted.", "system."})
    EXPECT_FALSE(split_xattr_name(bad).has_value()) << bad;
  EXPECT_FALSE(split_xattr_name("user." + std::string(256, 'x')).has_value());
  EXPECT_TRUE(split_xattr_name("user." + std::string(255, 'x')).has_value());
  EXPECT_FALSE(full_xattr_name({200, "x"}).has_value());
  EXPECT_FALSE(full_xattr_name({kXattrAclAccess, "x"}).has_value());
}

TEST(Xattr, InodeAreaHoldsWhatIsPutIn) {
  Bytes area(inline_xattr_size(kItems));
  ASSERT_TRUE(build_inline_xattrs(area, kItems));
  EXPECT_OK(verify_inline_xattrs(area));
  ASSIGN_OK(const auto cursor, XattrCursor::in_inode(area));
  ASSIGN_OK(const auto back, read_xattrs(cursor));
  EXPECT_EQ(back, kItems);
  ASSIGN_OK(const auto found, find_xattr(cursor, {kXattrSecurity, "selinux"}));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->value.size(), 26u);
  ASSIGN_OK(const auto missing, find_xattr(cursor, {kXattrUser, "selinux"}));
  EXPECT_FALSE(missing.has_value());

  Bytes small(area.size() - 4, std::byte{0x55});
  const Bytes before = small;
  EXPECT_FALSE(build_inline_xattrs(small, kItems));
  EXPECT_EQ(small, before);
  ASSERT_TRUE(build_inline_xattrs(area, {}));
  EXPECT_EQ(area, Bytes(area.size()));
  ASSIGN_OK(auto none, XattrCursor::in_inode(area));
  ASSIGN_OK(const bool more, none.next());
  EXPECT_FALSE(more);
}

TEST(Xattr, BlockIsSortedHashedAndShareable) {
  Bytes block(1024);
  ASSERT_TRUE(build_xattr_block(block, kItems));
  EXPECT_OK(verify_xattr_block(block));
  ASSIGN_OK(const auto cursor, XattrCursor::in_block(block));
  ASSIGN_OK(auto back, read_xattrs(cursor));
  ASSERT_EQ(back.size(), kItems.size());
  EXPECT_EQ(back[0].name, "x");
  EXPECT_EQ(back[1].name, "\xfc\xe4");
  EXPECT_EQ(back[2].name, "long-name");
  EXPECT_EQ(back[3].index, kXattrAclAccess);
  EXPECT_EQ(back[4].index, kXattrSecurity);
  EXPECT_EQ(xattr_block_refcount(block), 1u);
  EXPECT_NE(xattr_block_hash(block), 0u);

  Bytes other(1024);
  std::vector<XattrItem> turned(kItems.rbegin(), kItems.rend());
  ASSERT_TRUE(build_xattr_block(other, turned));
  EXPECT_EQ(block, other);
  set_xattr_block_refcount(other, 5);
  EXPECT_EQ(xattr_block_refcount(other), 5u);
  EXPECT_TRUE(same_xattr_block(block, other));
  turned[0].value.push_back(std::byte{1});
  ASSERT_TRUE(build_xattr_block(other, turned));
  EXPECT_FALSE(same_xattr_block(block, other));
  EXPECT_NE(xattr_block_hash(block), xattr_block_hash(other));
}

TEST(Xattr, BlockMayBeFilledToTheLastByte) {
  std::vector<XattrItem> items{{kXattrUser, "big", {}}};
  items[0].value.resize(1024 - block_xattr_size(items));
  EXPECT_EQ(block_xattr_size(items), 1024u);
  Bytes block(1024);
  ASSERT_TRUE(build_xattr_block(block, items));
  EXPECT_OK(verify_xattr_block(block));
  items[0].value.push_back(std::byte{0});
  EXPECT_FALSE(build_xattr_block(block, items));
}

TEST(Xattr, ChecksumIsOfTheBlocksPlace) {
  Superblock sb;
  sb.features.ro_compat = 0x400;
  sb.checksum_seed = 77;
  Bytes block(1024);
  ASSERT_TRUE(build_xattr_block(block, kItems));
  seal_xattr_block(sb, BlockNumber(5), block);
  EXPECT_TRUE(xattr_checksum_matches(sb, BlockNumber(5), block));
  EXPECT_FALSE(xattr_checksum_matches(sb, BlockNumber(6), block));
  block[1000] ^= std::byte{1};
  EXPECT_FALSE(xattr_checksum_matches(sb, BlockNumber(5), block));
  sb.features.ro_compat = 0;
  EXPECT_TRUE(xattr_checksum_matches(sb, BlockNumber(5), block));
}

TEST(Xattr, HashOverSignedCharsIsAcceptedToo) {
  Bytes block(1024);
  ASSERT_TRUE(build_xattr_block(block, std::vector<XattrItem>{{kXattrUser, "\xe4", {}}}));
  auto &entry = edit_as<RawXattrEntry>(block, 32);
  EXPECT_EQ(entry.e_hash.get(), 0xe4u);
  entry.e_hash.set(0xffffffe4);
  EXPECT_OK(verify_xattr_block(block));
  entry.e_hash.set(0);
  EXPECT_OK(verify_xattr_block(block));
  entry.e_hash.set(0xe5);
  EXPECT_FALSE(verify_xattr_block(block).has_value());
}

TEST(Xattr, BrokenOnesAreCorrupt) {
  const auto expect_kind = [](const char *what, ErrorKind kind, auto change) {
    Bytes block(1024);
    ASSERT_TRUE(build_xattr_block(block, std::vector<XattrItem>{{kXattrUser, "name", to_bytes("value")}}));
    change(edit_as<RawXattrBlockHeader>(block), edit_as<RawXattrEntry>(block, 32), std::span(block));
    const Status status = verify_xattr_block(block);
    ASSERT_FALSE(status.has_value()) << what;
    EXPECT_EQ(status.error().kind(), kind) << what;
  };
  using H = RawXattrBlockHeader &;
  using E = RawXattrEntry &;
  using B = std::span<std::byte>;
  expect_kind("magic", ErrorKind::corrupt, [](H h, E, B) { h.h_magic.set(1); });
  expect_kind("blocks", ErrorKind::corrupt, [](H h, E, B) { h.h_blocks.set(2); });
  expect_kind("refcount 0", ErrorKind::corrupt, [](H h, E, B) { h.h_refcount.set(0); });
  expect_kind("refcount", ErrorKind::corrupt, [](H h, E, B) { h.h_refcount.set(1025); });
  expect_kind("value outside", ErrorKind::corrupt, [](H, E e, B) { e.e_value_offs.set(1022); });
  expect_kind("value in the table", ErrorKind::corrupt, [](H, E e, B) { e.e_value_offs.set(40); });
  expect_kind("size", ErrorKind::corrupt, [](H, E e, B) { e.e_value_size.set(0xfffffffe); });
  expect_kind("value in an inode", ErrorKind::unsupported, [](H, E e, B) { e.e_value_inum.set(13); });
  expect_kind("name with a zero", ErrorKind::corrupt, [](H, E, B b) { b[50] = std::byte{0}; });
  expect_kind("no end of the table", ErrorKind::corrupt,
              [](H, E, B b) { std::fill(b.begin() + 32, b.end(), std::byte{0xff}); });
}

TEST(Xattr, NoiseNeverCrashes) {
  std::mt19937 random(10);
  Bytes good(1024), area(96);
  ASSERT_TRUE(build_xattr_block(good, kItems));
  for (int i = 0; i < 30000; ++i) {
    Bytes block = good;
    if (i % 3 == 0) {
      fill_random(std::span(block).subspan(20), random);
    } else {
      for (int n = 0; n < 3; ++n) block[32 + random() % 160] = static_cast<std::byte>(random() & 0xff);
    }
    (void)verify_xattr_block(block);
    (void)same_xattr_block(block, good);
    fill_random(area, random);
    edit_as<le32>(area).set(kXattrMagic);
    (void)verify_inline_xattrs(std::span(area).first(random() % 97));
    std::copy_n(good.begin() + 32, 92, area.begin() + 4);
    area[4 + random() % 92] = static_cast<std::byte>(random() & 0xff);
    (void)verify_inline_xattrs(area);
  }
}

}  // namespace
}  // namespace outboard::ext4::format

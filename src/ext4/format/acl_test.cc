#include "ext4/format/acl.h"

#include "ext4/format/test_volume.h"

#include <gtest/gtest.h>

namespace outboard::ext4::format {
namespace {

using T = AclTag;
Acl full() {
  return {{{T::user_obj, 7, kAclNoId},
           {T::user, 6, 1000},
           {T::user, 4, 1001},
           {T::group_obj, 5, kAclNoId},
           {T::group, 7, 50},
           {T::mask, 7, kAclNoId},
           {T::other, 4, kAclNoId}}};
}

TEST(Acl, BothFormsGoThereAndBack) {
  for (const Acl &acl : {full(), acl_from_mode(0640)}) {
    EXPECT_OK(validate_acl(acl));
    ASSIGN_OK(const Acl wire, decode_wire_acl(encode_wire_acl(acl)));
    EXPECT_EQ(wire, acl);
    ASSIGN_OK(const Acl disk, decode_disk_acl(encode_disk_acl(acl)));
    EXPECT_EQ(disk, acl);
  }
  EXPECT_EQ(encode_wire_acl(full()).size(), 4u + 7 * 8);
  EXPECT_EQ(encode_disk_acl(full()).size(), 4u + 3 * 8 + 4 * 4);
}

TEST(Acl, WireFormIsThatOfSetfacl) {
  // user::rw-, user:1000:r--, group::r--, mask::r--, other::--- as getxattr shows it.
  const unsigned char bytes[] = {2, 0,    0,    0,    1,    0,    6,    0, 0xff, 0xff, 0xff, 0xff, 2,    0,    4,
                                 0, 0xe8, 3,    0,    0,    4,    0,    4, 0,    0xff, 0xff, 0xff, 0xff, 0x10, 0,
                                 4, 0,    0xff, 0xff, 0xff, 0xff, 0x20, 0, 0,    0,    0xff, 0xff, 0xff, 0xff};
  ASSIGN_OK(const Acl acl, decode_wire_acl(std::as_bytes(std::span(bytes))));
  EXPECT_EQ(acl, (Acl{{{T::user_obj, 6, kAclNoId},
                       {T::user, 4, 1000},
                       {T::group_obj, 4, kAclNoId},
                       {T::mask, 4, kAclNoId},
                       {T::other, 0, kAclNoId}}}));
  EXPECT_TRUE(std::ranges::equal(encode_wire_acl(acl), std::as_bytes(std::span(bytes))));
}

TEST(Acl, EmptyWireFormMeansRemoval) {
  Bytes bytes = encode_wire_acl(Acl{});
  ASSIGN_OK(const Acl acl, decode_wire_acl(bytes));
  EXPECT_TRUE(acl.empty());
}

TEST(Acl, MalformedOnesAreRefused) {
  const auto invalid = [](Acl acl) {
    EXPECT_ERROR(validate_acl(acl), EINVAL);
    EXPECT_ERROR(decode_wire_acl(encode_wire_acl(acl)), EINVAL);
    const auto disk = decode_disk_acl(encode_disk_acl(acl));
    ASSERT_FALSE(disk.has_value());
    EXPECT_EQ(disk.error().kind(), ErrorKind::corrupt);
  };
  Acl acl = full();
  std::swap(acl.entries[0], acl.entries[6]);
  invalid(acl);
  acl = full();
  acl.entries.erase(acl.entries.begin() + 5);  // names somebody, no mask
  invalid(acl);
  acl = full();
  acl.entries.pop_back();
  invalid(acl);
  acl = full();
  acl.entries[1].perm = 8;
  invalid(acl);
  acl = full();
  acl.entries[1].id = kAclNoId;
  invalid(acl);
  acl = full();
  acl.entries.push_back(acl.entries.back());
  invalid(acl);
  acl = full();
  acl.entries[6].tag = static_cast<T>(0x40);
  EXPECT_ERROR(decode_wire_acl(encode_wire_acl(acl)), EINVAL);

  Bytes bytes = encode_wire_acl(full());
  EXPECT_ERROR(decode_wire_acl(std::span(bytes).first(3)), EINVAL);
  EXPECT_ERROR(decode_wire_acl(std::span(bytes).first(bytes.size() - 1)), EINVAL);
  bytes[0] = std::byte{1};
  EXPECT_ERROR(decode_wire_acl(bytes), EOPNOTSUPP);
  bytes = encode_disk_acl(full());
  EXPECT_FALSE(decode_disk_acl(std::span(bytes).first(bytes.size() - 1)).has_value());
  EXPECT_FALSE(decode_disk_acl(std::span(bytes).first(2)).has_value());
}

TEST(Acl, SaysWhatModeItIs) {
  EXPECT_EQ(acl_mode(acl_from_mode(0754)).permissions, 0754u);
  EXPECT_TRUE(acl_mode(acl_from_mode(0754)).equivalent);
  EXPECT_EQ(acl_mode(full()).permissions, 0774u);  // the mask, not the owning group
  EXPECT_FALSE(acl_mode(full()).equivalent);
}

TEST(Acl, ChmodChangesTheMaskWhenThereIsOne) {
  Acl acl = full();
  change_acl_mode(acl, 0100640);
  EXPECT_EQ(acl.entries[0].perm, 6);
  EXPECT_EQ(acl.entries[3].perm, 5);  // owning group
  EXPECT_EQ(acl.entries[5].perm, 4);  // mask
  EXPECT_EQ(acl.entries[6].perm, 0);
  acl = acl_from_mode(0777);
  change_acl_mode(acl, 0640);
  EXPECT_EQ(acl, acl_from_mode(0640));
}

TEST(Acl, NewFilesGetNoMoreThanAskedForAndGranted) {
  const InheritedAcl plain = inherit_acl(acl_from_mode(0750), 0100666);
  EXPECT_EQ(plain.mode, 0100640u);
  EXPECT_FALSE(plain.access.has_value());

  const InheritedAcl named = inherit_acl(full(), 0102666);
  EXPECT_EQ(named.mode, 0102664u);  // type and set-group-id stay
  ASSERT_TRUE(named.access.has_value());
  EXPECT_EQ(named.access->entries[0].perm, 6);
  EXPECT_EQ(named.access->entries[1].perm, 6);  // users are limited by the mask only
  EXPECT_EQ(named.access->entries[3].perm, 5);
  EXPECT_EQ(named.access->entries[5].perm, 6);
  EXPECT_EQ(named.access->entries[6].perm, 4);
  EXPECT_OK(validate_acl(*named.access));
}

TEST(Acl, NoiseNeverCrashes) {
  std::mt19937 random(11);
  int accepted = 0;
  for (int i = 0; i < 50000; ++i) {
    Bytes bytes = i % 2 == 0 ? encode_wire_acl(full()) : encode_disk_acl(full());
    bytes.resize(bytes.size() - random() % 10);
    for (int n = 0; n < 2; ++n) bytes[random() % bytes.size()] = static_cast<std::byte>(random() & 0xff);
    if (i % 7 == 0) fill_random(std::span(bytes).subspan(4), random);
    accepted += decode_wire_acl(bytes).has_value() + decode_disk_acl(bytes).has_value();
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace outboard::ext4::format

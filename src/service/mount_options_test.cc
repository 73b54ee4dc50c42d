#include "service/mount_options.h"

#include <gtest/gtest.h>

namespace outboard::service {
namespace {

TEST(MountOptions, TakesExt4sNames) {
  MountOptions o;
  ASSERT_TRUE(parse_mount_options("ro,noload,errors=panic,commit=30,data=writeback,noatime,offset=1M,x-systemd.automount,defaults", o));
  EXPECT_TRUE(o.volume.volume.read_only);
  EXPECT_TRUE(o.volume.volume.no_recovery);
  EXPECT_EQ(o.volume.volume.errors, ext4::ErrorPolicy::panic);
  EXPECT_EQ(o.volume.volume.commit_interval.count(), 30);
  EXPECT_EQ(o.volume.atime, vfs::AtimePolicy::never);
  EXPECT_EQ(o.offset, 1u << 20);
}

TEST(MountOptions, TheLastDataModeCounts) {
  MountOptions o;
  ASSERT_TRUE(parse_mount_options("data=journal", o));
  EXPECT_TRUE(o.volume.volume.journal_data);
  ASSERT_TRUE(parse_mount_options("data=ordered", o));
  EXPECT_FALSE(o.volume.volume.journal_data);
  EXPECT_FALSE(parse_mount_options("data=none", o));
}

TEST(MountOptions, NamesTheWordItDoesNotKnow) {
  MountOptions o;
  auto outcome = parse_mount_options("ro,frobnicate=3", o);
  ASSERT_FALSE(outcome);
  EXPECT_NE(outcome.error().find("frobnicate"), std::string::npos);
  EXPECT_FALSE(parse_mount_options("errors=maybe", o));
  EXPECT_FALSE(parse_mount_options("offset=", o));
  EXPECT_FALSE(parse_mount_options("ro=1", o));
}

TEST(MountOptions, RefusesToWriteOverAnUnreplayedJournal) {
  MountOptions o;
  EXPECT_FALSE(parse_mount_options("noload", o));
}

TEST(MountOptions, ReadsSizesWithBinarySuffixes) {
  EXPECT_EQ(parse_size("512"), 512u);
  EXPECT_EQ(parse_size("4k"), 4096u);
  EXPECT_EQ(parse_size("2GiB"), std::uint64_t{2} << 30);
  EXPECT_EQ(parse_size("1MB"), 1u << 20);
  EXPECT_FALSE(parse_size(""));
  EXPECT_FALSE(parse_size("12x"));
  EXPECT_FALSE(parse_size("99999999999999T"));
}

}  // namespace
}  // namespace outboard::service

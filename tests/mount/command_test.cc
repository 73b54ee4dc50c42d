// The `outboard` command as a person uses it: what it says, what it exits with, what it leaves behind.
#include "base/unique_fd.h"
#include "support/mounts.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"

#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace outboard::tests {
namespace {

using testing::run_command;

class Command : public ::testing::Test {
protected:
  testing::CommandResult outboard(std::vector<std::string> words) {
    words.insert(words.begin(), outboard_program());
    auto result = run_command(words);
    EXPECT_OK(result);
    return result.value_or(testing::CommandResult{});
  }
  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
};

class MountCommand : public Command {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  }
};

TEST_F(MountCommand, WhatIsNotExt4IsOneLineAndExitStatus32) {
  ASSERT_OK(testing::write_file(work_.file("text"), std::string(100000, 'x')));
  ::mkdir(work_.file("mnt").c_str(), 0755);
  auto result = outboard({"mount", work_.file("text"), work_.file("mnt")});
  EXPECT_EQ(result.exit, 32);
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_NE(result.err.find("text"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("ext4"), std::string::npos) << result.err;

  auto missing = outboard({"mount", work_.file("nothing-here"), work_.file("mnt")});
  EXPECT_NE(missing.exit, 0);
  EXPECT_NE(missing.err.find("nothing-here"), std::string::npos) << missing.err;
  auto bad_option = outboard({"mount", "-o", "frobnicate", work_.file("text"), work_.file("mnt")});
  EXPECT_EQ(bad_option.exit, 1);
  EXPECT_NE(bad_option.err.find("frobnicate"), std::string::npos) << bad_option.err;
}

TEST_F(MountCommand, APartitionedDiskIsNamedAndPointedToOffset) {
  // An MBR with one Linux partition at 1 MiB, with a file system in it.
  ASSERT_OK(testing::make_image(work_.file("part.img"), std::uint64_t{32} << 20));
  std::string disk(std::size_t{33} << 20, '\0');
  const std::string part = *testing::read_file(work_.file("part.img"));
  disk.replace(1 << 20, part.size(), part);
  const unsigned char entry[16] = {0, 0, 0, 0, 0x83, 0, 0, 0, 0x00, 0x08, 0, 0, 0x00, 0x00, 0x01, 0};
  disk.replace(446, 16, reinterpret_cast<const char *>(entry), 16);
  disk[510] = '\x55';
  disk[511] = '\xaa';
  ASSERT_OK(testing::write_file(image_, disk));
  ::mkdir(work_.file("mnt").c_str(), 0755);
  auto result = outboard({"mount", image_, work_.file("mnt")});
  EXPECT_EQ(result.exit, 32);
  EXPECT_NE(result.err.find("partition"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("offset=1048576"), std::string::npos) << result.err;
  {
    OutboardMount mount(image_, work_.file("mnt"), {"offset=1048576"});
    ASSERT_TRUE(mount.mounted());
    ASSERT_OK(testing::write_file(mount.path() + "/hello", "from inside a partition"));
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_TRUE(testing::fsck(image_, 1 << 20).clean);
  const auto cat = outboard({"cat", "-o", "offset=1M", image_, "/hello"});
  EXPECT_EQ(cat.out, "from inside a partition");
}

TEST_F(MountCommand, UnsupportedFeaturesAreRefusedByName) {
  for (const char *feature : {"inline_data", "casefold", "encrypt", "ea_inode", "mmp"}) {
    SCOPED_TRACE(feature);
    const std::string image = work_.file(std::string(feature) + ".img");
    ASSERT_OK(testing::make_image(image, std::uint64_t{32} << 20, {"-O", feature}));
    ::mkdir(work_.file("mnt").c_str(), 0755);
    auto result = outboard({"mount", image, work_.file("mnt")});
    EXPECT_EQ(result.exit, 32);
    EXPECT_NE(result.err.find(feature), std::string::npos) << result.err;
  }
}

TEST_F(MountCommand, FeaturesThatAllowReadingOnlyMountReadOnlyByName) {
  for (const char *feature : {"quota", "bigalloc", "verity"}) {
    SCOPED_TRACE(feature);
    const std::string image = work_.file(std::string(feature) + ".img");
    ASSERT_OK(testing::make_image(image, std::uint64_t{64} << 20, {"-O", feature}));
    OutboardMount mount(image, work_.file(std::string(feature) + ".mnt"));
    ASSERT_TRUE(mount.mounted());
    EXPECT_NE(mount.log().find(feature), std::string::npos) << mount.log();
    EXPECT_EQ(::mkdir((mount.path() + "/x").c_str(), 0755), -1);
    EXPECT_EQ(errno, EROFS);
    EXPECT_EQ(mount.unmount(), "");
    EXPECT_EQ(fsck_complaint(image), "");
  }
}

TEST_F(MountCommand, ReadOnlyOnADirtyImageReplaysInMemoryAndLeavesTheImageUntouched) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{64} << 20));
  {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    const std::string path = mount.path() + "/kept";
    ASSERT_OK(testing::write_file(path, "through the journal"));
    const UniqueFd fd(::open(path.c_str(), O_RDONLY));
    ASSERT_EQ(::fsync(fd.get()), 0);
    mount.kill();
  }
  const std::string before = *testing::read_file(image_);
  {
    OutboardMount mount(image_, work_.file("mnt"), {"ro"});
    ASSERT_TRUE(mount.mounted());
    EXPECT_EQ(testing::read_file(mount.path() + "/kept").value_or("missing"), "through the journal");
    EXPECT_EQ(::mkdir((mount.path() + "/x").c_str(), 0755), -1);
    EXPECT_EQ(errno, EROFS);
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_TRUE(*testing::read_file(image_) == before) << "the image was changed";
  EXPECT_EQ(outboard({"cat", image_, "/kept"}).out, "through the journal");
  EXPECT_TRUE(*testing::read_file(image_) == before) << "the image was changed by cat";
  {
    OutboardMount mount(image_, work_.file("mnt"), {"ro,noload"});
    ASSERT_TRUE(mount.mounted());
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_TRUE(*testing::read_file(image_) == before) << "the image was changed by noload";
}

TEST_F(MountCommand, ASecondMountOfTheSameImageIsRefused) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{32} << 20));
  OutboardMount mount(image_, work_.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  ::mkdir(work_.file("second").c_str(), 0755);
  auto result = outboard({"mount", image_, work_.file("second")});
  EXPECT_EQ(result.exit, 32);
  EXPECT_NE(result.err.find("use"), std::string::npos) << result.err;
  EXPECT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image_), "");
}

TEST_F(MountCommand, MountReturnsWhenUsableAndUmountWhenTheImageIsReleased) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{32} << 20));
  const std::string target = work_.file("mnt");
  ::mkdir(target.c_str(), 0755);
  for (int round = 0; round < 5; ++round) {
    auto mounted = outboard({"mount", image_, target});
    ASSERT_EQ(mounted.exit, 0) << mounted.err;
    EXPECT_OK(testing::write_file(fmt::format("{}/round{}", target, round), std::string(50000, 'r')));
    auto unmounted = outboard({"umount", target});
    ASSERT_EQ(unmounted.exit, 0) << unmounted.err;
    EXPECT_EQ(fsck_complaint(image_), "");
    EXPECT_EQ(testing::debugfs_read(image_, fmt::format("/round{}", round)).value_or("missing"), std::string(50000, 'r'));
  }
}

TEST_F(MountCommand, TheMountTableShowsTheTypeAndSystemSyncReachesTheDisk) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{32} << 20));
  OutboardMount mount(image_, work_.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  std::ifstream table("/proc/mounts");
  std::string mounts((std::istreambuf_iterator<char>(table)), {});
  EXPECT_NE(mounts.find(mount.path() + " fuse"), std::string::npos);
  EXPECT_NE(mounts.find(".outboard "), std::string::npos);
  ASSERT_OK(testing::write_file(mount.path() + "/synced", "by outboard sync"));
  EXPECT_EQ(outboard({"sync", mount.path()}).exit, 0);
  mount.kill();
  EXPECT_EQ(outboard({"cat", image_, "/synced"}).out, "by outboard sync");
}

TEST_F(MountCommand, InfoOfAMountShowsItsServerAndItsRequests) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{32} << 20));
  const std::string outside = outboard({"info", work_.path()}).err;
  EXPECT_NE(outside.find("not in a mount of outboard"), std::string::npos) << outside;
  OutboardMount mount(image_, work_.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  ASSERT_EQ(::mkdir((mount.path() + "/dir").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir((mount.path() + "/dir/inner").c_str(), 0755), 0);
  const auto info = outboard({"info", mount.path() + "/dir"});
  ASSERT_EQ(info.exit, 0) << info.err;
  EXPECT_NE(info.out.find(mount.path() + "\n"), std::string::npos) << info.out;
  EXPECT_NE(info.out.find(fmt::format("process {}\n", mount.server())), std::string::npos) << info.out;
  EXPECT_NE(info.out.find(fmt::format("  {:<16}{:>14}\n", "mkdir", 2)), std::string::npos) << info.out;
  EXPECT_EQ(info.out.find("fallocate"), std::string::npos) << info.out;
}

TEST_F(MountCommand, APlainMountSyncsThroughTheCommand) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{32} << 20));
  OutboardMount mount(image_, work_.file("mnt"), {"plain"});
  ASSERT_TRUE(mount.mounted());
  ASSERT_OK(testing::write_file(mount.path() + "/synced", "by outboard sync"));
  EXPECT_EQ(outboard({"sync", mount.path()}).exit, 0);
  mount.kill();
  EXPECT_EQ(outboard({"cat", image_, "/synced"}).out, "by outboard sync");
}

TEST_F(Command, SelftestKeepsWhatWasSyncedWhenTheWriterIsKilled) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{64} << 20));
  auto result = outboard({"selftest", image_, OUTBOARD_SOURCE "/src/base"});
  EXPECT_EQ(result.exit, 0) << result.err;
  EXPECT_NE(result.out.find("byte for byte"), std::string::npos) << result.out;
  EXPECT_EQ(fsck_complaint(image_), "");
}

TEST_F(Command, LooksIntoAnImageWithoutMounting) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{32} << 20, {"-L", "some-label"}));
  ASSERT_OK(testing::write_file(work_.file("host"), std::string(70000, 'q') + "end"));
  ASSERT_OK(testing::debugfs_write(image_, {"mkdir /dir", "cd /dir", "write " + work_.file("host") + " file", "symlink link file"}));
  EXPECT_NE(outboard({"info", image_}).out.find("some-label"), std::string::npos);
  EXPECT_EQ(outboard({"ls", image_, "/dir"}).out, "file\nlink\n");
  EXPECT_EQ(outboard({"cat", image_, "/dir/link"}).out, std::string(70000, 'q') + "end");
  EXPECT_NE(outboard({"stat", image_, "/dir/file"}).out.find("Size: 70003"), std::string::npos);
  auto missing = outboard({"cat", image_, "/dir/other"});
  EXPECT_EQ(missing.exit, 2);
  EXPECT_NE(missing.err.find("No such file"), std::string::npos) << missing.err;
  EXPECT_EQ(outboard({"cp", "-r", image_ + ":/dir", work_.file("out")}).exit, 0);
  EXPECT_EQ(testing::read_file(work_.file("out/file")).value_or(""), std::string(70000, 'q') + "end");
  EXPECT_NE(outboard({"--help"}).out.find("mount"), std::string::npos);
  EXPECT_EQ(outboard({"no-such-command"}).exit, 1);
}

}  // namespace
}  // namespace outboard::tests

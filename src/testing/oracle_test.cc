// The tools the other tests rely on: commands, image recipes and the judge.
#include "device/file_device.h"
#include "device/memory_device.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"
#include "testing/image_builder.h"

#include <chrono>
#include <filesystem>
#include <vector>

namespace outboard::testing {
namespace {

TEST(Command, GivesOutputsAndExit) {
  ASSIGN_OK(const CommandResult done, run_command({"sh", "-c", "cat; echo two >&2; exit 3"}, {.input = "one"}));
  EXPECT_EQ(done.out, "one");
  EXPECT_EQ(done.err, "two\n");
  EXPECT_EQ(done.exit, 3);
}

TEST(Command, MovesMoreThanAPipeHolds) {
  const std::string input(3 << 20, 'x');
  ASSIGN_OK(const CommandResult done, run_command({"cat"}, {.input = input}));
  EXPECT_EQ(done.out, input);
}

TEST(Command, EndsAtItsDeadline) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_ERROR(run_command({"sleep", "60"}, {.deadline = std::chrono::seconds(1)}), ETIMEDOUT);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_ERROR(run_command({"no-such-program-anywhere"}), ENOENT);
}

TEST(Command, SurvivesAProgramThatDoesNotRead) {
  ASSIGN_OK(const CommandResult done, run_command({"true"}, {.input = std::string(1 << 20, 'x')}));
  EXPECT_EQ(done.exit, 0);
}

TEST(TemporaryDirectory, IsRemovedWithItsContents) {
  std::string path;
  {
    const TemporaryDirectory directory;
    path = directory.path();
    ASSERT_OK(write_file(directory.file("x"), "y"));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Oracle, AFreshImageIsCleanAndADamagedOneIsNot) {
  const TemporaryDirectory directory;
  const std::string image = directory.file("image");
  ASSERT_OK(make_image(image, 16 << 20, {"-O", "metadata_csum"}, 1024));
  const FsckReport fresh = fsck(image);
  EXPECT_TRUE(fresh.clean) << fresh.text;
  ASSERT_OK(debugfs_write(image, {"set_inode_field <2> links_count 77"}));
  const FsckReport damaged = fsck(image);
  EXPECT_FALSE(damaged.clean);
  EXPECT_NE(damaged.text.find("Inode 2 ref count is 77"), std::string::npos) << damaged.text;
}

TEST(Oracle, JudgesDevicesToo) {
  const TemporaryDirectory directory;
  const std::string image = directory.file("image");
  ASSERT_OK(make_image(image, 16 << 20));
  ASSIGN_OK(auto device, device::MemoryDevice::from_file(image));
  EXPECT_TRUE(fsck(*device).clean);
  ASSERT_OK(device->zero(4096, 4096));  // the group descriptors
  EXPECT_FALSE(fsck(*device).clean);
}

TEST(Oracle, FindsAFileSystemInsideAContainerFile) {
  const TemporaryDirectory directory;
  ASSERT_OK(make_image(directory.file("image"), 16 << 20));
  ASSIGN_OK(const std::string contents, read_file(directory.file("image")));
  ASSERT_OK(write_file(directory.file("container"), std::string(12345 * 512, 'h') + contents));
  const FsckReport report = fsck(directory.file("container"), 12345 * 512);
  EXPECT_TRUE(report.clean) << report.text;
}

TEST(Oracle, RecipesThatFailSaySo) {
  const TemporaryDirectory directory;
  EXPECT_ERROR(make_image(directory.file("image"), 16 << 20, {"-O", "no_such_feature"}), EINVAL);
  ASSERT_OK(make_image(directory.file("image"), 16 << 20));
  EXPECT_ERROR(debugfs_write(directory.file("image"), {"write /no/such/file x"}), EINVAL);
  EXPECT_ERROR(debugfs(directory.file("image"), "stat /missing"), EINVAL);
}

TEST(Oracle, DumpShowsTheWholeTree) {
  const TemporaryDirectory directory;
  const std::string image = directory.file("image");
  const std::string long_target(100, 'x');
  ASSERT_OK(make_image(image, 16 << 20));
  ASSERT_OK(write_file(directory.file("hello"), "hello, world\n"));
  ASSERT_OK(debugfs_write(image, {"mkdir a", "mkdir a/b", "write " + directory.file("hello") + " a/b/hello",
                                  "symlink short target", "symlink long " + long_target, "mknod fifo p"}));
  ASSIGN_OK(const std::string dump, debugfs_dump(image));
  EXPECT_EQ(dump, "/ d0755 links=4 uid=0 gid=0\n"
                  "/a d0755 links=3 uid=0 gid=0\n"
                  "/a/b d0755 links=2 uid=0 gid=0\n"
                  "/a/b/hello -0644 links=1 uid=0 gid=0 size=13 crc=8844e679\n"
                  "/fifo p0000 links=1 uid=0 gid=0\n"
                  "/long l0777 links=1 uid=0 gid=0 -> " +
                      long_target +
                      "\n"
                      "/lost+found d0700 links=2 uid=0 gid=0\n"
                      "/short l0777 links=1 uid=0 gid=0 -> target\n");
  ASSIGN_OK(const std::string contents, debugfs_read(image, "/a/b/hello"));
  EXPECT_EQ(contents, "hello, world\n");
}

}  // namespace
}  // namespace outboard::testing

// A plain user, no privilege: mounts an image of his own through fusermount3, works in it, unmounts; e2fsck is content.
#include "support/mounts.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace outboard::tests {
namespace {

TEST(Rootless, AUserMountsWorksAndUnmountsThroughFusermount) {
  if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  for (const char *program : {"fusermount3", "setpriv"})
    if (!testing::have_program(program)) GTEST_SKIP() << program << " is not installed";
  struct stat fuse {};
  ASSERT_EQ(::stat("/dev/fuse", &fuse), 0);
  // Distributions give everybody /dev/fuse; put back what was there before.
  ASSERT_EQ(::chmod("/dev/fuse", 0666), 0);
  testing::TemporaryDirectory work;
  constexpr uid_t kNobody = 65534;
  ASSERT_EQ(::chown(work.path().c_str(), kNobody, kNobody), 0);
  const std::string image = work.file("disk.img");
  ASSERT_OK(testing::make_image(image, std::uint64_t{64} << 20, {"-E", "root_owner=65534:65534"}));
  ASSERT_EQ(::chown(image.c_str(), kNobody, kNobody), 0);
  testing::CommandOptions options;
  options.environment = {"OB=" + outboard_program(), "W=" + work.path(), "HOME=" + work.path()};
  auto result = testing::run_command({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-euc", R"sh(
    mkdir "$W/mnt"
    "$OB" mount "$W/disk.img" "$W/mnt"
    trap '"$OB" umount "$W/mnt" || fusermount3 -uz "$W/mnt"' EXIT
    mkdir "$W/mnt/dir"; for i in $(seq 200); do echo "content $i" > "$W/mnt/dir/file$i"; done
    mv "$W/mnt/dir/file1" "$W/mnt/moved"; ln "$W/mnt/moved" "$W/mnt/linked"
    [ "$(cat "$W/mnt/linked")" = "content 1" ]; [ "$(ls "$W/mnt/dir" | wc -l)" = 199 ]
    "$OB" sync "$W/mnt")sh"}, options);
  ::chmod("/dev/fuse", fuse.st_mode & 07777);
  ASSERT_OK(result);
  EXPECT_EQ(result->exit, 0) << result->out << result->err;
  EXPECT_EQ(fsck_complaint(image), "");
  EXPECT_EQ(testing::debugfs_read(image, "/moved").value_or("missing"), "content 1\n");
}

}  // namespace
}  // namespace outboard::tests

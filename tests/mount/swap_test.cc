// A swap file on a mount: the kernel asks for the place of every block (bmap) and goes past the server from then on.
#include "support/mounts.h"

#include "testing/command.h"
#include "testing/expect.h"
#include "testing/image_builder.h"

#include <cerrno>
#include <cstring>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

namespace outboard::tests {
namespace {

using testing::run_command;

TEST(SwapFile, SwaponTakesAFileOfTheMountAndTheFileSystemStaysClean) {
  if (const std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  testing::TemporaryDirectory work;
  const std::string image = work.file("disk.img");
  ASSERT_OK(testing::make_image(image, std::uint64_t{64} << 20));
  OutboardMount mount(image, work.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  const std::string file = mount.path() + "/swap";
  ASSERT_OK(testing::write_file(file, std::string(16 << 20, '\0')));
  ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
  const auto made = run_command({"mkswap", file});
  ASSERT_OK(made);
  ASSERT_EQ(made->exit, 0) << made->err;
  ASSERT_EQ(::swapon(file.c_str(), 0), 0) << std::strerror(errno);
  const std::string swaps = testing::read_file("/proc/swaps").value_or("");
  EXPECT_NE(swaps.find(file), std::string::npos) << swaps;
  EXPECT_EQ(::swapoff(file.c_str()), 0) << std::strerror(errno);

  // A file with holes is none.
  const std::string holes = mount.path() + "/holes";
  ASSERT_OK(testing::write_file(holes, "x"));
  ASSERT_EQ(::truncate(holes.c_str(), 16 << 20), 0);
  EXPECT_NE(::swapon(holes.c_str(), 0), 0);
  EXPECT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image), "");
}

}  // namespace
}  // namespace outboard::tests

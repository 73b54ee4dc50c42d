// An image in a file system that is frozen, as for a backup: readers of the mount are served, writers wait for longer than the deadline of
// a device request, and after the thaw all is as if nothing had been.
#include "backing/backing.h"
#include "support/durable_file.h"
#include "support/mounts.h"
#include "testing/command.h"
#include "testing/expect.h"

#include <chrono>
#include <future>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace outboard::tests {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class FrozenHost : public ::testing::TestWithParam<bool> {};  // buffered

TEST_P(FrozenHost, WritersWaitBeyondTheDeadlineReadersAreServedAndNothingIsLost) {
  if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  testing::TemporaryDirectory work;
  const std::string big(4 << 20, 'b'), text(2 << 20, 'w');
  Backing host("ext4", work);
  ASSERT_TRUE(host.mounted());
  const std::string image = host.file("image");
  ASSERT_OK(testing::make_image(image, std::uint64_t{64} << 20));
  {
    OutboardMount mount(image, work.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    ASSERT_OK(testing::write_file(mount.path() + "/big", big));
    ASSERT_EQ(mount.unmount(), "");
  }
  std::vector<std::string> options = {"io_timeout=2"};
  if (GetParam()) options.push_back("buffered");
  OutboardMount mount(image, work.file("mnt"), options);
  ASSERT_TRUE(mount.mounted());

  ASSERT_NO_FATAL_FAILURE(host.freeze());
  const auto begin = Clock::now();
  auto writer = std::async(std::launch::async, [&] { return write_and_fsync(mount.path() + "/written", text) == 0; });
  auto maker = std::async(std::launch::async, [&] {
    return ::mkdir((mount.path() + "/made").c_str(), 0755) == 0 && write_and_fsync(mount.path() + "/made/file", "in it") == 0;
  });
  while (mount.log().find("frozen") == std::string::npos && Clock::now() < begin + 40s) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(testing::read_file(mount.path() + "/big").value_or(""), big);  // from the device: this mount has not read it before
  std::this_thread::sleep_until(begin + 6s);
  EXPECT_EQ(writer.wait_for(0s), std::future_status::timeout) << mount.log();
  EXPECT_EQ(maker.wait_for(0s), std::future_status::timeout) << mount.log();
  EXPECT_NE(mount.log().find("frozen"), std::string::npos) << "no change was over its deadline: nothing was tested";
  ASSERT_TRUE(host.thaw()) << "it was thawed too early";

  EXPECT_TRUE(writer.get()) << mount.log();
  EXPECT_TRUE(maker.get()) << mount.log();
  EXPECT_EQ(write_and_fsync(mount.path() + "/after", "still writable"), 0) << mount.log();
  ASSERT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image), "");
  OutboardMount again(image, work.file("mnt"));
  ASSERT_TRUE(again.mounted());
  EXPECT_EQ(testing::read_file(again.path() + "/written").value_or(""), text);
  EXPECT_EQ(testing::read_file(again.path() + "/made/file").value_or(""), "in it");
  EXPECT_EQ(testing::read_file(again.path() + "/after").value_or(""), "still writable");
  EXPECT_EQ(again.unmount(), "");
}

INSTANTIATE_TEST_SUITE_P(Ways, FrozenHost, ::testing::Values(false, true),
                         [](const auto &param) { return param.param ? "Buffered" : "Direct"; });

}  // namespace
}  // namespace outboard::tests

// An image in a file system that is frozen, as for a backup: readers of the mount are served, writers wait for longer than the deadline of
// a device request, and after the thaw all is as if nothing had been.
#include "base/unique_fd.h"
#include "support/mounts.h"
#include "testing/command.h"
#include "testing/expect.h"

#include <chrono>
#include <fcntl.h>
#include <future>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace outboard::tests {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// A frozen file system holds up sync(2) of the whole machine, and whoever is to thaw it may be held up too: a process that does
// nothing else thaws it when the test has gone, or has taken too long.
class Freeze {
public:
  explicit Freeze(const std::string &directory) : directory_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    int ends[2];
    if (!directory_ || ::pipe2(ends, O_CLOEXEC) != 0) return;
    UniqueFd watched(ends[0]);
    alive_.reset(ends[1]);
    guard_ = ::fork();
    if (guard_ == 0) {
      alive_.reset();
      pollfd end = {watched.get(), POLLIN, 0};
      ::poll(&end, 1, 60'000);
      ::ioctl(directory_.get(), FITHAW, 0);
      ::_exit(0);
    }
    frozen_ = guard_ > 0 && ::ioctl(directory_.get(), FIFREEZE, 0) == 0;
  }
  ~Freeze() { thaw(); }
  Freeze(const Freeze &) = delete;
  Freeze &operator=(const Freeze &) = delete;
  bool frozen() const { return frozen_; }
  bool thaw() {
    const bool thawed = std::exchange(frozen_, false) && ::ioctl(directory_.get(), FITHAW, 0) == 0;
    alive_.reset();
    directory_.reset();
    if (guard_ > 0) ::waitpid(std::exchange(guard_, -1), nullptr, 0);
    return thawed;
  }

private:
  UniqueFd directory_, alive_;
  pid_t guard_ = -1;
  bool frozen_ = false;
};

bool write_and_fsync(const std::string &path, const std::string &text) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  return file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(file.get()) == 0;
}

class FrozenHost : public ::testing::TestWithParam<bool> {};  // buffered

TEST_P(FrozenHost, WritersWaitBeyondTheDeadlineReadersAreServedAndNothingIsLost) {
  if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  testing::TemporaryDirectory work;
  const std::string outer = work.file("outer.img"), big(4 << 20, 'b'), text(2 << 20, 'w');
  ASSERT_OK(testing::make_image(outer, std::uint64_t{160} << 20));
  KernelMount host(outer, work.file("host"));
  ASSERT_TRUE(host.mounted());
  const std::string image = host.path() + "/image";
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

  Freeze freeze(host.path());
  if (!freeze.frozen()) GTEST_SKIP() << "the kernel does not freeze";
  const auto begin = Clock::now();
  auto writer = std::async(std::launch::async, [&] { return write_and_fsync(mount.path() + "/written", text); });
  auto maker = std::async(std::launch::async, [&] {
    return ::mkdir((mount.path() + "/made").c_str(), 0755) == 0 && write_and_fsync(mount.path() + "/made/file", "in it");
  });
  while (mount.log().find("frozen") == std::string::npos && Clock::now() < begin + 40s) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(testing::read_file(mount.path() + "/big").value_or(""), big);  // from the device: this mount has not read it before
  std::this_thread::sleep_until(begin + 6s);
  EXPECT_EQ(writer.wait_for(0s), std::future_status::timeout) << mount.log();
  EXPECT_EQ(maker.wait_for(0s), std::future_status::timeout) << mount.log();
  EXPECT_NE(mount.log().find("frozen"), std::string::npos) << "no change was over its deadline: nothing was tested";
  ASSERT_TRUE(freeze.thaw()) << "it was thawed too early";

  EXPECT_TRUE(writer.get()) << mount.log();
  EXPECT_TRUE(maker.get()) << mount.log();
  EXPECT_TRUE(write_and_fsync(mount.path() + "/after", "still writable")) << mount.log();
  ASSERT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image), "");
  OutboardMount again(image, work.file("mnt"));
  ASSERT_TRUE(again.mounted());
  EXPECT_EQ(testing::read_file(again.path() + "/written").value_or(""), text);
  EXPECT_EQ(testing::read_file(again.path() + "/made/file").value_or(""), "in it");
  EXPECT_EQ(testing::read_file(again.path() + "/after").value_or(""), "still writable");
  EXPECT_EQ(again.unmount(), "");
  EXPECT_EQ(host.unmount(), "");
}

INSTANTIATE_TEST_SUITE_P(Ways, FrozenHost, ::testing::Values(false, true),
                         [](const auto &param) { return param.param ? "Buffered" : "Direct"; });

}  // namespace
}  // namespace outboard::tests

// Shutdown of a real mount: `outboard shutdown` and ext4's own ioctl. What had been promised is there afterwards, the rest as
// the mode says; every client returns; the mount can be unmounted; e2fsck is content after replay.
#include "base/unique_fd.h"
#include "support/mounts.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace outboard::tests {
namespace {

using testing::run_command;

constexpr unsigned long kExt4Shutdown = _IOR('X', 125, std::uint32_t);

// What was written and never synced: flushed; or its name is there and its data only if the kernel had passed it on already;
// or none of it.
enum class Unsynced { whole, name, nothing };

struct How {
  const char *name;
  const char *option;   // of `outboard shutdown`; null: the ioctl, with these flags
  std::uint32_t flags;
  bool plain;
  Unsynced unsynced;
};

class Shutdown : public ::testing::TestWithParam<How> {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
    ASSERT_OK(testing::make_image(image_, std::uint64_t{64} << 20));
  }
  // No commit by the timer.
  static std::vector<std::string> options() {
    return GetParam().plain ? std::vector<std::string>{"plain", "commit=300"} : std::vector<std::string>{"commit=300"};
  }
  void shut_down(const std::string &place) {
    if (GetParam().option != nullptr) {
      const auto result = run_command({outboard_program(), "shutdown", GetParam().option, place});
      ASSERT_OK(result);
      ASSERT_EQ(result->exit, 0) << result->err;
      return;
    }
    const UniqueFd fd(::open(place.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(fd);
    std::uint32_t flags = GetParam().flags;
    ASSERT_EQ(::ioctl(fd.get(), kExt4Shutdown, &flags), 0) << errno;
  }
  // Clean after the journal's replay, which e2fsck -fn does not do: ours does.
  void expect_clean_after_replay() {
    OutboardMount mount(image_, work_.file("replay"));
    ASSERT_TRUE(mount.mounted());
    EXPECT_NE(mount.log().find("journal replayed"), std::string::npos) << mount.log();
    ASSERT_EQ(mount.unmount(), "");
    EXPECT_EQ(fsck_complaint(image_), "");
  }
  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
};

TEST_P(Shutdown, KeepsWhatItSaysAndNothingAfter) {
  OutboardMount mount(image_, work_.file("mnt"), options());
  ASSERT_TRUE(mount.mounted());
  const std::string root = mount.path();
  ASSERT_OK(testing::write_file(root + "/synced", "kept by fsync"));
  UniqueFd synced(::open((root + "/synced").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(synced);
  ASSERT_EQ(::fsync(synced.get()), 0);
  // In the kernel's cache only, as far as we can know.
  UniqueFd dirty(::open((root + "/unsynced").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_TRUE(dirty);
  const std::string text(300000, 'u');
  ASSERT_EQ(::write(dirty.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ASSERT_NO_FATAL_FAILURE(shut_down(GetParam().option != nullptr ? root : root + "/synced"));

  char buffer[16];
  EXPECT_EQ(::pread(synced.get(), buffer, sizeof buffer, 0), -1) << "pages that had been cached are still read";
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(::mkdir((root + "/late").c_str(), 0755), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(::open((root + "/late").c_str(), O_CREAT | O_WRONLY, 0644), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(::unlink((root + "/synced").c_str()), -1);
  EXPECT_EQ(errno, EIO);
  // A write may be taken by the kernel's cache; its fsync tells.
  if (::pwrite(synced.get(), "late", 4, 0) == 4) {
    EXPECT_EQ(::fsync(synced.get()), -1);
  }
  EXPECT_EQ(errno, EIO);
  const std::string before = *testing::read_file(image_);
  synced.reset();
  dirty.reset();
  ASSERT_EQ(mount.unmount(), "");
  EXPECT_TRUE(*testing::read_file(image_) == before) << "the image was changed after the shutdown";

  const auto cat = [&](const std::string &path) { return run_command({outboard_program(), "cat", image_, path}); };
  EXPECT_EQ(cat("/synced")->out, "kept by fsync");
  const auto unsynced = cat("/unsynced");
  switch (GetParam().unsynced) {
  case Unsynced::whole: EXPECT_TRUE(unsynced->out == text) << unsynced->out.size() << " bytes: " << unsynced->err; break;
  case Unsynced::name:
    EXPECT_EQ(unsynced->exit, 0) << unsynced->err;
    EXPECT_TRUE(text.starts_with(unsynced->out)) << unsynced->out.size() << " bytes of something else";
    break;
  case Unsynced::nothing: EXPECT_NE(unsynced->exit, 0) << unsynced->out.size() << " bytes"; break;
  }
  EXPECT_NE(cat("/late")->exit, 0);
  expect_clean_after_replay();
}

TEST_P(Shutdown, EveryClientReturns) {
  OutboardMount mount(image_, work_.file("mnt"), options());
  ASSERT_TRUE(mount.mounted());
  std::atomic<int> working{0};
  std::vector<std::thread> clients;
  for (int who = 0; who < 4; ++who)
    clients.emplace_back([&, who] {
      const std::string piece(20000, 'x');
      for (int i = 0; i < 100000; ++i) {
        const std::string path = fmt::format("{}/c{}-{}", mount.path(), who, i);
        const UniqueFd fd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
        if (!fd) {
          EXPECT_EQ(errno, EIO);
          return;
        }
        bool well = ::write(fd.get(), piece.data(), piece.size()) == static_cast<ssize_t>(piece.size());
        if (i % 3 == 0) well = well && ::fsync(fd.get()) == 0;
        if (i % 5 == 0) ::unlink(path.c_str());
        if (!well) return;
        ++working;
      }
      ADD_FAILURE() << "client " << who << " never saw the shutdown";
    });
  while (working < 50) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  shut_down(mount.path());
  for (std::thread &client : clients) client.join();
  ASSERT_EQ(mount.unmount(), "");
  expect_clean_after_replay();
}

INSTANTIATE_TEST_SUITE_P(Modes, Shutdown,
                         ::testing::Values(How{"CommandFlush", "--flush", 0, false, Unsynced::whole}, How{"CommandFlushPlain", "--flush", 0, true, Unsynced::whole},
                                           How{"CommandLog", "--log", 0, false, Unsynced::name}, How{"CommandNow", "--now", 0, false, Unsynced::nothing},
                                           How{"CommandNowPlain", "--now", 0, true, Unsynced::nothing}, How{"IoctlDefault", nullptr, 0, false, Unsynced::whole},
                                           How{"IoctlLogFlush", nullptr, 1, false, Unsynced::name}, How{"IoctlNoLogFlush", nullptr, 2, false, Unsynced::nothing}),
                         [](const auto &param) { return param.param.name; });

class ShutdownRefused : public ::testing::Test {};

TEST_F(ShutdownRefused, ToOthersAndWithUnknownFlags) {
  if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  testing::TemporaryDirectory work;
  const std::string image = work.file("disk.img");
  ASSERT_OK(testing::make_image(image, std::uint64_t{32} << 20));
  ASSERT_EQ(::chmod(work.path().c_str(), 0755), 0);
  OutboardMount mount(image, work.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  {
    const UniqueFd root(::open(mount.path().c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(root);
    std::uint32_t flags = 3;
    EXPECT_EQ(::ioctl(root.get(), kExt4Shutdown, &flags), -1);
    EXPECT_EQ(errno, EINVAL);
    if (testing::have_program("setpriv")) {
      const auto other = run_command({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", outboard_program(), "shutdown", mount.path()});
      ASSERT_OK(other);
      EXPECT_EQ(other->exit, 2);
      EXPECT_NE(other->err.find("not permitted"), std::string::npos) << other->err;
    }
  }
  EXPECT_OK(testing::write_file(mount.path() + "/still", "writable"));
  EXPECT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image), "");
}

}  // namespace
}  // namespace outboard::tests

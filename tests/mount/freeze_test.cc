// Freezing a real mount by the command: a byte copy of the image meanwhile is a clean file system to e2fsck and the kernel,
// clients that write wait, clients that read do not, and the freeze ends with whoever holds it.
#include "base/unique_fd.h"
#include "support/mounts.h"
#include "testing/expect.h"
#include "vfs/control.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace outboard::tests {
namespace {

using namespace std::chrono_literals;
using testing::run_command;

class FreezeCommand : public ::testing::TestWithParam<bool> {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
    ASSERT_OK(testing::make_image(image_, std::uint64_t{64} << 20));
    mount_ = std::make_unique<OutboardMount>(image_, work_.file("mnt"), GetParam() ? std::vector<std::string>{"plain"} : std::vector<std::string>{});
    ASSERT_TRUE(mount_->mounted());
  }
  // A frozen mount must not be left behind, whatever fails: threads that wait for it would wait for ever.
  void TearDown() override {
    if (mount_ && mount_->mounted()) static_cast<void>(run_command({outboard_program(), "thaw", mount_->path()}));
  }
  std::string path(const std::string &name) const { return mount_->path() + "/" + name; }
  // Exit status and what was said.
  std::pair<int, std::string> command(const std::vector<std::string> &words) {
    std::vector<std::string> argv = {outboard_program()};
    argv.insert(argv.end(), words.begin(), words.end());
    const auto result = run_command(argv);
    EXPECT_OK(result);
    return result ? std::pair(result->exit, result->err) : std::pair(-1, std::string());
  }
  void freeze() {
    const auto [status, text] = command({"freeze", "--timeout", "30", mount_->path()});
    ASSERT_EQ(status, 0) << text;
  }
  bool frozen() {
    const UniqueFd root(::open(mount_->path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::uint32_t answer = 0;
    EXPECT_EQ(::ioctl(root.get(), vfs::kControlIsFrozen, &answer), 0) << errno;
    return answer != 0;
  }
  std::string copy_image(const std::string &name) {
    std::error_code error;
    std::filesystem::copy_file(image_, work_.file(name), std::filesystem::copy_options::overwrite_existing, error);
    EXPECT_FALSE(error) << error.message();
    return work_.file(name);
  }
  void expect_sound() {
    ASSERT_EQ(mount_->unmount(), "");
    EXPECT_EQ(fsck_complaint(image_), "");
  }
  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
  std::unique_ptr<OutboardMount> mount_;
};

TEST_P(FreezeCommand, ACopyIsCleanWritersWaitAndReadersDoNot) {
  ASSERT_OK(testing::write_file(path("kept"), "never synced"));
  const std::string cold(1 << 20, 'c');
  ASSERT_OK(testing::write_file(path("cold"), cold));
  ASSERT_NO_FATAL_FAILURE(freeze());
  EXPECT_TRUE(frozen());
  EXPECT_NE(command({"freeze", mount_->path()}).second.find("frozen already"), std::string::npos);
  const std::string copy = copy_image("copy.img");
  EXPECT_EQ(fsck_complaint(copy), "");
  {
    // On a read-only loop device, where the kernel refuses a file system that needs recovery.
    KernelMount kernel(copy, work_.file("kernel"), "ro");
    ASSERT_TRUE(kernel.mounted());
    EXPECT_EQ(*testing::read_file(kernel.path() + "/kept"), "never synced");
    EXPECT_EQ(kernel.unmount(), "");
  }
  EXPECT_TRUE(*testing::read_file(copy) == *testing::read_file(image_)) << "the copy was recovered, or the image has changed";

  // More writers than the server has threads.
  constexpr int kWriters = 40;
  std::atomic<int> begun{0}, done{0};
  std::vector<std::thread> writers;
  for (int who = 0; who < kWriters; ++who)
    writers.emplace_back([&, who] {
      ++begun;
      if (who % 2 == 0) {
        EXPECT_EQ(::mkdir(path(fmt::format("d{}", who)).c_str(), 0755), 0) << errno;
      } else {
        EXPECT_OK(testing::write_file(path(fmt::format("f{}", who)), "written while frozen"));
      }
      ++done;
    });
  EXPECT_TRUE(eventually([&] { return begun == kWriters; }));
  std::this_thread::sleep_for(200ms);
  EXPECT_EQ(done, 0);
  UniqueFd fd(::open(path("cold").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  ASSERT_TRUE(fd);
  void *memory = std::aligned_alloc(4096, cold.size());
  EXPECT_EQ(::pread(fd.get(), memory, cold.size(), 0), static_cast<ssize_t>(cold.size()));
  EXPECT_EQ(std::memcmp(memory, cold.data(), cold.size()), 0);
  std::free(memory);
  ASSERT_EQ(::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  void *mapped = ::mmap(nullptr, cold.size(), PROT_READ, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_EQ(std::memcmp(mapped, cold.data(), cold.size()), 0);
  ::munmap(mapped, cold.size());
  fd.reset();
  EXPECT_EQ(done, 0);
  EXPECT_TRUE(*testing::read_file(copy) == *testing::read_file(image_)) << "changed while frozen";

  const auto [status, text] = command({"thaw", mount_->path()});
  EXPECT_EQ(status, 0) << text;
  for (std::thread &writer : writers) writer.join();
  for (int who = 1; who < kWriters; who += 2) EXPECT_EQ(*testing::read_file(path(fmt::format("f{}", who))), "written while frozen");
  EXPECT_NE(command({"thaw", mount_->path()}).second.find("not frozen"), std::string::npos);
  expect_sound();
}

TEST_P(FreezeCommand, EndsWithTheProcessThatHoldsIt) {
  for (const int signal : {SIGKILL, SIGTERM}) {
    const pid_t holder = ::fork();
    if (holder == 0) {
      const std::string program = outboard_program(), target = mount_->path();
      const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
      ::dup2(null, 2);
      ::execl(program.c_str(), program.c_str(), "freeze", "--hold", target.c_str(), nullptr);
      ::_exit(127);
    }
    EXPECT_TRUE(eventually([&] { return frozen(); }));
    std::atomic<bool> done{false};
    std::thread writer([&] {
      EXPECT_EQ(::mkdir(path(fmt::format("by{}", signal)).c_str(), 0755), 0) << errno;
      done = true;
    });
    std::this_thread::sleep_for(100ms);
    EXPECT_FALSE(done);
    ::kill(holder, signal);
    ::waitpid(holder, nullptr, 0);
    writer.join();
    EXPECT_TRUE(done);
  }
  expect_sound();
}

TEST_P(FreezeCommand, LastsAsLongAsItsCommand) {
  ASSERT_OK(testing::write_file(path("kept"), "never synced"));
  const std::string copy = work_.file("copy.img");
  const auto [status, text] = command({"freeze", mount_->path(), "--", "cp", "--sparse=always", image_, copy});
  EXPECT_EQ(status, 0) << text;
  EXPECT_EQ(fsck_complaint(copy), "");
  EXPECT_EQ(command({"freeze", mount_->path(), "--", "sh", "-c", "exit 7"}).first, 7);
  EXPECT_FALSE(frozen());
  EXPECT_EQ(command({"freeze", mount_->path(), "--", outboard_program(), "thaw", mount_->path()}).first, 2) << "thawed meanwhile";
  ASSERT_OK(testing::write_file(path("later"), "written"));
  expect_sound();
}

TEST_P(FreezeCommand, UnmountingAFrozenMountThawsItAndLosesNothing) {
  ASSERT_NO_FATAL_FAILURE(freeze());
  std::thread writer([&] { EXPECT_OK(testing::write_file(path("late"), "written while frozen")); });
  std::this_thread::sleep_for(100ms);
  const auto [status, text] = command({"sync", mount_->path()});
  EXPECT_EQ(status, 0) << text;
  const auto [thawed, words] = command({"thaw", mount_->path()});
  EXPECT_EQ(thawed, 0) << words;
  writer.join();
  ASSERT_NO_FATAL_FAILURE(freeze());
  const auto result = run_command({outboard_program(), "umount", mount_->path()});
  ASSERT_OK(result);
  EXPECT_EQ(result->exit, 0);
  EXPECT_NE(result->err.find("was frozen: thawed"), std::string::npos) << result->err;
  EXPECT_EQ(run_command({outboard_program(), "cat", image_, "/late"})->out, "written while frozen");
  EXPECT_EQ(fsck_complaint(image_), "");
  mount_->kill();  // reaps the server, which has ended
}

INSTANTIATE_TEST_SUITE_P(Mounts, FreezeCommand, ::testing::Values(false, true),
                         [](const auto &param) { return param.param ? "Plain" : "Fuseblk"; });

}  // namespace
}  // namespace outboard::tests

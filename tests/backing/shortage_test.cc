// What the server lives on runs short: space below a sparse image, the end of the image itself, memory, descriptors. Operations may fail,
// with an error; the server goes on, nothing that fsync has acknowledged is lost, and what is left is a file system.
#include "base/unique_fd.h"
#include "support/durable_file.h"
#include "support/mounts.h"
#include "testing/command.h"
#include "testing/expect.h"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace outboard::tests {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

// A tmpfs of so many MiB.
class SmallHost {
public:
  SmallHost(const std::string &directory, unsigned mib) : directory_(directory) {
    ::mkdir(directory.c_str(), 0755);
    mounted_ = ::mount("outboard-test", directory.c_str(), "tmpfs", 0, fmt::format("size={}m", mib).c_str()) == 0;
  }
  ~SmallHost() {
    if (mounted_) ::umount2(directory_.c_str(), MNT_DETACH);
  }
  SmallHost(const SmallHost &) = delete;
  SmallHost &operator=(const SmallHost &) = delete;
  bool mounted() const { return mounted_; }
  bool grow(unsigned mib) { return ::mount("outboard-test", directory_.c_str(), "tmpfs", MS_REMOUNT, fmt::format("size={}m", mib).c_str()) == 0; }

private:
  const std::string directory_;
  bool mounted_ = false;
};

std::string contents_of(unsigned number) { return std::string(kMiB, static_cast<char>('a' + number % 26)); }

// Files of 1 MiB, each fsynced, until one fails; how many were acknowledged.
unsigned fill(const std::string &directory, unsigned most, int &error) {
  for (unsigned i = 0; i < most; ++i) {
    error = write_and_fsync(fmt::format("{}/f{}", directory, i), contents_of(i));
    if (error != 0) return i;
  }
  return most;
}

void expect_files(const std::string &directory, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    const auto text = testing::read_file(fmt::format("{}/f{}", directory, i));
    ASSERT_OK(text);
    EXPECT_TRUE(*text == contents_of(i)) << "f" << i << " of " << count;
  }
}

class Shortage : public ::testing::Test {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  }
  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
};

TEST_F(Shortage, NoSpaceBelowASparseImageFailsWritesAndLosesNothingAcknowledged) {
  SmallHost host(work_.file("host"), 48);
  ASSERT_TRUE(host.mounted());
  const std::string image = work_.file("host") + "/disk.img";
  ASSERT_OK(testing::make_image(image, 256 * kMiB));
  unsigned kept = 0;
  {
    OutboardMount mount(image, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    int error = 0;
    kept = fill(mount.path(), 200, error);
    EXPECT_GT(kept, 10u);
    EXPECT_LT(kept, 60u);
    EXPECT_TRUE(error == EIO || error == ENOSPC || error == EROFS) << strerrorname_np(error);
    expect_files(mount.path(), kept);  // reads go on
    EXPECT_NE(mount.log().find("No space left on device"), std::string::npos) << mount.log();
    static_cast<void>(mount.unmount());  // may say that not everything reached the disk
  }
  ASSERT_TRUE(host.grow(400));
  OutboardMount mount(image, work_.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  expect_files(mount.path(), kept);
  ASSERT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image), "");
}

TEST_F(Shortage, AnImageThatIsTruncatedUnderTheMountGivesErrorsAndNoCrash) {
  ASSERT_OK(testing::make_image(image_, 64 * kMiB));
  {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    int error = 0;
    ASSERT_EQ(fill(mount.path(), 24, error), 24u);
    ASSERT_EQ(mount.unmount(), "");
  }
  OutboardMount mount(image_, work_.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  ASSERT_EQ(::truncate(image_.c_str(), 8 * kMiB), 0);
  unsigned failed = 0;
  for (unsigned i = 0; i < 24; ++i) {
    const auto text = testing::read_file(fmt::format("{}/f{}", mount.path(), i));
    if (!text) ++failed;
    else EXPECT_TRUE(*text == contents_of(i)) << "f" << i << " reads as something else";
  }
  EXPECT_GT(failed, 0u);
  struct stat status {};
  EXPECT_EQ(::stat(mount.path().c_str(), &status), 0) << "the server has gone: " << mount.log();
  static_cast<void>(write_and_fsync(mount.path() + "/late", "text"));
  const std::string complaint = mount.unmount();
  EXPECT_EQ(complaint.find("died of signal"), std::string::npos) << complaint;
}

TEST_F(Shortage, WithoutFurtherDescriptorsEverythingGoesOn) {
  ASSERT_OK(testing::make_image(image_, 64 * kMiB));
  OutboardMount mount(image_, work_.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  rlimit before{};
  ASSERT_EQ(::prlimit(mount.server(), RLIMIT_NOFILE, nullptr, &before), 0);
  const rlimit none{1, before.rlim_max};
  ASSERT_EQ(::prlimit(mount.server(), RLIMIT_NOFILE, &none, nullptr), 0);
  int error = 0;
  EXPECT_EQ(fill(mount.path(), 24, error), 24u) << strerrorname_np(error);
  expect_files(mount.path(), 24);
  // The leak sanitizer looks through /proc when the server ends.
  ASSERT_EQ(::prlimit(mount.server(), RLIMIT_NOFILE, &before, nullptr), 0);
  ASSERT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image_), "");
}

// A control group with this much memory, of whichever hierarchy has the controller.
class MemoryGroup {
public:
  explicit MemoryGroup(std::uint64_t bytes) {
    for (const auto &[root, limit] : {std::pair("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), std::pair("/sys/fs/cgroup", "memory.max")}) {
      const std::string path = fmt::format("{}/outboard-test-{}", root, ::getpid());
      if (::mkdir(path.c_str(), 0755) != 0) continue;
      path_ = path;
      if (testing::write_file(path + "/" + limit, std::to_string(bytes))) return;
      ::rmdir(path.c_str());
      path_.clear();
    }
  }
  ~MemoryGroup() {
    for (int i = 0; i < 500 && !path_.empty() && ::rmdir(path_.c_str()) != 0 && errno == EBUSY; ++i) ::usleep(10'000);  // until the process is gone
  }
  MemoryGroup(const MemoryGroup &) = delete;
  MemoryGroup &operator=(const MemoryGroup &) = delete;
  bool exists() const { return !path_.empty(); }
  bool take(pid_t process) const {
    const UniqueFd members(::open((path_ + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    const std::string word = std::to_string(process);
    return members && ::write(members.get(), word.data(), word.size()) == static_cast<ssize_t>(word.size());
  }

private:
  std::string path_;
};

// The floor that docs/contract.md names; sanitizers have a memory of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kFloor = 1024 * kMiB;
#else
constexpr std::uint64_t kFloor = 128 * kMiB;
#endif

TEST_F(Shortage, WithTheLeastMemoryEverythingIsDoneOnlySlower) {
  MemoryGroup group(kFloor);
  if (!group.exists()) GTEST_SKIP() << "no control group for memory can be made here";
  ASSERT_OK(testing::make_image(image_, 1024 * kMiB));
  OutboardMount mount(image_, work_.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  ASSERT_TRUE(group.take(mount.server()));
  int error = 0;
  EXPECT_EQ(fill(mount.path(), 300, error), 300u) << strerrorname_np(error) << mount.log();
  ASSERT_EQ(::mkdir((mount.path() + "/many").c_str(), 0755), 0);
  for (int i = 0; i < 20000; ++i) {
    const UniqueFd file(::open(fmt::format("{}/many/{}", mount.path(), i).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    ASSERT_TRUE(file) << strerrorname_np(errno) << mount.log();
  }
  expect_files(mount.path(), 300);
  ASSERT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image_), "");
}

}  // namespace
}  // namespace outboard::tests

// The file system that holds our image is frozen by the kernel's own fsfreeze(8). Our reads and page faults are served all the
// same, so that the freeze can end: thread A writes to a file of that file system from a mapping of a file of ours, and holds a
// page of it while it faults ours in; the freeze waits for A; A waits for our server; our server must not wait for a write to the
// file system being frozen. Writers of ours wait, and lose nothing.
//
// OUTBOARD_FROZEN_BACKING_ROUNDS: how many rounds each (a few by default).
#include "backing/backing.h"
#include "base/unique_fd.h"
#include "support/mounts.h"
#include "testing/command.h"
#include "testing/expect.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <functional>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <thread>
#include <unistd.h>

namespace outboard::tests {
namespace {

using namespace std::chrono_literals;
using testing::run_command;

constexpr std::size_t kFile = std::size_t{1} << 20;

int rounds() {
  const char *text = std::getenv("OUTBOARD_FROZEN_BACKING_ROUNDS");
  return text != nullptr ? std::atoi(text) : 3;
}

struct Where {
  const char *type;
  bool plain;
};

class FrozenBacking : public ::testing::TestWithParam<Where> {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
    for (const char *program : {"fsfreeze", "mkfs.ext4", "mkfs.xfs"})
      if (!testing::have_program(program)) GTEST_SKIP() << "no " << program;
  }
};

std::string pattern(std::size_t salt) {
  std::string text(kFile, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + (i / 4096 + i * 7 + salt) % 26);
  return text;
}

// The kernel forgets the pages, so that the next look is a request to our server.
void forget_pages(int fd) { ASSERT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0); }

TEST_P(FrozenBacking, ReadsAndFaultsAreServedWritersWaitAndTheFreezeCompletes) {
  testing::TemporaryDirectory work;
  Backing backing(GetParam().type, work);
  ASSERT_TRUE(backing.mounted());
  const std::string image = backing.file("disk.img");
  ASSERT_OK(testing::make_image(image, std::uint64_t{128} << 20));
  OutboardMount mount(image, work.file("mnt"), GetParam().plain ? std::vector<std::string>{"plain"} : std::vector<std::string>{});
  ASSERT_TRUE(mount.mounted());
  const std::string text = pattern(1);
  // Writers make their files in a directory of their own: whoever makes one holds its directory, in the kernel, until it is made.
  for (const char *name : {"/writers", "/changers"}) ASSERT_EQ(::mkdir((mount.path() + name).c_str(), 0755), 0) << errno;
  ASSERT_OK(testing::write_file(mount.path() + "/mapped", text));
  ASSERT_OK(testing::write_file(mount.path() + "/cold", text));
  ASSERT_EQ(run_command({outboard_program(), "sync", mount.path()})->exit, 0);
  UniqueFd ours(::open((mount.path() + "/mapped").c_str(), O_RDONLY | O_CLOEXEC));
  UniqueFd cold(::open((mount.path() + "/cold").c_str(), O_RDONLY | O_CLOEXEC));
  UniqueFd theirs(::open(backing.file("copy").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_TRUE(ours && cold && theirs);
  void *mapping = ::mmap(nullptr, kFile, PROT_READ, MAP_SHARED, ours.get(), 0);
  ASSERT_NE(mapping, MAP_FAILED);
  const char *const mapped = static_cast<const char *>(mapping);

  for (int round = 0; round < rounds() && !HasFatalFailure(); ++round) {
    SCOPED_TRACE(fmt::format("round {}", round));
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> copied{0};
    // A: writes to the file system that is being frozen, from our pages, which are faulted in one by one.
    std::thread copier([&] {
      while (!stop) {
        // Without the mapping's own pages: they would not be dropped while mapped.
        ::madvise(mapping, kFile, MADV_DONTNEED);
        ::posix_fadvise(ours.get(), 0, 0, POSIX_FADV_DONTNEED);
        EXPECT_EQ(::pwrite(theirs.get(), mapped, kFile, 0), static_cast<ssize_t>(kFile)) << errno;
        ++copied;
      }
    });
    // Writers of ours: more that wait for the disk than the server has threads.
    constexpr int kWriters = 24;
    std::vector<int> promised(kWriters, -1);  // the last piece whose fsync has returned
    std::vector<std::thread> writers;
    std::atomic<std::uint64_t> kept{0};
    for (int who = 0; who < kWriters; ++who)
      writers.emplace_back([&, who] {
        const UniqueFd fd(::open(fmt::format("{}/writers/{}", mount.path(), who).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        EXPECT_TRUE(fd) << errno;
        for (int piece = 0; fd && !stop && piece < 2000; ++piece) {
          const std::string line = fmt::format("{:015}\n", piece);
          EXPECT_EQ(::pwrite(fd.get(), line.data(), line.size(), static_cast<off_t>(piece) * 16), 16) << errno;
          EXPECT_EQ(::fsync(fd.get()), 0) << errno;
          promised[static_cast<std::size_t>(who)] = piece;
          ++kept;
        }
      });
    // Others change what is on record, and do not ask for it to be durable: they go on until the journal takes no more.
    constexpr int kChangers = 4;
    std::atomic<std::uint64_t> changed{0};
    for (int who = 0; who < kChangers; ++who)
      writers.emplace_back([&, who] {
        const std::string first = fmt::format("{}/changers/{}a", mount.path(), who), second = fmt::format("{}/changers/{}b", mount.path(), who);
        for (std::uint32_t turn = 0; !stop; ++turn) {
          const UniqueFd fd(::open(first.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
          EXPECT_TRUE(fd) << errno;
          EXPECT_EQ(::ftruncate(fd.get(), turn % 9 * 1000), 0) << errno;
          EXPECT_EQ(::fchmod(fd.get(), 0600 + turn % 64), 0) << errno;
          EXPECT_EQ(::fsetxattr(fd.get(), "user.turn", &turn, sizeof turn, 0), 0) << errno;
          EXPECT_EQ(::rename(first.c_str(), second.c_str()), 0) << errno;
          if (turn % 2 != 0) {
            EXPECT_EQ(::unlink(second.c_str()), 0) << errno;
          }
          EXPECT_TRUE(::mkdir(fmt::format("{}/changers/{}-{}", mount.path(), who, turn % 500).c_str(), 0755) == 0 || errno == EEXIST) << errno;
          ++changed;
        }
      });
    EXPECT_TRUE(eventually([&] { return copied > 1 && kept > 20 && changed > kChangers; }));
    // B: completes, though A needs us to get on.
    backing.freeze();
    const std::uint64_t at_freeze = kept;
    if (!HasFatalFailure()) {
      // All that ask for the disk now wait, in every thread that the server has for them. (fsyncs that were through at the
      // freeze may still come back.)
      std::this_thread::sleep_for(150ms);
      for (int look = 0; look < 3; ++look) {
        std::string seen(kFile, '\0');
        forget_pages(cold.get());
        EXPECT_EQ(::pread(cold.get(), seen.data(), seen.size(), 0), static_cast<ssize_t>(seen.size())) << errno;
        EXPECT_TRUE(seen == text);
        forget_pages(ours.get());
        const std::uint64_t position = static_cast<std::uint64_t>(look + 1) * 100'000;
        EXPECT_EQ(mapped[position], text[position]);
        struct stat status {};
        EXPECT_EQ(::stat((mount.path() + "/cold").c_str(), &status), 0);
        EXPECT_EQ(::access((mount.path() + fmt::format("/absent{}-{}", round, look)).c_str(), F_OK), -1);
        EXPECT_EQ(errno, ENOENT);
      }
      const std::uint64_t settled = kept;
      EXPECT_LE(settled - at_freeze, static_cast<std::uint64_t>(kWriters)) << "fsync returns while the disk takes nothing";
    }
    EXPECT_TRUE(backing.thaw()) << "something waited until the watchdog thawed";
    const std::uint64_t at_thaw = kept;
    EXPECT_TRUE(eventually([&] { return kept > at_thaw + kWriters; })) << "writers do not go on after the thaw";
    stop = true;
    copier.join();
    for (std::thread &writer : writers) writer.join();
    for (int who = 0; who < kWriters; ++who) {
      const std::string contents = *testing::read_file(fmt::format("{}/writers/{}", mount.path(), who));
      std::string expected;
      for (int piece = 0; piece <= promised[static_cast<std::size_t>(who)]; ++piece) expected += fmt::format("{:015}\n", piece);
      EXPECT_EQ(contents.substr(0, expected.size()), expected) << "writer " << who;
    }
    std::string copy(kFile, '\0');
    EXPECT_EQ(::pread(theirs.get(), copy.data(), copy.size(), 0), static_cast<ssize_t>(copy.size()));
    EXPECT_TRUE(copy == text) << "what A copied out of our mapping is not what we hold";
  }
  ::munmap(mapping, kFile);
  for (UniqueFd *file : {&ours, &cold, &theirs}) file->reset();
  EXPECT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image), "");
}

// More WRITEs than our memory takes: they wait, and the kernel has readahead wait for a place behind them.
class FrozenBackingFullMemory : public FrozenBacking {};
TEST_P(FrozenBackingFullMemory, ReadsAreServed) {
  testing::TemporaryDirectory work;
  Backing backing(GetParam().type, work);
  ASSERT_TRUE(backing.mounted());
  const std::string image = backing.file("disk.img");
  ASSERT_OK(testing::make_image(image, std::uint64_t{256} << 20));
  OutboardMount mount(image, work.file("mnt"), GetParam().plain ? std::vector<std::string>{"plain"} : std::vector<std::string>{});
  ASSERT_TRUE(mount.mounted());
  const std::string text = pattern(2);
  ASSERT_OK(testing::write_file(mount.path() + "/cold", text));
  UniqueFd big(::open((mount.path() + "/big").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  UniqueFd cold(::open((mount.path() + "/cold").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(big && cold);
  // Every second block, so that none can be sent together with the next: far more requests, and bytes, than we keep (48 MiB).
  constexpr off_t kStride = 8192, kPieces = 14'000;
  ASSERT_EQ(::ftruncate(big.get(), kStride * kPieces), 0);
  ASSERT_EQ(run_command({outboard_program(), "sync", mount.path()})->exit, 0);

  backing.freeze();
  std::atomic<int> written{0};
  std::atomic<bool> durable{false};
  std::thread writer([&] {
    const std::string block(4096, 'b');
    for (off_t piece = 0; piece < kPieces; ++piece) {
      EXPECT_EQ(::pwrite(big.get(), block.data(), block.size(), piece * kStride), 4096) << errno;
      ++written;
    }
    EXPECT_EQ(::fsync(big.get()), 0) << errno;
    durable = true;
  });
  if (!HasFatalFailure()) {
    EXPECT_TRUE(eventually([&] {
      const int before = written;  // all, or as many as the kernel lets be dirty
      std::this_thread::sleep_for(500ms);
      return before > 1000 && written == before;
    }));
    std::string seen(kFile, '\0');
    forget_pages(cold.get());
    EXPECT_EQ(::pread(cold.get(), seen.data(), seen.size(), 0), static_cast<ssize_t>(seen.size())) << errno;
    EXPECT_TRUE(seen == text);
    EXPECT_FALSE(durable);
  }
  EXPECT_TRUE(backing.thaw()) << "something waited until the watchdog thawed";
  writer.join();
  EXPECT_TRUE(durable);
  std::string block(4096, '\0');
  for (off_t piece = 0; piece < kPieces; piece += 997) {
    EXPECT_EQ(::pread(big.get(), block.data(), block.size(), piece * kStride), 4096) << errno;
    EXPECT_EQ(block, std::string(4096, 'b')) << "piece " << piece;
  }
  for (UniqueFd *file : {&big, &cold}) file->reset();
  EXPECT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image), "");
}

std::string name_of(const ::testing::TestParamInfo<Where> &info) {
  return fmt::format("{}{}", info.param.type, info.param.plain ? "Plain" : "Fuseblk");
}
INSTANTIATE_TEST_SUITE_P(On, FrozenBacking,
                         ::testing::Values(Where{"ext4", false}, Where{"ext4", true}, Where{"xfs", false}, Where{"xfs", true}), name_of);
// The transport's business, whatever is frozen.
INSTANTIATE_TEST_SUITE_P(On, FrozenBackingFullMemory, ::testing::Values(Where{"ext4", false}, Where{"xfs", true}), name_of);

}  // namespace
}  // namespace outboard::tests

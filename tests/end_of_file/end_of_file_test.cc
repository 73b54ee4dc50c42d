// Files grow past their end in every way there is; what lies between the old end and the new bytes reads as zeros, on
// our mount and on the kernel's, whatever stood on the disk behind the old end, and however the mount ends. The size
// that was acknowledged stays.
#include "base/unique_fd.h"
#include "base/units.h"
#include "end_of_file/grown_file.h"
#include "support/mounts.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace outboard::tests {
namespace {

enum class Ending { unmount, shutdown, kill };

// As ext4 has it. Flags 0: all that was written reaches the disk first.
constexpr unsigned long kShutdown = _IOR('X', 125, std::uint32_t);
constexpr std::uint32_t kShutdownWithFlush = 0;

using Parameters = std::tuple<std::uint32_t, Ending>;

std::string name_of(const Parameters &chosen) {
  constexpr const char *kEndings[] = {"unmount", "shutdown_with_flush", "kill_after_fsync"};
  return fmt::format("{}_{}", std::get<0>(chosen), kEndings[static_cast<int>(std::get<1>(chosen))]);
}

// An image with all the files, stale bytes and all.
class GrownFiles : public ::testing::Test {
protected:
  void prepare(std::uint32_t block_size) {
    block_size_ = block_size;
    files_ = grown_files(block_size);
    ASSERT_OK(testing::make_image(image_, std::uint64_t{96} << 20, {}, block_size));
    ASSERT_NO_FATAL_FAILURE(make_old_files());
    ASSERT_NO_FATAL_FAILURE(put_stale_bytes());
    ASSERT_EQ(fsck_complaint(image_), "");
  }
  void make_old_files() {
    std::vector<std::string> requests;
    for (const GrownFile &file : files_) {
      ASSERT_OK(testing::write_file(work_.file(file.name()), file.old_contents()));
      requests.push_back("write " + work_.file(file.name()) + " " + file.name());
    }
    ASSERT_OK(testing::debugfs_write(image_, requests));
  }
  // Into the image itself: behind the end, in the block of the end, and nowhere else.
  void put_stale_bytes() {
    const UniqueFd fd(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fd);
    for (const GrownFile &file : files_) {
      if (!file.stale) continue;
      ASSIGN_OK(const std::string answer,
                testing::debugfs(image_, fmt::format("bmap /{} {}", file.name(), file.old_size / block_size_)));
      const std::uint64_t block = std::strtoull(answer.c_str(), nullptr, 10);
      ASSERT_GT(block, 0u) << file.name();
      const std::string stale(block_size_ - file.old_size % block_size_, 's');
      ASSERT_EQ(::pwrite(fd.get(), stale.data(), stale.size(),
                         static_cast<off_t>(block * block_size_ + file.old_size % block_size_)),
                static_cast<ssize_t>(stale.size()));
    }
  }
  void expect_new_contents(const std::string &directory, const char *where) {
    for (const GrownFile &file : files_) {
      const auto found = testing::read_file(directory + "/" + file.name());
      ASSERT_OK(found);
      EXPECT_EQ(first_difference(file.new_contents(), *found), "") << file.name() << ", " << where;
    }
  }

  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
  std::uint32_t block_size_ = 0;
  std::vector<GrownFile> files_;
};

class EndOfFile : public GrownFiles, public ::testing::WithParamInterface<Parameters> {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
    ASSERT_NO_FATAL_FAILURE(prepare(std::get<0>(GetParam())));
  }
};

TEST_P(EndOfFile, TheGapReadsAsZerosAndTheSizeStays) {
  const Ending ending = std::get<1>(GetParam());
  {
    OutboardMount mount(image_, work_.file("live"));
    ASSERT_TRUE(mount.mounted());
    unsigned turn = 0;
    for (const GrownFile &file : files_) {
      const UniqueFd fd(::open((mount.path() + "/" + file.name()).c_str(), O_RDWR | O_CLOEXEC));
      ASSERT_TRUE(fd) << file.name();
      ASSERT_OK(file.grow(fd.get())) << file.name();
      if (ending == Ending::kill) {
        // fdatasync, too, is a promise about the size.
        ASSERT_EQ(++turn % 2 == 0 ? ::fsync(fd.get()) : ::fdatasync(fd.get()), 0) << file.name();
      } else if (ending == Ending::shutdown) {
        // From the kernel's cache into the server, which need not have written it yet.
        constexpr unsigned kAll = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
        ASSERT_EQ(::sync_file_range(fd.get(), 0, 0, kAll), 0) << file.name();
      }
    }
    if (ending == Ending::shutdown) {
      const UniqueFd root(::open(mount.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      std::uint32_t flags = kShutdownWithFlush;
      if (::ioctl(root.get(), kShutdown, &flags) != 0) {
        ASSERT_EQ(errno, ENOTTY);
        GTEST_SKIP() << "the shutdown ioctl is not there yet (ENOTTY)";
      }
    } else if (ending == Ending::kill) {
      expect_new_contents(mount.path(), "before the kill");
      mount.kill();
    }
    if (ending != Ending::kill) {
      ASSERT_EQ(mount.unmount(), "");
    }
  }
  // Whoever comes first replays the journal: the kernel on a copy, we on the image.
  const std::string copy = work_.file("copy.img");
  std::filesystem::copy_file(image_, copy);
  {
    KernelMount kernel(copy, work_.file("kernel"));
    ASSERT_TRUE(kernel.mounted());
    expect_new_contents(kernel.path(), "on the kernel's mount");
    ASSERT_EQ(kernel.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(copy), "");
  {
    OutboardMount mount(image_, work_.file("again"));
    ASSERT_TRUE(mount.mounted());
    expect_new_contents(mount.path(), "on our next mount");
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
}

// What the test above stands on: without somebody's care, the stale bytes do show when a file grows.
TEST_F(GrownFiles, StaleBytesWouldShowIfNobodyClearedThem) {
  for (const std::uint32_t block_size : {1024u, 2048u, 4096u}) {
    SCOPED_TRACE(block_size);
    ASSERT_NO_FATAL_FAILURE(prepare(block_size));
    std::vector<std::string> requests;
    for (const GrownFile &file : files_)
      requests.push_back(
          fmt::format("set_inode_field /{} size {}", file.name(), round_up<std::uint64_t>(file.old_size, block_size)));
    ASSERT_OK(testing::debugfs_write(image_, requests));
    for (const GrownFile &file : files_) {
      ASSIGN_OK(const std::string found, testing::debugfs_read(image_, "/" + file.name()));
      const std::string tail = found.substr(file.old_size);
      EXPECT_EQ(tail, std::string(tail.size(), file.stale ? 's' : '\0')) << file.name();
      EXPECT_GT(tail.size(), 0u);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Blocks, EndOfFile,
                         ::testing::Combine(::testing::Values(1024u, 2048u, 4096u),
                                            ::testing::Values(Ending::unmount, Ending::shutdown, Ending::kill)),
                         [](const auto &chosen) { return name_of(chosen.param); });

}  // namespace
}  // namespace outboard::tests

// The limits of the format and of the disk: the right errno, and a clean image after.
#include "base/unique_fd.h"
#include "support/mounts.h"
#include "testing/expect.h"

#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <vector>

namespace outboard::tests {
namespace {

class Limits : public ::testing::Test {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  }
  void make(std::uint64_t size, const std::vector<std::string> &mkfs) { ASSERT_OK(testing::make_image(image_, size, mkfs, 0)); }
  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
};

// 0 or the errno.
int write_until_error(const std::string &path, std::size_t piece, std::uint64_t *written) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!fd) return errno;
  const std::vector<char> data(piece, 'x');
  for (;;) {
    const ssize_t put = ::write(fd.get(), data.data(), data.size());
    if (put < 0) return errno;
    *written += static_cast<std::uint64_t>(put);
    if (::fsync(fd.get()) != 0) return errno;
  }
}

TEST_F(Limits, AFullDiskIsENOSPCAndWhatWasAcknowledgedStays) {
  make(std::uint64_t{24} << 20, {});
  std::uint64_t written = 0;
  {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    EXPECT_EQ(write_until_error(mount.path() + "/big", 1 << 16, &written), ENOSPC);
    EXPECT_GT(written, std::uint64_t{8} << 20);
    // Directories and links need blocks, too, and must fail whole.
    int error = 0;
    for (int i = 0; i < 5000 && error == 0; ++i)
      if (::mkdir(fmt::format("{}/dir{}", mount.path(), i).c_str(), 0755) != 0) error = errno;
    EXPECT_EQ(error, ENOSPC);
    // What is deleted can be used again at once.
    ASSERT_EQ(::unlink((mount.path() + "/big").c_str()), 0);
    std::uint64_t again = 0;
    EXPECT_EQ(write_until_error(mount.path() + "/again", 1 << 16, &again), ENOSPC);
    EXPECT_GT(again, written * 9 / 10);
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
}

TEST_F(Limits, NoMoreInodesIsENOSPC) {
  make(std::uint64_t{16} << 20, {"-N", "64"});
  {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    int made = 0, error = 0;
    for (; made < 200; ++made) {
      const UniqueFd fd(::open(fmt::format("{}/f{}", mount.path(), made).c_str(), O_CREAT | O_WRONLY, 0644));
      if (!fd) {
        error = errno;
        break;
      }
    }
    EXPECT_EQ(error, ENOSPC);
    struct statvfs s {};
    ASSERT_EQ(::statvfs(mount.path().c_str(), &s), 0);
    EXPECT_EQ(s.f_ffree, 0u);
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
}

TEST_F(Limits, NamesLinksAndSizesBeyondTheFormat) {
  make(std::uint64_t{256} << 20, {"-N", "80000", "-b", "1024"});
  {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    const std::string root = mount.path() + "/";
    EXPECT_EQ(::mkdir((root + std::string(255, 'n')).c_str(), 0755), 0);
    EXPECT_EQ(::mkdir((root + std::string(256, 'n')).c_str(), 0755), -1);
    EXPECT_EQ(errno, ENAMETOOLONG);
    EXPECT_EQ(::open((root + std::string(256, 'n')).c_str(), O_CREAT | O_WRONLY, 0644), -1);
    EXPECT_EQ(errno, ENAMETOOLONG);
    struct stat s {};
    EXPECT_EQ(::stat((root + std::string(300, 'n')).c_str(), &s), -1);
    EXPECT_EQ(errno, ENAMETOOLONG);

    const std::string base = root + "base";
    UniqueFd fd(::open(base.c_str(), O_CREAT | O_RDWR, 0644));
    ASSERT_TRUE(fd);
    int links = 1, error = 0;
    ASSERT_EQ(::mkdir((root + "links").c_str(), 0755), 0);
    for (; links < 70000; ++links)
      if (::link(base.c_str(), fmt::format("{}links/{}", root, links).c_str()) != 0) {
        error = errno;
        break;
      }
    EXPECT_EQ(links, 65000);
    EXPECT_EQ(error, EMLINK);

    // 1 KiB blocks: extents number file blocks with 32 bits.
    const off_t limit = (off_t{1} << 32) * 1024 - 1024;
    EXPECT_EQ(::ftruncate(fd.get(), limit + 1025), -1);
    EXPECT_EQ(errno, EFBIG);
    EXPECT_EQ(::pwrite(fd.get(), "x", 1, limit - 1024), 1);
    EXPECT_EQ(::fsync(fd.get()), 0);
    // The client's write-back cache takes the byte and asks the server later: fsync is where it says so.
    if (::pwrite(fd.get(), "x", 1, limit + 1024) == 1) {
      EXPECT_EQ(::fsync(fd.get()), -1);
    }
    EXPECT_EQ(errno, EFBIG);
    fd.reset();
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
}

TEST_F(Limits, ADirectoryMayHaveMoreSubdirectoriesThanLinksCanCount) {
  make(std::uint64_t{512} << 20, {"-N", "70000", "-b", "1024"});
  {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    const std::string many = mount.path() + "/many";
    ASSERT_EQ(::mkdir(many.c_str(), 0755), 0);
    for (int i = 0; i < 65010; ++i) ASSERT_EQ(::mkdir(fmt::format("{}/{}", many, i).c_str(), 0755), 0) << i << ": " << errno;
    ASSERT_EQ(mount.unmount(), "");
  }
  EXPECT_EQ(fsck_complaint(image_), "");
}

}  // namespace
}  // namespace outboard::tests

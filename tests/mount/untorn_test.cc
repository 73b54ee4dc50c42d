// Untorn writes are not offered to clients of a mount, because the kernel's FUSE client refuses them itself
// (docs/iomap.md). When this test fails there is a kernel that passes them on, and something to offer.
#include "base/unique_fd.h"
#include "support/mounts.h"

#include "testing/expect.h"
#include "testing/image_builder.h"

#include <cerrno>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/uio.h>

namespace outboard::tests {
namespace {

constexpr int kRwfAtomic = 0x40;  // RWF_ATOMIC of linux/fs.h, since Linux 6.11

TEST(UntornWrites, AreRefusedByTheKernelAndWriteNothing) {
  if (const std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  testing::TemporaryDirectory work;
  const std::string image = work.file("disk.img");
  ASSERT_OK(testing::make_image(image, std::uint64_t{32} << 20));
  OutboardMount mount(image, work.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  const std::string path = mount.path() + "/f";
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT, 0600));
  ASSERT_GE(file.get(), 0);
  alignas(4096) static char block[4096] = {'x'};
  const iovec piece{block, sizeof block};
  EXPECT_EQ(::pwritev2(file.get(), &piece, 1, 0, kRwfAtomic), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_END), 0);
  file.reset();
  EXPECT_EQ(mount.unmount(), "");
}

}  // namespace
}  // namespace outboard::tests

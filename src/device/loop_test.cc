#include "device/loop.h"

#include "device/file_device.h"
#include "testing/expect.h"
#include "testing/image_builder.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace outboard::device {
namespace {

class LoopTest : public ::testing::Test {
protected:
  void SetUp() override {
    if (::access("/dev/loop-control", R_OK | W_OK) != 0) GTEST_SKIP() << "no right to use loop devices";
    ASSERT_OK(testing::write_file(path_, std::string(1 << 20, 'a') + std::string(1 << 20, 'b')));
    file_ = UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(file_);
    ASSERT_EQ(::fstat(file_.get(), &info_), 0);
  }

  testing::TemporaryDirectory directory_;
  std::string path_ = directory_.file("image");
  UniqueFd file_;
  struct stat info_ {};
};

TEST_F(LoopTest, ShowsTheRangeOfTheFileAndGoesWithItsHolder) {
  unsigned number = 0;
  {
    ASSIGN_OK(LoopDevice loop, LoopDevice::attach(file_.get(), {.offset = 1 << 20, .size_limit = 64 << 10}));
    number = loop.number();
    const std::vector<LoopInfo> loops = loops_over(info_);
    ASSERT_EQ(loops.size(), 1u);
    EXPECT_EQ(loops[0].number, number);
    EXPECT_EQ(loops[0].offset, 1u << 20);
    EXPECT_EQ(loops[0].size_limit, 64u << 10);
    EXPECT_FALSE(loops[0].read_only);
    ASSIGN_OK(auto device, FileDevice::open(loop.path(), {}));
    EXPECT_TRUE(device->is_block_device());
    EXPECT_EQ(device->properties().size, 64u << 10);
    std::vector<std::byte> bytes(100);
    ASSERT_OK(device->read(5, bytes));
    EXPECT_EQ(bytes, std::vector<std::byte>(100, std::byte{'b'}));
  }
  // The kernel detaches it shortly after the last close.
  for (int i = 0; i < 100 && !loops_over(info_).empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_TRUE(loops_over(info_).empty()) << "loop" << number;
}

TEST_F(LoopTest, ReadOnlyIsReadOnly) {
  ASSIGN_OK(LoopDevice loop, LoopDevice::attach(file_.get(), {.read_only = true}));
  const std::vector<LoopInfo> loops = loops_over(info_);
  ASSERT_EQ(loops.size(), 1u);
  EXPECT_TRUE(loops[0].read_only);
  const auto writable = FileDevice::open(loop.path(), {});
  ASSERT_FALSE(writable);
  EXPECT_OK(FileDevice::open(loop.path(), {.read_only = true}));
}

TEST_F(LoopTest, AnUnrelatedFileBacksNone) {
  ASSIGN_OK(LoopDevice loop, LoopDevice::attach(file_.get(), {}));
  ASSERT_OK(testing::write_file(directory_.file("other"), "x"));
  struct stat other {};
  ASSERT_EQ(::stat(directory_.file("other").c_str(), &other), 0);
  EXPECT_TRUE(loops_over(other).empty());
}

TEST_F(LoopTest, ABlockDeviceTakesUnalignedRequestsZeroesAndDiscards) {
  ASSIGN_OK(LoopDevice loop, LoopDevice::attach(file_.get(), {}));
  ASSIGN_OK(auto device, FileDevice::open(loop.path(), {}));
  std::vector<std::byte> model((2 << 20));
  ASSERT_OK(device->read(0, model));
  const std::vector<std::byte> some(1000, std::byte{'x'});
  ASSERT_OK(device->write(777, some));
  std::ranges::copy(some, model.begin() + 777);
  ASSERT_OK(device->zero(100001, 800000));
  std::fill_n(model.begin() + 100001, 800000, std::byte{0});
  ASSERT_OK(device->flush());
  std::vector<std::byte> back(2 << 20);
  ASSERT_OK(device->read(0, back));
  EXPECT_TRUE(std::ranges::equal(back, model));
  EXPECT_OK(device->discard(1 << 20, 1 << 20));
  EXPECT_EQ(device->direct(), device->properties().alignment >= 512);
}

}  // namespace
}  // namespace outboard::device

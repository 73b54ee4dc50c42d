#include "testing/faulty_device.h"

#include "device/memory_device.h"
#include "testing/expect.h"

#include <algorithm>
#include <atomic>
#include <thread>

namespace outboard::testing {
namespace {

using Op = FaultyDevice::Op;

class FaultyDeviceTest : public ::testing::Test {
protected:
  device::MemoryDevice memory_{1 << 20};
  FaultyDevice device_{memory_};
  std::vector<std::byte> block_ = std::vector<std::byte>(4096, std::byte{'a'});
};

TEST_F(FaultyDeviceTest, TheNthRequestFailsAndTheOthersDoNot) {
  device_.add_fault({.op = Op::write, .skip = 2, .times = 1, .code = ENOSPC});
  EXPECT_OK(device_.write(0, block_));
  EXPECT_OK(device_.write(0, block_));
  EXPECT_ERROR(device_.write(8192, block_), ENOSPC);
  EXPECT_OK(device_.write(0, block_));
  EXPECT_OK(device_.read(8192, block_));
  EXPECT_EQ(block_[0], std::byte{0});  // the failed one wrote nothing
  EXPECT_EQ(device_.requests(Op::write), 4u);
}

TEST_F(FaultyDeviceTest, ARangeFailsForEverybodyWhoTouchesIt) {
  device_.add_fault({.op = Op::read, .offset = 8192, .length = 512});
  EXPECT_OK(device_.read(4096, block_));
  EXPECT_ERROR(device_.read(4097, block_), EIO);
  EXPECT_ERROR(device_.read(8192 + 511, std::span(block_).first(1)), EIO);
  EXPECT_OK(device_.read(8192 + 512, block_));
  EXPECT_OK(device_.write(8192, block_));
  device_.clear_faults();
  EXPECT_OK(device_.read(8192, block_));
}

TEST_F(FaultyDeviceTest, FlushDiscardAndZeroFailToo) {
  for (const Op op : {Op::flush, Op::discard, Op::zero}) device_.add_fault({.op = op, .times = 1});
  EXPECT_ERROR(device_.flush(), EIO);
  EXPECT_ERROR(device_.discard(0, 4096), EIO);
  EXPECT_ERROR(device_.zero(0, 4096), EIO);
  EXPECT_OK(device_.flush());
  EXPECT_OK(device_.discard(0, 4096));
  EXPECT_OK(device_.zero(0, 4096));
}

TEST_F(FaultyDeviceTest, AFailingWriteMayLeaveItsFirstHalf) {
  device_.add_fault({.op = Op::write, .partial = true});
  EXPECT_ERROR(device_.write(0, block_), EIO);
  std::vector<std::byte> back(4096);
  EXPECT_OK(device_.read(0, back));
  EXPECT_EQ(back[2047], std::byte{'a'});
  EXPECT_EQ(back[2048], std::byte{0});
}

TEST_F(FaultyDeviceTest, LiesStayInTheirRangeAndTheDiskIsUnharmed) {
  ASSERT_OK(device_.write(0, block_));
  device_.tell_lies({.seed = 4, .offset = 1000, .length = 100});
  bool lied = false;
  for (int i = 0; i < 20; ++i) {
    std::vector<std::byte> back(4096);
    ASSERT_OK(device_.read(0, back));
    const auto is_a = [](std::byte b) { return b == std::byte{'a'}; };
    EXPECT_TRUE(std::ranges::all_of(std::span(back).first(1000), is_a));
    EXPECT_TRUE(std::ranges::all_of(std::span(back).subspan(1100), is_a));
    lied = lied || !std::ranges::all_of(back, is_a);
  }
  EXPECT_TRUE(lied);
  EXPECT_EQ(device_.lies_told(), 20u);
  device_.clear_faults();
  std::vector<std::byte> back(4096);
  ASSERT_OK(device_.read(0, back));
  EXPECT_EQ(back, block_);
}

TEST_F(FaultyDeviceTest, LostChangesLookWritten) {
  device_.lose_changes(true);
  EXPECT_OK(device_.write(0, block_));
  EXPECT_OK(device_.flush());
  ASSERT_OK(device_.read(0, block_));
  EXPECT_EQ(block_, std::vector<std::byte>(4096));
}

TEST_F(FaultyDeviceTest, AHeldRequestWaitsForItsReleaseAndOthersPass) {
  device_.hold(Op::read);
  std::atomic<bool> finished = false;
  std::thread reader([&] {
    EXPECT_OK(device_.read(0, block_));
    finished = true;
  });
  ASSERT_TRUE(device_.wait_until_held(1));
  EXPECT_OK(device_.flush());
  EXPECT_FALSE(finished);
  EXPECT_FALSE(device_.wait_until_held(2, std::chrono::milliseconds(20)));
  device_.release(Op::read);
  reader.join();
  EXPECT_TRUE(finished);
}

TEST_F(FaultyDeviceTest, ItsEndReleasesWhatIsHeld) {
  std::thread reader;
  {
    FaultyDevice device(memory_);
    device.hold(Op::read);
    reader = std::thread([&] { EXPECT_OK(device.read(0, block_)); });
    ASSERT_TRUE(device.wait_until_held(1));
  }
  reader.join();
}

TEST_F(FaultyDeviceTest, DelaysTakeTheirTime) {
  device_.delay(Op::flush, std::chrono::milliseconds(50));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_OK(device_.flush());
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(50));
}

}  // namespace
}  // namespace outboard::testing

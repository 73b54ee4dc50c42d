#include "device/gated_device.h"

#include "device/memory_device.h"
#include "testing/expect.h"
#include "testing/faulty_device.h"
#include "testing/write_log_device.h"

#include <array>
#include <gtest/gtest.h>
#include <thread>

namespace outboard::device {
namespace {

using namespace std::chrono_literals;
auto soon(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }
using Block = std::array<std::byte, 4096>;

TEST(GatedDeviceTest, AfterTheGateIsShutNoKindOfChangePassesAndReadsDo) {
  outboard::testing::WriteLogDevice log(std::make_unique<MemoryDevice>(1 << 20));
  GatedDevice device(log);
  Block data;
  data.fill(std::byte{7});
  ASSERT_OK(device.write(4096, data));
  ASSERT_OK(device.flush());
  const std::size_t before = log.entries().size();
  EXPECT_EQ(before, 2u);
  EXPECT_TRUE(device.shut(soon(1s)));
  EXPECT_TRUE(device.shut(soon(1s)));
  const iovec piece{data.data(), data.size()};
  EXPECT_ERROR(device.write(0, data), EIO);
  EXPECT_ERROR(device.write_gather(0, {&piece, 1}), EIO);
  EXPECT_ERROR(device.flush(), EIO);
  EXPECT_ERROR(device.discard(0, 4096), EIO);
  EXPECT_ERROR(device.zero(0, 4096), EIO);
  std::array<Request, 2> batch{};
  batch[0] = {.op = Request::Op::read, .offset = 0, .data = data};
  batch[1] = {.op = Request::Op::write, .offset = 0, .data = data};
  EXPECT_ERROR(device.run(batch), EIO);
  EXPECT_EQ(log.entries().size(), before);
  Block back{};
  ASSERT_OK(device.read(4096, back));
  EXPECT_EQ(back[0], std::byte{7});
  EXPECT_OK(device.run(std::span(batch).first(1)));
}

TEST(GatedDeviceTest, ShuttingWaitsForWhatIsUnderWayButNotLongerThanAsked) {
  MemoryDevice memory(1 << 20);
  outboard::testing::FaultyDevice faulty(memory);
  GatedDevice device(faulty);
  faulty.hold(outboard::testing::FaultyDevice::Op::write);
  Block data;
  data.fill(std::byte{7});
  std::thread writer([&] { EXPECT_OK(device.write(0, data)); });
  ASSERT_TRUE(faulty.wait_until_held(1));
  EXPECT_FALSE(device.shut(soon(10ms)));
  EXPECT_ERROR(device.write(4096, data), EIO);
  faulty.release_all();
  EXPECT_TRUE(device.shut(soon(10s)));
  writer.join();
}

}  // namespace
}  // namespace outboard::device

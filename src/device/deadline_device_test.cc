// Requests end by their deadline, whatever the device does; what ends late touches nobody; one lost request is not a dead device.
#include "device/deadline_device.h"

#include "device/gated_device.h"
#include "device/memory_device.h"
#include "testing/expect.h"
#include "testing/faulty_device.h"

#include <algorithm>
#include <array>
#include <future>
#include <gtest/gtest.h>
#include <thread>

namespace outboard::device {
namespace {

using namespace std::chrono_literals;
using outboard::testing::FaultyDevice;
using Op = FaultyDevice::Op;
using Block = std::array<std::byte, 4096>;

Block filled(int with) {
  Block block;
  block.fill(static_cast<std::byte>(with));
  return block;
}

class DeadlineDeviceTest : public ::testing::Test {
protected:
  MemoryDevice memory_{8 << 20};
  std::shared_ptr<FaultyDevice> faulty_ = std::make_shared<FaultyDevice>(memory_);
  std::optional<DeadlineDevice> made_{std::in_place, faulty_, DeadlineOptions{.patience = 1s, .grace = 300ms, .threads = 8}};
  DeadlineDevice &device_ = *made_;

  // Requests and probes may outlive their device, but not the memory.
  void TearDown() override {
    faulty_->release_all();
    made_.reset();
    while (faulty_.use_count() > 1) std::this_thread::sleep_for(1ms);
  }

  // Until nothing is under way below any more.
  void let_everything_end() {
    faulty_->release_all();
    while (device_.late() > 0) std::this_thread::sleep_for(1ms);
  }
};

TEST_F(DeadlineDeviceTest, AHealthyDeviceIsPassedThroughInAnySize) {
  DeadlineDevice patient(faulty_, {.patience = 1min, .grace = 1min});
  std::vector<std::byte> out(3'000'000), back(out.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i * 7 / 5);
  const iovec pieces[] = {{out.data(), 1000}, {out.data() + 1000, out.size() - 1000}};
  ASSERT_OK(patient.write_gather(12345, pieces));
  ASSERT_OK(patient.flush());
  ASSERT_OK(patient.read(12345, back));
  EXPECT_TRUE(out == back);
  ASSERT_OK(patient.zero(12345, 1000));
  ASSERT_OK(patient.discard(0, 4096));
  ASSERT_OK(patient.read(12345, back));
  EXPECT_EQ(back[999], std::byte{0});
  EXPECT_EQ(back[1000], out[1000]);
  EXPECT_ERROR(patient.read(8 << 20, back), EIO);
  EXPECT_FALSE(patient.silent());
}

TEST_F(DeadlineDeviceTest, EveryKindOfRequestEndsWithEioWhenNothingIsAnswered) {
  for (Op op : {Op::read, Op::write, Op::flush, Op::discard, Op::zero}) faulty_->hold(op);
  Block block = filled(1);
  const iovec piece = {block.data(), block.size()};
  const auto expect_no_answer = [](const Status &status) {
    ASSERT_ERROR(status, EIO);
    EXPECT_TRUE(is_no_answer(status.error()));
  };
  // All at once: afterwards the device is silent and would be asked nothing.
  std::vector<std::thread> askers;
  askers.emplace_back([&] { expect_no_answer(device_.read(0, block)); });
  askers.emplace_back([&] { expect_no_answer(device_.write_gather(0, {&piece, 1})); });
  askers.emplace_back([&] { expect_no_answer(device_.flush()); });
  askers.emplace_back([&] { expect_no_answer(device_.discard(0, 4096)); });
  askers.emplace_back([&] { expect_no_answer(device_.zero(0, 4096)); });
  EXPECT_TRUE(faulty_->wait_until_held(5));
  for (std::thread &asker : askers) asker.join();
  EXPECT_TRUE(device_.silent());
  const std::uint64_t sent = faulty_->requests(Op::write);
  expect_no_answer(device_.write(0, block));
  EXPECT_EQ(faulty_->requests(Op::write), sent) << "a silent device was sent a write";
  let_everything_end();
  EXPECT_OK(device_.write(0, block));
  EXPECT_OK(device_.read(0, block));
  EXPECT_FALSE(device_.silent());
}

// Holds reads of one block only.
class OneLostBlock final : public BlockDevice {
public:
  OneLostBlock(std::shared_ptr<FaultyDevice> lost, BlockDevice &others) : lost_(std::move(lost)), others_(others) {}
  const Properties &properties() const override { return others_.properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override {
    return offset == 4096 ? lost_->read(offset, data) : others_.read(offset, data);
  }
  Status write(std::uint64_t offset, std::span<const std::byte> data) override { return others_.write(offset, data); }
  Status flush() override { return others_.flush(); }
  Status discard(std::uint64_t, std::uint64_t) override { return {}; }

private:
  std::shared_ptr<FaultyDevice> lost_;
  BlockDevice &others_;
};

TEST_F(DeadlineDeviceTest, AReadThatNeverCompletesFailsAlone) {
  faulty_->hold(Op::read);
  DeadlineDevice device(std::make_shared<OneLostBlock>(faulty_, memory_), {.patience = 1500ms, .grace = 1min});
  Block block{};
  for (int round = 0; round < 3; ++round) {
    std::thread lost([&] {
      Block mine{};
      EXPECT_ERROR(device.read(4096, mine), EIO);
    });
    EXPECT_TRUE(faulty_->wait_until_held(static_cast<std::size_t>(round) + 1));
    for (int i = 0; i < 10; ++i) EXPECT_OK(device.read(8192, block));  // meanwhile
    lost.join();
    for (int i = 0; i < 10; ++i) EXPECT_OK(device.read(8192, block));  // and afterwards
    EXPECT_OK(device.write(8192, block));
    EXPECT_OK(device.flush());
  }
  while (device.late() > 3) std::this_thread::sleep_for(1ms);  // the last sign of life
  EXPECT_EQ(device.late(), 3u);
  faulty_->release_all();
}

TEST_F(DeadlineDeviceTest, ALateReadTouchesNeitherItsCallersMemoryNorTheNextRequests) {
  ASSERT_OK(memory_.write(0, filled(1)));
  ASSERT_OK(memory_.write(4096, filled(2)));
  faulty_->hold(Op::read);
  Block block = filled(9);
  ASSERT_ERROR(device_.read(0, block), EIO);
  let_everything_end();
  EXPECT_TRUE(block == filled(9)) << "a late read wrote into memory that was its caller's again";
  ASSERT_OK(device_.read(4096, block));  // the same thread's memory, had it not been given up
  EXPECT_TRUE(block == filled(2));
}

TEST_F(DeadlineDeviceTest, ALateWriteWritesWhatItWasGivenThen) {
  faulty_->hold(Op::write);
  faulty_->hold(Op::read);
  Block block = filled(3);
  ASSERT_ERROR(device_.write(0, block), EIO);
  block = filled(4);  // reused
  let_everything_end();
  ASSERT_OK(device_.write(4096, filled(5)));
  ASSERT_OK(device_.read(0, block));
  EXPECT_TRUE(block == filled(3));
}

TEST_F(DeadlineDeviceTest, AtTheLimitOfThreadsRequestsEndByTheirDeadlineAndAreNeverSentLater) {
  faulty_->hold(Op::write);
  faulty_->hold(Op::read);
  std::vector<std::thread> writers;
  for (int i = 0; i < 12; ++i)
    writers.emplace_back([&, i] { EXPECT_ERROR(device_.write(static_cast<std::uint64_t>(i) * 4096, filled(7)), EIO); });
  for (std::thread &writer : writers) writer.join();
  EXPECT_LE(faulty_->requests(Op::write), 8u);
  let_everything_end();
  EXPECT_LE(faulty_->requests(Op::write), 8u);
}

TEST_F(DeadlineDeviceTest, GoesWhileRequestsAreStuckAndTheyEndForThemselves) {
  auto stuck = std::make_shared<FaultyDevice>(memory_);
  stuck->hold(Op::write);
  stuck->hold(Op::read);
  std::weak_ptr<FaultyDevice> watched = stuck;
  {
    DeadlineDevice device(stuck, {.patience = 20ms, .grace = 20ms});
    EXPECT_ERROR(device.write(0, filled(1)), EIO);
  }
  stuck->release_all();
  stuck.reset();
  while (!watched.expired()) std::this_thread::sleep_for(1ms);  // the request held it
  Block block{};
  ASSERT_OK(memory_.read(0, block));
  EXPECT_TRUE(block == filled(1));
}

TEST_F(DeadlineDeviceTest, AnUnansweredChangeShutsTheGateForGood) {
  GatedDevice gate(device_);
  faulty_->hold(Op::flush);
  faulty_->hold(Op::read);  // or it would count as frozen
  ASSERT_OK(gate.write(0, filled(1)));
  ASSERT_ERROR(gate.flush(), EIO);
  EXPECT_TRUE(gate.is_shut());
  let_everything_end();
  const std::uint64_t before = faulty_->requests(Op::write);
  EXPECT_ERROR(gate.write(0, filled(2)), EIO);
  EXPECT_ERROR(gate.flush(), EIO);
  EXPECT_EQ(faulty_->requests(Op::write), before);
  Block block{};
  EXPECT_OK(gate.read(0, block));
}

TEST_F(DeadlineDeviceTest, ChangesOfAFrozenDeviceWaitAndReadsAreServed) {
  DeadlineDevice device(faulty_, {.patience = 50ms, .grace = 1min});
  GatedDevice gate(device);
  faulty_->hold(Op::write);
  faulty_->hold(Op::flush);
  auto write = std::async(std::launch::async, [&] { return gate.write(0, filled(1)).has_value(); });
  auto flush = std::async(std::launch::async, [&] { return gate.flush().has_value(); });
  // Each has been over its deadline again and again: each time a read was sent to see.
  while (faulty_->requests(Op::read) < 6) std::this_thread::sleep_for(1ms);
  Block block{};
  EXPECT_OK(gate.read(4096, block));
  EXPECT_EQ(write.wait_for(0s), std::future_status::timeout);
  EXPECT_EQ(flush.wait_for(0s), std::future_status::timeout);
  EXPECT_FALSE(device.silent());
  EXPECT_FALSE(gate.is_shut());
  faulty_->release_all();  // thawed
  EXPECT_TRUE(write.get());
  EXPECT_TRUE(flush.get());
  ASSERT_OK(gate.read(0, block));
  EXPECT_TRUE(block == filled(1));
  EXPECT_EQ(device.late(), 0u);
}

TEST_F(DeadlineDeviceTest, ReadsOfAFrozenDeviceHaveThreadsHoweverManyChangesAreHeldUp) {
  DeadlineDevice device(faulty_, {.patience = 50ms, .grace = 1min, .threads = 2});
  faulty_->hold(Op::write);
  std::vector<std::thread> writers;
  for (int i = 0; i < 6; ++i)
    writers.emplace_back([&, i] { EXPECT_OK(device.write(static_cast<std::uint64_t>(i) * 4096, filled(7))); });
  while (faulty_->requests(Op::read) < 4) std::this_thread::sleep_for(1ms);
  Block block{};
  EXPECT_OK(device.read(4096, block));
  faulty_->release_all();
  for (std::thread &writer : writers) writer.join();
}

TEST_F(DeadlineDeviceTest, ChangesOfAFrozenDeviceThatStopsAnsweringReadsFail) {
  DeadlineDevice device(faulty_, {.patience = 50ms, .grace = 1500ms});
  faulty_->hold(Op::write);
  auto write = std::async(std::launch::async, [&] { return device.write(0, filled(1)); });
  while (faulty_->requests(Op::read) < 2 && write.wait_for(1ms) == std::future_status::timeout) continue;
  faulty_->hold(Op::read);
  const Status ended = write.get();
  ASSERT_ERROR(ended, EIO);
  EXPECT_TRUE(is_no_answer(ended.error()));
  EXPECT_TRUE(device.silent());
  faulty_->release_all();
}

TEST_F(DeadlineDeviceTest, AnUnansweredReadLeavesTheGateOpen) {
  GatedDevice gate(device_);
  faulty_->hold(Op::read);
  Block block{};
  ASSERT_ERROR(gate.read(0, block), EIO);
  EXPECT_FALSE(gate.is_shut());
  let_everything_end();
  EXPECT_OK(gate.write(0, block));
  EXPECT_OK(gate.read(0, block));
}

}  // namespace
}  // namespace outboard::device

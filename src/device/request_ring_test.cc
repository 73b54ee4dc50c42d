// A thread's ring: a request that ends late is told from those that came after it, and keeps its memory to itself. A pipe that is
// empty, or full, stands for the device that does not answer.
#include "device/request_ring.h"

#include "base/unique_fd.h"
#include "device/deadline_device.h"
#include "testing/expect.h"
#include "testing/image_builder.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <thread>
#include <unistd.h>

namespace outboard::device {
namespace {

using namespace std::chrono_literals;
using Clock = RequestRing::Clock;
constexpr std::size_t kLength = 4096;

class RequestRingTest : public ::testing::Test {
protected:
  void SetUp() override {
    auto ring = RequestRing::of_this_thread();
    if (!ring) GTEST_SKIP() << "no io_uring: " << ring.error().message();
    ring_ = *ring;
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    from_.reset(ends[0]);
    to_.reset(ends[1]);
    file_.reset(::open(directory_.file("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE(file_);
    ASSERT_EQ(::ftruncate(file_.get(), 1 << 20), 0);
  }
  static std::shared_ptr<RequestMemory> memory(int with) {
    auto made = RequestMemory::of_this_thread(kLength);
    EXPECT_OK(made);
    std::ranges::fill((*made)->first(kLength), static_cast<std::byte>(with));
    return *made;
  }
  static bool is_all(std::span<const std::byte> bytes, int value) {
    return std::ranges::all_of(bytes, [&](std::byte b) { return b == static_cast<std::byte>(value); });
  }
  void answer(int with) const {
    const std::vector<std::byte> bytes(kLength, static_cast<std::byte>(with));
    ASSERT_EQ(::write(to_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  static Clock::time_point soon() { return Clock::now() + 50ms; }
  static Clock::time_point far() { return Clock::now() + 10min; }

  testing::TemporaryDirectory directory_;
  RequestRing *ring_ = nullptr;
  UniqueFd from_, to_, file_;
  DeviceHealth health_{10min, 10min};
};

TEST_F(RequestRingTest, AReadThatEndsLateTouchesNeitherTheNextWriteNorTheNextRead) {
  const std::size_t already = ring_->late();
  const std::shared_ptr<RequestMemory> given_up = memory(1);
  const auto read = ring_->read(from_.get(), 0, given_up, kLength, soon());
  ASSERT_ERROR(read, EIO);
  EXPECT_TRUE(is_no_answer(read.error()));
  EXPECT_EQ(ring_->late(), already + 1);
  ASSERT_NO_FATAL_FAILURE(answer(2));  // late: the ring has its completion before that of the next request

  const std::shared_ptr<RequestMemory> next = memory(3);
  ASSERT_NE(next, given_up) << "the memory of a request under way was given to another";
  const auto written = ring_->write(file_.get(), 0, next, kLength, far(), health_);
  ASSERT_OK(written);
  EXPECT_EQ(*written, kLength);
  EXPECT_TRUE(is_all(next->first(kLength), 3));
  const std::shared_ptr<RequestMemory> back = memory(4);
  const auto got = ring_->read(file_.get(), 0, back, kLength, far());
  ASSERT_OK(got);
  EXPECT_EQ(*got, kLength);
  EXPECT_TRUE(is_all(back->first(kLength), 3));
  ASSERT_OK(ring_->sync(file_.get(), far(), health_));
  // The late one did come, into memory of its own.
  EXPECT_EQ(ring_->late(), already);
  EXPECT_TRUE(is_all(given_up->first(kLength), 2));
}

TEST_F(RequestRingTest, AWriteThatEndsLateWritesWhatItWasGiven) {
  // A full pipe takes nothing.
  const int size = ::fcntl(to_.get(), F_SETPIPE_SZ, static_cast<int>(kLength));
  ASSERT_EQ(size, static_cast<int>(kLength));
  ASSERT_NO_FATAL_FAILURE(answer(1));
  const std::size_t already = ring_->late();
  std::shared_ptr<RequestMemory> given_up = memory(2);
  DeviceHealth stuck(50ms, 50ms);  // nobody asks for a sign of life, and so there is none
  const auto written = ring_->write(to_.get(), 0, given_up, kLength, soon(), stuck);
  ASSERT_ERROR(written, EIO);
  EXPECT_TRUE(is_no_answer(written.error()));
  const std::byte *const where = given_up->first(kLength).data();
  given_up.reset();
  EXPECT_NE(memory(3)->first(kLength).data(), where) << "memory that the device still reads was given to another request";

  std::vector<std::byte> bytes(kLength);
  ASSERT_EQ(::read(from_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(kLength));
  EXPECT_TRUE(is_all(bytes, 1));
  while (ring_->late() > already) ASSERT_OK(ring_->read(file_.get(), 0, memory(4), kLength, far()));
  ASSERT_EQ(::read(from_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(kLength));
  EXPECT_TRUE(is_all(bytes, 2));
}

TEST_F(RequestRingTest, MoreLateRequestsThanTheRingHasEntries) {
  const std::size_t already = ring_->late();
  for (int i = 0; i < 40; ++i) ASSERT_ERROR(ring_->read(from_.get(), 0, memory(i), kLength, Clock::now()), EIO);
  EXPECT_EQ(ring_->late(), already + 40);
  for (int i = 0; i < 40; ++i) {
    ASSERT_NO_FATAL_FAILURE(answer(i));
    const auto written = ring_->write(file_.get(), 0, memory(i), kLength, far(), health_);
    ASSERT_OK(written);
    EXPECT_EQ(*written, kLength);
  }
  while (ring_->late() > already) ASSERT_OK(ring_->read(file_.get(), 0, memory(4), kLength, far()));
}

TEST_F(RequestRingTest, AThreadMayEndWithRequestsUnderWay) {
  std::weak_ptr<RequestMemory> watched;
  std::thread([&] {
    auto ring = RequestRing::of_this_thread();
    ASSERT_OK(ring);
    const std::shared_ptr<RequestMemory> mine = memory(1);
    watched = mine;
    EXPECT_ERROR((*ring)->read(from_.get(), 0, mine, kLength, soon()), EIO);
  }).join();
  EXPECT_FALSE(watched.expired()) << "the kernel may still write into it";
  ASSERT_NO_FATAL_FAILURE(answer(2));
}

}  // namespace
}  // namespace outboard::device

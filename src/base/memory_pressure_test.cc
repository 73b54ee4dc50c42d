#include "base/memory_pressure.h"

#include "testing/expect.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <fcntl.h>
#include <mutex>
#include <vector>

namespace outboard {
namespace {

// Events on demand. Time passes only when told.
class FakePressure final : public PressureSource {
public:
  Event wait(std::optional<std::chrono::milliseconds> timeout) override {
    std::unique_lock lock(mutex_);
    ++waits_;
    timed_ = timeout.has_value();
    changed_.notify_all();
    changed_.wait(lock, [&] { return interrupted_ || !events_.empty(); });
    if (interrupted_) return Event::interrupted;
    const Event event = events_.front();
    events_.pop_front();
    return event;
  }
  void interrupt() override {
    const std::lock_guard lock(mutex_);
    interrupted_ = true;
    changed_.notify_all();
  }
  // Returns when the event has been dealt with: the watcher waits again.
  void tell(Event event) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waits_ > 0; });
    const std::uint64_t before = waits_;
    events_.push_back(event);
    changed_.notify_all();
    changed_.wait(lock, [&] { return waits_ > before; });
  }
  bool timed() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waits_ > 0; });
    return timed_;
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
  std::uint64_t waits_ = 0;
  bool interrupted_ = false, timed_ = false;
};

// Something that holds memory, and notes when it was asked.
struct Holder {
  const char *name;
  std::size_t bytes;
  std::vector<std::string> *calls;
  std::size_t shrink(std::size_t wanted) {
    calls->push_back(name);
    const std::size_t freed = std::min(wanted, bytes);
    bytes -= freed;
    return freed;
  }
};

class MemoryPressureThreads : public ::testing::Test {
protected:
  MemoryPressure::Registration add(MemoryPressure &pressure, ShrinkCost cost, Holder &holder) {
    return pressure.add(cost, [&holder](std::size_t bytes) { return holder.shrink(bytes); });
  }
  std::unique_ptr<FakePressure> owned = std::make_unique<FakePressure>();
  FakePressure &source = *owned;
  std::vector<std::string> calls;
  using Event = PressureSource::Event;
};

TEST_F(MemoryPressureThreads, TheCheapestGoesFirstAndNoMoreThanIsNeeded) {
  MemoryPressure pressure(std::move(owned), {.step = 100, .usage = {}});
  Holder buffers{"buffers", 1000, &calls}, spare{"spare", 60, &calls}, mappings{"mappings", 90, &calls},
      more{"more", 5, &calls};
  const auto first = add(pressure, ShrinkCost::reread, buffers);
  const auto second = add(pressure, ShrinkCost::rebuilt, mappings);
  const auto third = add(pressure, ShrinkCost::spare, spare);
  const auto fourth = add(pressure, ShrinkCost::rebuilt, more);
  EXPECT_FALSE(source.timed());  // no limit: nothing to look at in between
  source.tell(Event::pressure);
  EXPECT_EQ(calls, (std::vector<std::string>{"spare", "mappings"}));
  EXPECT_EQ(spare.bytes, 0u);
  EXPECT_EQ(mappings.bytes, 50u);
  EXPECT_EQ(buffers.bytes, 1000u);
  calls.clear();
  source.tell(Event::pressure);  // it goes on: the next ones come
  EXPECT_EQ(calls, (std::vector<std::string>{"spare", "mappings", "more", "buffers"}));
  EXPECT_EQ(buffers.bytes, 1000u - 45);
  EXPECT_EQ(pressure.counters().events, 2u);
  EXPECT_EQ(pressure.counters().bytes_freed, 200u);
}

TEST_F(MemoryPressureThreads, AnOwnLimitIsKept) {
  Holder spare{"spare", 60, &calls}, mappings{"mappings", 90, &calls};
  MemoryPressure pressure(std::move(owned), {.limit = 100, .usage = [&] { return spare.bytes + mappings.bytes; }});
  EXPECT_TRUE(source.timed());
  const auto first = add(pressure, ShrinkCost::rebuilt, mappings);
  const auto second = add(pressure, ShrinkCost::spare, spare);
  source.tell(Event::timeout);
  EXPECT_EQ(spare.bytes, 10u);
  EXPECT_EQ(mappings.bytes, 90u);
  source.tell(Event::timeout);  // at the limit, not above it
  EXPECT_EQ(calls.size(), 1u);
  EXPECT_EQ(pressure.counters().over_limit, 1u);
  EXPECT_EQ(pressure.counters().events, 0u);
}

TEST_F(MemoryPressureThreads, WhatIsNoLongerRegisteredIsNotCalled) {
  MemoryPressure pressure(std::move(owned), {.step = 1000, .usage = {}});
  Holder gone{"gone", 10, &calls}, stays{"stays", 10, &calls};
  const auto second = add(pressure, ShrinkCost::reread, stays);
  {
    const auto first = add(pressure, ShrinkCost::spare, gone);
    source.tell(Event::pressure);
    EXPECT_EQ(calls, (std::vector<std::string>{"gone", "stays"}));
  }
  MemoryPressure::Registration moved = add(pressure, ShrinkCost::spare, gone);
  moved = MemoryPressure::Registration();
  source.tell(Event::pressure);
  EXPECT_EQ(calls.size(), 3u);
  EXPECT_EQ(calls.back(), "stays");
  EXPECT_EQ(pressure.shrink(5), 0u);  // there is nothing left
}

TEST_F(MemoryPressureThreads, TheEndOfARegistrationWaitsForTheCallUnderWay) {
  MemoryPressure pressure(std::move(owned), {.step = 1, .usage = {}});
  std::atomic<bool> inside{false}, let_go{false}, left{false};
  std::thread teller;
  {
    const auto registration = pressure.add(ShrinkCost::spare, [&](std::size_t) {
      inside = true;
      while (!let_go) std::this_thread::yield();
      left = true;
      return std::size_t{1};
    });
    teller = std::thread([&] { source.tell(Event::pressure); });
    while (!inside) std::this_thread::yield();
    let_go = true;
  }
  EXPECT_TRUE(left);
  teller.join();
}

TEST(PressureSource, WithoutTheKernelsHelpItWaitsForTimeAndInterruption) {
  ASSIGN_OK(const auto source, no_pressure_source());
  EXPECT_EQ(source->wait(std::chrono::milliseconds(1)), PressureSource::Event::timeout);
  std::thread interrupter([&] { source->interrupt(); });
  EXPECT_EQ(source->wait(std::nullopt), PressureSource::Event::interrupted);
  interrupter.join();
  EXPECT_EQ(source->wait(std::nullopt), PressureSource::Event::interrupted);  // for good
}

TEST(PressureSource, TheKernelTakesTheTriggerAndTheWatcherEnds) {
  if (::access("/proc/pressure/memory", F_OK) != 0) GTEST_SKIP() << "a kernel without pressure stall information";
  auto source = open_pressure_source();
  if (!source && source.error().is(EACCES)) GTEST_SKIP() << "no permission to set a trigger";
  if (!source && source.error().is(EOPNOTSUPP)) GTEST_SKIP() << "pressure stall information is switched off";
  ASSERT_OK(source);
  EXPECT_ERROR(open_pressure_file("/proc/pressure/memory", {.stall = std::chrono::seconds(9)}), EINVAL);
  EXPECT_ERROR(open_pressure_file("/nowhere/memory.pressure"), ENOENT);
  MemoryPressure pressure(*std::move(source), {.usage = {}});
}

}  // namespace
}  // namespace outboard

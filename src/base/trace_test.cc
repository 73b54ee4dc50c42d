// The ring of events: nothing torn, nothing twice, losses counted; the recorder's ends; what an event costs to whom.
#include "base/trace_ring.h"

#include "testing/expect.h"

#include <atomic>
#include <gtest/gtest.h>
#include <set>
#include <thread>

#define OUTBOARD_TRACE_TEST_EVENTS(EVENT)                                                                              \
  EVENT(device, one, "number", "for this test")                                                                        \
  EVENT(device, five, "a b c d error", "for this test")
OUTBOARD_TRACE_VOCABULARY(device, OUTBOARD_TRACE_TEST_EVENTS)

namespace outboard::trace {
namespace {

namespace events = ::outboard::device::trace;

std::vector<Record> taken(std::uint64_t *lost = nullptr) {
  std::vector<Record> all(64);
  std::uint64_t lost_now = 0;
  const Result<std::size_t> count = take_records(all, lost_now);
  EXPECT_OK(count);
  all.resize(count.value_or(0));
  if (lost != nullptr) *lost = lost_now;
  return all;
}

constexpr std::uint32_t kDevice = 1u << static_cast<unsigned>(Layer::device);

TEST(TraceRing, GivesBackWhatWasPutIntoItOnce) {
  Ring ring;
  for (std::uint32_t i = 0; i < 100; ++i) EXPECT_TRUE(ring.put({.time_ns = i, .thread = i, .event = 7, .fields = {i, i + 1}}));
  std::set<std::uint64_t> seen;
  std::array<Record, 7> some;
  for (std::size_t got; (got = ring.take(some)) != 0;)
    for (const Record &record : std::span(some).first(got)) {
      EXPECT_EQ(record.fields[1], record.fields[0] + 1);
      EXPECT_TRUE(seen.insert(record.time_ns).second);
    }
  EXPECT_EQ(seen.size(), 100u);
  EXPECT_EQ(ring.lost(), 0u);
}

TEST(TraceRing, CountsWhatDoesNotFitAndGoesOnWhenThereIsRoom) {
  Ring ring;
  constexpr std::size_t kOver = 10;
  for (std::size_t i = 0; i < Ring::kRecordsAShard; ++i) EXPECT_TRUE(ring.put({.time_ns = i}));
  for (std::size_t i = 0; i < kOver; ++i) EXPECT_FALSE(ring.put({}));
  EXPECT_EQ(ring.lost(), kOver);
  std::array<Record, 100> some;
  EXPECT_EQ(ring.take(some), some.size());
  EXPECT_EQ(some[0].time_ns, 0u);  // the oldest are kept
  EXPECT_TRUE(ring.put({.time_ns = 4711}));
  ring.reset();
  EXPECT_EQ(ring.lost(), 0u);
  EXPECT_EQ(ring.take(some), 0u);
  EXPECT_TRUE(ring.put({}));
}

TEST(TraceRing, ManyWritersAndAReaderLoseNothingUncounted) {
  Ring ring;
  constexpr std::uint64_t kWriters = 6, kEach = 40000;
  std::atomic<std::uint64_t> running{kWriters};
  std::vector<std::thread> writers;
  for (std::uint64_t who = 0; who < kWriters; ++who)
    writers.emplace_back([&, who] {
      // Two writers share each shard.
      for (std::uint64_t i = 0; i < kEach; ++i)
        ring.put({.time_ns = i, .thread = static_cast<std::uint32_t>(who / 2), .fields = {who, i, who ^ i, ~i, who + i}});
      --running;
    });
  std::uint64_t got = 0;
  std::vector<std::int64_t> last(kWriters, -1);
  std::array<Record, 500> some;
  for (bool ended = false;;) {
    const std::size_t count = ring.take(some);
    got += count;
    for (const Record &r : std::span(some).first(count)) {
      ASSERT_EQ(r.fields[2], r.fields[0] ^ r.fields[1]) << "torn";
      ASSERT_EQ(r.fields[3], ~r.fields[1]) << "torn";
      ASSERT_EQ(r.fields[4], r.fields[0] + r.fields[1]) << "torn";
      ASSERT_GT(static_cast<std::int64_t>(r.fields[1]), last[r.fields[0]]) << "twice, or out of its writer's order";
      last[r.fields[0]] = static_cast<std::int64_t>(r.fields[1]);
    }
    if (count == 0 && ended) break;
    ended = running == 0;
  }
  for (std::thread &writer : writers) writer.join();
  EXPECT_EQ(got + ring.lost(), kWriters * kEach);
}

TEST(TraceRecorder, RecordsOnlyWhileItIsOnAndOnlyTheLayersAskedFor) {
  EXPECT_FALSE(on());
  events::one(1);
  ASSERT_OK(start_recording(kDevice));
  EXPECT_TRUE(on());
  EXPECT_ERROR(start_recording(kDevice), EBUSY);
  events::five(1, 2, 3, 4, Status(fail(Error::user(ENOSPC))));
  const auto records = taken();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].event, events::kEvents[1].id);
  EXPECT_EQ(records[0].fields, (std::array<std::uint64_t, 5>{1, 2, 3, 4, ENOSPC}));
  EXPECT_NE(records[0].thread, 0u);
  stop_recording();
  EXPECT_FALSE(on());
  events::one(1);
  std::uint64_t lost = 0;
  std::array<Record, 4> none;
  EXPECT_ERROR(take_records(none, lost), ESTALE);
  ASSERT_OK(start_recording(kDevice << 1 | 1));
  events::one(1);
  EXPECT_TRUE(taken().empty());
  stop_recording();
}

TEST(TraceRecorder, ArgumentsAreLookedAtOnlyWhileSomebodyListens) {
  int looked = 0;
  const auto expensive = [&looked] { return ++looked; };
  events::one(expensive);
  EXPECT_EQ(looked, 0);
  ASSERT_OK(start_recording(kDevice));
  events::one(expensive);
  EXPECT_EQ(looked, 1);
  stop_recording();
  EXPECT_EQ(Stopwatch().elapsed(), 0u);
}

TEST(TraceRecorder, EndsByItselfWhenNobodyReads) {
  ASSERT_OK(start_recording(kDevice));
  std::this_thread::sleep_for(kAbandoned + std::chrono::milliseconds(200));
  EXPECT_TRUE(on());  // nothing has happened, so nobody has noticed
  events::one(1);
  EXPECT_FALSE(on());
  EXPECT_FALSE(recording());
  ASSERT_OK(start_recording(kDevice));
  stop_recording();
}

}  // namespace
}  // namespace outboard::trace

#include "base/rendezvous.h"

#include <gtest/gtest.h>

#include <barrier>
#include <thread>
#include <vector>

namespace outboard {
namespace {

TEST(Rendezvous, WhoeverComesSecondFinishes) {
  Rendezvous request;
  EXPECT_FALSE(request.submitted());
  EXPECT_TRUE(request.completed());
  request.reset();
  EXPECT_FALSE(request.completed());
  EXPECT_TRUE(request.submitted());
}

// Plain fields: the thread sanitizer sees whether the later side may read what the earlier one wrote.
struct Raced {
  Rendezvous rendezvous;
  unsigned from_submission = 0, from_completion = 0;
  unsigned finished = 0, sum = 0;
  void finish() {
    ++finished;
    sum = from_submission + from_completion;
  }
};

TEST(RendezvousThreads, RacingSidesFinishEachRequestOnceAndSeeBothSides) {
  // Both sides walk along the same requests, now one ahead and now the other: both orders and near ties occur.
  constexpr unsigned kLaps = 60, kRequests = 1000;
  unsigned wrong = 0, by_completion = 0;
  for (unsigned lap = 0; lap < kLaps; ++lap) {
    std::vector<Raced> raced(kRequests);
    std::barrier<> start(2);
    std::thread device([&] {
      start.arrive_and_wait();
      for (unsigned n = 0; n < kRequests; ++n) {
        raced[n].from_completion = n;
        if (raced[n].rendezvous.completed()) {
          raced[n].finish();
          ++by_completion;
        }
      }
    });
    start.arrive_and_wait();
    for (unsigned n = 0; n < kRequests; ++n) {
      raced[n].from_submission = lap;
      if (raced[n].rendezvous.submitted()) raced[n].finish();
    }
    device.join();
    for (unsigned n = 0; n < kRequests; ++n)
      if (raced[n].finished != 1 || raced[n].sum != n + lap) ++wrong;
  }
  EXPECT_EQ(wrong, 0u);
  RecordProperty("completion_came_second", static_cast<int>(by_completion));
}

}  // namespace
}  // namespace outboard

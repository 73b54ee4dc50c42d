#include "base/interval_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace outboard {
namespace {

using Piece = IntervalSet::Run;

std::vector<Piece> runs_of(const IntervalSet &set) {
  std::vector<Piece> out;
  for (Piece run = set.at_or_after(0); !run.empty(); run = set.at_or_after(run.end)) out.push_back(run);
  return out;
}

TEST(IntervalSetTest, NeighboursAndOverlapsMerge) {
  IntervalSet set;
  set.add(10, 20);
  set.add(30, 40);
  EXPECT_EQ(set.runs(), 2u);
  set.add(20, 30);
  EXPECT_EQ(runs_of(set), (std::vector<Piece>{{10, 40}}));
  set.add(5, 12);
  set.add(35, 45);
  set.add(15, 16);
  EXPECT_EQ(runs_of(set), (std::vector<Piece>{{5, 45}}));
  set.add(0, 100);
  EXPECT_EQ(set.count(), 100u);
  set.add(7, 7);
  EXPECT_EQ(set.runs(), 1u);
}

TEST(IntervalSetTest, RemovalCutsRunsAndCountsWhatLeft) {
  IntervalSet set;
  set.add(10, 20);
  set.add(30, 40);
  EXPECT_EQ(set.remove(15, 16), 1u);
  EXPECT_EQ(set.remove(15, 16), 0u);
  EXPECT_EQ(set.remove(18, 33), 5u);
  EXPECT_EQ(runs_of(set), (std::vector<Piece>{{10, 15}, {16, 18}, {33, 40}}));
  EXPECT_EQ(set.remove(0, ~std::uint64_t{0}), 14u);
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.count(), 0u);
  EXPECT_TRUE(set.at_or_after(0).empty());
}

TEST(IntervalSetTest, TheHighestNumbersAreOrdinary) {
  constexpr std::uint64_t kMost = ~std::uint64_t{0};
  IntervalSet set;
  set.add(kMost - 5, kMost);
  EXPECT_EQ(set.overlap(0, kMost), 5u);
  EXPECT_EQ(set.at_or_after(kMost - 2), (Piece{kMost - 2, kMost}));
  EXPECT_EQ(set.remove(kMost - 1, kMost), 1u);
}

TEST(IntervalSetTest, RandomChangesAgreeWithASetOfNumbers) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    IntervalSet set;
    std::set<std::uint64_t> model;
    for (unsigned step = 0; step < 500; ++step) {
      const std::uint64_t first = random() % 100, end = first + random() % 30;
      if (random() % 2 == 0) {
        set.add(first, end);
        for (std::uint64_t n = first; n < end; ++n) model.insert(n);
      } else {
        std::uint64_t removed = 0;
        for (std::uint64_t n = first; n < end; ++n) removed += model.erase(n);
        ASSERT_EQ(set.remove(first, end), removed);
      }
      ASSERT_EQ(set.count(), model.size());
      ASSERT_EQ(set.overlap(first, end),
                static_cast<std::uint64_t>(std::distance(model.lower_bound(first), model.lower_bound(end))));
      std::set<std::uint64_t> numbers;
      std::uint64_t last_end = ~std::uint64_t{0};
      for (const Piece &run : runs_of(set)) {
        ASSERT_NE(run.first, last_end);  // or they would be one run
        last_end = run.end;
        for (std::uint64_t n = run.first; n < run.end; ++n) numbers.insert(n);
      }
      ASSERT_EQ(numbers, model);
      const Piece next = set.at_or_after(first);
      const auto model_next = model.lower_bound(first);
      ASSERT_EQ(next.empty(), model_next == model.end());
      if (!next.empty()) {
        ASSERT_EQ(next.first, *model_next);
      }
    }
  }
}

}  // namespace
}  // namespace outboard

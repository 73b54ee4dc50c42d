// A set of numbers kept as disjoint half-open runs: blocks with a promise, ranges that wait for something.
// Not thread-safe. Memory is one node a run; neighbours merge.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>

namespace outboard {

class IntervalSet {
public:
  struct Run {
    std::uint64_t first = 0, end = 0;
    std::uint64_t length() const { return end - first; }
    bool empty() const { return first == end; }
    friend bool operator==(const Run &, const Run &) = default;
  };

  bool empty() const { return runs_.empty(); }
  std::uint64_t count() const { return count_; }  // numbers in the set
  std::size_t runs() const { return runs_.size(); }

  void add(std::uint64_t first, std::uint64_t end) {
    if (first >= end) return;
    auto next = runs_.upper_bound(first);
    if (next != runs_.begin()) {
      auto before = std::prev(next);
      if (before->second >= first) {
        if (before->second >= end) return;
        first = before->first;
        count_ -= before->second - before->first;
        next = runs_.erase(before);
      }
    }
    while (next != runs_.end() && next->first <= end) {
      end = std::max(end, next->second);
      count_ -= next->second - next->first;
      next = runs_.erase(next);
    }
    runs_.emplace_hint(next, first, end);
    count_ += end - first;
  }

  // Returns how many numbers left the set.
  std::uint64_t remove(std::uint64_t first, std::uint64_t end) {
    std::uint64_t removed = 0;
    if (first >= end) return removed;
    auto run = runs_.upper_bound(first);
    if (run != runs_.begin() && std::prev(run)->second > first) --run;
    while (run != runs_.end() && run->first < end) {
      const Run old{run->first, run->second};
      run = runs_.erase(run);
      if (old.first < first) runs_.emplace_hint(run, old.first, first);
      if (old.end > end) run = runs_.emplace_hint(run, end, old.end);
      removed += std::min(old.end, end) - std::max(old.first, first);
      if (old.end > end) break;
    }
    count_ -= removed;
    return removed;
  }

  // The first run, or rest of one, at or after `position`; empty when there is none.
  Run at_or_after(std::uint64_t position) const {
    auto run = runs_.upper_bound(position);
    if (run != runs_.begin() && std::prev(run)->second > position) return {position, std::prev(run)->second};
    if (run == runs_.end()) return {};
    return {run->first, run->second};
  }

  // How many of [first, end) are in the set.
  std::uint64_t overlap(std::uint64_t first, std::uint64_t end) const {
    std::uint64_t sum = 0;
    for (Run run = at_or_after(first); !run.empty() && run.first < end; run = at_or_after(run.end))
      sum += std::min(run.end, end) - run.first;
    return sum;
  }

  void clear() {
    runs_.clear();
    count_ = 0;
  }

private:
  std::map<std::uint64_t, std::uint64_t> runs_;  // first to end; never touching each other
  std::uint64_t count_ = 0;
};

}  // namespace outboard

// Submission and completion of one request meet: whoever comes second finishes it.
//
// Once a request has been handed to a device, its completion may run on another thread before submit() has returned,
// and may not free or reuse the request while the submitting side still touches it. So both sides say when they are
// through, each exactly once, and exactly one of them, the later one, is told to finish. What either side wrote before
// its call is visible to the one that finishes.
//
//        idle --submitted()--> submitted --completed(): true--> both
//        idle --completed()--> completed --submitted(): true--> both
#pragma once

#include <atomic>
#include <cassert>
#include <cstdint>

namespace outboard {

class Rendezvous {
public:
  Rendezvous() = default;
  Rendezvous(const Rendezvous &) = delete;
  Rendezvous &operator=(const Rendezvous &) = delete;

  // The submitting side will not touch the request any more, unless this returns true: then it finishes.
  [[nodiscard]] bool submitted() { return arrive(kSubmitted); }
  // The request has ended. True: the caller finishes it.
  [[nodiscard]] bool completed() { return arrive(kCompleted); }
  // For the next request in the same place: while nobody else knows of this one.
  void reset() { state_.store(0, std::memory_order_relaxed); }

private:
  static constexpr std::uint8_t kSubmitted = 1, kCompleted = 2;
  bool arrive(std::uint8_t side) {
    const std::uint8_t before = state_.fetch_or(side, std::memory_order_acq_rel);
    assert((before & side) == 0);
    return before != 0;
  }
  std::atomic<std::uint8_t> state_{0};
};

}  // namespace outboard

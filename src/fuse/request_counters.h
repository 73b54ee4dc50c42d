// How many requests of each kind have come since the mount, refused and failed ones included. Thread-safe; each number
// is exact, but numbers read together may be of slightly different moments.
#pragma once

#include "fuse/operation_table.h"

#include <array>
#include <atomic>
#include <cstdint>

namespace outboard::fuse {

class RequestCounters {
public:
  // By opcode; what is no operation of the protocol is at 0.
  using Counts = std::array<std::uint64_t, kOperationCount>;

  void count(wire::Opcode opcode) {
    const auto number = static_cast<std::size_t>(opcode);
    counts_[number < counts_.size() ? number : 0].fetch_add(1, std::memory_order_relaxed);
  }
  Counts read() const {
    Counts counts;
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] = counts_[i].load(std::memory_order_relaxed);
    return counts;
  }

private:
  std::array<std::atomic<std::uint64_t>, kOperationCount> counts_{};
};

}  // namespace outboard::fuse

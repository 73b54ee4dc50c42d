#include "base/mutex.h"

#include <array>
#include <cstdio>
#include <cstdlib>

namespace outboard::detail {

namespace {
struct Held {
  std::array<Rank, 64> ranks;
  std::size_t count = 0;
};
thread_local Held held;
}  // namespace

void rank_push(Rank rank, bool same_rank_allowed) {
  for (std::size_t i = 0; i < held.count; ++i) {
    if (held.ranks[i] < rank || (same_rank_allowed && held.ranks[i] == rank)) continue;
    std::fprintf(stderr, "lock order: rank %u taken while holding rank %u (docs/locking.md)\n",
                 static_cast<unsigned>(rank), static_cast<unsigned>(held.ranks[i]));
    std::abort();
  }
  if (held.count == held.ranks.size()) std::abort();
  held.ranks[held.count++] = rank;
}

void rank_pop(Rank rank) {
  for (std::size_t i = held.count; i-- > 0;) {
    if (held.ranks[i] != rank) continue;
    for (std::size_t j = i + 1; j < held.count; ++j) held.ranks[j - 1] = held.ranks[j];
    --held.count;
    return;
  }
  std::abort();
}

}  // namespace outboard::detail

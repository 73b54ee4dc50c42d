// What a look-up in the mapping cache costs: hit and miss, in inodes of 1 to 2000 entries, by one thread and by several
// on one inode.
#include "iomap/mapping_cache.h"

#include <benchmark/benchmark.h>

#include <random>

namespace outboard::bench {
namespace {

constexpr std::uint64_t kBlock = 4096;

struct Filled {
  explicit Filled(std::uint64_t entries) : count(entries) {
    for (std::uint64_t n = 0; n < entries; ++n)
      cache.upsert(inode, {iomap::MappingType::mapped, 0, n * 2 * kBlock, kBlock, n * 3 * kBlock, 1, {}});
  }
  const std::uint64_t count;
  iomap::MappingCache cache;
  iomap::InodeMappings inode;
};

Filled &filled(std::int64_t entries) {
  static Filled one(1), four(4), some(64), many(2000);
  return entries == 1 ? one : entries == 4 ? four : entries == 64 ? some : many;
}

// `shift`: blocks from an entry's start; 0 hits it, 1 is behind it.
void look_up(benchmark::State &state, std::uint64_t shift, std::uint64_t cookie) {
  Filled &file = filled(state.range(0));
  std::minstd_rand random(static_cast<unsigned>(state.thread_index() + 1));
  for (auto _ : state) {
    const auto found = file.cache.lookup(file.inode, (random() % file.count * 2 + shift) * kBlock, cookie);
    if (found.has_value() != (shift == 0 && cookie == 1)) return state.SkipWithError("wrong answer");
    benchmark::DoNotOptimize(found);
  }
}

void hit(benchmark::State &state) { look_up(state, 0, 1); }
void miss(benchmark::State &state) { look_up(state, 1, 1); }
void outdated(benchmark::State &state) { look_up(state, 0, 2); }

BENCHMARK(hit)->Arg(1)->Arg(4)->Arg(64)->Arg(2000);
BENCHMARK(hit)->Arg(64)->Threads(2)->Threads(8);
BENCHMARK(miss)->Arg(1)->Arg(4)->Arg(64)->Arg(2000);
BENCHMARK(outdated)->Arg(64);

}  // namespace
}  // namespace outboard::bench

BENCHMARK_MAIN();

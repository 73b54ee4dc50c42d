#include "pagecache/folio_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

namespace outboard::pagecache {
namespace {

using Buffer = FolioMemory::Buffer;

Buffer take(FolioMemory &memory, std::size_t size) {
  auto buffer = memory.allocate(size);
  EXPECT_TRUE(buffer.has_value());
  return *std::move(buffer);
}

TEST(FolioMemoryTest, SizesArePowersOfTwoWithinBoundsAndAligned) {
  FolioMemory memory;
  for (const auto &[wanted, got] : std::initializer_list<std::pair<std::size_t, std::size_t>>{
           {1, 4096}, {4096, 4096}, {4097, 8192}, {100000, 131072}, {1 << 20, 1 << 20}, {5 << 20, 1 << 20}}) {
    const Buffer buffer = take(memory, wanted);
    EXPECT_EQ(buffer.bytes().size(), got);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.bytes().data()) % FolioMemory::kAlignment, 0u);
    EXPECT_EQ(memory.in_use(), got);
    std::memset(buffer.bytes().data(), 1, got);
  }
  EXPECT_EQ(memory.in_use(), 0u);
}

TEST(FolioMemoryTest, BuffersAreReusedUpToTheSpareLimit) {
  FolioMemory memory({.dirty = 1 << 20, .spare = 3 * 4096});
  const std::byte *first = nullptr;
  {
    const Buffer buffer = take(memory, 4096);
    first = buffer.bytes().data();
  }
  {
    const Buffer again = take(memory, 100);
    EXPECT_EQ(again.bytes().data(), first);
  }
  {
    std::vector<Buffer> many;
    for (unsigned n = 0; n < 10; ++n) many.push_back(take(memory, 4096));
    many.push_back(take(memory, 65536));  // never fits
  }
  EXPECT_EQ(memory.shrink(), 3 * 4096u);
  EXPECT_EQ(memory.shrink(), 0u);
}

TEST(FolioMemoryTest, MovedBuffersAreGivenBackOnce) {
  FolioMemory memory;
  Buffer a = take(memory, 4096), b = take(memory, 8192);
  a = std::move(b);
  EXPECT_EQ(a.bytes().size(), 8192u);
  Buffer c(std::move(a));
  EXPECT_TRUE(a.bytes().empty());
  { const Buffer gone(std::move(c)); }
  b = Buffer();
  EXPECT_EQ(memory.in_use(), 0u);
}

TEST(FolioMemoryTest, NobodyWaitsBelowTheLimitAndAllocationNeverDoes) {
  FolioMemory memory({.dirty = 8192, .spare = 0});
  memory.wait_for_room();
  const Buffer a = take(memory, 4096);
  memory.wait_for_room();
  const Buffer b = take(memory, 4096), c = take(memory, 4096);
  EXPECT_GT(memory.in_use(), memory.limit());
  EXPECT_EQ(memory.waits(), 0u);
}

TEST(FolioMemoryTest, ConcurrentWritersWaitForRoomAndGoOnWhenThereIsSome) {
  FolioMemory memory({.dirty = 8192, .spare = 0});
  Buffer a = take(memory, 4096), b = take(memory, 4096);
  std::atomic<unsigned> through = 0;
  std::vector<std::thread> writers;
  for (unsigned n = 0; n < 3; ++n)
    writers.emplace_back([&] {
      memory.wait_for_room();
      ++through;
    });
  while (memory.waits() < 3) std::this_thread::yield();
  EXPECT_EQ(through, 0u);
  a = Buffer();
  for (std::thread &writer : writers) writer.join();
  EXPECT_EQ(through, 3u);
}

TEST(FolioMemoryTest, ConcurrentWaitersAreLetGoWhenWaitingStops) {
  FolioMemory memory({.dirty = 4096, .spare = 0});
  const Buffer a = take(memory, 4096);
  std::thread writer([&] { memory.wait_for_room(); });
  while (memory.waits() < 1) std::this_thread::yield();
  memory.stop_waiting();
  writer.join();
  memory.wait_for_room();
  EXPECT_EQ(memory.waits(), 1u);
}

TEST(FolioMemoryTest, ConcurrentTakingAndGivingBackAddsUp) {
  FolioMemory memory({.dirty = 1 << 20, .spare = 1 << 16});
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < 4; ++n)
    threads.emplace_back([&, n] {
      std::vector<Buffer> mine;
      for (unsigned round = 0; round < 2000; ++round) {
        mine.push_back(take(memory, std::size_t{4096} << ((round + n) % 4)));
        mine.back().bytes()[0] = std::byte(n);
        if (round % 5 == 4) mine.erase(mine.begin(), mine.begin() + 4);
      }
      for (const Buffer &buffer : mine) EXPECT_EQ(buffer.bytes()[0], std::byte(n));
    });
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(memory.in_use(), 0u);
}

}  // namespace
}  // namespace outboard::pagecache

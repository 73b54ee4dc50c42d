#include "iomap/mapping_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <shared_mutex>
#include <thread>

namespace outboard::iomap {
namespace {

constexpr std::uint64_t kBlock = 4096;

Mapping mapped(std::uint64_t block, std::uint64_t count, std::uint64_t device_block, std::uint64_t cookie = 1) {
  return {MappingType::mapped, 0, block * kBlock, count * kBlock, device_block * kBlock, cookie, {}};
}
Mapping without_blocks(MappingType type, std::uint64_t block, std::uint64_t count, std::uint64_t cookie = 1) {
  return {type, 0, block * kBlock, count * kBlock, 0, cookie, {}};
}

TEST(MappingCache, AnswersInsideWhatItKnowsAndNowhereElse) {
  MappingCache cache;
  InodeMappings inode;
  EXPECT_FALSE(cache.lookup(inode, 0, 1));
  cache.upsert(inode, mapped(10, 5, 100));
  EXPECT_FALSE(cache.lookup(inode, 10 * kBlock - 1, 1));
  EXPECT_FALSE(cache.lookup(inode, 15 * kBlock, 1));
  for (const std::uint64_t at : {10 * kBlock, 12 * kBlock + 77, 15 * kBlock - 1}) {
    const auto found = cache.lookup(inode, at, 1);
    ASSERT_TRUE(found) << at;
    EXPECT_EQ(found->type, MappingType::mapped);
    EXPECT_EQ(found->offset, 10 * kBlock);
    EXPECT_EQ(found->length, 5 * kBlock);
    EXPECT_EQ(found->address, 100 * kBlock);
    EXPECT_EQ(found->cookie, 1u);
  }
  EXPECT_EQ(cache.counters().hits, 3u);
  EXPECT_EQ(cache.counters().misses, 3u);
  EXPECT_EQ(cache.counters().inserts, 1u);
}

TEST(MappingCache, ANewCookieEndsAllThatWasKnownUnderTheOld) {
  MappingCache cache;
  InodeMappings inode;
  for (std::uint64_t n = 0; n < 100; ++n) cache.upsert(inode, mapped(n * 2, 1, 1000 + n * 3, 5));
  ASSERT_TRUE(cache.lookup(inode, 0, 5));
  EXPECT_FALSE(cache.lookup(inode, 0, 6));  // a bump that nobody told of
  cache.upsert(inode, mapped(2, 1, 7, 6));
  EXPECT_FALSE(cache.lookup(inode, 0, 6));
  EXPECT_FALSE(cache.lookup(inode, 0, 5));
  EXPECT_FALSE(cache.lookup(inode, 2 * kBlock, 5));
  EXPECT_EQ(cache.lookup(inode, 2 * kBlock, 6)->address, 7 * kBlock);
}

TEST(MappingCache, LateNewsOfAnOldCookieIsPassedOver) {
  MappingCache cache;
  InodeMappings inode;
  cache.upsert(inode, mapped(0, 1, 1, 6));
  cache.upsert(inode, mapped(0, 1, 99, 5));
  cache.upsert(inode, mapped(9, 1, 99, 5));
  EXPECT_FALSE(cache.lookup(inode, 0, 5));
  EXPECT_FALSE(cache.lookup(inode, 9 * kBlock, 6));
  EXPECT_EQ(cache.lookup(inode, 0, 6)->address, kBlock);
  cache.forget(inode);  // the sequence starts anew
  EXPECT_FALSE(cache.lookup(inode, 0, 6));
  cache.upsert(inode, mapped(0, 1, 3, 1));
  EXPECT_EQ(cache.lookup(inode, 0, 1)->address, 3 * kBlock);
}

TEST(MappingCache, NeighboursThatContinueEachOtherAreOneEntry) {
  MappingCache cache;
  InodeMappings inode;
  cache.upsert(inode, mapped(0, 2, 50));
  cache.upsert(inode, mapped(4, 2, 54));
  cache.upsert(inode, mapped(2, 2, 52));  // closes the gap
  EXPECT_EQ(cache.lookup(inode, 3 * kBlock, 1)->length, 6 * kBlock);
  EXPECT_EQ(cache.lookup(inode, 3 * kBlock, 1)->address, 50 * kBlock);
  cache.upsert(inode, mapped(6, 1, 57));  // next in the file, not on the device
  EXPECT_EQ(cache.lookup(inode, 0, 1)->length, 6 * kBlock);
  EXPECT_EQ(cache.lookup(inode, 6 * kBlock, 1)->address, 57 * kBlock);
  cache.upsert(inode, without_blocks(MappingType::hole, 7, 1));
  cache.upsert(inode, without_blocks(MappingType::hole, 8, 1ull << 40));
  EXPECT_EQ(cache.lookup(inode, 9 * kBlock, 1)->offset, 7 * kBlock);
}

TEST(MappingCache, ANewerAnswerTakesThePlaceOfWhatItOverlaps) {
  MappingCache cache;
  InodeMappings inode;
  cache.upsert(inode, mapped(0, 10, 100));
  cache.upsert(inode, without_blocks(MappingType::hole, 20, 10));
  Mapping unwritten = mapped(5, 20, 500);
  unwritten.type = MappingType::unwritten;
  cache.upsert(inode, unwritten);
  EXPECT_EQ(cache.lookup(inode, 0, 1)->length, 5 * kBlock);
  EXPECT_EQ(cache.lookup(inode, 5 * kBlock, 1)->type, MappingType::unwritten);
  EXPECT_EQ(cache.lookup(inode, 24 * kBlock, 1)->address, 500 * kBlock);
  EXPECT_EQ(cache.lookup(inode, 25 * kBlock, 1)->type, MappingType::hole);
  EXPECT_EQ(cache.lookup(inode, 25 * kBlock, 1)->length, 5 * kBlock);
  // In the middle of one entry: both ends stay, with their own addresses.
  Mapping flagged = mapped(10, 1, 505);
  flagged.flags = kShared;
  cache.upsert(inode, flagged);
  EXPECT_EQ(cache.lookup(inode, 9 * kBlock, 1)->length, 5 * kBlock);
  EXPECT_EQ(cache.lookup(inode, 10 * kBlock, 1)->flags, kShared);
  EXPECT_EQ(cache.lookup(inode, 11 * kBlock, 1)->offset, 11 * kBlock);
  EXPECT_EQ(cache.lookup(inode, 11 * kBlock, 1)->address, 506 * kBlock);
}

TEST(MappingCache, WhatMayChangeUnderTheSameCookieIsNotKept) {
  MappingCache cache;
  InodeMappings inode;
  Mapping fresh = mapped(0, 1, 9);
  fresh.flags = kFresh;
  cache.upsert(inode, fresh);
  cache.upsert(inode, without_blocks(MappingType::delalloc, 0, 1));
  cache.upsert(inode, without_blocks(MappingType::inline_data, 0, 1));
  cache.upsert(inode, without_blocks(MappingType::hole, 0, 0));
  cache.upsert(inode, {MappingType::hole, 0, kBlock, ~0ull, 0, 1, {}});
  cache.upsert(inode, {MappingType::mapped, 0, 0, kBlock, ~0ull - 5, 1, {}});
  EXPECT_EQ(cache.bytes(), 0u);
  EXPECT_EQ(cache.counters().inserts, 0u);
  EXPECT_FALSE(cache.lookup(inode, 0, 1));
  cache.upsert(inode, {MappingType::hole, 0, kBlock, ~0ull - kBlock, 0, 1, {}});  // up to the last byte there can be
  EXPECT_TRUE(cache.lookup(inode, ~0ull - 1, 1));
}

// A file whose map is drawn anew with each cookie, told in pieces.
class Truth {
public:
  static constexpr std::uint64_t kBlocks = 200;
  void draw(std::mt19937 &random) {
    std::uint64_t device_block = 1000;
    for (std::uint64_t b = 0; b < kBlocks;) {
      const std::uint64_t run = 1 + random() % 12, type = random() % 3;
      device_block += random() % 2 * 50;
      for (std::uint64_t n = 0; n < run && b < kBlocks; ++n, ++b)
        blocks[b] = {type == 0 ? MappingType::hole : type == 1 ? MappingType::mapped : MappingType::unwritten,
                     type == 0 ? 0 : device_block++};
    }
  }
  // Some stretch of one state around `block`: a part of what could be said.
  Mapping piece(std::uint64_t block, std::mt19937 &random, std::uint64_t cookie) const {
    std::uint64_t first = block, end = block + 1;
    while (first > 0 && random() % 8 != 0 && joins(first - 1)) --first;
    while (end < kBlocks && random() % 8 != 0 && joins(end - 1)) ++end;
    return {blocks[first].type, 0, first * kBlock, (end - first) * kBlock, blocks[first].device * kBlock, cookie, {}};
  }
  bool agrees(const Mapping &mapping) const {
    for (std::uint64_t at = mapping.offset; at < mapping.end(); at += kBlock) {
      const Block &block = blocks[at / kBlock];
      if (block.type != mapping.type) return false;
      if (block.type != MappingType::hole && block.device * kBlock != mapping.address + (at - mapping.offset))
        return false;
    }
    return mapping.offset % kBlock == 0 && mapping.length % kBlock == 0;
  }

private:
  struct Block {
    MappingType type;
    std::uint64_t device;
  };
  bool joins(std::uint64_t b) const {  // with the next one
    return blocks[b].type == blocks[b + 1].type &&
           (blocks[b].type == MappingType::hole || blocks[b].device + 1 == blocks[b + 1].device);
  }
  std::array<Block, kBlocks> blocks;
};

TEST(MappingCache, WhateverItIsToldInPiecesItAnswersTrulyAndForgetsNothing) {
  std::mt19937 random(4);
  MappingCache cache;
  InodeMappings inode;
  Truth truth;
  std::vector<bool> told;
  std::uint64_t cookie = 0;
  unsigned hits = 0;
  for (unsigned round = 0; round < 20000; ++round) {
    if (round % 500 == 0) {
      truth.draw(random);
      told.assign(Truth::kBlocks, false);
      ++cookie;
    }
    const std::uint64_t block = random() % Truth::kBlocks;
    if (random() % 4 == 0) {
      const Mapping piece = truth.piece(block, random, cookie);
      ASSERT_TRUE(truth.agrees(piece));
      cache.upsert(inode, piece);
      for (std::uint64_t b = piece.offset / kBlock; b < piece.end() / kBlock; ++b) told[b] = true;
    }
    const auto found = cache.lookup(inode, block * kBlock + random() % kBlock, cookie);
    ASSERT_EQ(found.has_value(), told[block]) << round;
    if (!found) continue;
    ++hits;
    ASSERT_TRUE(truth.agrees(*found)) << round;
    ASSERT_TRUE(found->offset <= block * kBlock && block * kBlock < found->end());
  }
  EXPECT_GT(hits, 1000u);
  EXPECT_EQ(cache.counters().evictions, 0u);
}

TEST(MappingCache, OneInodeHasABoundedNumberOfEntries) {
  MappingCache cache(std::size_t{64} << 20);
  InodeMappings inode;
  constexpr std::uint64_t kExtents = 3 * MappingCache::kMostEntries;
  for (std::uint64_t n = 0; n < kExtents; ++n) cache.upsert(inode, mapped(n * 2, 1, 10 + n * 5));
  EXPECT_LE(cache.bytes(), MappingCache::kMostEntries * MappingCache::kBytesPerEntry);
  std::uint64_t hits = 0;
  for (std::uint64_t n = 0; n < kExtents; ++n) {
    const auto found = cache.lookup(inode, n * 2 * kBlock, 1);
    if (!found) continue;
    ++hits;
    ASSERT_EQ(found->address, (10 + n * 5) * kBlock);
  }
  EXPECT_GE(hits, MappingCache::kMostEntries - 2);
  EXPECT_EQ(hits + cache.counters().evictions, kExtents);
}

TEST(MappingCache, StaysWithinItsBudgetAndKeepsTheInodeThatIsInUse) {
  constexpr std::size_t kBudget = 500 * MappingCache::kBytesPerEntry;
  MappingCache cache(kBudget);
  std::vector<InodeMappings> inodes(5000);
  InodeMappings used;
  cache.upsert(used, mapped(0, 1, 42));
  for (InodeMappings &inode : inodes) {
    cache.upsert(inode, mapped(0, 1, 1));
    ASSERT_LE(cache.bytes(), kBudget);
    ASSERT_TRUE(cache.lookup(used, 0, 1));
  }
  EXPECT_EQ(cache.bytes(), kBudget);
  EXPECT_EQ(cache.counters().evictions, inodes.size() + 1 - 500);
}

TEST(MappingCache, ShrinkTakesWhatNobodyLookedUpFirstAndCanTakeAll) {
  MappingCache cache;
  std::vector<InodeMappings> inodes(6400);
  for (InodeMappings &inode : inodes) cache.upsert(inode, mapped(0, 1, 1));
  for (std::size_t n = 0; n < inodes.size(); n += 2) ASSERT_TRUE(cache.lookup(inodes[n], 0, 1));
  const std::size_t before = cache.bytes();
  const std::size_t freed = cache.shrink(before / 8);
  EXPECT_GE(freed, before / 8);
  EXPECT_EQ(cache.bytes(), before - freed);
  for (std::size_t n = 0; n < inodes.size(); n += 2) ASSERT_TRUE(cache.lookup(inodes[n], 0, 1)) << n;
  EXPECT_EQ(cache.shrink(~std::size_t{0}), before - freed);
  EXPECT_EQ(cache.bytes(), 0u);
  EXPECT_FALSE(cache.lookup(inodes[0], 0, 1));
  EXPECT_EQ(cache.shrink(1), 0u);
  cache.upsert(inodes[0], mapped(0, 1, 1));  // and is as usable as before
  EXPECT_TRUE(cache.lookup(inodes[0], 0, 1));
}

TEST(MappingCache, AnInodeTakesItsEntriesAlong) {
  MappingCache cache;
  auto inode = std::make_unique<InodeMappings>(), other = std::make_unique<InodeMappings>();
  for (std::uint64_t n = 0; n < 50; ++n) cache.upsert(*inode, mapped(n * 2, 1, n * 3));
  const std::size_t one = cache.bytes();
  EXPECT_GE(one, 50 * MappingCache::kBytesPerEntry);
  cache.upsert(*other, mapped(0, 1, 1));
  inode.reset();
  EXPECT_EQ(cache.bytes(), MappingCache::kBytesPerEntry);
  other.reset();
  EXPECT_EQ(cache.bytes(), 0u);
  EXPECT_EQ(cache.shrink(1), 0u);
}

// Readers and changers of inodes as vfs has them (a lock per inode, a sequence under it), inodes that come and go, and
// somebody who shrinks: an answer is always the truth of the moment.
TEST(MappingCacheStress, ConcurrentReadersChangersAndShrinkersSeeTheTruth) {
  struct File {
    std::shared_mutex lock;
    std::uint64_t sequence = 1;
    std::unique_ptr<InodeMappings> mappings = std::make_unique<InodeMappings>();
  };
  constexpr std::uint64_t kBlocks = 64;
  const auto address_of = [](std::uint64_t file, std::uint64_t sequence, std::uint64_t block) {
    return (file * 1'000'000 + sequence % 1000 * 1000 + block * 3) * kBlock;  // never continues its neighbour
  };
  MappingCache cache(300 * MappingCache::kBytesPerEntry);
  std::array<File, 32> files;
  std::atomic<std::uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed)
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (unsigned round = 0; round < 8000; ++round) {
        const std::uint64_t number = random() % files.size(), block = random() % kBlocks;
        File &file = files[number];
        const unsigned what = random() % 64;
        if (what == 0) {
          const std::unique_lock lock(file.lock);
          ++file.sequence;
        } else if (what == 1) {
          const std::unique_lock lock(file.lock);
          file.mappings = std::make_unique<InodeMappings>();
        } else if (what == 2) {
          cache.shrink(random() % 4096);
        } else {
          const std::shared_lock lock(file.lock);
          const std::uint64_t truth = address_of(number, file.sequence, block);
          if (const auto found = cache.lookup(*file.mappings, block * kBlock, file.sequence)) {
            if (found->address + (block * kBlock - found->offset) != truth || found->length != kBlock) ++wrong;
          } else {
            cache.upsert(*file.mappings, {MappingType::mapped, 0, block * kBlock, kBlock, truth, file.sequence, {}});
          }
        }
      }
    });
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0u);
  const auto counters = cache.counters();
  EXPECT_GT(counters.hits, 0u);
  EXPECT_GT(counters.evictions, 0u);
  EXPECT_LE(cache.bytes(), cache.budget());
}

}  // namespace
}  // namespace outboard::iomap

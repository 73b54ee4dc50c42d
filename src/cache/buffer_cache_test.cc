#include "cache/buffer_cache.h"

#include "device/memory_device.h"
#include "testing/expect.h"

#include <array>
#include <atomic>
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <set>
#include <thread>

namespace outboard::cache {
namespace {

constexpr std::uint32_t kBlock = 1024;
constexpr std::uint64_t kBlocks = 4096;

// Block n starts with n; verification counts and checks that, or fails on demand.
class NumberedType final : public BlockType {
public:
  const char *name() const override { return "numbered"; }
  Status verify(BlockNumber block, std::uint32_t, std::span<const std::byte> bytes) const override {
    ++verified;
    std::uint64_t number = 0;
    std::memcpy(&number, bytes.data(), sizeof number);
    if (number != block.value()) return fail(Error::bad_checksum("numbered block: number").in_block(block.value()));
    return {};
  }
  mutable std::atomic<int> verified{0};
};

// Counts reads; can fail them, delay them, and answer differently every time.
class WatchedDevice final : public device::BlockDevice {
public:
  WatchedDevice() : memory_(kBlock * kBlocks) {
    for (std::uint64_t block = 0; block < kBlocks; ++block) {
      std::array<std::byte, kBlock> bytes{};
      std::memcpy(bytes.data(), &block, sizeof block);
      EXPECT_OK(memory_.write(block * kBlock, bytes));
    }
  }
  const device::Properties &properties() const override { return memory_.properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override {
    ++reads;
    if (delay.count() > 0) std::this_thread::sleep_for(delay);
    if (failing) return fail(Error::system(EIO, "device read"));
    TRY(memory_.read(offset, data));
    if (lying) data[100] = static_cast<std::byte>(reads.load());
    return {};
  }
  Status write(std::uint64_t offset, std::span<const std::byte> data) override { return memory_.write(offset, data); }
  Status flush() override { return {}; }
  Status discard(std::uint64_t, std::uint64_t) override { return {}; }

  std::atomic<int> reads{0};
  std::atomic<bool> failing{false}, lying{false};
  std::chrono::milliseconds delay{0};

private:
  device::MemoryDevice memory_;
};

class CacheTest : public ::testing::Test {
protected:
  WatchedDevice device_;
  NumberedType type_, other_;
};

TEST_F(CacheTest, ReadsAndVerifiesABlockOnceWhileItIsCached) {
  BufferCache cache(device_, kBlock, kBlocks);
  for (int i = 0; i < 10; ++i) {
    ASSIGN_OK(BufferRef buffer, cache.read(BlockNumber(7), type_));
    EXPECT_EQ(buffer->block(), BlockNumber(7));
    EXPECT_EQ(buffer->bytes().size(), kBlock);
  }
  EXPECT_EQ(device_.reads, 1);
  EXPECT_EQ(type_.verified, 1);
  EXPECT_EQ(cache.counters().hits, 9U);
  EXPECT_EQ(cache.counters().misses, 1U);
}

TEST_F(CacheTest, ADeviceThatAnswersDifferentlyTheSecondTimeGainsNothing) {
  device_.lying = true;
  BufferCache cache(device_, kBlock, kBlocks);
  ASSIGN_OK(BufferRef first, cache.read(BlockNumber(9), type_));
  const std::byte seen = first->bytes()[100];
  for (int i = 0; i < 5; ++i) {
    ASSIGN_OK(BufferRef again, cache.read(BlockNumber(9), type_));
    EXPECT_EQ(again->bytes()[100], seen);
  }
  first = BufferRef();
  ASSIGN_OK(BufferRef as_other, cache.read(BlockNumber(9), other_));  // another role: verified again, not read again
  EXPECT_EQ(as_other->bytes()[100], seen);
  EXPECT_EQ(device_.reads, 1);
}

TEST_F(CacheTest, UnpinnedBuffersStayWithinTheBoundAndTheOldestGoFirst) {
  BufferCache cache(device_, kBlock, kBlocks, {.max_bytes = 64 * kBlock, .shards = 4});
  for (std::uint64_t block = 0; block < 1000; ++block) ASSERT_OK(cache.read(BlockNumber(block), type_));
  EXPECT_LE(cache.counters().buffers, 64U);
  EXPECT_GE(cache.counters().evictions, 1000U - 64U);
  const int reads = device_.reads;
  ASSERT_OK(cache.read(BlockNumber(999), type_));
  EXPECT_EQ(device_.reads, reads);
  ASSERT_OK(cache.read(BlockNumber(0), type_));
  EXPECT_EQ(device_.reads, reads + 1);
}

TEST_F(CacheTest, PinnedBuffersAreNeverEvictedAndTheirBytesDoNotMove) {
  BufferCache cache(device_, kBlock, kBlocks, {.max_bytes = kBlock, .shards = 1});
  std::vector<BufferRef> pinned;
  std::vector<const std::byte *> places;
  for (std::uint64_t block = 0; block < 100; ++block) {
    ASSIGN_OK(BufferRef buffer, cache.read(BlockNumber(block), type_));
    places.push_back(buffer->bytes().data());
    pinned.push_back(std::move(buffer));
  }
  EXPECT_EQ(cache.counters().evictions, 0U);
  for (std::uint64_t block = 0; block < 100; ++block) {
    ASSIGN_OK(BufferRef buffer, cache.read(BlockNumber(block), type_));
    EXPECT_EQ(buffer->bytes().data(), places[block]);
  }
  pinned.clear();
  EXPECT_EQ(cache.counters().buffers, 1U);
}

TEST_F(CacheTest, AFailedVerificationIsReportedAndNothingIsKept) {
  BufferCache cache(device_, kBlock, kBlocks);
  std::array<std::byte, kBlock> zeros{};
  ASSERT_OK(device_.write(5 * kBlock, zeros));
  Result<BufferRef> bad = cache.read(BlockNumber(5), type_);
  ASSERT_ERROR(bad, EUCLEAN);
  EXPECT_EQ(bad.error().kind(), ErrorKind::bad_checksum);
  EXPECT_EQ(bad.error().block(), 5U);
  EXPECT_EQ(cache.counters().buffers, 0U);
  const std::uint64_t number = 5;
  std::memcpy(zeros.data(), &number, sizeof number);
  ASSERT_OK(device_.write(5 * kBlock, zeros));
  EXPECT_OK(cache.read(BlockNumber(5), type_));
}

TEST_F(CacheTest, AReadErrorIsReportedAndTriedAgainLater) {
  BufferCache cache(device_, kBlock, kBlocks);
  device_.failing = true;
  EXPECT_ERROR(cache.read(BlockNumber(3), type_), EIO);
  device_.failing = false;
  EXPECT_OK(cache.read(BlockNumber(3), type_));
}

TEST_F(CacheTest, ABlockBeyondTheFileSystemIsCorrupt) {
  BufferCache cache(device_, kBlock, 100);
  EXPECT_ERROR(cache.read(BlockNumber(100), type_), EUCLEAN);
  EXPECT_ERROR(cache.create(BlockNumber(~std::uint64_t{0}), type_), EUCLEAN);
  EXPECT_EQ(device_.reads, 0);
}

TEST_F(CacheTest, ABlockWithTwoOwnersIsCorruptWhileOneHoldsIt) {
  BufferCache cache(device_, kBlock, kBlocks);
  ASSIGN_OK(BufferRef held, cache.read(BlockNumber(11), type_, 1));
  EXPECT_ERROR(cache.read(BlockNumber(11), other_, 1), EUCLEAN);
  EXPECT_ERROR(cache.read(BlockNumber(11), type_, 2), EUCLEAN);
  held = BufferRef();
  ASSIGN_OK(held, cache.read(BlockNumber(11), other_, 2));
  EXPECT_EQ(&held->type(), &other_);
  EXPECT_EQ(held->seed(), 2U);
  EXPECT_EQ(other_.verified, 1);
}

TEST_F(CacheTest, CreateGivesZerosWithoutReadingAndDropsTheStaleBuffer) {
  BufferCache cache(device_, kBlock, kBlocks);
  ASSIGN_OK(BufferRef stale, cache.read(BlockNumber(20), type_));
  ASSIGN_OK(BufferRef fresh, cache.create(BlockNumber(20), other_, 3));
  EXPECT_NE(stale.get(), fresh.get());
  for (std::byte byte : fresh->bytes()) ASSERT_EQ(byte, std::byte{0});
  EXPECT_EQ(stale->bytes()[0], std::byte{20});  // still readable by whoever holds it
  ASSIGN_OK(BufferRef found, cache.read(BlockNumber(20), other_, 3));
  EXPECT_EQ(found.get(), fresh.get());
  EXPECT_EQ(other_.verified, 0);
  EXPECT_EQ(device_.reads, 1);
  stale = BufferRef();
  EXPECT_EQ(cache.counters().buffers, 1U);
}

TEST_F(CacheTest, AForgottenBlockIsNeverFoundAgain) {
  BufferCache cache(device_, kBlock, kBlocks);
  ASSIGN_OK(BufferRef held, cache.read(BlockNumber(30), type_));
  ASSERT_OK(cache.read(BlockNumber(31), type_));
  cache.forget(BlockNumber(30));
  cache.forget(BlockNumber(31));
  cache.forget(BlockNumber(32));
  EXPECT_EQ(cache.counters().buffers, 1U);
  EXPECT_EQ(held->bytes()[0], std::byte{30});
  ASSIGN_OK(BufferRef again, cache.read(BlockNumber(30), type_));
  EXPECT_NE(again.get(), held.get());
  held = BufferRef();
  EXPECT_EQ(cache.counters().buffers, 1U);
  EXPECT_EQ(device_.reads, 3);
}

TEST_F(CacheTest, PrefetchReadsNeighboursTogetherAndLeavesErrorsToRead) {
  BufferCache cache(device_, kBlock, kBlocks);
  std::array<std::byte, kBlock> zeros{};
  ASSERT_OK(device_.write(102 * kBlock, zeros));
  const std::vector<BlockNumber> wanted{BlockNumber(103), BlockNumber(101), BlockNumber(102), BlockNumber(100),
                                        BlockNumber(500), BlockNumber(kBlocks + 5)};
  cache.prefetch(wanted, type_);
  EXPECT_EQ(device_.reads, 2);
  EXPECT_EQ(cache.counters().buffers, 4U);
  ASSERT_OK(cache.read(BlockNumber(101), type_));
  ASSERT_OK(cache.read(BlockNumber(500), type_));
  EXPECT_EQ(device_.reads, 2);
  EXPECT_ERROR(cache.read(BlockNumber(102), type_), EUCLEAN);
  device_.failing = true;
  cache.prefetch(std::vector<BlockNumber>{BlockNumber(600), BlockNumber(601)}, type_);
  device_.failing = false;
  EXPECT_OK(cache.read(BlockNumber(600), type_));
}

TEST_F(CacheTest, ConcurrentReadersLoadABlockOnce) {
  device_.delay = std::chrono::milliseconds(30);
  BufferCache cache(device_, kBlock, kBlocks);
  std::vector<std::jthread> threads;
  std::array<const Buffer *, 8> seen{};
  std::vector<BufferRef> refs(8);
  for (std::size_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      Result<BufferRef> buffer = cache.read(BlockNumber(77), type_);
      ASSERT_OK(buffer);
      refs[i] = *std::move(buffer);
      seen[i] = refs[i].get();
    });
  }
  threads.clear();
  for (const Buffer *buffer : seen) EXPECT_EQ(buffer, seen[0]);
  EXPECT_EQ(device_.reads, 1);
  EXPECT_EQ(type_.verified, 1);
}

TEST_F(CacheTest, ConcurrentReadersOfAFailingBlockAllSeeTheError) {
  device_.delay = std::chrono::milliseconds(30);
  device_.failing = true;
  BufferCache cache(device_, kBlock, kBlocks);
  std::atomic<int> errors{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 6; ++i) {
      threads.emplace_back([&] {
        if (!cache.read(BlockNumber(78), type_)) ++errors;
      });
    }
  }
  EXPECT_EQ(errors, 6);
  EXPECT_EQ(cache.counters().buffers, 0U);
}

TEST_F(CacheTest, RandomUseByManyThreadsKeepsEveryBlockRight) {
  BufferCache cache(device_, kBlock, kBlocks, {.max_bytes = 32 * kBlock, .shards = 4});
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      std::vector<BufferRef> held;
      for (int i = 0; i < 5000; ++i) {
        const BlockNumber block(random() % 200);
        switch (random() % 8) {
        case 0: cache.forget(block); break;
        case 1: held.clear(); break;
        case 2: cache.prefetch(std::vector<BlockNumber>{block, block + 1, block + 2}, type_); break;
        default: {
          Result<BufferRef> buffer = cache.read(block, type_);
          ASSERT_OK(buffer);
          std::uint64_t number = 0;
          std::memcpy(&number, (*buffer)->bytes().data(), sizeof number);
          ASSERT_EQ(number, block.value());
          held.push_back(*buffer);
          if (held.size() > 20) held.erase(held.begin());
        }
        }
      }
    });
  }
  threads.clear();
  EXPECT_LE(cache.counters().buffers, 32U);
}

}  // namespace
}  // namespace outboard::cache

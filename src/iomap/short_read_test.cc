#include "iomap/short_read.h"

#include "device/memory_device.h"
#include "iomap/buffered.h"
#include "iomap/cached_source.h"
#include "iomap/toy_source.h"
#include "testing/expect.h"
#include "testing/faulty_device.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <thread>

namespace outboard::iomap {
namespace {

constexpr std::uint32_t kBlock = 1024;
using Faulty = outboard::testing::FaultyDevice;

class ShortReadTest : public ::testing::Test {
protected:
  static constexpr std::uint64_t kBlocks = 512;
  ShortReadTest() {
    std::vector<std::byte> block(kBlock);
    std::mt19937 random(1);
    for (std::uint64_t b = 0; b < kBlocks; ++b) {
      for (std::byte &byte : block) byte = std::byte(random());
      EXPECT_OK(memory.write(b * kBlock, block));
    }
    file.set_size(300 * kBlock);
    cache.upsert(mappings, mapped(0, 200, 10));
  }
  static Mapping mapped(std::uint64_t block, std::uint64_t count, std::uint64_t device_block) {
    return {MappingType::mapped, 0, block * kBlock, count * kBlock, device_block * kBlock, 1, {}};
  }
  ShortReadFile the_file(std::uint64_t cookie = 1) { return {mappings, cookie, file}; }
  std::vector<std::byte> on_device(std::uint64_t at, std::size_t length) {
    std::vector<std::byte> bytes(length);
    EXPECT_OK(memory.read(at, bytes));
    return bytes;
  }
  device::MemoryDevice memory{kBlocks * kBlock};
  Faulty device{memory};
  MappingCache cache;
  InodeMappings mappings;
  pagecache::FolioMemory folios;
  pagecache::FileCache file{folios, kBlock};
};

TEST_F(ShortReadTest, OneKnownStretchIsOneDeviceReadIntoTheCallersMemory) {
  std::vector<std::byte> bytes(5000);
  const auto got = short_read(cache, the_file(), device, 1234, bytes);
  ASSERT_TRUE(got);
  ASSERT_EQ(got->value_or(0), bytes.size());
  EXPECT_EQ(bytes, on_device(10 * kBlock + 1234, bytes.size()));
  EXPECT_EQ(device.requests(Faulty::Op::read), 1u);
}

TEST_F(ShortReadTest, TheEndOfTheFileCutsIt) {
  file.set_size(100 * kBlock + 10);
  std::vector<std::byte> bytes(4096, std::byte{0x77});
  const auto got = short_read(cache, the_file(), device, 100 * kBlock, bytes);
  ASSERT_TRUE(got);
  ASSERT_EQ(got->value_or(0), 10u);
  EXPECT_EQ(bytes[10], std::byte{0x77});
}

TEST_F(ShortReadTest, WhatIsNotThatSimpleIsNotShortAndReadsNothing) {
  cache.upsert(mappings, {MappingType::hole, 0, 200 * kBlock, 10 * kBlock, 0, 1, {}});
  cache.upsert(mappings, {MappingType::unwritten, 0, 210 * kBlock, 10 * kBlock, 0, 1, {}});
  cache.upsert(mappings, {MappingType::mapped, kShared, 220 * kBlock, 10 * kBlock, 0, 1, {}});
  ASSERT_OK(file.make_writable({50 * kBlock, kBlock}));
  struct Case {
    const char *why;
    std::uint64_t offset;
    std::size_t length;
    std::uint64_t cookie = 1;
  };
  std::vector<std::byte> bytes(ShortRead::kMostBytes + 1);
  for (const Case &one : {Case{"empty", 0, 0},
                          {"unknown", 250 * kBlock, 10},
                          {"hole", 200 * kBlock, 10},
                          {"unwritten", 210 * kBlock, 10},
                          {"flags", 220 * kBlock, 10},
                          {"over the end of the mapping", 200 * kBlock - 5, 10},
                          {"too long", 55 * kBlock, bytes.size()},
                          {"at the end of the file", 300 * kBlock, 10},
                          {"far behind it", ~0ull - 5, 10},
                          {"dirty", 50 * kBlock + 7, 10},
                          {"partly dirty", 49 * kBlock, 2 * kBlock},
                          {"another map by now", 0, 10, 2}}) {
    EXPECT_FALSE(short_read(cache, the_file(one.cookie), device, one.offset, std::span(bytes).first(one.length)))
        << one.why;
    ShortRead request([](ShortRead &, void *) {}, nullptr);
    EXPECT_FALSE(request.map(cache, the_file(one.cookie), one.offset, std::span(bytes).first(one.length))) << one.why;
  }
  EXPECT_EQ(device.requests(Faulty::Op::read), 0u);
  // Right beside what is dirty it is short again.
  EXPECT_TRUE(short_read(cache, the_file(), device, 49 * kBlock, std::span(bytes).first(kBlock)));
  EXPECT_TRUE(short_read(cache, the_file(), device, 51 * kBlock, std::span(bytes).first(kBlock)));
}

TEST_F(ShortReadTest, TheDevicesErrorIsTheAnswer) {
  device.add_fault({.op = Faulty::Op::read});
  std::vector<std::byte> bytes(100);
  const auto got = short_read(cache, the_file(), device, 0, bytes);
  ASSERT_TRUE(got);
  EXPECT_ERROR(*got, EIO);
  int finished = 0;
  const auto finish = [](ShortRead &ended, void *count) {
    EXPECT_ERROR(ended.result(), EIO);
    ++*static_cast<int *>(count);
  };
  ShortRead request(finish, &finished);
  ASSERT_TRUE(request.map(cache, the_file(), 0, bytes));
  request.submit(start_inline(device));
  EXPECT_EQ(finished, 1);
}

TEST_F(ShortReadTest, ReadsWhatTheOrdinaryPathReads) {
  ToySource toy(kBlock, kBlocks);
  InodeMappings own;
  const std::uint64_t sequence = 0;
  CachedSource source(toy, cache, own, sequence);
  std::mt19937 random(3);
  for (unsigned n = 0; n < 30; ++n) {
    const std::uint64_t first = random() % 294;
    const bool unwritten = random() % 5 == 0;
    for (std::uint64_t b = first; b < first + 6; ++b)
      if (!toy.blocks.contains(b)) toy.put(b, unwritten);
  }
  unsigned shorts = 0, others = 0;
  for (unsigned round = 0; round < 2000; ++round) {
    if (round == 1000) {
      ASSERT_OK(buffered::write(source, file, device, 100 * kBlock, std::vector<std::byte>(70000, std::byte{5})));
    }
    const std::uint64_t offset = random() % (310 * kBlock);
    std::vector<std::byte> ordinary(1 + random() % 3000), bytes(ordinary.size());
    const auto got = short_read(cache, {own, sequence, file}, device, offset, bytes);
    const auto expected = buffered::read(source, file, device, offset, ordinary);
    ASSERT_OK(expected);
    if (!got) {
      ++others;
      continue;
    }
    ++shorts;
    ASSERT_EQ(got->value_or(~std::size_t{0}), *expected);
    ASSERT_EQ(bytes, ordinary) << round;
  }
  EXPECT_GT(shorts, 100u);
  EXPECT_GT(others, 100u);
}

// A device whose requests end on threads of its own, as late or as early as told.
class ThreadedReads {
public:
  ThreadedReads(device::BlockDevice &device, unsigned threads) : device_(device) {
    for (unsigned n = 0; n < threads; ++n) threads_.emplace_back([this] { serve(); });
  }
  ~ThreadedReads() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread &thread : threads_) thread.join();
  }
  void start(ShortRead &request) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(&request);
    }
    changed_.notify_all();
  }
  // Returns when the completion has run: it came first.
  void start_and_let_it_end(ShortRead &request) {
    std::unique_lock lock(mutex_);
    const std::uint64_t before = ended_;
    queue_.push_back(&request);
    changed_.notify_all();
    changed_.wait(lock, [&] { return ended_ > before; });
  }

private:
  void serve() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      ShortRead &request = *queue_.front();
      queue_.pop_front();
      lock.unlock();
      request.completed(device_.read(request.address(), request.data()));
      lock.lock();
      ++ended_;
      changed_.notify_all();
    }
  }
  device::BlockDevice &device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ShortRead *> queue_;
  std::uint64_t ended_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

// Who finished, on which thread.
struct Finished {
  std::thread::id on;
  std::atomic<int> times{0};
  static void note(ShortRead &, void *context) {
    auto &finished = *static_cast<Finished *>(context);
    finished.on = std::this_thread::get_id();
    finished.times.fetch_add(1, std::memory_order_release);
  }
};

TEST_F(ShortReadTest, TheSubmitterFinishesWhatEndedBeforeSubmissionReturned) {
  ThreadedReads reads(memory, 1);
  Finished finished;
  std::vector<std::byte> bytes(2000);
  ShortRead request(&Finished::note, &finished);
  for (int round = 0; round < 2; ++round) {  // and the request can be used again
    finished.times = 0;
    ASSERT_TRUE(request.map(cache, the_file(), 77, bytes));
    request.submit([&](ShortRead &r) {
      if (round == 0) reads.start_and_let_it_end(r);
      else start_inline(memory)(r);
      EXPECT_EQ(finished.times, 0);  // not while the submitter is still at it
    });
    ASSERT_EQ(finished.times, 1);
    EXPECT_EQ(finished.on, std::this_thread::get_id());
    EXPECT_EQ(request.result().value_or(0), bytes.size());
    EXPECT_EQ(bytes, on_device(10 * kBlock + 77, bytes.size()));
  }
}

TEST_F(ShortReadTest, TheDevicesThreadFinishesWhatEndsLater) {
  ThreadedReads reads(device, 1);
  Finished finished;
  std::vector<std::byte> bytes(2000);
  ShortRead request(&Finished::note, &finished);
  ASSERT_TRUE(request.map(cache, the_file(), 77, bytes));
  device.hold(Faulty::Op::read);
  request.submit([&](ShortRead &r) { reads.start(r); });
  ASSERT_TRUE(device.wait_until_held(1));
  EXPECT_EQ(finished.times, 0);
  device.release(Faulty::Op::read);
  while (finished.times.load(std::memory_order_acquire) == 0) std::this_thread::yield();
  EXPECT_NE(finished.on, std::this_thread::get_id());
  EXPECT_EQ(bytes, on_device(10 * kBlock + 77, bytes.size()));
}

TEST_F(ShortReadTest, ThreadsThatRaceSubmissionAndCompletionFinishEachRequestOnce) {
  struct Slot {
    explicit Slot(std::vector<std::byte> memory) : bytes(std::move(memory)) {}
    std::vector<std::byte> bytes;
    std::atomic<std::uint64_t> finished{0};
    ShortRead request{
        [](ShortRead &, void *slot) { static_cast<Slot *>(slot)->finished.fetch_add(1, std::memory_order_release); },
        this};
  };
  constexpr std::uint64_t kRounds = 300;
  std::deque<Slot> slots;
  for (unsigned n = 0; n < 16; ++n) slots.emplace_back(std::vector<std::byte>(64));
  ThreadedReads reads(memory, 3);
  std::uint64_t wrong = 0;
  for (std::uint64_t round = 1; round <= kRounds; ++round) {
    for (std::size_t n = 0; n < slots.size(); ++n) {
      ASSERT_TRUE(slots[n].request.map(cache, the_file(), round * 500 + n, slots[n].bytes));
      slots[n].request.submit([&](ShortRead &r) { reads.start(r); });
    }
    for (std::size_t n = 0; n < slots.size(); ++n) {
      while (slots[n].finished.load(std::memory_order_acquire) < round) std::this_thread::yield();
      if (slots[n].request.result().value_or(0) != 64 || slots[n].bytes != on_device(10 * kBlock + round * 500 + n, 64))
        ++wrong;
    }
  }
  EXPECT_EQ(wrong, 0u);
  for (const Slot &slot : slots) EXPECT_EQ(slot.finished, kRounds);
}

}  // namespace
}  // namespace outboard::iomap

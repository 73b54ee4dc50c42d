#include "testing/write_log_device.h"

#include "testing/expect.h"
#include "testing/faulty_device.h"

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

namespace outboard::testing {
namespace {

using device::MemoryDevice;

constexpr std::size_t kBlock = 4096;

std::vector<std::byte> block_of(char letter, std::size_t size = kBlock) {
  return std::vector<std::byte>(size, static_cast<std::byte>(letter));
}

// One letter for each 512-byte sector; '.' for zeros.
std::string picture(device::BlockDevice &device, std::uint64_t offset, std::size_t sectors) {
  std::string letters;
  for (std::size_t i = 0; i < sectors; ++i) {
    std::vector<std::byte> sector(512);
    EXPECT_OK(device.read(offset + i * 512, sector));
    EXPECT_TRUE(std::ranges::all_of(sector, [&](std::byte b) { return b == sector[0]; }));
    letters += sector[0] == std::byte{0} ? '.' : static_cast<char>(sector[0]);
  }
  return letters;
}

std::unique_ptr<WriteLogDevice> make_device(std::uint64_t size = 1 << 20) {
  return std::make_unique<WriteLogDevice>(std::make_unique<MemoryDevice>(size));
}

TEST(WriteLogDevice, ImageAtAPositionHoldsWhatHadBegunByThen) {
  auto device = make_device();
  const std::uint64_t start = device->position();
  ASSERT_OK(device->write(0, block_of('a')));
  const std::uint64_t middle = device->position();
  ASSERT_OK(device->write(512, block_of('b', 512)));
  ASSERT_OK(device->zero(1024, 512));
  ASSIGN_OK(auto none, device->image_at(start));
  EXPECT_EQ(picture(*none, 0, 4), "....");
  ASSIGN_OK(auto one, device->image_at(middle));
  EXPECT_EQ(picture(*one, 0, 4), "aaaa");
  ASSIGN_OK(auto all, device->image_at(device->position()));
  EXPECT_EQ(picture(*all, 0, 4), "ab.a");
  EXPECT_EQ(picture(*device, 0, 4), "ab.a");
}

TEST(WriteLogDevice, WhatWasFlushedSurvivesEveryCrash) {
  auto device = make_device();
  ASSERT_OK(device->write(0, block_of('a')));
  ASSERT_OK(device->flush());
  const std::uint64_t promised = device->position();
  ASSERT_OK(device->write(kBlock, block_of('b')));
  ASSERT_OK(device->write(2 * kBlock, block_of('c')));
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    ASSIGN_OK(auto state, device->crash_state(device->position(), seed));
    EXPECT_EQ(picture(*state, 0, 8), "aaaaaaaa");
    seen.insert(picture(*state, kBlock, 16));
  }
  // The two later writes come whole, torn, and in any combination.
  EXPECT_TRUE(seen.contains("................"));
  EXPECT_TRUE(seen.contains("bbbbbbbbcccccccc"));
  EXPECT_TRUE(seen.contains("........cccccccc"));
  EXPECT_TRUE(seen.contains("bbbbbbbb........"));
  EXPECT_GT(seen.size(), 10u);
  EXPECT_EQ(device->volatile_changes(promised), 0u);
  EXPECT_EQ(device->volatile_changes(device->position()), 2u);
}

TEST(WriteLogDevice, NothingIsDurableBeforeTheFlushHasEnded) {
  auto device = make_device();
  ASSERT_OK(device->write(0, block_of('a')));
  const std::uint64_t before_flush = device->position();
  ASSERT_OK(device->flush());
  ASSIGN_OK(auto lost, device->crash_state(before_flush, 0));
  EXPECT_EQ(picture(*lost, 0, 1), ".");
  ASSIGN_OK(auto during, device->crash_state(before_flush + 1, 0));  // the flush has begun
  EXPECT_EQ(picture(*during, 0, 1), ".");
  ASSIGN_OK(auto kept, device->crash_state(device->position(), 0));
  EXPECT_EQ(picture(*kept, 0, 1), "a");
}

TEST(WriteLogDevice, AFailedFlushPromisesNothing) {
  MemoryDevice memory(1 << 20);
  FaultyDevice faulty(memory);
  ASSIGN_OK(auto device, WriteLogDevice::over(faulty));
  ASSERT_OK(device->write(0, block_of('a')));
  faulty.add_fault({.op = FaultyDevice::Op::flush, .times = 1});
  EXPECT_ERROR(device->flush(), EIO);
  EXPECT_EQ(device->volatile_changes(device->position()), 1u);
  ASSERT_OK(device->flush());
  EXPECT_EQ(device->volatile_changes(device->position()), 0u);
}

TEST(WriteLogDevice, AWriteInFlightDuringAFlushIsNotCoveredByIt) {
  MemoryDevice memory(1 << 20);
  FaultyDevice slow(memory);
  ASSIGN_OK(auto device, WriteLogDevice::over(slow));
  slow.hold(FaultyDevice::Op::write);
  std::thread writer([&] { EXPECT_OK(device->write(0, block_of('a'))); });
  ASSERT_TRUE(slow.wait_until_held(1));
  ASSERT_OK(device->flush());
  slow.release_all();
  writer.join();
  EXPECT_EQ(device->volatile_changes(device->position()), 1u);
  ASSIGN_OK(auto state, device->crash_state(device->position(), 0));
  EXPECT_EQ(picture(*state, 0, 1), ".");
}

TEST(WriteLogDevice, OfTwoWritesToOneSectorTheLaterOneWinsIfBothSurvive) {
  auto device = make_device();
  ASSERT_OK(device->write(0, block_of('a', 512)));
  ASSERT_OK(device->write(0, block_of('b', 512)));
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    ASSIGN_OK(auto state, device->crash_state(device->position(), seed));
    seen.insert(picture(*state, 0, 1));
  }
  EXPECT_EQ(seen, (std::set<std::string>{".", "a", "b"}));
}

TEST(WriteLogDevice, DiscardedBytesMayBeAnything) {
  auto device = make_device();
  ASSERT_OK(device->write(0, block_of('a')));
  ASSERT_OK(device->flush());
  ASSERT_OK(device->discard(0, kBlock));
  ASSERT_OK(device->flush());
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    ASSIGN_OK(auto state, device->crash_state(device->position(), seed));
    seen.insert(picture(*state, 0, 1));
  }
  EXPECT_EQ(seen, (std::set<std::string>{".", "a", "\xdb"}));
}

TEST(WriteLogDevice, TheSameSeedGivesTheSameState) {
  auto device = make_device();
  for (int i = 0; i < 30; ++i) ASSERT_OK(device->write(i * 700, block_of(static_cast<char>('A' + i))));
  std::vector<std::byte> one(1 << 20), other(1 << 20);
  std::set<std::vector<std::byte>> different;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    ASSIGN_OK(auto first, device->crash_state(device->position(), seed));
    ASSIGN_OK(auto second, device->crash_state(device->position(), seed));
    ASSERT_OK(first->read(0, one));
    ASSERT_OK(second->read(0, other));
    EXPECT_EQ(one, other);
    different.insert(one);
  }
  EXPECT_GT(different.size(), 15u);
}

TEST(WriteLogDevice, CrashPointsAreThePlacesBetweenRequestsAndNotesAreKept) {
  auto device = make_device();
  ASSERT_OK(device->write(0, block_of('a')));  // events 0 and 1
  EXPECT_EQ(device->note("between"), 3u);      // event 2
  ASSERT_OK(device->flush());                  // events 3 and 4
  EXPECT_EQ(device->crash_points(), (std::vector<std::uint64_t>{0, 1, 4, 5}));
  const std::vector<LogEntry> entries = device->entries();
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[1].text, "between");
  EXPECT_EQ(entries[2].kind, LogEntry::Kind::flush);
}

TEST(WriteLogDevice, RefusedRangesAreNotInTheLog) {
  auto device = make_device(kBlock);
  EXPECT_ERROR(device->write(1, block_of('a')), EIO);
  EXPECT_ERROR(device->zero(~std::uint64_t{0}, 2), EIO);
  EXPECT_ERROR(device->discard(kBlock, 1), EIO);
  EXPECT_TRUE(device->entries().empty());
}

}  // namespace
}  // namespace outboard::testing

#include "device/memory_device.h"
#include "iomap/direct.h"
#include "iomap/iterate.h"
#include "iomap/report.h"
#include "iomap/seek.h"
#include "iomap/toy_source.h"
#include "iomap/zero.h"
#include "testing/expect.h"

#include <gtest/gtest.h>

#include <random>

namespace outboard::iomap {
namespace {

constexpr std::uint32_t kBlock = 1024;

std::vector<std::byte> pattern(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  std::mt19937 random(seed);
  for (std::byte &byte : bytes) byte = std::byte(1 + random() % 255);
  return bytes;
}

class EngineTest : public ::testing::Test {
protected:
  EngineTest() {
    // Old contents everywhere: whatever is not written or zeroed on purpose shows.
    const std::vector<std::byte> garbage(64 * 1024, std::byte{0xEE});
    for (std::uint64_t at = 0; at < device.properties().size; at += garbage.size())
      EXPECT_OK(device.write(at, garbage));
  }
  std::vector<std::byte> read_all(std::size_t size) {
    std::vector<std::byte> bytes(size, std::byte{0x77});
    const auto got = direct::read(source, device, 0, bytes, size);
    EXPECT_OK(got);
    EXPECT_EQ(*got, size);
    return bytes;
  }
  device::MemoryDevice device{256 * kBlock};
  ToySource source{kBlock, 256};
};

TEST_F(EngineTest, UnalignedWriteIntoHolePadsItsBlocksWithZeros) {
  const auto data = pattern(3 * kBlock, 1);
  ASSERT_EQ(*direct::write(source, device, kBlock, 700, data, 0), data.size());
  EXPECT_EQ(source.size, 700 + data.size());
  std::vector<std::byte> expected(4 * kBlock);
  std::copy(data.begin(), data.end(), expected.begin() + 700);
  EXPECT_EQ(read_all(expected.size()), expected);
  EXPECT_TRUE(source.reserved.empty());
}

TEST_F(EngineTest, WriteInsideOneUnwrittenBlockZeroesBothSides) {
  source.put(0, true);
  source.size = kBlock;
  const auto data = pattern(10, 2);
  ASSERT_EQ(*direct::write(source, device, kBlock, 500, data, kBlock), 10u);
  std::vector<std::byte> expected(kBlock);
  std::copy(data.begin(), data.end(), expected.begin() + 500);
  EXPECT_EQ(read_all(kBlock), expected);
}

TEST_F(EngineTest, OverwriteKeepsTheRestOfTheBlock) {
  source.put(0, false);
  const auto data = pattern(10, 3);
  ASSERT_EQ(*direct::write(source, device, kBlock, 20, data, kBlock), 10u);
  std::vector<std::byte> expected(kBlock, std::byte{0xEE});
  std::copy(data.begin(), data.end(), expected.begin() + 20);
  EXPECT_EQ(read_all(kBlock), expected);
}

TEST_F(EngineTest, WriteBeyondTheEndZeroesTheStaleTailFirst) {
  source.put(0, false);
  source.size = 100;
  const auto data = pattern(5, 4);
  ASSERT_EQ(*direct::write(source, device, kBlock, 3000, data, 100), 5u);
  std::vector<std::byte> expected(3005);
  std::fill_n(expected.begin(), 100, std::byte{0xEE});
  std::copy(data.begin(), data.end(), expected.begin() + 3000);
  EXPECT_EQ(read_all(3005), expected);
  // Within the same block, too: only up to where the write begins.
  ToySource other{kBlock, 256};
  other.put(0, false);
  ASSERT_EQ(*direct::write(other, device, kBlock, 200, data, 100), 5u);
  std::vector<std::byte> bytes(205);
  ASSERT_EQ(*direct::read(other, device, 0, bytes, 205), 205u);
  EXPECT_TRUE(std::all_of(bytes.begin() + 100, bytes.begin() + 200, [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(EngineTest, ReadStopsAtTheEndOfTheFile) {
  source.put(0, false);
  std::vector<std::byte> bytes(kBlock);
  EXPECT_EQ(*direct::read(source, device, 100, bytes, 150), 50u);
  EXPECT_EQ(*direct::read(source, device, 150, bytes, 150), 0u);
  EXPECT_EQ(*direct::read(source, device, 5000, bytes, 150), 0u);
}

TEST_F(EngineTest, FullDeviceGivesAShortWriteThenNoSpace) {
  ToySource small{kBlock, 5};  // four blocks
  const auto data = pattern(6 * kBlock, 5);
  ASSERT_EQ(*direct::write(small, device, kBlock, 0, data, 0), 4u * kBlock);
  EXPECT_EQ(small.size, 4u * kBlock);
  EXPECT_ERROR(direct::write(small, device, kBlock, 4 * kBlock, data, 4 * kBlock), ENOSPC);
  EXPECT_TRUE(small.reserved.empty());
}

TEST_F(EngineTest, BytesThatCannotBeRecordedAreNotCounted) {
  source.max_answer = 2;
  source.put(0, true);
  source.put(1, true);
  source.refuse_ioend = 1;
  const auto data = pattern(5 * kBlock, 6);
  ASSERT_EQ(*direct::write(source, device, kBlock, 0, data, 0), 2u * kBlock);
  source.refuse_ioend = 0;
  EXPECT_ERROR(direct::write(source, device, kBlock, 2 * kBlock, data, 2 * kBlock), ENOSPC);
  EXPECT_EQ(source.size, 2u * kBlock);
  EXPECT_EQ(source.begins, source.ends);
}

TEST_F(EngineTest, DeviceErrorEndsTheMappingWithNothingWritten) {
  device.set_read_only(true);
  const auto data = pattern(kBlock, 7);
  EXPECT_ERROR(direct::write(source, device, kBlock, 0, data, 0), EROFS);
  EXPECT_TRUE(source.blocks.empty());
  EXPECT_TRUE(source.reserved.empty());
  EXPECT_EQ(source.begins, source.ends);
}

// Answers that would make a careless loop run for ever, or over the edge.
class LyingSource : public MappingSource {
public:
  Mapping answer;
  Result<Mapping> begin(ByteRange, Operation) override { return answer; }
  Status end(ByteRange, std::uint64_t, Operation, const Mapping &) override { return {}; }
};

TEST_F(EngineTest, AnswersThatDoNotCoverThePositionAreCorrupt) {
  LyingSource liar;
  std::vector<std::byte> bytes(100);
  for (const auto &[offset, length, address] : {std::array<std::uint64_t, 3>{0, 0, 0},
                                                {0, 4096, 0},
                                                {8192, 4096, 0},
                                                {4096, ~0ull, 0},
                                                {4096, 4096, ~0ull - 5}}) {
    liar.answer = {MappingType::mapped, 0, offset, length, address, 0};
    EXPECT_ERROR(direct::read(liar, device, 5000, bytes, 100000), EUCLEAN) << offset << " " << length;
    EXPECT_ERROR(seek_data(liar, 5000, 100000), EUCLEAN);
    EXPECT_ERROR(report(liar, {5000, 100}, 10), EUCLEAN);
  }
  EXPECT_ERROR(iterate(liar, {5, ~0ull}, Operation::read, [](const Mapping &, ByteRange) { return Step{}; }), EINVAL);
}

TEST_F(EngineTest, SeekTellsDataFromHoles) {
  source.put(2, false);
  source.put(3, true);
  source.put(5, false);
  const std::uint64_t size = 8 * kBlock + 10;
  EXPECT_EQ(*seek_data(source, 0, size), 2u * kBlock);
  EXPECT_EQ(*seek_data(source, 2 * kBlock + 7, size), 2u * kBlock + 7);
  EXPECT_EQ(*seek_data(source, 3 * kBlock, size), 5u * kBlock);
  EXPECT_EQ(*seek_hole(source, 0, size), 0u);
  EXPECT_EQ(*seek_hole(source, 2 * kBlock + 1, size), 3u * kBlock);
  EXPECT_EQ(*seek_hole(source, 5 * kBlock, 6 * kBlock), 6u * kBlock);
  EXPECT_ERROR(seek_data(source, 6 * kBlock, size), ENXIO);
  EXPECT_ERROR(seek_data(source, size, size), ENXIO);
  EXPECT_ERROR(seek_hole(source, size, size), ENXIO);
}

TEST_F(EngineTest, ReportMarksTheLastExtentAndCountsToItsLimit) {
  source.put(1, false);
  source.put(4, true);
  source.put(9, false);
  auto all = report(source, {0, ~0ull}, 10);
  ASSERT_OK(all);
  ASSERT_EQ(all->extents.size(), 3u);
  EXPECT_EQ(all->extents[1].mapping.type, MappingType::unwritten);
  EXPECT_FALSE(all->extents[1].last);
  EXPECT_TRUE(all->extents[2].last);
  auto some = report(source, {0, ~0ull}, 2);
  ASSERT_OK(some);
  EXPECT_FALSE(some->complete);
  auto range = report(source, {4 * kBlock, 1}, 5);
  ASSERT_OK(range);
  ASSERT_EQ(range->extents.size(), 1u);
  EXPECT_FALSE(range->extents[0].last);
  EXPECT_EQ(*bmap(source, kBlock, 1), source.blocks[1].device_block);
  EXPECT_EQ(*bmap(source, kBlock, 4), 0u);
  EXPECT_EQ(*bmap(source, kBlock, 2), 0u);
}

TEST_F(EngineTest, RandomWritesAndZeroesAgreeWithAByteArray) {
  std::mt19937 random(11);
  std::vector<std::byte> model;
  for (unsigned n = 0; n < 12; ++n) source.put(random() % 60, true);
  for (unsigned round = 0; round < 400; ++round) {
    source.max_answer = 1 + random() % 6;
    const std::uint64_t offset = random() % (60 * kBlock);
    const std::size_t length = 1 + random() % (5 * kBlock);
    if (random() % 3 != 0) {
      const auto data = pattern(length, round);
      ASSERT_EQ(*direct::write(source, device, kBlock, offset, data, source.size), length);
      if (model.size() < offset + length) model.resize(offset + length);
      std::copy(data.begin(), data.end(), model.begin() + static_cast<std::ptrdiff_t>(offset));
    } else if (offset < model.size()) {
      const std::uint64_t end = std::min<std::uint64_t>(offset + length, model.size());
      ASSERT_EQ(*zero(source, device, {offset, end - offset}), end - offset);
      std::fill(model.begin() + static_cast<std::ptrdiff_t>(offset), model.begin() + static_cast<std::ptrdiff_t>(end),
                std::byte{0});
    }
    ASSERT_EQ(source.size, model.size());
    ASSERT_EQ(read_all(model.size()), model) << round;
  }
  EXPECT_EQ(source.begins, source.ends);
  EXPECT_TRUE(source.reserved.empty());
}

}  // namespace
}  // namespace outboard::iomap

#include "iomap/cached_source.h"

#include "device/memory_device.h"
#include "iomap/buffered.h"
#include "iomap/direct.h"
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

// The toy with a mapping sequence, and promises that do not move it.
class SequencedToy final : public MappingSource {
public:
  explicit SequencedToy(std::uint64_t device_blocks) : toy(kBlock, device_blocks) {}
  Result<Mapping> begin(ByteRange range, Operation operation) override {
    Mapping mapping = TRY(toy.begin(range, operation));
    mapping.cookie = sequence;
    if (mapping.type == MappingType::delalloc) promised = true;
    else if (promised && mapping.type == MappingType::hole && operation == Operation::report)
      mapping.type = MappingType::delalloc;
    return mapping;
  }
  Status ioend(ByteRange written, const Mapping &mapping) override {
    TRY(toy.ioend(written, mapping));
    if (mapping.flags != 0 || mapping.type == MappingType::unwritten) ++sequence;
    return {};
  }
  Status end(ByteRange range, std::uint64_t moved, Operation operation, const Mapping &mapping) override {
    return toy.end(range, moved, operation, mapping);
  }
  bool is_current(const Mapping &mapping) const override { return mapping.cookie == sequence; }
  ToySource toy;
  std::uint64_t sequence = 1;
  bool promised = false;  // holes have been written to in memory
};

class CachedSourceTest : public ::testing::TestWithParam<Overwrites> {
protected:
  CachedSourceTest() {
    const std::vector<std::byte> garbage(64 * 1024, std::byte{0xEE});
    for (std::uint64_t at = 0; at < device.properties().size; at += garbage.size())
      EXPECT_OK(device.write(at, garbage));
  }
  std::vector<std::byte> read_all(std::size_t size) {
    std::vector<std::byte> bytes(size, std::byte{0x77});
    const auto got = direct::read(source, device, 0, bytes, size);
    EXPECT_OK(got);
    EXPECT_EQ(got.value_or(0), size);
    return bytes;
  }
  device::MemoryDevice device{256 * kBlock};
  SequencedToy inner{256};
  MappingCache cache;
  InodeMappings mappings;
  CachedSource source{inner, cache, mappings, inner.sequence, GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Both, CachedSourceTest, ::testing::Values(Overwrites::asked, Overwrites::from_cache),
                         [](const auto &test) { return test.param == Overwrites::asked ? "asked" : "from_cache"; });

TEST_P(CachedSourceTest, TheSecondReadAsksNobodyUntilTheMapChanges) {
  inner.toy.put(0, false);
  inner.toy.put(1, true);
  inner.toy.put(5, false);
  const auto first = read_all(8 * kBlock);
  const unsigned asked = inner.toy.begins;
  EXPECT_GT(asked, 2u);
  EXPECT_EQ(read_all(8 * kBlock), first);
  EXPECT_EQ(inner.toy.begins, asked);
  // The block moves, the sequence with it.
  inner.toy.put(5, false);
  ASSERT_OK(device.write(inner.toy.blocks[5].device_block * kBlock, std::vector<std::byte>(kBlock, std::byte{0x11})));
  ++inner.sequence;
  EXPECT_EQ(read_all(8 * kBlock)[5 * kBlock], std::byte{0x11});
  EXPECT_EQ(inner.toy.begins, 2 * asked);
  EXPECT_EQ(inner.toy.begins, inner.toy.ends);  // rounds that began in the cache have no end inside
}

TEST_P(CachedSourceTest, AHoleThatWasReadStillGetsItsBlocks) {
  EXPECT_EQ(read_all(4 * kBlock), std::vector<std::byte>(4 * kBlock));
  const std::vector<std::byte> data(3 * kBlock, std::byte{0x42});
  ASSERT_EQ(direct::write(source, device, kBlock, 0, data, 0).value_or(0), data.size());
  EXPECT_EQ(inner.toy.blocks.size(), 3u);
  EXPECT_EQ(read_all(3 * kBlock), data);
}

TEST_P(CachedSourceTest, FreshBlocksAreNotRememberedBeforeTheyAreRecorded) {
  const ByteRange range{0, kBlock};
  const auto mapping = source.begin(range, Operation::write);
  ASSERT_OK(mapping);
  ASSERT_NE(mapping->flags & kFresh, 0u);
  ASSERT_OK(source.end(range, 0, Operation::write, *mapping));
  EXPECT_TRUE(inner.toy.reserved.empty());  // the source inside heard of the end
  EXPECT_FALSE(cache.lookup(mappings, 0, inner.sequence));
}

TEST_P(CachedSourceTest, AnOverwriteIsRecordedWhoeverMappedIt) {
  inner.toy.put(0, false);
  inner.toy.size = 10;
  read_all(kBlock);
  const unsigned begins = inner.toy.begins;
  const std::vector<std::byte> data(100, std::byte{0x42});
  ASSERT_EQ(direct::write(source, device, kBlock, 5, data, 10).value_or(0), data.size());
  EXPECT_EQ(inner.toy.begins, begins + (GetParam() == Overwrites::asked ? 1 : 0));
  EXPECT_EQ(inner.toy.ioends, 1u);
  EXPECT_EQ(inner.toy.size, 105u);
  EXPECT_EQ(inner.toy.begins, inner.toy.ends);
}

TEST_P(CachedSourceTest, APromiseMadeInAKnownHoleIsReported) {
  pagecache::FolioMemory memory;
  pagecache::FileCache file(memory, kBlock);
  inner.toy.put(3, false);
  file.set_size(4 * kBlock);
  std::vector<std::byte> bytes(4 * kBlock);
  ASSERT_EQ(buffered::read(source, file, device, 0, bytes).value_or(0), bytes.size());
  EXPECT_EQ(seek_data(source, 0, 4 * kBlock).value_or(99), 3u * kBlock);
  const std::uint64_t before = inner.sequence;
  ASSERT_EQ(buffered::write(source, file, device, 0, std::vector<std::byte>(10, std::byte{1})).value_or(0), 10u);
  ASSERT_EQ(inner.sequence, before);
  const auto now = source.begin({0, kBlock}, Operation::report);
  ASSERT_OK(now);
  EXPECT_EQ(now->type, MappingType::delalloc);
  ASSERT_OK(source.end({0, kBlock}, 0, Operation::report, *now));
  ASSERT_EQ(buffered::read(source, file, device, 0, bytes).value_or(0), bytes.size());
  EXPECT_EQ(bytes[9], std::byte{1});
}

TEST_P(CachedSourceTest, AReportDoesNotShowInWhichPiecesTheCacheLearned) {
  for (std::uint64_t b = 0; b < 9; ++b) inner.toy.put(b, b >= 6);
  const auto whole = report(inner, {0, ~0ull}, 10);
  ASSERT_OK(whole);
  ASSERT_EQ(whole->extents.size(), 2u);
  inner.toy.max_answer = 2;
  std::vector<std::byte> some(kBlock);
  for (const std::uint64_t at : {4, 1, 7}) ASSERT_OK(direct::read(source, device, at * kBlock, some, 9 * kBlock));
  inner.toy.max_answer = ~std::uint64_t{0};
  const auto pieces = report(source, {0, ~0ull}, 10);
  ASSERT_OK(pieces);
  ASSERT_EQ(pieces->extents.size(), 2u);
  for (std::size_t n = 0; n < 2; ++n) {
    EXPECT_EQ(pieces->extents[n].mapping.offset, whole->extents[n].mapping.offset);
    EXPECT_EQ(pieces->extents[n].mapping.length, whole->extents[n].mapping.length);
    EXPECT_EQ(pieces->extents[n].mapping.address, whole->extents[n].mapping.address);
    EXPECT_EQ(pieces->extents[n].last, whole->extents[n].last);
  }
}

TEST_P(CachedSourceTest, RandomWritesAndZeroesAgreeWithAByteArray) {
  std::mt19937 random(11);
  std::vector<std::byte> model;
  for (unsigned n = 0; n < 12; ++n) inner.toy.put(random() % 60, true);
  for (unsigned round = 0; round < 400; ++round) {
    inner.toy.max_answer = 1 + random() % 6;
    if (random() % 16 == 0) cache.shrink(~std::size_t{0});
    const std::uint64_t offset = random() % (60 * kBlock);
    const std::size_t length = 1 + random() % (5 * kBlock);
    if (random() % 3 != 0) {
      const std::vector<std::byte> data(length, std::byte(1 + round % 255));
      ASSERT_EQ(direct::write(source, device, kBlock, offset, data, inner.toy.size).value_or(0), length);
      if (model.size() < offset + length) model.resize(offset + length);
      std::copy(data.begin(), data.end(), model.begin() + static_cast<std::ptrdiff_t>(offset));
    } else if (offset < model.size()) {
      const std::uint64_t end = std::min<std::uint64_t>(offset + length, model.size());
      ASSERT_EQ(zero(source, device, {offset, end - offset}).value_or(0), end - offset);
      std::fill(model.begin() + static_cast<std::ptrdiff_t>(offset), model.begin() + static_cast<std::ptrdiff_t>(end),
                std::byte{0});
    }
    ASSERT_EQ(inner.toy.size, model.size());
    ASSERT_EQ(read_all(model.size()), model) << round;
    ASSERT_EQ(read_all(model.size()), model) << round;  // all of it from the cache
  }
  EXPECT_GT(cache.counters().hits, 1000u);
  EXPECT_EQ(inner.toy.begins, inner.toy.ends);
  EXPECT_TRUE(inner.toy.reserved.empty());
}

class LyingSource : public MappingSource {
public:
  Mapping answer;
  unsigned ends = 0;
  Result<Mapping> begin(ByteRange, Operation) override { return answer; }
  Status end(ByteRange, std::uint64_t, Operation, const Mapping &) override {
    ++ends;
    return {};
  }
};

TEST(CachedSourceLies, AnswersThatAreNoneAreRefusedEachTimeAndNotRemembered) {
  device::MemoryDevice device(256 * kBlock);
  LyingSource liar;
  MappingCache cache;
  InodeMappings mappings;
  const std::uint64_t sequence = 7;
  CachedSource source(liar, cache, mappings, sequence);
  std::vector<std::byte> bytes(100);
  unsigned rounds = 0;
  for (const auto &[offset, length, address] : {std::array<std::uint64_t, 3>{0, 0, 0},
                                                {0, 4096, 0},
                                                {8192, 4096, 0},
                                                {4096, ~0ull, 0},
                                                {4096, 4096, ~0ull - 5}}) {
    liar.answer = {MappingType::mapped, 0, offset, length, address, sequence, {}};
    EXPECT_ERROR(direct::read(source, device, 5000, bytes, 100000), EUCLEAN) << offset << " " << length;
    EXPECT_EQ(liar.ends, ++rounds);
  }
  EXPECT_EQ(cache.bytes(), 0u);
  // True once, under another cookie than the inode's: used, not kept.
  liar.answer = {MappingType::mapped, 0, 4096, 4096, 0, sequence - 1, {}};
  EXPECT_OK(direct::read(source, device, 5000, bytes, 100000));
  EXPECT_EQ(cache.bytes(), 0u);
}

}  // namespace
}  // namespace outboard::iomap

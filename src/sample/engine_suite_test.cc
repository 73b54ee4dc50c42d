// What the engine promises, asked of four file systems: each test runs over all of those whose traits allow it.
#include "iomap/buffered.h"
#include "iomap/write_back.h"
#include "sample/engine_subjects.h"

#include <gtest/gtest.h>

#include <thread>

namespace outboard::sample::testing {
namespace {

constexpr std::uint64_t kBlock = Subject::kBlock;

class EngineTest : public ::testing::TestWithParam<Traits> {
protected:
  EngineTest() {
    if (!traits().grows) model.assign(traits().span, kStale);
  }
  const Traits &traits() const { return GetParam(); }

  // Both change what is there and what should be.
  void put(std::uint64_t offset, std::size_t size, unsigned seed) {
    const auto data = pattern(size, seed);
    ASSERT_NO_FATAL_FAILURE(s.write(offset, data));
    expect(offset, data);
  }
  void expect(std::uint64_t offset, std::span<const std::byte> data) {
    if (model.size() < offset + data.size()) model.resize(offset + data.size());
    std::ranges::copy(data, model.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  void expect_zeros(std::uint64_t offset, std::uint64_t size) {
    const std::uint64_t end = std::min<std::uint64_t>(offset + size, model.size());
    for (std::uint64_t at = offset; at < end; ++at) model[at] = std::byte{0};
  }
  // Now, and when all is on the device and nothing in memory.
  void check() { ASSERT_TRUE(s.read_all() == model) << first_difference(s.read_all()); }
  void check_for_good() {
    ASSERT_NO_FATAL_FAILURE(check());
    ASSERT_OK(s.file->flush());
    EXPECT_EQ(s.file->dirty_bytes(), 0u);
    ASSERT_NO_FATAL_FAILURE(check());
    s.reopen();
    ASSERT_NO_FATAL_FAILURE(check());
  }
  std::string first_difference(const std::vector<std::byte> &bytes) const {
    if (bytes.size() != model.size()) return "size " + std::to_string(bytes.size()) + ", not " + std::to_string(model.size());
    const auto place = std::ranges::mismatch(bytes, model).in1 - bytes.begin();
    return "byte " + std::to_string(place);
  }
  // Changes of the device since `position`.
  std::vector<outboard::testing::LogEntry> writes_since(std::uint64_t position) const {
    std::vector<outboard::testing::LogEntry> out;
    for (auto &entry : s.log->entries())
      if (entry.begin >= position && entry.kind == outboard::testing::LogEntry::Kind::write) out.push_back(std::move(entry));
    return out;
  }
  iomap::Mapping mapping_at(std::uint64_t offset) {
    const auto report = s.file->report({offset, 1}, 1);
    EXPECT_OK(report);
    return report->extents.empty() ? iomap::Mapping{} : report->extents[0].mapping;
  }

  Subject s{GetParam()};
  std::vector<std::byte> model;
};

// --- bytes in and out: everywhere -------------------------------------------------------------------------------------

TEST_P(EngineTest, WhatWasWrittenIsReadDirtyAndClean) {
  put(0, traits().span / 2 + 7, 1);
  check_for_good();
}

TEST_P(EngineTest, PartialBlocksKeepTheirOtherBytes) {
  put(0, traits().span - 5, 1);
  ASSERT_OK(s.file->flush());
  put(traits().span / 8 + 3, traits().span / 4 + 5, 2);  // partial at both ends
  put(traits().span / 2 + 100, 10, 3);                   // inside one block
  check_for_good();
}

TEST_P(EngineTest, OverlappingRewritesLeaveTheLastOne) {
  for (unsigned n = 0; n < 20; ++n) put(n * traits().span / 50, traits().span / 5 + n, n);
  put(traits().span / 100, traits().span / 3, 99);
  check_for_good();
}

TEST_P(EngineTest, ZeroRangeReadsAsZerosAndKeepsTheSize) {
  put(0, traits().span / 2, 1);
  ASSERT_OK(s.file->flush());
  put(traits().span / 4, traits().span / 8, 2);
  ASSERT_OK(s.file->zero({traits().span / 8 + 11, traits().span / 4}));
  expect_zeros(traits().span / 8 + 11, traits().span / 4);
  ASSERT_OK(s.file->zero({model.size() - 3, 1000000}));
  expect_zeros(model.size() - 3, 3);
  check_for_good();
}

TEST_P(EngineTest, ReadsEndWithTheFile) {
  put(0, traits().span / 2 + 1, 1);
  const std::uint64_t size = s.file->size();
  EXPECT_EQ(s.read(size - 5, 100).size(), 5u);
  EXPECT_TRUE(s.read(size, 100).empty());
  EXPECT_TRUE(s.read(size + 1000000, 100).empty());
}

TEST_P(EngineTest, DirectWritesAndReadsStandBesideDirtyBytes) {
  put(0, traits().span / 2, 1);
  const std::uint64_t unit = traits().dirty ? kBlock : 256;
  const auto direct = [&](std::uint64_t offset, std::size_t size, unsigned seed) {
    const auto data = pattern(size, seed);
    const auto done = s.file->write_direct(offset, data);
    ASSERT_OK(done);
    ASSERT_EQ(*done, size);
    expect(offset, data);
  };
  direct(2 * unit, 2 * unit, 2);  // whole blocks between dirty ones
  check();
  put(unit + 5, unit, 3);
  direct(unit + 100, 50, 4);  // inside a dirty block
  put(2 * unit - 7, 20, 5);
  std::vector<std::byte> bytes(3 * unit);
  ASSERT_EQ(s.file->read_direct(unit / 2, bytes).value_or(0), bytes.size());
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), model.begin() + static_cast<std::ptrdiff_t>(unit / 2)));
  check_for_good();
}

TEST_P(EngineTest, WritesPastWhatTheFileCanHoldAreRefused) {
  const std::uint64_t limit = s.source->size_limit();
  if (limit > std::uint64_t{1} << 40) {
    EXPECT_FALSE(s.file->write(limit, pattern(10, 1)).has_value());
    return;
  }
  EXPECT_EQ(s.file->write(limit - 10, pattern(30, 1)).value_or(0), 10u);
  EXPECT_FALSE(s.file->write(limit, pattern(30, 1)).has_value());
  EXPECT_EQ(s.file->size(), limit);
}

INSTANTIATE_TEST_SUITE_P(All, EngineTest, ::testing::Values(kLinear, kInline, kOutOfPlace, kExt4),
                         [](const auto &test) { return std::string(test.param.name); });

// --- the page cache between: where bytes can be dirty -----------------------------------------------------------------

class EngineDirtyTest : public EngineTest {};

TEST_P(EngineDirtyTest, ReadsCrossFoliosAndDevice) {
  put(0, 16 * kBlock, 1);
  ASSERT_OK(s.file->flush());
  put(kBlock + 900, 100, 2);
  put(5 * kBlock, 2 * kBlock, 3);
  put(9 * kBlock - 1, 2, 4);
  EXPECT_EQ(s.file->dirty_bytes(), 5 * kBlock);
  const auto bytes = s.read(777, 12 * kBlock);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), model.begin() + 777));
  check_for_good();
}

TEST_P(EngineDirtyTest, ManySmallWritesReachTheDeviceAsFewLargeOnes) {
  constexpr unsigned kWrites = 128;
  for (unsigned n = 0; n < kWrites; ++n) put(n * 4000, 4000, n);
  const std::uint64_t position = s.log->position();
  ASSERT_OK(s.file->write_back());
  const auto writes = writes_since(position);
  std::uint64_t bytes = 0;
  for (const auto &entry : writes) bytes += entry.length;
  EXPECT_EQ(bytes, round_up<std::uint64_t>(kWrites * 4000, kBlock));
  EXPECT_LE(writes.size(), 4u);
  check_for_good();
}

TEST_P(EngineDirtyTest, WriteBackGoesUpwards) {
  put(0, 40 * kBlock, 1);
  ASSERT_OK(s.file->flush());
  for (unsigned block : {30, 2, 17, 3}) {
    const std::vector<std::byte> data(kBlock, std::byte(block));
    s.write(block * kBlock, data);
    expect(block * kBlock, data);
  }
  const std::uint64_t position = s.log->position();
  ASSERT_OK(s.file->write_back());
  std::vector<unsigned> order;
  for (const auto &entry : writes_since(position)) order.push_back(std::to_integer<unsigned>(entry.data[0]));
  EXPECT_EQ(order, (std::vector<unsigned>{2, 17, 30}));
  check_for_good();
}

TEST_P(EngineDirtyTest, ConcurrentRewriteOfWhatIsBeingWrittenIsNotHeldUpAndWins) {
  put(0, 8 * kBlock, 1);
  s.device->hold(FaultyDevice::Op::write);
  std::thread write_back([&] { EXPECT_OK(s.file->write_back()); });
  ASSERT_TRUE(s.device->wait_until_held(1));
  put(kBlock + 5, 3 * kBlock, 2);
  put(3 * kBlock + 1, 10, 3);
  check();
  s.device->release(FaultyDevice::Op::write);
  write_back.join();
  EXPECT_EQ(s.file->dirty_bytes(), 4 * kBlock);  // what was written again, and no more
  check_for_good();
}

TEST_P(EngineDirtyTest, FailedWriteBackIsToldOnceAndNothingStaysPromised) {
  put(0, 4 * kBlock, 1);
  ASSERT_OK(s.file->flush());
  const std::uint64_t free = s.free_blocks();
  const auto lost = pattern(6 * kBlock, 2);
  s.write(2 * kBlock, lost);
  s.device->add_fault({.op = FaultyDevice::Op::write});
  EXPECT_ERROR(s.file->write_back(), EIO);
  s.device->clear_faults();
  EXPECT_EQ(s.file->dirty_bytes(), 0u);
  EXPECT_ERROR(s.file->flush(), EIO);
  EXPECT_OK(s.file->flush());
  EXPECT_EQ(s.free_blocks(), free);
  // The file works on.
  put(0, 9 * kBlock, 3);
  check_for_good();
}

TEST_P(EngineDirtyTest, FailedReadOfABlocksRestChangesNothing) {
  put(0, 8 * kBlock, 1);
  s.reopen();
  s.device->add_fault({.op = FaultyDevice::Op::read});
  EXPECT_ERROR(s.file->write(kBlock + 10, pattern(10, 2)), EIO);
  EXPECT_ERROR(s.file->write(2 * kBlock + 10, pattern(3 * kBlock, 2)), EIO);
  EXPECT_EQ(s.file->dirty_bytes(), 0u);
  s.device->clear_faults();
  check();
  // Only the second edge fails; and beside bytes that are dirty already.
  put(2 * kBlock, kBlock, 3);
  if (const iomap::Mapping mapping = mapping_at(4 * kBlock); mapping.length > 0)
    s.device->add_fault({.op = FaultyDevice::Op::read, .offset = mapping.address + (4 * kBlock - mapping.offset), .length = 1});
  // Where the dirty block has a mapping of its own, it takes its part: a short count.
  const auto data = pattern(2 * kBlock, 4);
  const auto done = s.file->write(2 * kBlock + 100, data);
  if (done) {
    EXPECT_EQ(*done, kBlock - 100);
    expect(2 * kBlock + 100, std::span(data).first(*done));
  } else {
    EXPECT_TRUE(done.error().is(EIO));
  }
  EXPECT_EQ(s.file->dirty_bytes(), kBlock);
  s.device->clear_faults();
  check_for_good();
}

// is_current() is false for the first answers.
class StaleSource final : public iomap::MappingSource {
public:
  StaleSource(iomap::MappingSource &below, int stale) : below_(below), stale_(stale) {}
  Result<iomap::Mapping> begin(ByteRange range, iomap::Operation operation) override {
    ++begins;
    return below_.begin(range, operation);
  }
  Status ioend(ByteRange written, const iomap::Mapping &mapping) override { return below_.ioend(written, mapping); }
  Status end(ByteRange range, std::uint64_t moved, iomap::Operation operation, const iomap::Mapping &mapping) override {
    ++ends;
    return below_.end(range, moved, operation, mapping);
  }
  bool is_current(const iomap::Mapping &mapping) const override { return stale_-- <= 0 && below_.is_current(mapping); }
  int begins = 0, ends = 0;

private:
  iomap::MappingSource &below_;
  mutable int stale_;
};

TEST_P(EngineDirtyTest, StaleMappingsAreAskedForAgainAndNotForEver) {
  pagecache::FileCache pages(s.memory, kBlock);
  pages.set_size(s.source->size());
  const auto data = pattern(4 * kBlock, 1);
  const auto dirty = [&] {
    ASSERT_OK(iomap::buffered::write(*s.source, pages, *s.device, 0, data));
    auto batch = pages.take(0, 1 << 20);
    s.source->taken(batch.range);
  };
  ASSERT_NO_FATAL_FAILURE(dirty());
  auto batch = pages.take(0, 1 << 20);
  const std::uint64_t writes = s.writes();
  iomap::WriteBackCount done;
  StaleSource once(*s.source, 2);
  EXPECT_OK(iomap::write_back(once, batch, *s.device, kBlock, done));
  EXPECT_EQ(done.bytes, data.size());
  EXPECT_EQ(s.writes() - writes, done.writes);
  EXPECT_GE(once.begins, 3);
  EXPECT_EQ(once.begins, once.ends);
  s.source->settle(true);
  pages.finish(batch);
  EXPECT_TRUE(pages.empty());

  ASSERT_NO_FATAL_FAILURE(dirty());
  batch = pages.take(0, 1 << 20);
  StaleSource always(*s.source, 1 << 30);
  const std::uint64_t before = s.writes();
  EXPECT_ERROR(iomap::write_back(always, batch, *s.device, kBlock, done = {}), EUCLEAN);
  EXPECT_EQ(s.writes(), before);
  EXPECT_EQ(always.begins, always.ends);
  s.source->settle(false);
  pages.finish(batch);
  s.source->clean();
  // The first write's bytes are the file's.
  s.file->discard();
  s.file = std::make_unique<CachedFile>(*s.source, *s.device, s.memory, kBlock);
  EXPECT_TRUE(s.read(0, data.size()) == data);
}

TEST_P(EngineDirtyTest, ConcurrentReadersSeeWholeWritesWhileEverythingIsWrittenBack) {
  constexpr std::uint64_t kRecord = 3 * kBlock + 100, kOffset = 500;
  std::atomic<bool> over = false;
  std::atomic<unsigned> reads = 0;
  s.write(kOffset, std::vector<std::byte>(kRecord, std::byte{1}));
  std::vector<std::thread> threads;
  for (unsigned reader = 0; reader < 2; ++reader)
    threads.emplace_back([&] {
      std::vector<std::byte> bytes(kRecord);
      do {
        ASSERT_EQ(s.file->read(kOffset, bytes).value_or(0), kRecord);
        ASSERT_TRUE(std::ranges::all_of(bytes, [&](std::byte b) { return b == bytes[0]; }));
        ++reads;
      } while (!over);
    });
  threads.emplace_back([&] {
    while (!over) ASSERT_OK(s.file->write_back());
  });
  threads.emplace_back([&] {
    // A neighbour, in the same blocks at both ends.
    while (!over) {
      ASSERT_OK(s.file->write(0, std::vector<std::byte>(kOffset, std::byte{200})));
      ASSERT_OK(s.file->write(kOffset + kRecord, std::vector<std::byte>(50, std::byte{201})));
    }
  });
  for (unsigned n = 2; n < 200; ++n) {
    const auto done = s.file->write(kOffset, std::vector<std::byte>(kRecord, std::byte(n)));
    EXPECT_OK(done);
  }
  over = true;
  for (std::thread &thread : threads) thread.join();
  EXPECT_GE(reads, 2u);
  ASSERT_OK(s.file->flush());
  s.reopen();
  const auto bytes = s.read(kOffset, kRecord);
  EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{199}; }));
}

INSTANTIATE_TEST_SUITE_P(All, EngineDirtyTest, ::testing::Values(kLinear, kOutOfPlace, kExt4),
                         [](const auto &test) { return std::string(test.param.name); });

// --- the end of the file ----------------------------------------------------------------------------------------------

class EngineSizeTest : public EngineTest {};

TEST_P(EngineSizeTest, AGapReadsAsZeros) {
  put(0, 100, 1);
  put(traits().span / 2 + 5, 20, 2);
  check();
  ASSERT_OK(s.file->flush());
  put(traits().span - 20, 20, 3);
  check_for_good();
}

TEST_P(EngineSizeTest, WhatWasCutOffDoesNotComeBack) {
  put(0, traits().span, 1);
  ASSERT_OK(s.file->flush());
  put(traits().span / 2, 100, 2);
  const std::uint64_t cut = traits().span / 3 + 5;
  ASSERT_OK(s.file->set_size(cut));
  model.resize(cut);
  check();
  ASSERT_OK(s.file->set_size(traits().span - 1));
  model.resize(traits().span - 1);
  check();
  put(cut + 10, 5, 3);
  check_for_good();
  ASSERT_OK(s.file->set_size(0));
  model.clear();
  check_for_good();
}

INSTANTIATE_TEST_SUITE_P(All, EngineSizeTest, ::testing::Values(kInline, kOutOfPlace, kExt4),
                         [](const auto &test) { return std::string(test.param.name); });

// --- holes and space --------------------------------------------------------------------------------------------------

class EngineHolesTest : public EngineTest {};

TEST_P(EngineHolesTest, TruncationDropsFoliosUnwritten) {
  put(0, 10 * kBlock, 1);
  ASSERT_OK(s.file->set_size(kBlock + 904));
  model.resize(kBlock + 904);
  EXPECT_EQ(s.file->dirty_bytes(), 2 * kBlock);
  const std::uint64_t position = s.log->position();
  ASSERT_OK(s.file->write_back());
  std::uint64_t bytes = 0;
  for (const auto &entry : writes_since(position)) bytes += entry.length;
  EXPECT_EQ(bytes, 2 * kBlock);
  check_for_good();
}

TEST_P(EngineHolesTest, StaleBytesBehindTheEndNeverBecomeTheFiles) {
  const auto grow_by_write = [&] { put(3 * kBlock + 10, 30, 2); };
  const auto grow_by_size = [&] {
    ASSERT_OK(s.file->set_size(2 * kBlock + 1));
    model.resize(2 * kBlock + 1);
  };
  const auto grow_direct = [&] {
    const auto data = pattern(kBlock, 3);
    ASSERT_EQ(s.file->write_direct(2 * kBlock, data).value_or(0), kBlock);
    expect(2 * kBlock, data);
  };
  for (const std::function<void()> &grow : std::initializer_list<std::function<void()>>{grow_by_write, grow_by_size, grow_direct}) {
    model.clear();
    ASSERT_OK(s.file->set_size(0));
    put(0, 100, 1);
    ASSERT_OK(s.file->flush());
    const iomap::Mapping mapping = mapping_at(0);
    ASSERT_EQ(mapping.type, iomap::MappingType::mapped);
    ASSERT_OK(s.device->write(mapping.address + 100, std::vector<std::byte>(kBlock - 100, kStale)));
    grow();
    check_for_good();
  }
}

TEST_P(EngineHolesTest, TheZeroedTailIsWrittenBeforeWhatGrewTheFile) {
  put(0, 100, 1);
  ASSERT_OK(s.file->flush());
  put(20 * kBlock, 2 * kBlock, 2);
  const std::uint64_t position = s.log->position();
  ASSERT_OK(s.file->write_back());
  const auto writes = writes_since(position);
  ASSERT_EQ(writes.size(), 2u);
  EXPECT_TRUE(std::equal(model.begin(), model.begin() + kBlock, writes[0].data.begin(), writes[0].data.end()));
}

TEST_P(EngineHolesTest, FullVolumeEndsAWriteAndKeepsWhatItTook) {
  std::uint64_t size = 0;
  int code = 0;
  for (unsigned n = 0; code == 0 && n < 100; ++n) {
    const auto data = pattern((1 << 20) - 100, n);
    const auto done = s.file->write(size, data);
    if (!done) code = done.error().code();
    else expect(size, std::span(data).first(*done));
    if (done) size += *done;
  }
  EXPECT_EQ(code, ENOSPC);
  EXPECT_GT(size, 1u << 20);
  // Accepted is promised: write-back does not run out of space.
  check_for_good();
}

TEST_P(EngineHolesTest, PunchedBlocksReadAsZerosAndAreFreeAgain) {
  put(0, 30 * kBlock, 1);
  ASSERT_OK(s.file->flush());
  const std::uint64_t free = s.free_blocks();
  put(10 * kBlock, 5 * kBlock + 3, 2);
  ASSERT_OK(s.file->punch({2 * kBlock + 100, 10 * kBlock}));
  expect_zeros(2 * kBlock + 100, 10 * kBlock);
  ASSERT_OK(s.file->punch({20 * kBlock + 1, 10}));
  expect_zeros(20 * kBlock + 1, 10);
  check_for_good();
  EXPECT_EQ(s.free_blocks(), free + 9);
  EXPECT_EQ(s.file->seek_hole(0).value_or(0), 3 * kBlock);
}

TEST_P(EngineHolesTest, SeekFindsDirtyBytesAsItFindsThoseOnTheDevice) {
  put(2 * kBlock + 10, 10, 1);
  put(5 * kBlock, 2 * kBlock, 2);
  ASSERT_OK(s.file->set_size(10 * kBlock));
  const auto ask = [&] {
    EXPECT_EQ(s.file->seek_data(0).value_or(1), 2 * kBlock);
    EXPECT_EQ(s.file->seek_data(2 * kBlock + 77).value_or(1), 2 * kBlock + 77);
    EXPECT_EQ(s.file->seek_hole(2 * kBlock + 77).value_or(1), 3 * kBlock);
    EXPECT_EQ(s.file->seek_data(3 * kBlock).value_or(1), 5 * kBlock);
    EXPECT_EQ(s.file->seek_hole(5 * kBlock).value_or(1), 7 * kBlock);
    EXPECT_EQ(s.file->seek_hole(0).value_or(1), 0u);
    EXPECT_ERROR(s.file->seek_data(7 * kBlock), ENXIO);
    EXPECT_ERROR(s.file->seek_hole(10 * kBlock), ENXIO);
  };
  EXPECT_GT(s.file->dirty_bytes(), 0u);
  ask();
  ASSERT_OK(s.file->flush());
  ask();
}

TEST_P(EngineHolesTest, ReportTellsPromisedBlocksFromThoseThatAreThere) {
  put(kBlock, 2 * kBlock, 1);
  auto report = s.file->report({0, ~std::uint64_t{0}}, 10);
  ASSERT_OK(report);
  ASSERT_EQ(report->extents.size(), 1u);
  EXPECT_EQ(report->extents[0].mapping.type, iomap::MappingType::delalloc);
  ASSERT_OK(s.file->flush());
  put(8 * kBlock, kBlock, 2);
  report = s.file->report({0, ~std::uint64_t{0}}, 10);
  ASSERT_OK(report);
  ASSERT_EQ(report->extents.size(), 2u);
  EXPECT_EQ(report->extents[0].mapping.type, iomap::MappingType::mapped);
  EXPECT_EQ(report->extents[0].mapping.offset, kBlock);
  EXPECT_EQ(report->extents[0].mapping.length, 2 * kBlock);
  EXPECT_FALSE(report->extents[0].last);
  EXPECT_EQ(report->extents[1].mapping.type, iomap::MappingType::delalloc);
  EXPECT_TRUE(report->extents[1].last);
}

INSTANTIATE_TEST_SUITE_P(All, EngineHolesTest, ::testing::Values(kOutOfPlace, kExt4),
                         [](const auto &test) { return std::string(test.param.name); });

// --- anything, in any order -------------------------------------------------------------------------------------------

class EngineRandomTest : public ::testing::TestWithParam<Traits> {};

void run_random(const Traits &traits, unsigned seed) {
  Subject s(traits);
  std::mt19937 random(seed);
  const std::uint64_t span = std::min<std::uint64_t>(traits.span, 40 * kBlock);
  std::vector<std::byte> model;
  if (!traits.grows) model.assign(traits.span, kStale);
  const auto resize = [&](std::uint64_t size) { model.resize(size); };
  for (unsigned step = 0; step < 120; ++step) {
    const std::uint64_t offset = random() % span;
    const std::size_t length = 1 + random() % std::min<std::uint64_t>(span - offset, random() % 4 == 0 ? span : 3 * kBlock);
    const auto data = pattern(length, static_cast<unsigned>(random()));
    const auto from = static_cast<std::ptrdiff_t>(offset);
    const auto clear = [&] {
      for (std::uint64_t at = offset; at < std::min<std::uint64_t>(offset + length, model.size()); ++at) model[at] = std::byte{0};
    };
    SCOPED_TRACE(std::string(traits.name) + " seed " + std::to_string(seed) + " step " + std::to_string(step));
    switch (random() % 10) {
    case 0: ASSERT_OK(s.file->flush()); break;
    case 1: ASSERT_OK(s.file->write_back()); break;
    case 2:
      ASSERT_OK(s.file->zero({offset, length}));
      clear();
      break;
    case 3:
      if (!traits.grows) break;
      ASSERT_OK(s.file->set_size(offset));
      resize(offset);
      break;
    case 4:
      if (!traits.holes) break;
      ASSERT_OK(s.file->punch({offset, length}));
      clear();
      break;
    case 5:
    case 6: {
      const auto done = s.file->write_direct(offset, data);
      ASSERT_OK(done);
      ASSERT_EQ(*done, length);
      if (model.size() < offset + length) resize(offset + length);
      std::ranges::copy(data, model.begin() + from);
      break;
    }
    default:
      ASSERT_NO_FATAL_FAILURE(s.write(offset, data));
      if (model.size() < offset + length) resize(offset + length);
      std::ranges::copy(data, model.begin() + from);
    }
    ASSERT_TRUE(s.read_all() == model);
    if (step % 30 == 29) {
      s.reopen();
      ASSERT_TRUE(s.read_all() == model);
    }
  }
}

TEST_P(EngineRandomTest, RandomOperationsAgreeWithAByteArray) {
  for (unsigned seed = 0; seed < 12 && !HasFatalFailure(); ++seed) run_random(GetParam(), seed);
}

INSTANTIATE_TEST_SUITE_P(All, EngineRandomTest, ::testing::Values(kLinear, kInline, kOutOfPlace, kExt4),
                         [](const auto &test) { return std::string(test.param.name); });

}  // namespace
}  // namespace outboard::sample::testing

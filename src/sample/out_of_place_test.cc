// The out-of-place sample's own promise: groups of writes hold whole, also after a crash at any moment.
#include "sample/engine_subjects.h"

#include <gtest/gtest.h>

#include <thread>

namespace outboard::sample::testing {
namespace {

constexpr std::uint64_t kBlock = OutOfPlaceVolume::kBlock;
constexpr std::size_t kRecord = 3 * kBlock + 500;  // several blocks, no boundary at either end
constexpr std::uint64_t kPlace = 700;

// What a reader finds after the crash: 0 for an empty file, n for record n, -1 for anything that was never whole.
int record_in(device::BlockDevice &device) {
  auto volume = OutOfPlaceVolume::open(device);
  EXPECT_OK(volume);
  if (!volume) return -1;
  const auto names = (*volume)->names();
  if (names.empty()) return 0;
  pagecache::FolioMemory memory;
  CachedFile file((*volume)->file(names[0].file), device, memory, kBlock);
  if (file.size() == 0) return 0;
  std::vector<std::byte> bytes(kPlace + kRecord + 1);
  if (file.read(0, bytes).value_or(0) != kPlace + kRecord) return -1;
  for (std::size_t n = 0; n < kPlace + kRecord; ++n)
    if (bytes[n] != (n < kPlace ? std::byte{0} : bytes[kPlace])) return -1;
  return std::to_integer<int>(bytes[kPlace]);
}

struct Promise {
  std::uint64_t from = 0;  // position in the log
  int record = 0;
};

// Every state that a crash may leave holds one whole record: none older than what fsync had promised, none newer than
// what had been written.
void expect_whole_records(const WriteLogDevice &log, std::uint64_t since, const std::vector<Promise> &promises, int newest) {
  unsigned states = 0, later_than_promised = 0;
  for (const std::uint64_t point : log.crash_points()) {
    if (point < since) continue;
    int promised = 0;
    for (const Promise &promise : promises)
      if (promise.from <= point) promised = promise.record;
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      ASSIGN_OK(const auto state, log.crash_state(point, seed));
      const int found = record_in(*state);
      ASSERT_GE(found, promised) << "point " << point << " seed " << seed;
      ASSERT_LE(found, newest);
      later_than_promised += found > promised;
      ++states;
    }
  }
  EXPECT_GT(states, 100u);
  EXPECT_GT(later_than_promised, 0u);  // or nothing was ever in flight
}

TEST(OutOfPlaceTest, EveryCrashShowsAWholeRecordAndNoneThatWasPromisedIsLost) {
  Subject s(kOutOfPlace);
  ASSERT_OK(s.file->flush());
  const std::uint64_t since = s.log->position();
  std::vector<Promise> promises;
  for (int n = 1; n <= 12; ++n) {
    s.write(kPlace, std::vector<std::byte>(kRecord, std::byte(n)));
    if (n % 3 == 0) {
      ASSERT_OK(s.file->write_back());  // on the device, in no root yet
    } else if (n % 3 == 1) {
      ASSERT_OK(s.file->flush());
      promises.push_back({s.log->position(), n});
    }
  }
  ASSERT_OK(s.file->flush());
  expect_whole_records(*s.log, since, promises, 12);
}

TEST(OutOfPlaceTest, ConcurrentWritesAndFlushesLeaveWholeRecordsAtEveryCrash) {
  Subject s(kOutOfPlace);
  ASSERT_OK(s.file->flush());
  const std::uint64_t since = s.log->position();
  std::thread flusher([&] {
    // So many, because each makes crash points, and each of those is tried in all its states.
    for (unsigned n = 0; n < 30; ++n) EXPECT_OK(s.file->flush());
  });
  constexpr int kNewest = 40;
  for (int n = 1; n <= kNewest; ++n) {
    s.write(kPlace, std::vector<std::byte>(kRecord, std::byte(n)));
    if (n % 10 == 0) {
      EXPECT_OK(s.file->flush());
    }
  }
  flusher.join();
  expect_whole_records(*s.log, since, {}, kNewest);
}

TEST(OutOfPlaceTest, DirectWritesOfSeveralBlocksAreTakenBackWholeWhenOneFails) {
  Subject s(kOutOfPlace);
  s.write(0, pattern(8 * kBlock, 1));
  ASSERT_OK(s.file->flush());
  const std::uint64_t free = s.free_blocks();
  s.device->add_fault({.op = FaultyDevice::Op::write, .partial = true});
  EXPECT_ERROR(s.file->write_direct(kBlock, pattern(4 * kBlock, 2)), EIO);
  s.device->clear_faults();
  EXPECT_TRUE(s.read_all() == pattern(8 * kBlock, 1));
  EXPECT_EQ(s.free_blocks(), free);
  ASSERT_EQ(s.file->write_direct(kBlock, pattern(4 * kBlock, 3)).value_or(0), 4 * kBlock);
  EXPECT_TRUE(s.read(kBlock, 4 * kBlock) == pattern(4 * kBlock, 3));
}

TEST(OutOfPlaceTest, ReplacedBlocksAreFreeOnlyAfterTheRootThatForgetsThem) {
  Subject s(kOutOfPlace);
  s.write(0, pattern(4 * kBlock, 1));
  ASSERT_OK(s.file->flush());
  const std::uint64_t free = s.free_blocks();
  s.write(0, pattern(4 * kBlock, 2));
  EXPECT_EQ(s.free_blocks(), free - 4);
  ASSERT_OK(s.file->write_back());
  EXPECT_EQ(s.free_blocks(), free - 4);
  s.device->add_fault({.op = FaultyDevice::Op::flush});
  EXPECT_ERROR(s.file->flush(), EIO);
  EXPECT_EQ(s.free_blocks(), free - 4);
  s.device->clear_faults();
  ASSERT_OK(s.file->flush());
  EXPECT_EQ(s.free_blocks(), free);
}

TEST(OutOfPlaceTest, DamagedRootsAreRefusedOrTheOlderOneIsUsed) {
  Subject s(kOutOfPlace);
  ASSERT_OK(s.file->flush());  // generation 2: the file, empty
  s.write(0, pattern(100, 1));
  ASSERT_OK(s.file->flush());  // generation 3
  ASSIGN_OK(const auto copy, outboard::testing::copy_to_memory(*s.log));
  ASSIGN_OK(const auto layout, out_of_place::layout_of(*copy));
  const auto flip = [&](unsigned slot, std::uint64_t at) {
    std::array<std::byte, 1> byte;
    ASSERT_OK(copy->read(layout.slot(slot) + at, byte));
    byte[0] ^= std::byte{1};
    ASSERT_OK(copy->write(layout.slot(slot) + at, byte));
  };
  const auto size_of_file = [&]() -> std::uint64_t {
    auto volume = OutOfPlaceVolume::open(*copy);
    EXPECT_OK(volume);
    return volume && !(*volume)->names().empty() ? (*volume)->file(0).size() : ~std::uint64_t{0};
  };
  ASSIGN_OK(const auto first, out_of_place::read_slot(*copy, layout, 0));
  ASSIGN_OK(const auto second, out_of_place::read_slot(*copy, layout, 1));
  const unsigned newest = first.generation > second.generation ? 0 : 1;
  EXPECT_EQ(size_of_file(), 100u);
  flip(newest, 40);
  EXPECT_EQ(size_of_file(), 0u);
  flip(1 - newest, 9);
  EXPECT_ERROR(OutOfPlaceVolume::open(*copy), EUCLEAN);
}

}  // namespace
}  // namespace outboard::sample::testing

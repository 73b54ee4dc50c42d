// The exerciser over a subject in memory: nothing to say about a right one, and a precise complaint about each wrong
// one.
#include "exerciser/exerciser.h"

#include <algorithm>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <vector>

namespace outboard::exerciser {
namespace {

enum class Fault {
  none,
  stale_tail,        // what stood behind a smaller size comes back when the file grows
  rough_punch,       // a punched range takes whole blocks
  lost_sync,         // a crash takes the last byte of a file
  size_rolled_back,  // a remount forgets the last growth of a preallocation
  blind_seek,        // data that a mapping wrote is called a hole
  short_copy,        // copies a byte less than it says
  wrong_place,       // now and then a write lands a block too late
};

constexpr std::uint64_t kBlock = 1024;

class MemorySubject final : public Subject {
public:
  MemorySubject(unsigned files, Fault fault) : files_(files), fault_(fault) {}

  Result<std::size_t> read(unsigned file, Way, std::uint64_t offset, std::span<std::byte> into) override {
    const File &f = files_[file];
    if (offset >= f.size) return std::size_t{0};
    const std::size_t count = std::min<std::uint64_t>(into.size(), f.size - offset);
    std::copy_n(f.bytes.begin() + static_cast<std::ptrdiff_t>(offset), count, into.begin());
    return count;
  }
  Result<std::size_t> write(unsigned file, Way way, std::uint64_t offset, std::span<const std::byte> data) override {
    File &f = files_[file];
    if (fault_ == Fault::blind_seek && way == Way::mapped) f.hidden = true;
    if (fault_ == Fault::wrong_place && ++writes_ % 50 == 0) {
      grow(f, offset + data.size());
      offset += kBlock;
      if (offset + data.size() > f.size) data = data.first(f.size > offset ? f.size - offset : 0);
      put(f, offset, data);
      return data.size() + 0 * writes_;
    }
    put(f, offset, data);
    return data.size();
  }
  Result<std::size_t> append(unsigned file, std::span<const std::byte> data) override {
    put(files_[file], files_[file].size, data);
    return data.size();
  }
  Status truncate(unsigned file, std::uint64_t size) override {
    File &f = files_[file];
    if (size < f.size && fault_ != Fault::stale_tail) clear(f, size, f.size - size);
    if (size > f.size) grow(f, size);
    f.size = size;
    return {};
  }
  Status allocate(unsigned file, int mode, std::uint64_t offset, std::uint64_t length) override {
    File &f = files_[file];
    const std::uint64_t end = offset + length;
    const auto at = [&](std::uint64_t position) { return f.bytes.begin() + static_cast<std::ptrdiff_t>(position); };
    if (mode == FALLOC_FL_COLLAPSE_RANGE) {
      f.bytes.erase(at(offset), at(end));
      f.size -= length;
      return {};
    }
    if (mode == FALLOC_FL_INSERT_RANGE) {
      f.bytes.insert(at(offset), length, std::byte{0});
      f.size += length;
      return {};
    }
    if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) {
      if (fault_ == Fault::rough_punch) clear(f, offset / kBlock * kBlock, length + offset % kBlock);
      else clear(f, offset, length);
      return {};
    }
    if ((mode & FALLOC_FL_ZERO_RANGE) != 0) clear(f, offset, length);
    if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && end > f.size) {
      if (mode == 0) f.before_growth = f.size;
      grow(f, end);
    }
    return {};
  }
  Result<std::size_t> copy(unsigned from, std::uint64_t offset, unsigned to, std::uint64_t target,
                           std::size_t length) override {
    std::vector<std::byte> bytes(length);
    const std::size_t count = *read(from, Way::buffered, offset, bytes);
    const bool short_one = fault_ == Fault::short_copy && count > 1;
    if (count > 0) grow(files_[to], target + count);
    if (count > 0) put(files_[to], target, std::span(bytes).first(count - (short_one ? 1 : 0)));
    return count;
  }
  Result<std::uint64_t> seek(unsigned file, std::uint64_t offset, Seek what) override {
    const File &f = files_[file];
    if (offset >= f.size || (f.hidden && what == Seek::data)) return fail(Error::user(ENXIO));
    const auto is_data = [&](std::uint64_t at) { return f.bytes[at] != std::byte{0}; };
    for (std::uint64_t at = offset; at < f.size; ++at)
      if (is_data(at) == (what == Seek::data)) return at;
    if (what == Seek::hole) return f.size;
    return fail(Error::user(ENXIO));
  }
  Result<std::uint64_t> size(unsigned file) override { return files_[file].size; }
  Status sync(unsigned, bool) override { return {}; }
  Status sync_all() override { return {}; }
  Status reopen(unsigned) override { return {}; }
  Status drop_cache(unsigned) override { return {}; }
  Status remount() override {
    for (File &f : files_)
      if (fault_ == Fault::size_rolled_back && f.before_growth > 0) f.size = std::min(f.size, f.before_growth);
    return {};
  }
  Status crash() override {
    for (File &f : files_)
      if (fault_ == Fault::lost_sync && f.size > 0) clear(f, f.size - 1, 1);
    return {};
  }

private:
  struct File {
    std::vector<std::byte> bytes;  // at least `size`
    std::uint64_t size = 0;
    std::uint64_t before_growth = 0;
    bool hidden = false;
  };
  static void grow(File &f, std::uint64_t size) {
    if (f.bytes.size() < size) f.bytes.resize(size);
    f.size = std::max(f.size, size);
  }
  static void put(File &f, std::uint64_t offset, std::span<const std::byte> data) {
    grow(f, offset + data.size());
    std::copy(data.begin(), data.end(), f.bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  static void clear(File &f, std::uint64_t offset, std::uint64_t length) {
    for (std::uint64_t at = offset; at < std::min<std::uint64_t>(offset + length, f.bytes.size()); ++at)
      f.bytes[at] = std::byte{0};
  }
  std::vector<File> files_;
  const Fault fault_;
  std::uint64_t writes_ = 0;
};

class Canary : public ::testing::TestWithParam<Fault> {};

Traits small_traits() {
  Traits traits;
  traits.block_size = kBlock;
  traits.max_size = 200 * kBlock;
  traits.shifts = true;
  traits.restarts = 50;
  return traits;
}

TEST_P(Canary, IsFoundWithinSomeThousandOperations) {
  const Traits traits = small_traits();
  for (const std::uint64_t seed : {1, 2, 3}) {
    MemorySubject subject(traits.files, GetParam());
    Exerciser exerciser(subject, traits, seed, 100);
    const std::string complaint = exerciser.run(20000);
    if (GetParam() == Fault::none) {
      EXPECT_EQ(complaint, "");
      continue;
    }
    EXPECT_NE(complaint.find(fmt::format("seed {}, operation ", seed)), std::string::npos) << complaint;
    EXPECT_NE(complaint.find("the last operations"), std::string::npos) << complaint;
    // The same seed meets the same fault at the same place.
    MemorySubject again(traits.files, GetParam());
    EXPECT_EQ(Exerciser(again, traits, seed, 100).run(20000), complaint);
  }
}

INSTANTIATE_TEST_SUITE_P(Faults, Canary,
                         ::testing::Values(Fault::none, Fault::stale_tail, Fault::rough_punch, Fault::lost_sync,
                                           Fault::size_rolled_back, Fault::blind_seek, Fault::short_copy,
                                           Fault::wrong_place));

TEST(Difference, NamesTheFirstByteAndWhoWroteIt) {
  std::vector<std::byte> expected(4096), found(4096);
  fill(expected, 17, 8192);
  fill(found, 17, 8192);
  EXPECT_EQ(difference(expected, found, 8192, 1024), "");
  fill(std::span(found).subspan(1032, 8), 5, 64);
  const std::string text = difference(expected, found, 8192, 1024);
  EXPECT_NE(text.find("3 of 4096 bytes differ, from 0x2408 (block 9, byte 8 in it) to 0x240c"), std::string::npos)
      << text;
  EXPECT_NE(text.find("written by operation 17 at 0x2408"), std::string::npos) << text;
  EXPECT_NE(text.find("written by operation 5 at 0x40"), std::string::npos) << text;
  EXPECT_NE(difference(expected, std::span(found).first(1), 0, 1024), "");
}

}  // namespace
}  // namespace outboard::exerciser

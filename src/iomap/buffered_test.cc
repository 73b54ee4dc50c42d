// What the suite over real file systems (src/sample/engine_suite_test.cc) does not reach: unwritten blocks under dirty
// folios, and folios that belong to the file system.
#include "device/memory_device.h"
#include "iomap/buffered.h"
#include "iomap/seek.h"
#include "iomap/toy_source.h"
#include "testing/expect.h"

#include <gtest/gtest.h>

namespace outboard::iomap {
namespace {

constexpr std::uint32_t kBlock = 1024;

std::vector<std::byte> bytes_of(std::size_t size, unsigned char value) { return std::vector<std::byte>(size, std::byte{value}); }

TEST(BufferedTest, DirtyBytesOverUnwrittenBlocksAreData) {
  device::MemoryDevice device(64 * kBlock);
  ToySource source(kBlock, 64);
  pagecache::FolioMemory memory;
  pagecache::FileCache cache(memory, kBlock);
  for (unsigned block = 1; block < 7; ++block) source.put(block, true);
  cache.set_size(10 * kBlock);
  ASSERT_EQ(buffered::write(source, cache, device, 3 * kBlock + 5, bytes_of(kBlock, 9)).value_or(0), kBlock);
  EXPECT_ERROR(seek_data(source, 0, cache.size()), ENXIO);
  EXPECT_EQ(seek_data(source, 0, cache.size(), &cache).value_or(0), 3 * kBlock);
  EXPECT_EQ(seek_data(source, 4 * kBlock + 1, cache.size(), &cache).value_or(0), 4 * kBlock + 1);
  EXPECT_EQ(seek_hole(source, 3 * kBlock, cache.size(), &cache).value_or(0), 5 * kBlock);
  EXPECT_ERROR(seek_data(source, 5 * kBlock, cache.size(), &cache), ENXIO);
  // The block's rest is zeros, not what stands on the device.
  std::vector<std::byte> got(2 * kBlock);
  ASSERT_OK(buffered::read(source, cache, device, 3 * kBlock, got));
  EXPECT_EQ(got[0], std::byte{0});
  EXPECT_EQ(got[5], std::byte{9});
  EXPECT_EQ(got[kBlock + 4], std::byte{9});
  EXPECT_EQ(got[kBlock + 5], std::byte{0});
}

// A file whose blocks pass through the file system's memory.
class PreparedSource final : public MappingSource {
public:
  std::vector<std::byte> contents = bytes_of(8 * kBlock, 1);
  unsigned prepared = 0, committed = 0;
  unsigned refuse_after = ~0u;
  Result<Mapping> begin(ByteRange, Operation) override {
    return Mapping{.type = MappingType::mapped, .flags = kPrepared, .length = contents.size(), .inline_bytes = {}};
  }
  Status end(ByteRange, std::uint64_t, Operation, const Mapping &) override { return {}; }
  Result<std::span<std::byte>> prepare(ByteRange block, const Mapping &) override {
    if (prepared == refuse_after) return fail(Error::user(ENOSPC));
    EXPECT_EQ(prepared++, committed);
    EXPECT_EQ(block.offset % kBlock, 0u);
    EXPECT_EQ(block.length, kBlock);
    return std::span(contents).subspan(block.offset, block.length);
  }
  Status commit(ByteRange, const Mapping &) override {
    ++committed;
    return {};
  }
  Status fetch(std::uint64_t offset, std::span<std::byte> into, const Mapping &) override {
    std::copy_n(contents.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
    return {};
  }
};

TEST(BufferedTest, PreparedBlocksPassThroughTheFileSystemsMemory) {
  device::MemoryDevice device(kBlock);
  PreparedSource source;
  pagecache::FolioMemory memory;
  pagecache::FileCache cache(memory, kBlock);
  cache.set_size(8 * kBlock);
  ASSERT_EQ(buffered::write(source, cache, device, kBlock + 10, bytes_of(2 * kBlock, 2)).value_or(0), 2 * kBlock);
  EXPECT_EQ(source.prepared, 3u);
  EXPECT_EQ(source.committed, 3u);
  EXPECT_TRUE(cache.empty());
  ASSERT_OK(buffered::zero(source, cache, device, {20, 5}));
  std::vector<std::byte> got(4 * kBlock);
  ASSERT_EQ(buffered::read(source, cache, device, 0, got).value_or(0), got.size());
  for (std::size_t at = 0; at < got.size(); ++at) {
    const bool zeroed = at >= 20 && at < 25, written = at >= kBlock + 10 && at < 3 * kBlock + 10;
    ASSERT_EQ(std::to_integer<int>(got[at]), zeroed ? 0 : written ? 2 : 1) << at;
  }
  // Blocks that were changed before the refusal count.
  source.refuse_after = source.prepared + 2;
  EXPECT_EQ(buffered::write(source, cache, device, 0, bytes_of(4 * kBlock, 3)).value_or(0), 2 * kBlock);
  EXPECT_EQ(source.prepared, source.committed);
}

}  // namespace
}  // namespace outboard::iomap

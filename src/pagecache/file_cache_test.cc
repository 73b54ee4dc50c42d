#include "pagecache/file_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>

namespace outboard::pagecache {
namespace {

constexpr std::uint32_t kBlock = 1024;

class FileCacheTest : public ::testing::Test {
protected:
  // What the engine does: whole blocks, all of them filled.
  void fill(ByteRange blocks, unsigned char value) {
    auto parts = cache.make_writable(blocks);
    ASSERT_TRUE(parts.has_value());
    for (const FileCache::Writable &part : *parts) std::memset(part.bytes.data(), value, part.bytes.size());
    cache.set_size(std::max(cache.size(), blocks.end()));
  }
  unsigned char at(std::uint64_t offset) const {
    const auto pieces = cache.pieces({offset, 1});
    EXPECT_EQ(pieces.size(), 1u);
    return pieces[0].hold ? std::to_integer<unsigned char>(pieces[0].bytes[0]) : 0xFF;
  }
  FolioMemory memory;
  FileCache cache{memory, kBlock};
};

TEST_F(FileCacheTest, PiecesCoverARangeInOrder) {
  fill({2 * kBlock, kBlock}, 1);
  fill({5 * kBlock, 2 * kBlock}, 2);
  const auto pieces = cache.pieces({100, 8 * kBlock});
  std::vector<std::pair<std::uint64_t, bool>> seen;
  std::uint64_t next = 100;
  for (const auto &piece : pieces) {
    EXPECT_EQ(piece.range.offset, next);
    next = piece.range.end();
    EXPECT_EQ(piece.bytes.size(), piece.hold ? piece.range.length : 0);
    seen.emplace_back(piece.range.offset, piece.hold != nullptr);
  }
  EXPECT_EQ(next, 100 + 8 * kBlock);
  EXPECT_EQ(seen, (decltype(seen){{100, false}, {2 * kBlock, true}, {3 * kBlock, false}, {5 * kBlock, true}, {7 * kBlock, false}}));
}

TEST_F(FileCacheTest, OnlyNewPartsAreFresh) {
  fill({kBlock, kBlock}, 1);
  const auto parts = cache.make_writable({0, 3 * kBlock});
  ASSERT_TRUE(parts.has_value());
  ASSERT_EQ(parts->size(), 3u);
  EXPECT_TRUE((*parts)[0].fresh);
  EXPECT_FALSE((*parts)[1].fresh);
  EXPECT_TRUE((*parts)[2].fresh);
  for (const auto &part : *parts)
    if (part.fresh) std::memset(part.bytes.data(), 2, part.bytes.size());
  EXPECT_EQ(at(kBlock), 1);
  EXPECT_EQ(cache.dirty_bytes(), 3 * kBlock);
}

TEST_F(FileCacheTest, AFileWrittenFrontToBackGetsFewFolios) {
  for (unsigned block = 0; block < 1024; ++block) fill({block * kBlock, kBlock}, static_cast<unsigned char>(block));
  const FileCache::Batch batch = cache.take(0, ~std::uint64_t{0});
  EXPECT_EQ(batch.range.length, 1024u * kBlock);
  EXPECT_LE(batch.folios.size(), 16u);
  EXPECT_LE(memory.in_use(), 3 * 1024u * kBlock / 2);
}

TEST_F(FileCacheTest, DroppingTheMiddleOfAFolioKeepsBothEnds) {
  fill({0, 8 * kBlock}, 1);
  cache.drop({3 * kBlock, 2 * kBlock});
  EXPECT_EQ(cache.dirty_bytes(), 6 * kBlock);
  EXPECT_EQ(cache.next_dirty(3 * kBlock).offset, 5 * kBlock);
  EXPECT_EQ(at(3 * kBlock - 1), 1);
  EXPECT_EQ(at(5 * kBlock), 1);
  fill({3 * kBlock, 2 * kBlock}, 2);
  EXPECT_EQ(at(3 * kBlock - 1), 1);
  EXPECT_EQ(at(3 * kBlock), 2);
  EXPECT_EQ(at(5 * kBlock - 1), 2);
  EXPECT_EQ(at(5 * kBlock), 1);
}

TEST_F(FileCacheTest, DroppingAPartThatWasAddedToAFolioKeepsTheFolio) {
  fill({0, kBlock}, 1);
  auto parts = cache.make_writable({kBlock, kBlock});  // there is room behind: 4096 bytes are the smallest buffer
  ASSERT_TRUE(parts.has_value());
  ASSERT_TRUE((*parts)[0].fresh);
  cache.drop((*parts)[0].range);
  EXPECT_EQ(cache.dirty_bytes(), kBlock);
  EXPECT_EQ(at(0), 1);
}

TEST_F(FileCacheTest, WritersGetACopyOfWhatWriteBackReads) {
  fill({0, 4 * kBlock}, 1);
  FileCache::Batch batch = cache.take(0, ~std::uint64_t{0});
  fill({kBlock, kBlock}, 2);
  EXPECT_EQ(std::to_integer<int>(batch.folios[0]->bytes()[kBlock]), 1);
  EXPECT_EQ(at(kBlock), 2);
  EXPECT_EQ(at(0), 1);
  cache.finish(batch);
  // Only what was written again: nobody has promised space for the rest a second time.
  EXPECT_EQ(cache.dirty_bytes(), kBlock);
  EXPECT_EQ(at(kBlock), 2);
  EXPECT_FALSE(cache.touches({0, kBlock}));
  EXPECT_FALSE(cache.touches({2 * kBlock, 2 * kBlock}));
  batch = cache.take(0, ~std::uint64_t{0});
  cache.finish(batch);
  EXPECT_TRUE(cache.empty());
}

TEST_F(FileCacheTest, NothingIsAddedToAFolioThatIsBeingWritten) {
  fill({0, kBlock}, 1);
  FileCache::Batch batch = cache.take(0, ~std::uint64_t{0});
  fill({kBlock, kBlock}, 2);
  EXPECT_EQ(batch.folios[0]->length, kBlock);
  cache.finish(batch);
  EXPECT_EQ(cache.dirty_bytes(), kBlock);
  EXPECT_EQ(at(kBlock), 2);
}

TEST_F(FileCacheTest, ZeroesOnlyWhatIsHere) {
  fill({kBlock, 2 * kBlock}, 7);
  FileCache::Batch batch = cache.take(0, ~std::uint64_t{0});
  ASSERT_TRUE(cache.zero({0, kBlock + 10}).has_value());
  EXPECT_EQ(at(kBlock + 9), 0);
  EXPECT_EQ(at(kBlock + 10), 7);
  EXPECT_FALSE(cache.touches({0, kBlock}));
  EXPECT_EQ(std::to_integer<int>(batch.folios[0]->bytes()[0]), 7);  // a copy
  cache.finish(batch);
}

TEST_F(FileCacheTest, BatchesEndWithTheFileAndGoOnBehindTheFolio) {
  fill({0, 2 * kBlock}, 1);
  fill({6 * kBlock, 2 * kBlock}, 2);
  cache.set_size(7 * kBlock + 5);
  FileCache::Batch first = cache.take(0, ~std::uint64_t{0});
  EXPECT_EQ(first.range.end(), 2 * kBlock);
  FileCache::Batch second = cache.take(first.next(), ~std::uint64_t{0});
  EXPECT_EQ(second.range.offset, 6 * kBlock);
  EXPECT_EQ(second.range.end(), 7 * kBlock + 5);
  EXPECT_TRUE(cache.take(second.next(), ~std::uint64_t{0}).empty());
  cache.finish(first);
  cache.finish(second);
  EXPECT_TRUE(cache.empty());
}

TEST_F(FileCacheTest, BatchesHaveABound) {
  for (unsigned n = 0; n < 10; ++n) {
    fill({n * 64 * kBlock, 64 * kBlock}, 1);
    ASSERT_LE(cache.take(n * 64 * kBlock, 1).folios.size(), 1u);
  }
  EXPECT_LE(cache.take(0, 128 * kBlock).range.length, 128 * kBlock);
}

TEST_F(FileCacheTest, MemoryGoesBackWhenTheFoliosGo) {
  fill({0, 100 * kBlock}, 1);
  cache.drop({50 * kBlock, ~std::uint64_t{0} - 50 * kBlock});
  cache.drop({0, ~std::uint64_t{0}});
  EXPECT_TRUE(cache.empty());
  EXPECT_EQ(memory.in_use(), 0u);
}

// Everything at random, against one byte a block: what is dirty and with which value, and what write-back was given.
TEST_F(FileCacheTest, RandomChangesAgreeWithAModel) {
  constexpr unsigned kBlocks = 96;
  for (unsigned seed = 0; seed < 30; ++seed) {
    std::mt19937 random(seed);
    FileCache file(memory, kBlock);
    file.set_size(kBlocks * kBlock);
    std::array<std::optional<unsigned char>, kBlocks> model, writing;
    std::optional<FileCache::Batch> batch;
    std::array<bool, kBlocks> rewritten{};
    for (unsigned step = 0; step < 400; ++step) {
      const auto first = static_cast<unsigned>(random() % kBlocks);
      const auto count = static_cast<unsigned>(1 + random() % std::min(12u, kBlocks - first));
      const ByteRange range{first * kBlock, count * kBlock};
      const auto value = static_cast<unsigned char>(1 + random() % 250);
      switch (random() % 6) {
      case 0:
        // Write-back owns what it has taken; only what lies beside it may be dropped (the owner sees to that).
        if (batch) break;
        file.drop(range);
        for (unsigned b = first; b < first + count; ++b) model[b].reset();
        break;
      case 1:
        ASSERT_TRUE(file.zero(range).has_value());
        for (unsigned b = first; b < first + count; ++b)
          if (model[b]) model[b] = 0, rewritten[b] = true;
        break;
      case 2:
        if (batch) break;
        batch = file.take(first * kBlock, count * kBlock);
        if (batch->empty()) {
          batch.reset();
          break;
        }
        rewritten.fill(false);
        writing = model;
        break;
      case 3: {
        if (!batch) break;
        // What was taken has not changed, whatever writers did.
        for (const FolioRef &folio : batch->folios)
          for (std::uint64_t offset = folio->offset; offset < folio->end(); offset += kBlock)
            ASSERT_EQ(std::to_integer<int>(folio->bytes()[offset - folio->offset]), int{*writing[offset / kBlock]});
        // Only blocks that were written to since stay dirty.
        for (const FolioRef &folio : batch->folios)
          for (std::uint64_t b = folio->offset / kBlock; b < folio->end() / kBlock; ++b)
            if (!rewritten[b]) model[b].reset();
        file.finish(*batch);
        batch.reset();
        break;
      }
      default: {
        const auto parts = file.make_writable(range);
        ASSERT_TRUE(parts.has_value());
        std::uint64_t next = range.offset;
        for (const auto &part : *parts) {
          ASSERT_EQ(part.range.offset, next);
          next = part.range.end();
          for (std::uint64_t offset = part.range.offset; offset < part.range.end(); offset += kBlock)
            ASSERT_EQ(part.fresh, !model[offset / kBlock].has_value());
          std::memset(part.bytes.data(), value, part.bytes.size());
        }
        ASSERT_EQ(next, range.end());
        for (unsigned b = first; b < first + count; ++b) model[b] = value, rewritten[b] = true;
      }
      }
      std::uint64_t dirty = 0;
      for (const auto &piece : file.pieces({0, kBlocks * kBlock}))
        for (std::uint64_t offset = piece.range.offset; offset < piece.range.end(); offset += kBlock) {
          const auto &expected = model[offset / kBlock];
          ASSERT_EQ(piece.hold != nullptr, expected.has_value()) << "seed " << seed << " step " << step << " block " << offset / kBlock;
          if (!expected) continue;
          dirty += kBlock;
          for (const std::uint64_t byte : {std::uint64_t{0}, std::uint64_t{kBlock - 1}})
            ASSERT_EQ(std::to_integer<int>(piece.bytes[offset - piece.range.offset + byte]), int{*expected});
        }
      ASSERT_EQ(file.dirty_bytes(), dirty);
      ASSERT_EQ(file.touches(range), std::any_of(model.begin() + first, model.begin() + first + count, [](const auto &b) { return b.has_value(); }));
    }
    if (batch) file.finish(*batch);
    file.drop({0, ~std::uint64_t{0}});
  }
  EXPECT_EQ(memory.in_use(), 0u);
}

}  // namespace
}  // namespace outboard::pagecache

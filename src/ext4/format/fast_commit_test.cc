#include "ext4/format/fast_commit.h"

#include "ext4/format/inode.h"
#include "ext4/format/test_volume.h"
#include "testing/expect.h"

#include <gtest/gtest.h>
#include <random>

namespace outboard::ext4::format {
namespace {

constexpr std::uint32_t kBlock = 1024;
constexpr std::uint32_t kTid = 77;

Superblock volume() {
  Superblock superblock;
  superblock.block_size = kBlock;
  superblock.inode_size = 256;
  return superblock;
}

struct Scan {
  std::uint32_t commits = 0;
  std::vector<std::vector<FastCommitRecord>> records;
};
Result<Scan> scan(std::span<const std::byte> area, std::uint32_t tid = kTid) {
  const Superblock superblock = volume();
  FastCommitScanner scanner(superblock, tid);
  for (std::size_t at = 0; at < area.size(); at += kBlock)
    if (!TRY(scanner.add(area.subspan(at, kBlock)))) break;
  return Scan{scanner.commits(), scanner.take()};
}

// Some fast commits; with `records` large, of several blocks.
std::vector<std::byte> area(std::uint32_t commits, std::uint32_t records) {
  std::vector<std::byte> all;
  for (std::uint32_t c = 0; c < commits; ++c) {
    FastCommitEncoder encoder(kBlock, kTid);
    if (c == 0) encoder.begin_area();
    for (std::uint32_t r = 0; r < records; ++r) {
      const InodeNumber inode(100 + r);
      EXPECT_TRUE(encoder.inode(inode, std::vector<std::byte>(160, std::byte(r))));
      EXPECT_TRUE(encoder.add_range(inode, {FileBlock(r), BlockNumber((std::uint64_t{r} << 32) | c), 5, r % 2 == 1}));
      EXPECT_TRUE(encoder.del_range(inode, FileBlock(1000 + r), 7));
      EXPECT_TRUE(encoder.entry(FastCommitTag::create, InodeNumber(2), inode, "name" + std::string(r % 251, 'x')));
    }
    const std::vector<std::byte> blocks = encoder.finish();
    EXPECT_EQ(blocks.size() % kBlock, 0U);
    all.insert(all.end(), blocks.begin(), blocks.end());
  }
  return all;
}

TEST(FastCommitFormat, WhatIsEncodedIsScanned) {
  ASSIGN_OK(const Scan found, scan(area(3, 40)));
  EXPECT_EQ(found.commits, 4U);  // an empty one comes first
  ASSERT_EQ(found.records.size(), 3U);
  for (std::uint32_t c = 0; c < 3; ++c) {
    ASSERT_EQ(found.records[c].size(), 160U);
    for (std::uint32_t r = 0; r < 40; ++r) {
      const FastCommitRecord *at = &found.records[c][4 * r];
      EXPECT_EQ(at[0].tag, FastCommitTag::inode);
      EXPECT_EQ(at[0].inode, InodeNumber(100 + r));
      EXPECT_EQ(at[0].raw, std::vector<std::byte>(160, std::byte(r)));
      EXPECT_EQ(at[1].tag, FastCommitTag::add_range);
      EXPECT_EQ(at[1].range, (Extent{FileBlock(r), BlockNumber((std::uint64_t{r} << 32) | c), 5, r % 2 == 1}));
      EXPECT_EQ(at[2].tag, FastCommitTag::del_range);
      EXPECT_EQ(at[2].range.logical, FileBlock(1000 + r));
      EXPECT_EQ(at[2].range.len, 7U);
      EXPECT_EQ(at[3].tag, FastCommitTag::create);
      EXPECT_EQ(at[3].parent, InodeNumber(2));
      EXPECT_EQ(at[3].name, "name" + std::string(r % 251, 'x'));
    }
  }
}

TEST(FastCommitFormat, LongestExtentsKeepTheirState) {
  FastCommitEncoder encoder(kBlock, kTid);
  encoder.begin_area();
  const Extent written{FileBlock(1), BlockNumber(2), kMaxExtentBlocks, false};
  const Extent unwritten{FileBlock(1), BlockNumber(2), kMaxUnwrittenExtentBlocks, true};
  encoder.add_range(InodeNumber(12), written);
  encoder.add_range(InodeNumber(12), unwritten);
  ASSIGN_OK(const Scan found, scan(encoder.finish()));
  ASSERT_EQ(found.records.size(), 1U);
  EXPECT_EQ(found.records[0][0].range, written);
  EXPECT_EQ(found.records[0][1].range, unwritten);
}

TEST(FastCommitFormat, AnotherTransactionsAreaCountsNothing) {
  ASSIGN_OK(const Scan found, scan(area(2, 3), kTid + 1));
  EXPECT_EQ(found.commits, 0U);
  EXPECT_TRUE(found.records.empty());
}

TEST(FastCommitFormat, EveryFlippedByteEndsTheAreaBeforeItsFastCommit) {
  const std::vector<std::byte> good = area(3, 2);
  ASSIGN_OK(const Scan whole, scan(good));
  ASSERT_EQ(whole.commits, 4U);
  ASSERT_EQ(good.size(), 4 * kBlock);
  std::size_t effective = 0;
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::vector<std::byte> bad = good;
    bad[at] ^= std::byte{0x41};
    const Result<Scan> found = scan(bad);
    if (!found) {
      EXPECT_EQ(found.error().kind(), ErrorKind::unsupported);  // the features of the head
      ++effective;
      continue;
    }
    const std::size_t commit = at / kBlock;
    EXPECT_TRUE(found->commits == commit || found->commits == 4U) << at;  // 4: behind the CRC of a tail
    effective += found->commits == commit ? 1 : 0;
  }
  EXPECT_GT(effective, 3 * std::size_t{300});
}

TEST(FastCommitFormat, ATornFastCommitIsNone) {
  const std::vector<std::byte> good = area(2, 20);
  ASSIGN_OK(const Scan whole, scan(good));
  for (std::size_t missing = 0; missing < good.size() / kBlock; ++missing) {
    std::vector<std::byte> torn = good;
    std::fill_n(torn.begin() + static_cast<std::ptrdiff_t>(missing * kBlock), kBlock, std::byte{0});
    ASSIGN_OK(const Scan found, scan(torn));
    EXPECT_LT(found.commits, whole.commits);
    ASSERT_LE(found.records.size(), whole.records.size());
    for (const auto &commit : found.records) EXPECT_EQ(commit.size(), 80U);
  }
}

TEST(FastCommitFormat, NoiseIsHarmless) {
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::byte> bytes = area(2, 3);
    const auto changes = 1 + random() % 40;
    for (std::uint64_t i = 0; i < changes; ++i) bytes[random() % bytes.size()] = std::byte(random());
    if (round % 3 == 0)
      for (std::byte &byte : bytes) byte = std::byte(random() % 12);
    const Result<Scan> found = scan(bytes);
    if (found) {
      EXPECT_LE(found->commits, 4U);
    }
  }
}

TEST(FastCommitFormat, UnknownFeaturesAreUnsupported) {
  std::vector<std::byte> bytes = area(1, 1);
  bytes[4] = std::byte{1};
  const Result<Scan> found = scan(bytes);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind(), ErrorKind::unsupported);
}

TEST(FastCommitFormat, ARecordThatFitsNoBlockIsRefused) {
  FastCommitEncoder encoder(kBlock, kTid);
  EXPECT_FALSE(encoder.inode(InodeNumber(12), std::vector<std::byte>(kBlock)));
  EXPECT_TRUE(encoder.inode(InodeNumber(12), std::vector<std::byte>(kBlock - 12)));
}

}  // namespace
}  // namespace outboard::ext4::format

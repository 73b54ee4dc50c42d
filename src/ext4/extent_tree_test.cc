#include "ext4/extent_tree.h"

#include "ext4/delayed.h"
#include "ext4/map_test_support.h"

namespace outboard::ext4 {
namespace {

constexpr std::uint32_t kBlocks = 30000;  // of the file

unsigned depth_of(const Inode &inode) { return format::ExtentNodeView(inode.fields.block).depth(); }

TEST(ExtentTreeTest, RandomChangesAgreeWithAModelAndE2fsck) {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    MapVolume volume(64 << 20, {"-I", "256"}, 1024);
    ASSERT_TRUE(volume.open());
    Inode inode = volume.create("f");
    ASSERT_OK(volume.set_size_field(inode, std::uint64_t{kBlocks} * 1024));
    MapModel model(volume, inode);
    Random random(seed);
    unsigned deepest = 0;
    for (unsigned round = 0; round < 6000; ++round) {
      const std::uint32_t at = random() % kBlocks;
      switch (random() % 10) {
      case 0: ASSERT_OK(model.remove(at, std::min<std::uint32_t>(kBlocks, at + 1 + random() % 40))); break;
      case 1: ASSERT_OK(model.convert(at, 1 + random() % 6, false)); break;
      case 2: ASSERT_OK(model.convert(at, 1 + random() % 6, true)); break;
      case 3:
        if (round % 40 == 0) {
          ASSERT_OK(model.remove(at, std::min<std::uint32_t>(kBlocks, at + random() % 8000)));
        }
        break;
      default:
        if (!model.blocks().contains(at)) {
          ASSERT_OK(model.insert(at, std::min<std::uint32_t>(kBlocks - at, 1 + random() % 5), random() % 3 == 0));
        }
      }
      deepest = std::max(deepest, depth_of(inode));
      if (round % 1500 == 0) model.expect_equal(kBlocks);
    }
    EXPECT_GE(deepest, 2u);
    model.expect_equal(kBlocks);
    if (::testing::Test::HasFatalFailure()) return;
    volume.close_and_expect_clean();
    // What was in memory is what is on the disk.
    ASSERT_TRUE(volume.open());
    inode = volume.find("f");
    model.expect_equal(kBlocks);
    ASSERT_OK(model.remove(0, kBlocks));
    EXPECT_EQ(depth_of(inode), 0u);
    EXPECT_EQ(inode.fields.sectors, 0u);
    volume.close_and_expect_clean();
  }
}

TEST(ExtentTreeTest, AppendedExtentsFillEveryLeaf) {
  MapVolume volume(64 << 20, {}, 1024);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  ASSERT_OK(volume.set_size_field(inode, 1u << 24));
  MapModel model(volume, inode);
  constexpr std::uint32_t kExtents = 3000;  // holes between them: none joins another
  for (std::uint32_t n = 0; n < kExtents; ++n) ASSERT_OK(model.insert(2 * n, 1, false));
  const std::uint64_t nodes = inode.fields.sectors / 2 - kExtents;
  EXPECT_LE(nodes, kExtents / 84 + 4) << "leaves of 84";
  model.expect_equal(2 * kExtents);
  volume.close_and_expect_clean();
}

TEST(ExtentTreeTest, SequentialBlocksBecomeOneExtentAndOnePreallocationIsWrittenWithoutGrowing) {
  MapVolume volume(64 << 20, {}, 1024);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  ASSERT_OK(volume.set_size_field(inode, 1u << 24));
  MapModel model(volume, inode);
  BlockNumber near;
  for (std::uint32_t n = 0; n < 200; ++n) {
    ASSERT_OK(model.insert(n, 1, false, near));
    near = BlockNumber(model.blocks().at(n).device_block + 1);
  }
  EXPECT_EQ(format::ExtentNodeView(inode.fields.block).entries(), 1);
  const std::uint32_t got = model.insert(1000, 500, true).value_or(0);
  for (std::uint32_t n = 0; n < got; n += 5) ASSERT_OK(model.convert(1000 + n, 5, false));
  EXPECT_EQ(depth_of(inode), 0u);
  EXPECT_LE(format::ExtentNodeView(inode.fields.block).entries(), 3);
  model.expect_equal(2000);
  volume.close_and_expect_clean();
}

TEST(ExtentTreeTest, ConvertingTheMiddleNeedsNoRoomOnAFullVolume) {
  MapVolume volume(8 << 20, {"-m", "0"}, 1024);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f"), filler = volume.create("filler");
  ASSERT_OK(volume.set_size_field(inode, 1u << 20));
  MapModel model(volume, inode);
  // A root with four extents that touch nothing, then not one free block.
  for (std::uint32_t n = 0; n < 4; ++n) ASSERT_EQ(model.insert(100 * n, 20, true).value_or(0), 20u);
  const std::vector<std::byte> data = random_bytes(1 << 20, 1);
  for (std::uint64_t at = 0;;) {
    const auto wrote = volume.write(filler, at, data);
    if (!wrote) {
      EXPECT_ERROR(wrote, ENOSPC);
      break;
    }
    at += *wrote;
  }
  // The allocator keeps a few blocks for metadata: those are taken, too.
  std::vector<BlockNumber> hoard;
  jbd2::Handle handle = *volume->journal().start(volume->journal().max_credits());
  for (;;) {
    const auto block = volume->blocks().allocate(handle, {BlockNumber(), GroupNumber(0)});
    if (!block) {
      EXPECT_ERROR(block, ENOSPC);
      break;
    }
    hoard.push_back(*block);
  }
  handle.finish();
  const auto piece = random_bytes(1024, 2);
  ASSERT_EQ(volume.write(inode, 110 * 1024, piece).value_or(0), 1024u);
  const std::vector<std::byte> bytes = volume.read(inode);
  for (std::uint64_t at = 0; at < bytes.size(); ++at)
    ASSERT_EQ(bytes[at], at / 1024 == 110 ? piece[at % 1024] : std::byte{0}) << at;
  ASSERT_OK(delayed::record_written(*volume, inode));
  EXPECT_TRUE(volume.read(inode) == bytes);
  EXPECT_EQ(depth_of(inode), 0u);
  EXPECT_EQ((*file_map::find(*volume, inode, FileBlock(100), 100)).state, FileMapping::State::mapped);
  jbd2::Handle undo = *volume->journal().start(volume->journal().max_credits());
  for (const BlockNumber block : hoard) EXPECT_OK(volume->blocks().free(undo, {block, 1}, false));
  undo.finish();
  volume.close_and_expect_clean();
}

TEST(ExtentTreeTest, WhatDebugfsSaysIsWhatTheModelSays) {
  MapVolume volume(64 << 20, {}, 1024);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  ASSERT_OK(volume.set_size_field(inode, 3000 * 1024));
  MapModel model(volume, inode);
  Random random(5);
  for (unsigned n = 0; n < 300; ++n) {
    const std::uint32_t at = random() % 3000;
    if (!model.blocks().contains(at)) {
      ASSERT_OK(model.insert(at, 1, false));
    }
  }
  volume.close_and_expect_clean();
  const std::string image = volume.saved();
  for (const auto &[block, where] : model.blocks()) {
    if (block % 10 != 0) continue;
    auto answer = testing::debugfs(image, "bmap f " + std::to_string(block));
    ASSERT_OK(answer);
    EXPECT_EQ(std::stoull(*answer), where.device_block);
  }
}

// Trees with bytes changed at random, checksums off: every answer is an answer or Error::corrupt; nothing hangs or
// crashes.
TEST(ExtentTreeTest, HostileTreesAreCorruptAndNothingElse) {
  MapVolume source(16 << 20, {"-O", "^metadata_csum"}, 1024);
  ASSERT_TRUE(source.open());
  Inode inode = source.create("f");
  ASSERT_OK(source.set_size_field(inode, 12000 * 1024));
  MapModel model(source, inode);
  for (std::uint32_t n = 0; n < 1200; ++n) ASSERT_OK(model.insert(9 * n, 1 + n % 3, n % 4 == 0));
  ASSERT_GE(depth_of(inode), 2u);
  // The tree's blocks: whatever carries the magic number.
  std::vector<std::uint64_t> nodes;
  source.close();
  const std::unique_ptr<device::MemoryDevice> pristine = source.device().clone();
  std::vector<std::byte> block(1024);
  for (std::uint64_t at = 0; at < (16 << 10); ++at) {
    ASSERT_OK(pristine->read(at * 1024, block));
    if (block[0] == std::byte{0x0A} && block[1] == std::byte{0xF3}) nodes.push_back(at);
  }
  ASSERT_GE(nodes.size(), 15u);
  log_line(LogLevel::info, "the corruption reported below is made by this test");
  set_log_level(LogLevel::error);
  unsigned corrupt = 0;
  Random random(7);
  for (unsigned round = 0; round < 150; ++round) {
    auto broken = pristine->clone();
    for (unsigned change = 0; change <= random() % 3; ++change) {
      const std::uint64_t at = nodes[random() % nodes.size()];
      ASSERT_OK(broken->read(at * 1024, block));
      switch (random() % 4) {
      case 0:  // an entry or two
        for (unsigned n = 0; n < 4; ++n) block[12 + random() % 1000] = std::byte(random());
        break;
      case 1:  // the header
        block[random() % 8] = std::byte(random() % 16);
        break;
      case 2:  // another node's contents: wrong depth, a loop, or somebody else's range
        ASSERT_OK(broken->read(nodes[random() % nodes.size()] * 1024, block));
        break;
      default:  // a pointer to a node, perhaps itself
        const std::uint64_t target = nodes[random() % nodes.size()];
        const std::size_t entry = 12 + 12 * (random() % 80);
        block[entry + 4] = std::byte(target);
        block[entry + 5] = std::byte(target >> 8);
        block[entry + 6] = block[entry + 7] = std::byte{0};
      }
      ASSERT_OK(broken->write(at * 1024, block));
    }
    MapVolume volume(std::move(broken));
    ASSERT_TRUE(volume.open({.errors = ErrorPolicy::continue_}));
    Inode victim = volume.find("f");
    for (std::uint32_t at = 0; at < 12000;) {
      const Result<FileMapping> found = file_map::find(*volume, victim, FileBlock(at), 12000 - at);
      if (!found) {
        ++corrupt;
        EXPECT_TRUE(found.error().is_corrupt()) << found.error().message();
        at += 50;
        continue;
      }
      ASSERT_GT(found->count, 0u);
      at += found->count;
    }
    const auto data = random_bytes(5000, round);
    for (unsigned n = 0; n < 20; ++n) {
      const auto wrote = volume.write(victim, random() % (12000 * 1024), data);
      if (!wrote) {
        EXPECT_TRUE(wrote.error().is_corrupt()) << wrote.error().message();
      }
    }
    for (const auto &attempt :
         {truncate::collapse_range(*volume, victim, {4096 * 1024, 64 * 1024}),
          truncate::insert_range(*volume, victim, {1024 * 1024, 64 * 1024}),
          truncate::set_size(*volume, victim, 700 * 1024 + 5), truncate::delete_inode(*volume, victim)})
      if (!attempt) {
        EXPECT_TRUE(attempt.error().is_corrupt() || attempt.error().is(EROFS)) << attempt.error().message();
      }
  }
  set_log_level(LogLevel::info);
  EXPECT_GT(corrupt, 50u);
}

}  // namespace
}  // namespace outboard::ext4

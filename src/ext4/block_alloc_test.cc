// Blocks: reservation, claims, freeing, what is kept back, and e2fsck's opinion of the bitmaps.
#include "ext4/block_alloc.h"

#include "ext4/credits.h"
#include "ext4/volume_test_support.h"

#include <algorithm>
#include <map>
#include <set>
#include <thread>

namespace outboard::ext4 {
namespace {

class BlocksOfEveryFeatureSet : public ::testing::TestWithParam<FeatureSet> {};

INSTANTIATE_TEST_SUITE_P(BlockAllocator, BlocksOfEveryFeatureSet, ::testing::ValuesIn(feature_sets()),
                         [](const auto &set) { return std::string(set.param.name); });

TEST_P(BlocksOfEveryFeatureSet, FilesThatComeGrowAndGoLeaveItClean) {
  VolumeImage image(GetParam());
  ASSERT_TRUE(image.open());
  const Counts before = image->counts();
  std::mt19937 random(7);
  std::map<std::string, Inode> files;
  for (int step = 0; step < 250; ++step) {
    const std::string name = "f" + std::to_string(random() % 40);
    auto found = files.find(name);
    if (found == files.end()) {
      auto made = image.create(name);
      ASSERT_OK(made);
      files.emplace(name, *std::move(made));
    } else if (random() % 4 == 0) {
      ASSERT_OK(image.remove(name, found->second));
      files.erase(found);
    } else {
      auto got = image.append(found->second, 1 + static_cast<std::uint32_t>(random() % 60));
      if (!got) {
        ASSERT_TRUE(got.error().is(ENOSPC)) << got.error().message();
      }
    }
    if (step % 60 == 59) {
      ASSERT_OK(image->sync());
    }
  }
  ASSERT_OK(image->sync());
  image.close();
  image.expect_clean();
  ASSERT_TRUE(image.open());
  for (auto &[name, inode] : files) {
    Result<Inode> again = image->inodes().load(inode.number);
    ASSERT_OK(again);
    EXPECT_EQ(again->fields.size, inode.fields.size);
    ASSERT_OK(image.remove(name, *again));
  }
  // Directories do not shrink, all else is back.
  EXPECT_EQ(image->counts().free_inodes, before.free_inodes);
  EXPECT_LE(before.free_blocks - image->counts().free_blocks, 8U);
  image.close();
  image.expect_clean();
}

TEST_P(BlocksOfEveryFeatureSet, AFullVolumeSaysSoAndStaysClean) {
  FeatureSet set = GetParam();
  VolumeImage image(set);
  ASSERT_TRUE(image.open());
  auto made = image.create("big");
  ASSERT_OK(made);
  for (;;) {
    auto got = image.append(*made, 5000);
    if (got) continue;
    ASSERT_TRUE(got.error().is(ENOSPC)) << got.error().message();
    break;
  }
  // All that is left is the small pool for metadata (and what the tree could not take).
  EXPECT_LE(image->counts().free_blocks, image->superblock().blocks_count / 50 + 16);
  ASSERT_OK(image->sync());
  image.close();
  image.expect_clean();
  ASSERT_TRUE(image.open());
  Result<Inode> again = image->inodes().load(made->number);
  ASSERT_OK(again);
  ASSERT_OK(image.remove("big", *again));
  image.close();
  image.expect_clean();
}

TEST(BlockAllocator, AFreedBlockIsNotGivenAwayBeforeItsFreeingIsDurable) {
  // Without extents nothing but a handful of blocks is kept back, so that the search itself has to say no.
  VolumeImage image(16, {"-m", "0", "-O", "^extent,^64bit"}, 1024);
  VolumeOptions options;
  options.commit_interval = std::chrono::seconds(1000);
  ASSERT_TRUE(image.open(options));
  const BlockRun run = *image->blocks().reserve({}, 64);
  {
    auto handle = image.start(credits::claim(run));
    ASSERT_OK(image->blocks().claim(handle, run));
    handle.finish();
  }
  ASSERT_OK(image->sync());
  {
    auto handle = image.start(credits::free_blocks(1));
    ASSERT_OK(image->blocks().free(handle, run, false));
    handle.finish();
  }
  // The whole volume, block by block, without any of those.
  std::vector<BlockRun> all;
  for (;;) {
    auto got = image->blocks().reserve({run.start, {}}, 4096);
    if (!got) break;
    EXPECT_TRUE(got->end() <= run.start || got->start >= run.end());
    all.push_back(*got);
  }
  EXPECT_GT(all.size(), 0U);
  EXPECT_LE(image->blocks().free_blocks(), run.count + 16);
  EXPECT_ERROR(image->blocks().reserve({run.start, {}}, 1), ENOSPC);
  ASSERT_OK(image->sync());
  auto after = image->blocks().reserve({run.start, {}}, 40);
  ASSERT_OK(after);
  EXPECT_EQ(*after, (BlockRun{run.start, 40}));
  image->blocks().release(*after);
  for (const BlockRun &one : all) image->blocks().release(one);
  image.close();
  image.expect_clean();
}

TEST(BlockAllocator, ReservationsNeitherOverlapNorTouchMetadata) {
  VolumeImage image(32, {"-m", "0"}, 1024);
  ASSERT_TRUE(image.open());
  std::set<std::uint64_t> seen;
  std::mt19937 random(3);
  std::uint64_t total = 0;
  for (;;) {
    const BlockGoal goal{BlockNumber(random() % image->superblock().blocks_count), {}};
    auto got = image->blocks().reserve(goal, 1 + static_cast<std::uint32_t>(random() % 500));
    if (!got) {
      EXPECT_TRUE(got.error().is(ENOSPC));
      break;
    }
    EXPECT_TRUE(image->blocks().may_hold_file_data(*got));
    for (std::uint32_t i = 0; i < got->count; ++i) {
      EXPECT_TRUE(seen.insert((got->start + i).value()).second);
    }
    total += got->count;
  }
  EXPECT_EQ(total + image->blocks().kept_blocks(), superblock_on(image.device()).free_blocks);
}

TEST(BlockAllocator, StretchesContinueAtTheGoalAndAreLongWhenTheyCanBe) {
  VolumeImage image(128, {}, 4096);
  ASSERT_TRUE(image.open());
  auto first = image->blocks().reserve({{}, GroupNumber(0)}, 2000);
  ASSERT_OK(first);
  EXPECT_EQ(first->count, 2000U);
  auto next = image->blocks().reserve({first->end(), {}}, 300);
  ASSERT_OK(next);
  EXPECT_EQ(next->start, first->end());
  EXPECT_EQ(next->count, 300U);
  // A hole of 100 is passed over for 2000, and taken for 80.
  image->blocks().release({first->start + 500, 100});
  auto large = image->blocks().reserve({first->start, {}}, 2000);
  ASSERT_OK(large);
  EXPECT_EQ(large->count, 2000U);
  auto small = image->blocks().reserve({first->start, {}}, 80);
  ASSERT_OK(small);
  EXPECT_EQ(small->start, first->start + 500);
}

TEST(BlockAllocator, FreeingTwiceOrWhatIsNotAFilesIsCorrupt) {
  VolumeImage image(32, {}, 1024);
  ASSERT_TRUE(image.open());
  const BlockRun run = *image->blocks().reserve({}, 4);
  auto handle = image.start(40);
  ASSERT_OK(image->blocks().claim(handle, run));
  ASSERT_OK(image->blocks().free(handle, {run.start, 2}, false));
  EXPECT_ERROR(image->blocks().free(handle, run, false), EUCLEAN);
  EXPECT_ERROR(image->blocks().free(handle, {run.start, 1}, false), EUCLEAN);
  ASSERT_OK(image->blocks().free(handle, {run.start + 2, 2}, true));
  EXPECT_ERROR(image->blocks().free(handle, {BlockNumber(1), 1}, false), EUCLEAN);
  EXPECT_ERROR(image->blocks().free(handle, {BlockNumber(2), 1}, false), EUCLEAN);
  EXPECT_ERROR(image->blocks().free(handle, {BlockNumber(0), 1}, false), EUCLEAN);
  EXPECT_ERROR(image->blocks().free(handle, {BlockNumber(image->superblock().blocks_count - 1), 2}, false), EUCLEAN);
  EXPECT_ERROR(image->blocks().free(handle, {BlockNumber(~std::uint64_t{0} - 1), 4}, false), EUCLEAN);
  // A bitmap, a table, the journal.
  format::GroupDesc desc;
  {
    Group &group = image->groups().at(GroupNumber(0));
    MutexLock lock(group.mutex);
    ASSERT_OK(image->groups().describe(GroupNumber(0), group));
    desc = group.desc;
  }
  for (const BlockNumber block : {desc.block_bitmap, desc.inode_bitmap, desc.inode_table, desc.inode_table + 5})
    EXPECT_ERROR(image->blocks().free(handle, {block, 1}, false), EUCLEAN);
  const Inode journal = *image->inodes().load(image->superblock().journal_inode);
  const FileMapping map = *file_map::find(*image, journal, FileBlock(0), 1);
  EXPECT_ERROR(image->blocks().free(handle, {map.start, 1}, false), EUCLEAN);
  handle.finish();
  image.close();
  image.expect_clean();
}

TEST(BlockAllocator, APromiseIsKeptFromOtherWriters) {
  VolumeImage image(16, {}, 1024);
  ASSERT_TRUE(image.open());
  BlockAllocator &blocks = image->blocks();
  const std::uint64_t usable = blocks.free_blocks() - blocks.kept_blocks();
  EXPECT_GT(image->superblock().reserved_blocks, 0U);
  constexpr auto kData = BlockAllocator::Use::data;
  EXPECT_ERROR(blocks.promise(usable + 1, kData, true), ENOSPC);
  ASSERT_OK(blocks.promise(usable, kData, true));
  EXPECT_EQ(image->counts().available_blocks, 0U);
  EXPECT_ERROR(blocks.reserve({}, 1, true), ENOSPC);
  auto for_root = blocks.reserve({}, 1, false);
  ASSERT_OK(for_root);
  blocks.release(*for_root);
  blocks.withdraw(usable, kData);
  auto now = blocks.reserve({}, 1, true);
  ASSERT_OK(now);
  blocks.release(*now);
}

TEST(BlockAllocator, NeverUsedGroupsBecomeReal) {
  for (const std::vector<std::string> &arguments : {std::vector<std::string>{}, {"-O", "^metadata_csum,uninit_bg"}, {"-O", "^flex_bg"}}) {
    VolumeImage image(64, arguments, 1024);
    ASSERT_TRUE(image.open());
    const GroupNumber last(image->superblock().group_count - 2);
    Group &group = image->groups().at(last);
    {
      MutexLock lock(group.mutex);
      ASSERT_OK(image->groups().describe(last, group));
      ASSERT_TRUE(group.desc.block_uninit) << "mkfs initialised every group";
    }
    auto made = image.create("far");
    ASSERT_OK(made);
    made->allocation_goal = image->geometry().group_first_block(last) + 3000;
    ASSERT_OK(image.append(*made, 10));
    {
      MutexLock lock(group.mutex);
      EXPECT_FALSE(group.desc.block_uninit);
    }
    ASSERT_OK(image->sync());
    image.crash();
    ASSERT_TRUE(image.open());
    image.close();
    image.expect_clean();
  }
}

TEST(BlockAllocator, ABrokenBitmapIsLeftAlone) {
  VolumeImage image(32, {}, 1024);
  ASSERT_TRUE(image.open());
  BlockNumber bitmap;
  {
    Group &group = image->groups().at(GroupNumber(0));
    MutexLock lock(group.mutex);
    ASSERT_OK(image->groups().describe(GroupNumber(0), group));
    bitmap = group.desc.block_bitmap;
  }
  image.close();
  std::vector<std::byte> zeros(1024);
  ASSERT_OK(image.device().write(bitmap.value() * 1024, zeros));
  ASSERT_TRUE(image.open());
  auto run = image->blocks().reserve({{}, GroupNumber(0)}, 8);
  ASSERT_OK(run);
  EXPECT_NE(image->geometry().group_of(run->start), GroupNumber(0));
  image->blocks().release(*run);
  image.close();
  EXPECT_TRUE((superblock_on(image.device()).state & format::kStateErrors) != 0);
}

TEST(BlockAllocator, ThreadsShareTheVolume) {
  VolumeImage image(64, {}, 1024);
  VolumeOptions options;
  options.commit_interval = std::chrono::seconds(1);
  ASSERT_TRUE(image.open(options));
  const std::uint64_t free = image->counts().free_blocks;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&image, t] {
      std::mt19937 random(t);
      std::vector<BlockRun> mine;
      for (int i = 0; i < 400; ++i) {
        if (mine.size() > 20 || (!mine.empty() && random() % 3 == 0)) {
          const BlockRun run = mine.back();
          mine.pop_back();
          auto handle = image.start(credits::free_blocks(1));
          EXPECT_OK(image->blocks().free(handle, run, random() % 2 == 0 && run.count < 5));
          handle.finish();
          continue;
        }
        auto run = image->blocks().reserve({{}, GroupNumber(t % 3)}, 1 + static_cast<std::uint32_t>(random() % 30));
        if (!run) continue;
        if (random() % 5 == 0) {
          image->blocks().release(*run);
          continue;
        }
        auto handle = image.start(credits::claim(*run));
        EXPECT_OK(image->blocks().claim(handle, *run));
        handle.finish();
        mine.push_back(*run);
        if (i % 100 == 0) {
          EXPECT_OK(image->sync());
        }
      }
      for (const BlockRun &run : mine) {
        auto handle = image.start(credits::free_blocks(1));
        EXPECT_OK(image->blocks().free(handle, run, false));
        handle.finish();
      }
    });
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(image->counts().free_blocks, free);
  image.close();
  image.expect_clean();
}

TEST(BlockAllocator, BitmapsOfThousandsOfGroupsDoNotStayInMemory) {
  // 36 GiB of groups of 8 MiB, all but empty.
  VolumeImage image(36 << 10, {"-O", "^has_journal,^resize_inode", "-N", "80000", "-E", "lazy_itable_init=1"}, 1024);
  ASSERT_TRUE(image.open());
  ASSERT_GT(image->groups().count(), 4500U);
  const std::uint64_t free = image->counts().free_blocks;
  const BlockRun kept = *image->blocks().reserve({{}, GroupNumber(7)}, 10);
  std::uint32_t loaded = 0;
  for (std::uint32_t g = 0; g < image->groups().count(); ++g) {
    auto run = image->blocks().reserve({image->geometry().group_first_block(GroupNumber(g)) + 4000, {}}, 5);
    ASSERT_OK(run);
    EXPECT_EQ(image->geometry().group_of(run->start), GroupNumber(g));
    image->blocks().release(*run);
  }
  for (std::uint32_t g = 0; g < image->groups().count(); ++g) {
    Group &group = image->groups().at(GroupNumber(g));
    MutexLock lock(group.mutex);
    if (group.in_use) ++loaded;
    if (g == 7) {
      EXPECT_TRUE(group.in_use) << "holds a reservation";
    }
  }
  EXPECT_LE(loaded, 4200U);
  auto handle = image.start(8);
  ASSERT_OK(image->blocks().claim(handle, kept));
  ASSERT_OK(image->blocks().free(handle, kept, false));
  handle.finish();
  EXPECT_EQ(image->counts().free_blocks, free);
  image.close();
}

TEST(BlockAllocator, TrimDiscardsWhatIsFreeAndNothingElse) {
  VolumeImage image(32, {}, 1024);
  ASSERT_TRUE(image.open());
  auto made = image.create("data");
  ASSERT_OK(made);
  ASSERT_OK(image.append(*made, 100));
  const FileMapping map = *file_map::find(*image, *made, FileBlock(0), 100);
  std::vector<std::byte> block(1024, std::byte{0x77}), back(1024);
  ASSERT_OK(image.device().write(map.start.value() * 1024, block));
  const BlockRun free = *image->blocks().reserve({}, 200);
  ASSERT_OK(image.device().write(free.start.value() * 1024, block));
  image->blocks().release(free);
  auto trimmed = image->blocks().trim(BlockNumber(0), BlockNumber(~std::uint64_t{0}), 8);
  if (!image.device().properties().discards) {
    EXPECT_ERROR(trimmed, EOPNOTSUPP);
    GTEST_SKIP() << "the memory device does not discard";
  }
  ASSERT_OK(trimmed);
  EXPECT_LE(*trimmed, image->counts().free_blocks);
  EXPECT_GT(*trimmed, image->counts().free_blocks - 1000);
  ASSERT_OK(image.device().read(map.start.value() * 1024, back));
  EXPECT_EQ(back, block);
  ASSERT_OK(image.device().read(free.start.value() * 1024, back));
  EXPECT_NE(back, block);
  image.close();
  image.expect_clean();
}

// What a write-back does that learns of the abort between the bitmap and the inode.
TEST(BlockAllocator, RunsClaimedBeforeAnAbortAreReleasedWithoutHarm) {
  VolumeImage image(32, {}, 4096);
  ASSERT_TRUE(image.open());
  auto run = image->blocks().reserve({{}, GroupNumber(0)}, 8);
  ASSERT_OK(run);
  {
    ASSIGN_OK(jbd2::Handle handle, image->journal().start(credits::kGroup));
    ASSERT_OK(image->blocks().claim(handle, *run));
    image->journal().abort(Error::system(EIO, "test"));
  }
  const std::uint64_t free = image->blocks().free_blocks();
  image->blocks().release(*run);
  EXPECT_EQ(image->blocks().free_blocks(), free) << "they are in a file, as far as anybody knows";
}

}  // namespace
}  // namespace outboard::ext4

// Inodes: numbers, records, where they go, and what e2fsck says to it.
#include "ext4/inode_alloc.h"

#include "ext4/inode_flags.h"
#include "ext4/volume_test_support.h"

#include <mutex>
#include <set>
#include <thread>

namespace outboard::ext4 {
namespace {

class InodesOfEveryFeatureSet : public ::testing::TestWithParam<FeatureSet> {};

INSTANTIATE_TEST_SUITE_P(InodeAllocator, InodesOfEveryFeatureSet, ::testing::ValuesIn(feature_sets()),
                         [](const auto &set) { return std::string(set.param.name); });

TEST_P(InodesOfEveryFeatureSet, WhatIsStoredIsLoadedAgain) {
  VolumeImage image(GetParam());
  ASSERT_TRUE(image.open());
  auto made = image.create("file", 0100640);
  ASSERT_OK(made);
  EXPECT_GE(made->number, image->superblock().first_ino);
  made->fields.uid = 70000;
  made->fields.gid = 80000;
  made->fields.mtime = {1'234'567'890, image->superblock().inode_size > 128 ? 123'456'788U : 0U};
  {
    auto handle = image.start(credits::kStoreInode);
    ASSERT_OK(image->inodes().store(handle, *made));
    EXPECT_EQ(made->sync_tid, handle.tid());
    EXPECT_EQ(made->datasync_tid, handle.tid());
    handle.finish();
  }
  Result<Inode> again = image->inodes().load(made->number);
  ASSERT_OK(again);
  EXPECT_EQ(again->fields, made->fields);
  EXPECT_EQ(again->checksum_seed, made->checksum_seed);
  image.close();
  image.expect_clean();
  image.save();
  ASSIGN_OK(const std::string stat, testing::debugfs(image.path(), "stat /file"));
  EXPECT_NE(stat.find("User: 70000"), std::string::npos) << stat;
  EXPECT_NE(stat.find("Group: 80000"), std::string::npos) << stat;
}

TEST_P(InodesOfEveryFeatureSet, ManyComeAndGo) {
  VolumeImage image(GetParam());
  ASSERT_TRUE(image.open());
  const std::uint64_t free = image->counts().free_inodes;
  std::mt19937 random(11);
  std::vector<std::pair<std::string, Inode>> live;
  for (int i = 0; i < 400; ++i) {
    if (!live.empty() && random() % 3 == 0) {
      const std::size_t victim = random() % live.size();
      ASSERT_OK(image.remove(live[victim].first, live[victim].second));
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(victim));
      continue;
    }
    const std::uint32_t modes[] = {0100644, 0100600, 010644, 020600};
    const std::string name = "n" + std::to_string(i);
    auto made = image.create(name, modes[random() % 4]);
    ASSERT_OK(made);
    for (const auto &[other, inode] : live) {
      EXPECT_NE(inode.number, made->number);
    }
    live.emplace_back(name, *std::move(made));
    if (i % 90 == 0) {
      ASSERT_OK(image->sync());
    }
  }
  EXPECT_EQ(image->counts().free_inodes, free - live.size());
  image.close();
  image.expect_clean();
}

TEST_P(InodesOfEveryFeatureSet, DirectoriesSpreadAndLeaveItClean) {
  VolumeImage image(GetParam());
  ASSERT_TRUE(image.open());
  std::set<std::uint32_t> groups;
  for (int i = 0; i < 30; ++i) {
    auto made = image.create("d" + std::to_string(i), 040755);
    ASSERT_OK(made);
    groups.insert(image->geometry().flex_group_of(image->geometry().locate(made->number).group));
    auto inside = names::create(*image, *made, "sub", {.mode = 040755});
    ASSERT_OK(inside);
    auto file = names::create(*image, *made, "file", {.mode = 0100644});
    ASSERT_OK(file);
    EXPECT_EQ(image->geometry().locate(file->number).group, image->geometry().locate(made->number).group);
  }
  if (image->geometry().flex_group_count() > 2) {
    EXPECT_GT(groups.size(), 1U);
  }
  ASSERT_OK(image->sync());
  image.close();
  image.expect_clean();
}

TEST(InodeAllocator, RunsOutCleanlyAndRecovers) {
  VolumeImage image(16, {"-N", "256"}, 1024);
  ASSERT_TRUE(image.open());
  std::vector<Inode> made;
  for (;;) {
    auto next = image.create("f" + std::to_string(made.size()));
    if (!next) {
      ASSERT_TRUE(next.error().is(ENOSPC)) << next.error().message();
      break;
    }
    made.push_back(*std::move(next));
  }
  EXPECT_EQ(image->counts().free_inodes, 0U);
  EXPECT_EQ(made.size(), image->superblock().free_inodes);
  image.close();
  image.expect_clean();
  ASSERT_TRUE(image.open());
  for (std::size_t i = 0; i < made.size(); ++i) {
    ASSERT_OK(image.remove("f" + std::to_string(i), made[i]));
  }
  image.close();
  image.expect_clean();
}

TEST(InodeAllocator, AHeldNumberIsNotReused) {
  VolumeImage image(16, {}, 1024);
  ASSERT_TRUE(image.open());
  auto first = image.create("first");
  ASSERT_OK(first);
  const InodeNumber number = first->number;
  image->inodes().hold_number(number);
  image->inodes().hold_number(number);
  ASSERT_OK(image.remove("first", *first));
  auto second = image.create("second");
  ASSERT_OK(second);
  EXPECT_NE(second->number, number);
  image->inodes().release_number(number);
  auto third = image.create("third");
  ASSERT_OK(third);
  EXPECT_NE(third->number, number);
  image->inodes().release_number(number);
  auto fourth = image.create("fourth");
  ASSERT_OK(fourth);
  EXPECT_EQ(fourth->number, number);
  EXPECT_NE(fourth->fields.generation, first->fields.generation);
  image.close();
  image.expect_clean();
}

TEST(InodeAllocator, AFreedInodeHasNoLinksAndCannotBeFreedAgain) {
  VolumeImage image(16, {}, 1024);
  ASSERT_TRUE(image.open());
  auto made = image.create("gone");
  ASSERT_OK(made);
  Inode copy = *made;
  ASSERT_OK(image.remove("gone", *made));
  Result<Inode> again = image->inodes().load(copy.number);
  ASSERT_OK(again);
  EXPECT_EQ(again->fields.links, 0U);
  EXPECT_EQ(again->fields.mode, 0U);
  auto handle = image.start(credits::kFreeInode);
  EXPECT_ERROR(image->inodes().free(handle, copy), EUCLEAN);
  Inode root = image.root();
  EXPECT_ERROR(image->inodes().free(handle, root), EUCLEAN);
  handle.finish();
  EXPECT_ERROR(image->inodes().load(InodeNumber(0)), EUCLEAN);
  EXPECT_ERROR(image->inodes().load(InodeNumber(image->superblock().inodes_count + 1)), EUCLEAN);
  image.close();
  image.expect_clean();
  image.save();
  ASSIGN_OK(const std::string stat, testing::debugfs(image.path(), "stat <" + std::to_string(copy.number.value()) + ">"));
  EXPECT_NE(stat.find("dtime: 0x"), std::string::npos) << stat;
}

TEST(InodeAllocator, ALinkOfTheOrphanListSurvivesAStore) {
  VolumeImage image(16, {}, 1024);
  ASSERT_TRUE(image.open());
  auto made = image.create("file");
  ASSERT_OK(made);
  auto handle = image.start(8);
  ASSERT_OK(image->inodes().set_orphan_link(handle, made->number, 4711));
  made->on_orphan_list = true;
  made->fields.size = 5;
  ASSERT_OK(image->inodes().store(handle, *made));
  EXPECT_EQ(made->fields.dtime, 4711U);
  ASSERT_OK(image->inodes().set_orphan_link(handle, made->number, 0));
  made->on_orphan_list = false;
  made->fields.dtime = 0;
  made->fields.size = 0;
  ASSERT_OK(image->inodes().store(handle, *made));
  handle.finish();
  EXPECT_EQ(image->inodes().load(made->number)->fields.dtime, 0U);
  image.close();
  image.expect_clean();
}

TEST(InodeAllocator, AttributesInTheRecordAreKeptBesideTheFields) {
  VolumeImage image(16, {"-I", "256"}, 1024);
  ASSERT_TRUE(image.open());
  auto made = image.create("file");
  ASSERT_OK(made);
  ASSIGN_OK(std::vector<std::byte> area, image->inodes().read_inline_xattrs(*made));
  EXPECT_EQ(area.size(), 256U - 128U - made->fields.extra_isize);
  for (std::byte byte : area) {
    EXPECT_EQ(byte, std::byte{0});
  }
  auto handle = image.start(4);
  std::vector<std::byte> marked(area.size(), std::byte{0x42});
  ASSERT_OK(image->inodes().write_inline_xattrs(handle, *made, marked));
  made->fields.uid = 5;
  ASSERT_OK(image->inodes().store(handle, *made));
  EXPECT_EQ(*image->inodes().read_inline_xattrs(*made), marked);
  EXPECT_EQ(image->inodes().load(made->number)->fields.uid, 5U);
  ASSERT_OK(image->inodes().write_inline_xattrs(handle, *made, area));
  handle.finish();
  image.close();
  image.expect_clean();
}

TEST(InodeAllocator, FlagsAndProjectComeFromTheDirectory) {
  VolumeImage image(32, {"-O", "project"}, 4096);
  ASSERT_TRUE(image.open());
  Inode root = image.root();
  root.fields.flags |= inode_flags::kNoDump | inode_flags::kSync | inode_flags::kDirSync | inode_flags::kProjectInherit |
                       inode_flags::kImmutable;
  root.fields.projid = 99;
  auto handle = image.start(2 * credits::kAllocateInode + 2 * credits::kFreeInode);
  auto file = image->inodes().allocate(handle, root, 0100644, 1, 2);
  ASSERT_OK(file);
  EXPECT_EQ(file->fields.projid, 99U);
  EXPECT_EQ(file->fields.flags, inode_flags::kNoDump | inode_flags::kSync | format::kInodeFlagExtents);
  EXPECT_EQ(file->fields.extra_isize, 32U);
  EXPECT_EQ(file->fields.links, 0U);
  EXPECT_EQ(file->fields.crtime, file->fields.mtime);
  auto directory = image->inodes().allocate(handle, root, 040755, 1, 2);
  ASSERT_OK(directory);
  EXPECT_TRUE(directory->fields.has_flag(inode_flags::kDirSync));
  EXPECT_FALSE(directory->fields.has_flag(inode_flags::kImmutable));
  ASSERT_OK(image->inodes().free(handle, *file));
  ASSERT_OK(image->inodes().free(handle, *directory));
  handle.finish();
  image.close();
  image.expect_clean();
}

TEST(InodeAllocator, TablesNeverInitialisedAreNotBelieved) {
  VolumeImage image(64, {"-E", "lazy_itable_init=1"}, 1024);
  // What lazy initialisation leaves: garbage in the tables.
  ASSERT_TRUE(image.open());
  std::vector<BlockRun> tables;
  for (std::uint32_t g = 0; g < image->groups().count(); ++g) {
    Group &group = image->groups().at(GroupNumber(g));
    MutexLock lock(group.mutex);
    ASSERT_OK(image->groups().describe(GroupNumber(g), group));
    const std::uint32_t used = image->superblock().inodes_per_group - group.desc.itable_unused;
    if (group.desc.itable_zeroed && g == 0) continue;
    const std::uint32_t skip = divide_up(used, image->geometry().inodes_per_block());
    tables.push_back({group.desc.inode_table + skip, image->geometry().inode_table_blocks() - skip});
  }
  image.close();
  const std::vector<std::byte> garbage(1024, std::byte{0xA5});
  for (const BlockRun &table : tables)
    for (std::uint32_t i = 0; i < table.count; ++i) {
      ASSERT_OK(image.device().write((table.start + i).value() * 1024, garbage));
    }
  image.expect_clean();  // as far as e2fsck is concerned nothing is there

  ASSERT_TRUE(image.open());
  for (int i = 0; i < 200; ++i) {
    auto directory = image.create("d" + std::to_string(i), i % 4 == 0 ? 040755 : 0100644);
    ASSERT_OK(directory);
  }
  ASSERT_OK(image->sync());
  const InodeNumber last(image->superblock().inodes_count);
  EXPECT_EQ(image->inodes().load(last)->fields.links, 0U);
  image.crash();
  ASSERT_TRUE(image.open());
  image.close();
  image.expect_clean();
}

TEST(InodeAllocator, ThreadsAllocateAndFreeAtOnce) {
  VolumeImage image(64, {}, 1024);
  ASSERT_TRUE(image.open());
  const std::uint64_t free = image->counts().free_inodes;
  const Inode root = image.root();
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::set<std::uint32_t> live;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      std::vector<Inode> mine;
      const auto drop = [&] {
        Inode inode = mine.back();
        mine.pop_back();
        {
          std::lock_guard lock(mutex);
          live.erase(inode.number.value());
        }
        auto handle = image.start(credits::kFreeInode);
        EXPECT_OK(image->inodes().free(handle, inode));
        handle.finish();
      };
      for (int i = 0; i < 300; ++i) {
        if (mine.size() > 30 || (!mine.empty() && random() % 3 == 0)) {
          drop();
          continue;
        }
        auto handle = image.start(credits::kAllocateInode);
        auto made = image->inodes().allocate(handle, root, random() % 2 == 0 ? 0100644 : 040755, t, t);
        handle.finish();
        ASSERT_OK(made);
        {
          std::lock_guard lock(mutex);
          EXPECT_TRUE(live.insert(made->number.value()).second);
        }
        auto again = image->inodes().load(made->number);
        ASSERT_OK(again);
        EXPECT_EQ(again->fields.uid, t);
        mine.push_back(*std::move(made));
        if (i % 100 == 0) {
          EXPECT_OK(image->sync());
        }
      }
      while (!mine.empty()) drop();
    });
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(image->counts().free_inodes, free);
  image.close();
  image.expect_clean();
}

TEST(InodeAllocator, NonsenseInARecordIsCorrupt) {
  for (const char *request :
       {"set_inode_field <12> mode 0170644", "set_inode_field <12> block[0] 0x12345678", "set_inode_field <12> flags 0x10080000",
        "set_inode_field <12> block[5] 0x7fffffff", "set_inode_field <12> flags 0"}) {
    SCOPED_TRACE(request);
    VolumeImage image(16, {}, 1024);
    ASSERT_OK(testing::write_file(image.file("host"), std::string(3000, 'x')));
    ASSERT_OK(testing::debugfs_write(image.path(), {"write " + image.file("host") + " file", request}));
    image.reload();
    ASSERT_TRUE(image.open());
    EXPECT_ERROR(image->inodes().load(InodeNumber(12)), EUCLEAN);
    image.crash();
  }
}

}  // namespace
}  // namespace outboard::ext4

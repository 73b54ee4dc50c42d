// Bytes through the engine and ext4's maps: what e2fsprogs reads, what a full volume says, what a crash leaves.
#include "ext4/map_test_support.h"

namespace outboard::ext4 {
namespace {

TEST(MapperTest, WhatIsWrittenIsWhatDebugfsReads) {
  for (const std::uint32_t block_size : {1024u, 4096u}) {
    for (const char *features : {"metadata_csum,64bit", "^metadata_csum,^64bit"}) {
      MapVolume volume(64 << 20, {"-O", features}, block_size);
      ASSERT_TRUE(volume.open());
      Inode inode = volume.create("f");
      std::vector<std::byte> model;
      Random random(block_size);
      for (unsigned round = 0; round < 120; ++round) {
        const std::uint64_t at = random() % (4 << 20);
        const auto data = random_bytes(1 + random() % 50000, random());
        ASSERT_EQ(volume.write(inode, at, data).value_or(0), data.size());
        if (model.size() < at + data.size()) model.resize(at + data.size());
        std::copy(data.begin(), data.end(), model.begin() + static_cast<std::ptrdiff_t>(at));
      }
      EXPECT_TRUE(volume.read(inode) == model);
      volume.close_and_expect_clean();
      const std::string image = volume.saved(), out = volume.host_file("out");
      ASSERT_OK(testing::debugfs(image, "dump f " + out));
      const auto dumped = testing::read_file(out);
      ASSERT_OK(dumped);
      EXPECT_TRUE(bytes_of(*dumped) == model);
    }
  }
}

TEST(MapperTest, WhatDebugfsWroteIsRead) {
  testing::TemporaryDirectory directory;
  const auto data = random_bytes(3000001, 3);
  ASSERT_OK(testing::write_file(directory.file("in"), text_of(data)));
  MapVolume volume(48 << 20, {}, 4096, {"write " + directory.file("in") + " f"});
  ASSERT_TRUE(volume.open({.read_only = true}));
  Inode inode = volume.find("f");
  EXPECT_TRUE(volume.read(inode) == data);
  EXPECT_ERROR(volume.write(inode, 0, data), EROFS);
}

TEST(MapperTest, OverwritesInsideTheFileNeedNoTransaction) {
  MapVolume volume(48 << 20, {}, 4096);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  const auto data = random_bytes(100000, 1);
  ASSERT_EQ(volume.write(inode, 0, data).value_or(0), data.size());
  const std::uint64_t handles = volume->journal().counters().handles;
  const std::uint64_t cookie = inode.map_sequence;
  ASSERT_EQ(volume.write(inode, 5000, std::span(data).first(20000)).value_or(0), 20000u);
  EXPECT_EQ(volume->journal().counters().handles, handles);
  EXPECT_EQ(inode.map_sequence, cookie);
  volume.close_and_expect_clean();
}

TEST(MapperTest, WritesThatFailGiveTheirBlocksBack) {
  MapVolume volume(48 << 20, {}, 4096);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  const std::uint64_t free = volume->blocks().free_blocks();
  Mapper mapper(*volume, inode);
  const auto mapping = mapper.begin({0, 100000}, iomap::Operation::write);
  ASSERT_OK(mapping);
  EXPECT_NE(mapping->flags & iomap::kFresh, 0u);
  EXPECT_LT(volume->blocks().free_blocks(), free);
  ASSERT_OK(mapper.end({0, 100000}, 0, iomap::Operation::write, *mapping));
  EXPECT_EQ(volume->blocks().free_blocks(), free);
  // Half of it.
  const auto again = mapper.begin({0, 100000}, iomap::Operation::write);
  ASSERT_OK(again);
  ASSERT_GE(again->length, 3u * 4096);
  ASSERT_OK(mapper.ioend({0, 4097}, *again));
  ASSERT_OK(mapper.end({0, 100000}, 4097, iomap::Operation::write, *again));
  EXPECT_EQ(volume->blocks().free_blocks(), free - 2);
  EXPECT_EQ(inode.fields.size, 4097u);
  EXPECT_EQ(inode.fields.sectors, 16u);
  volume.close_and_expect_clean();
}

TEST(MapperTest, FullVolumeSaysSoAndKeepsWhatItHas) {
  for (const char *kind : {"ext2", "ext3", "ext4"}) {
    MapVolume volume(8 << 20, {"-t", kind}, 1024);
    ASSERT_TRUE(volume.open());
    Inode one = volume.create("one"), two = volume.create("two");
    std::vector<std::byte> model_one, model_two;
    // Turn by turn and with holes, so that maps grow, too.
    unsigned full = 0;
    for (unsigned round = 0; full < 4; ++round) {
      const auto data = random_bytes(1024, round);
      for (auto [inode, model] : {std::pair{&one, &model_one}, std::pair{&two, &model_two}}) {
        const std::uint64_t at = std::uint64_t{round} * 2048;
        const auto wrote = volume.write(*inode, at, data);
        if (!wrote) {
          ASSERT_ERROR(wrote, ENOSPC);
          ++full;
          continue;
        }
        ASSERT_EQ(*wrote, 1024u);
        model->resize(at);
        model->insert(model->end(), data.begin(), data.end());
      }
    }
    EXPECT_GT(model_one.size(), 3u << 20);
    EXPECT_TRUE(volume.read(one) == model_one);
    EXPECT_TRUE(volume.read(two) == model_two);
    // Removing one makes room at once, although its blocks come back only with a commit.
    volume.remove("one");
    const auto data = random_bytes(1 << 20, 9);
    EXPECT_EQ(volume.write(two, model_two.size(), data).value_or(0), data.size());
    volume.close_and_expect_clean();
  }
}

TEST(MapperTest, ReservedBlocksAreForThoseWhoMayUseThem) {
  MapVolume volume(16 << 20, {"-m", "20"}, 1024);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  const auto data = random_bytes(100000, 1);
  const auto fill = [&](bool privileged) {
    for (;;) {
      Mapper mapper(*volume, inode, privileged);
      const auto wrote =
          iomap::direct::write(mapper, volume.device(), 1024, inode.fields.size, data, inode.fields.size);
      if (wrote) continue;
      EXPECT_ERROR(wrote, ENOSPC);
      return inode.fields.size;
    }
  };
  const std::uint64_t ordinary = fill(false), privileged = fill(true);
  EXPECT_GT(privileged, ordinary + (2 << 20));
  volume.close_and_expect_clean();
}

// Whatever is on the device at a flush, or between two writes, leads to a clean volume with whole files.
class MapCrashTest : public ::testing::TestWithParam<const char *> {
protected:
  void SetUp() override { set_log_level(LogLevel::warning); }  // dozens of recoveries
  void TearDown() override { set_log_level(LogLevel::info); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, MapCrashTest, ::testing::Values("ext3", "ext4"),
                         [](const auto &parameter) { return std::string(parameter.param); });

TEST_P(MapCrashTest, EveryCutIsCleanAfterRecoveryAndShowsNoStaleBytes) {
  const bool extents = std::string_view(GetParam()) == "ext4";
  for (unsigned seed = 1; seed <= 2; ++seed) {
    // All free space is full of old data: a block that is shown before it was written gives itself away.
    testing::TemporaryDirectory directory;
    const std::string path = directory.file("image");
    ASSERT_OK(testing::make_image(path, 16 << 20, {"-t", GetParam(), "-J", "size=1"}, 1024));
    auto memory = *device::MemoryDevice::from_file(path);
    MapVolume volume(std::move(memory));
    ASSERT_TRUE(volume.open());
    {
      Inode junk = volume.create("junk");
      const std::vector<std::byte> old(1 << 20, std::byte{0xEE});
      while (volume.write(junk, junk.fields.size, old).value_or(0) > 0) {
      }
      volume.remove("junk");
      ASSERT_OK(volume->sync());
    }
    volume.device().record(7);
    Random random(seed);
    std::vector<Inode> files;
    for (int n = 0; n < 3; ++n) files.push_back(volume.create("f" + std::to_string(n)));
    for (unsigned round = 0; round < 120; ++round) {
      Inode &inode = files[random() % files.size()];
      const std::uint64_t at = random() % (400 * 1024), length = 1 + random() % 30000;
      switch (random() % (extents ? 8 : 5)) {
      case 0: EXPECT_OK(truncate::set_size(*volume, inode, at)); break;
      case 1: EXPECT_OK(truncate::punch_hole(*volume, inode, {at, length})); break;
      case 2: EXPECT_OK(volume->journal().commit_running()); break;
      case 5: EXPECT_OK(truncate::preallocate(*volume, inode, {at, length}, round % 2 == 0)); break;
      case 6: EXPECT_OK(truncate::zero_range(*volume, inode, {at, length}, false)); break;
      case 7:
        if (inode.fields.size > 20000) {
          EXPECT_OK(round % 2 == 0 ? truncate::collapse_range(*volume, inode, {2048, 4096})
                                   : truncate::insert_range(*volume, inode, {3072, 4096}));
        }
        break;
      default: {
        std::vector<std::byte> data(length);
        for (std::byte &byte : data) byte = std::byte(1 + random() % 0x7f);
        EXPECT_EQ(volume.write(inode, at, data).value_or(0), length);
      }
      }
    }
    const auto cuts = volume.device().take();
    ASSERT_GT(cuts.size(), 20u);
    volume.close_and_expect_clean();
    const std::size_t step = std::max<std::size_t>(1, cuts.size() / 30);
    for (std::size_t n = random() % step; n < cuts.size(); n += step) {
      MapVolume recovered(cuts[n]->clone());
      ASSERT_TRUE(recovered.open()) << n;
      for (int file = 0; file < 3; ++file) {
        Inode root = *recovered->inodes().load(format::kRootInode);
        if (!Directory::find(*recovered, root, "f" + std::to_string(file))) continue;
        Inode inode = recovered.find("f" + std::to_string(file));
        const auto bytes = recovered.read(inode);
        ASSERT_EQ(std::find(bytes.begin(), bytes.end(), std::byte{0xEE}), bytes.end()) << "old data at cut " << n;
      }
      recovered.close_and_expect_clean();
      if (HasFailure()) {
        FAIL() << "cut " << n << " of " << cuts.size() << ", seed " << seed;
      }
    }
  }
}

// A truncation that takes many transactions, cut off anywhere: the old size with every old byte, or the new one with
// nothing behind it, also after growing again.
TEST_P(MapCrashTest, TruncationIsAllOrNothingAtEveryCut) {
  testing::TemporaryDirectory directory;
  const std::string path = directory.file("image");
  ASSERT_OK(testing::make_image(path, 32 << 20, {"-t", GetParam(), "-J", "size=1", "-g", "1024"}, 1024));
  MapVolume volume(*device::MemoryDevice::from_file(path));
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  Inode other = volume.create("other");
  std::vector<std::byte> model;
  for (unsigned n = 0; n < 2500; ++n) {  // turn by turn: fragments
    const auto data = random_bytes(3 * 1024, n);
    ASSERT_EQ(volume.write(inode, model.size(), data).value_or(0), data.size());
    model.insert(model.end(), data.begin(), data.end());
    ASSERT_EQ(volume.write(other, other.fields.size, std::span(data).first(1024)).value_or(0), 1024u);
  }
  ASSERT_OK(volume->sync());
  constexpr std::uint64_t kNewSize = 5 * 1024 + 300;
  volume.device().record(3);
  ASSERT_OK(truncate::set_size(*volume, inode, kNewSize));
  ASSERT_OK(volume->sync());
  const auto cuts = volume.device().take();
  volume.close_and_expect_clean();
  unsigned before = 0, after = 0;
  const std::size_t step = std::max<std::size_t>(1, cuts.size() / 30);
  for (std::size_t n = 0; n < cuts.size(); n += step) {
    MapVolume recovered(cuts[n]->clone());
    ASSERT_TRUE(recovered.open());
    Inode found = recovered.find("f");
    const auto bytes = recovered.read(found);
    if (bytes.size() == model.size()) {
      ++before;
      ASSERT_TRUE(bytes == model) << "bytes lost at cut " << n;
    } else {
      ++after;
      ASSERT_EQ(bytes.size(), kNewSize);
      ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), model.begin()));
      const FileMapping last = *file_map::find(*recovered, found, FileBlock(5), 10);
      ASSERT_EQ(last.count, 1u) << "blocks behind the end at cut " << n;
      std::vector<std::byte> rest(1024 - 300);
      ASSERT_OK(recovered.device().read(last.start.value() * 1024 + 300, rest));
      ASSERT_TRUE(std::ranges::count(rest, std::byte{0}) == 1024 - 300) << "old bytes behind the end at cut " << n;
    }
    recovered.close_and_expect_clean();
    if (HasFailure()) {
      FAIL() << "cut " << n;
    }
  }
  EXPECT_GT(before, 0u);
  EXPECT_GT(after, 0u);
}

TEST_P(MapCrashTest, DeletionOfALargeFileEndsAfterEveryCut) {
  testing::TemporaryDirectory directory;
  const std::string path = directory.file("image");
  ASSERT_OK(testing::make_image(path, 64 << 20, {"-t", GetParam(), "-J", "size=1", "-g", "256"}, 1024));
  MapVolume volume(*device::MemoryDevice::from_file(path));
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f"), other = volume.create("other");
  const auto data = random_bytes(16 * 1024, 1);
  for (unsigned n = 0; n < 2400; ++n) {
    ASSERT_EQ(volume.write(inode, inode.fields.size, data).value_or(0), data.size());
    ASSERT_EQ(volume.write(other, other.fields.size, std::span(data).first(1024)).value_or(0), 1024u);
  }
  ASSERT_OK(volume->sync());
  const std::uint64_t free = volume->counts().free_blocks;
  volume.device().record(1);
  volume.remove("f");
  ASSERT_OK(volume->sync());
  const auto cuts = volume.device().take();
  volume.close_and_expect_clean();
  ASSERT_GT(cuts.size(), 3u);
  const std::size_t step = std::max<std::size_t>(1, cuts.size() / 30);
  unsigned gone = 0;
  for (std::size_t n = 0; n < cuts.size(); n += step) {
    MapVolume recovered(cuts[n]->clone());
    ASSERT_TRUE(recovered.open());
    Inode root = *recovered->inodes().load(format::kRootInode);
    if (!Directory::find(*recovered, root, "f")) {
      ++gone;
      EXPECT_OK(recovered->sync());
      EXPECT_GE(recovered->counts().free_blocks, free + 2400 * 16);
    }
    recovered.close_and_expect_clean();
    if (HasFailure()) {
      FAIL() << "cut " << n;
    }
  }
  EXPECT_GT(gone, 0u);
}

}  // namespace
}  // namespace outboard::ext4

// Opening, closing, recovering and refusing volumes.
#include "ext4/volume.h"

#include "ext4/volume_test_support.h"
#include "ext4/directory.h"
#include "testing/command.h"
#include "testing/write_log_device.h"

namespace outboard::ext4 {
namespace {

class EveryFeatureSet : public ::testing::TestWithParam<FeatureSet> {};

INSTANTIATE_TEST_SUITE_P(Volume, EveryFeatureSet, ::testing::ValuesIn(feature_sets()),
                         [](const auto &set) { return std::string(set.param.name); });

TEST_P(EveryFeatureSet, OpenAndCloseLeaveACleanImage) {
  VolumeImage image(GetParam());
  const format::Superblock before = superblock_on(image.device());
  ASSERT_TRUE(image.open());
  EXPECT_FALSE(image->read_only());
  EXPECT_EQ(image->block_size(), GetParam().block_size);
  // In use: nobody else may take it for clean.
  const format::Superblock during = superblock_on(image.device());
  if (before.has(format::Compat::has_journal)) {
    EXPECT_TRUE(during.has(format::Incompat::recover));
  } else {
    EXPECT_EQ(during.state & format::kStateClean, 0);
  }
  const Counts counts = image->counts();
  EXPECT_EQ(counts.free_blocks, before.free_blocks);
  EXPECT_EQ(counts.free_inodes, before.free_inodes);
  EXPECT_EQ(counts.inodes, before.inodes_count);
  EXPECT_LT(counts.blocks, before.blocks_count);
  EXPECT_GE(counts.blocks, counts.free_blocks);
  EXPECT_LE(counts.available_blocks, counts.free_blocks - before.reserved_blocks);
  image.close();
  const format::Superblock after = superblock_on(image.device());
  EXPECT_EQ(after.features, before.features);
  EXPECT_EQ(after.state, before.state);
  EXPECT_EQ(after.free_blocks, before.free_blocks);
  EXPECT_EQ(after.free_inodes, before.free_inodes);
  EXPECT_EQ(after.mount_count, before.mount_count + 1);
  EXPECT_GE(after.mount_time, before.mkfs_time);
  image.expect_clean();
}

TEST_P(EveryFeatureSet, AReadOnlyVolumeLeavesEveryByteAlone) {
  VolumeImage image(GetParam());
  const std::vector<std::byte> before = contents(image.device());
  image.device().set_read_only(true);
  VolumeOptions options;
  options.read_only = true;
  ASSERT_TRUE(image.open(options));
  EXPECT_TRUE(image->read_only());
  EXPECT_FALSE(image->report().forced_read_only);
  EXPECT_ERROR(image->check_writable(), EROFS);
  EXPECT_EQ(image.root().fields.links, 3U);  // lost+found
  EXPECT_ERROR(image->journal().start(1), EROFS);
  image.close();
  EXPECT_TRUE(contents(image.device()) == before);
}

TEST_P(EveryFeatureSet, ADropWithoutCloseIsRecoveredWithExactCounts) {
  VolumeImage image(GetParam());
  ASSERT_TRUE(image.open());
  const bool journaled = image->superblock().has(format::Compat::has_journal);
  const bool image_has_orphan_file = image->superblock().has(format::Compat::orphan_file);
  for (int i = 0; i < 40; ++i) {
    auto made = image.create("file" + std::to_string(i));
    ASSERT_OK(made);
    ASSERT_OK(image.append(*made, 1 + i % 7));
  }
  ASSERT_OK(image->sync());
  const Counts counts = image->counts();
  ASSERT_OK(image.create("lost"));
  image.crash();

  if (!journaled) return;  // nothing is promised
  // (The mark that an orphan file is in use stays in the superblock, as the kernel leaves it: e2fsck would say so.)
  if (!image_has_orphan_file) {
    // What was committed is consistent as it stands: e2fsck replays it and finds nothing to say, counters included.
    image.save();
    ASSERT_OK(testing::replay_with_e2fsck(image.path()));
    const testing::FsckReport report = testing::fsck(image.path());
    EXPECT_TRUE(report.clean) << report.text;
  }
  ASSERT_TRUE(image.open());
  EXPECT_TRUE(image->report().recovery.was_needed);
  EXPECT_EQ(image->counts().free_blocks, counts.free_blocks);
  EXPECT_EQ(image->counts().free_inodes, counts.free_inodes);
  image.close();
  image.expect_clean();
}

TEST(Volume, EveryCrashStateIsRecoveredClean) {
  for (const FeatureSet &set : {FeatureSet{"Default", {}, 1024, 24}, FeatureSet{"OrphanFile", {"-O", "orphan_file"}, 1024, 24},
                                FeatureSet{"Ext3", {"-t", "ext3"}, 1024, 24}}) {
    SCOPED_TRACE(set.name);
    VolumeImage image(set);
    testing::WriteLogDevice log(image.device().clone());
    std::vector<std::pair<std::uint64_t, int>> promises;  // files there from this position on
    {
      VolumeOptions options;
      options.commit_interval = std::chrono::seconds(1000);
      auto volume = Volume::open(log, options);
      ASSERT_OK(volume);
      auto root = (*volume)->inodes().load(format::kRootInode);
      ASSERT_OK(root);
      std::mt19937 random(5);
      for (int i = 0; i < 120; ++i) {
        auto made = names::create(**volume, *root, "f" + std::to_string(i), {.mode = i % 10 == 0 ? 040755U : 0100644U});
        ASSERT_OK(made);
        if (made->is_regular()) {
          const std::uint32_t most = file_map::max_insert(**volume, *made, FileBlock(0));
          const std::uint32_t want = std::min(1 + static_cast<std::uint32_t>(random() % 50), most);
          const auto run = (*volume)->blocks().reserve({}, want);
          ASSERT_OK(run);
          auto handle = (*volume)->journal().start(20);
          ASSERT_OK(handle);
          ASSERT_OK((*volume)->blocks().claim(*handle, *run));
          ASSERT_OK(file_map::insert(*handle, **volume, *made, FileBlock(0), *run, false));
          made->fields.size = std::uint64_t{run->count} * 1024;
          ASSERT_OK((*volume)->inodes().store(*handle, *made));
          handle->finish();
          if (i % 3 == 0) {
            ASSERT_OK(names::unlink(**volume, *root, "f" + std::to_string(i), *made));
            if (i % 2 == 0) {
              ASSERT_OK(truncate::delete_inode(**volume, *made));
            }
          }
        }
        if (i % 15 == 14) {
          ASSERT_OK((*volume)->sync());
          promises.emplace_back(log.position(), i);
        }
      }
      if (std::string(set.name) == "Default") {
        ASSERT_OK((*volume)->close());
      }
    }
    const std::vector<std::uint64_t> points = log.crash_points();
    for (std::size_t i = 0; i < 24; ++i) {
      const std::uint64_t position = points[points.size() * i / 24];
      for (std::uint64_t seed : {std::uint64_t{0}, i + 2}) {
        SCOPED_TRACE("position " + std::to_string(position) + " seed " + std::to_string(seed));
        auto state = log.crash_state(position, seed);
        ASSERT_OK(state);
        VolumeImage crashed(set);
        crashed.replace(*std::move(state));
        if (!crashed.open()) continue;
        for (const auto &[since, last] : promises)
          if (since <= position && last % 3 != 0) {
            Inode root = crashed.root();
            EXPECT_OK(Directory::find(*crashed, root, "f" + std::to_string(last)));
          }
        crashed.close();
        crashed.expect_clean();
      }
    }
  }
}

TEST(Volume, AFailedOpenLeavesItAsCleanAsItWas) {
  // The root is a file: found when everything is running.
  for (const char *journal : {"has_journal", "^has_journal"}) {
    VolumeImage image(16, {"-O", journal}, 1024, {"set_inode_field <2> mode 0100644"});
    const format::Superblock before = superblock_on(image.device());
    EXPECT_FALSE(image.try_open());
    const format::Superblock after = superblock_on(image.device());
    EXPECT_EQ(after.features, before.features);
    EXPECT_TRUE((after.state & format::kStateClean) != 0);
  }
}

TEST(Volume, UnsupportedFeaturesAreRefusedByName) {
  struct Case {
    const char *feature;
    std::vector<std::string> arguments;
  };
  for (const Case &one : {Case{"inline_data", {"-O", "inline_data"}}, Case{"casefold", {"-O", "casefold"}},
                          Case{"encrypt", {"-O", "encrypt"}}, Case{"mmp", {"-O", "mmp"}}, Case{"ea_inode", {"-O", "ea_inode"}}}) {
    SCOPED_TRACE(one.feature);
    VolumeImage image(16, one.arguments, 1024);
    std::string refusal;
    auto volume = image.try_open({}, &refusal);
    ASSERT_FALSE(volume);
    EXPECT_EQ(volume.error().kind(), ErrorKind::unsupported);
    EXPECT_EQ(refusal, std::string("cannot mount: unsupported features: ") + one.feature);
  }
  VolumeImage two(16, {"-O", "inline_data,casefold"}, 1024);
  std::string refusal;
  EXPECT_FALSE(two.try_open({}, &refusal));
  EXPECT_EQ(refusal, "cannot mount: unsupported features: inline_data, casefold");
}

TEST(Volume, FeaturesThatForbidWritingMakeItReadOnlyByName) {
  struct Case {
    const char *feature;
    std::vector<std::string> arguments;
  };
  for (const Case &one : {Case{"quota", {"-O", "quota"}}, Case{"bigalloc", {"-O", "bigalloc"}}, Case{"verity", {"-O", "verity"}}}) {
    SCOPED_TRACE(one.feature);
    VolumeImage image(32, one.arguments);
    const std::vector<std::byte> before = contents(image.device());
    ASSERT_TRUE(image.open());
    EXPECT_TRUE(image->read_only());
    EXPECT_TRUE(image->report().forced_read_only);
    EXPECT_EQ(image->report().read_only_reason, std::string("read-only: features ") + one.feature + " are not supported for writing");
    EXPECT_EQ(image.root().fields.links, 3U);
    EXPECT_EQ(image->counts().free_blocks, superblock_on(image.device()).free_blocks);
    image.close();
    EXPECT_TRUE(contents(image.device()) == before);
  }
}

TEST(Volume, SmallDevicesAndOtherContentsAreNotOpened) {
  device::MemoryDevice tiny(1024);
  EXPECT_FALSE(Volume::open(tiny, {}));
  device::MemoryDevice empty(1 << 20);
  EXPECT_FALSE(Volume::open(empty, {}));
  VolumeImage image(16, {}, 1024);
  std::vector<std::byte> half(8 << 20);
  ASSERT_OK(image.device().read(0, half));
  device::MemoryDevice cut(8 << 20);
  ASSERT_OK(cut.write(0, half));
  EXPECT_FALSE(Volume::open(cut, {}));
}

TEST(Volume, ADirtyLogIsReplayedForReadersOntoTheirDeviceOnly) {
  VolumeImage image(32, {}, 1024);
  ASSERT_TRUE(image.open());
  ASSERT_OK(image.create("kept"));
  ASSERT_OK(image->sync());
  image.crash();
  auto overlay = image.device().clone();
  VolumeOptions options;
  options.read_only = true;

  options.no_recovery = true;
  ASSERT_OK(Volume::open(*overlay, options));
  EXPECT_TRUE(contents(*overlay) == contents(image.device()));
  options.no_recovery = false;
  overlay->set_read_only(true);
  std::string refusal;
  EXPECT_ERROR(Volume::open(*overlay, options, nullptr, &refusal), EROFS);
  EXPECT_NE(refusal.find("replayed"), std::string::npos);
  overlay->set_read_only(false);
  ASSIGN_OK(auto volume, Volume::open(*overlay, options));
  EXPECT_TRUE(volume->report().recovery.was_needed);
  EXPECT_TRUE(volume->read_only());
  EXPECT_OK(volume->close());
  // The log is still there for whoever mounts for writing.
  EXPECT_TRUE(superblock_on(*overlay).has(format::Incompat::recover));
  ASSERT_TRUE(image.open());
  EXPECT_TRUE(image->report().recovery.was_needed);
  image.close();
  image.expect_clean();
}

TEST(Volume, ABrokenJournalInodeIsCorruptAndNothingIsWritten) {
  for (const char *request :
       {"set_inode_field <8> block[0] 0xf30b", "set_inode_field <8> block[5] 0x00fffff0", "set_inode_field <8> size 4096",
        "set_inode_field <8> mode 0040755", "set_inode_field <8> block[5] 1"}) {
    SCOPED_TRACE(request);
    VolumeImage image(32, {}, 1024, {request});
    const std::vector<std::byte> before = contents(image.device());
    auto volume = image.try_open();
    ASSERT_FALSE(volume);
    EXPECT_TRUE(volume.error().is_corrupt()) << volume.error().message();
    EXPECT_TRUE(contents(image.device()) == before);
    VolumeOptions options;
    options.read_only = options.no_recovery = true;
    EXPECT_OK(image.try_open(options));
  }
}

TEST(Volume, TheRecordedErrorStateStaysUntilFsck) {
  VolumeImage image(16, {}, 1024, {"set_super_value state 3"});
  ASSERT_TRUE(image.open());
  image.close();
  EXPECT_EQ(superblock_on(image.device()).state, format::kStateClean | format::kStateErrors);
}

TEST(Volume, AnErrorIsCountedAndRememberedWithItsPlace) {
  VolumeImage image(16, {}, 1024);
  ASSERT_TRUE(image.open());
  image->report_error(Error::user(ENOSPC));  // nobody's fault
  image->report_error(Error::corrupt("something").in_block(77).of_inode(13));
  image->report_error(Error::corrupt("something else").in_block(78).of_inode(14));
  EXPECT_FALSE(image->read_only());  // errors=continue, as mkfs made it
  ASSERT_OK(image->sync());
  image.close();
  const format::Superblock sb = superblock_on(image.device());
  EXPECT_EQ(sb.error_count, 2U);
  EXPECT_TRUE((sb.state & format::kStateErrors) != 0);
  std::vector<std::byte> raw(format::kSuperblockSize);
  ASSERT_OK(image.device().read(format::kSuperblockOffset, raw));
  const auto &fields = view_as<format::RawSuperblock>(raw);
  EXPECT_EQ(fields.s_last_error_block.get(), 78U);
  EXPECT_EQ(fields.s_last_error_ino.get(), 14U);
}

TEST(Volume, ErrorsRemountReadOnlyStopsEveryChange) {
  VolumeImage image(16, {}, 1024);
  VolumeOptions options;
  options.errors = ErrorPolicy::remount_read_only;
  ASSERT_TRUE(image.open(options));
  ASSERT_OK(image.create("before"));
  ASSERT_OK(image->sync());
  image->report_error(Error::corrupt("something").in_block(77));
  EXPECT_TRUE(image->read_only());
  EXPECT_ERROR(image.create("after"), EROFS);
  EXPECT_FALSE(image->close());
  EXPECT_TRUE((superblock_on(image.device()).state & format::kStateErrors) != 0);
  image.crash();
  ASSERT_TRUE(image.open());  // recovers; the state stays
  EXPECT_OK(image.create("again"));
  image.close();
  EXPECT_TRUE((superblock_on(image.device()).state & format::kStateErrors) != 0);
}

TEST(Volume, TheClockNeverRunsBackAndKnowsItsGranularity) {
  VolumeImage image(16, {}, 1024);
  ASSERT_TRUE(image.open());
  format::Timestamp last = image->now();
  EXPECT_GT(last.sec, 1'600'000'000);
  for (int i = 0; i < 1000; ++i) {
    const format::Timestamp next = image->now();
    EXPECT_LE(last, next);
    last = next;
  }
  image.close();
  VolumeImage old(16, {"-I", "128"}, 1024);
  ASSERT_TRUE(old.open());
  EXPECT_EQ(old->now().nsec, 0U);
}

TEST(Volume, LargeFilesSetTheirFeatureInTheSameTransaction) {
  VolumeImage image(16, {"-O", "^large_file,^resize_inode"}, 4096);
  ASSERT_TRUE(image.open());
  if (image->superblock().has(format::RoCompat::large_file)) GTEST_SKIP() << "mkfs sets large_file itself";
  auto made = image.create("large");
  ASSERT_OK(made);
  auto handle = image.start(credits::kStoreInode);
  made->fields.size = std::uint64_t{3} << 30;
  ASSERT_OK(image->inodes().store(handle, *made));
  handle.finish();
  ASSERT_OK(image->sync());
  image.crash();
  ASSERT_TRUE(image.open());
  EXPECT_TRUE(image->superblock().has(format::RoCompat::large_file));
  image.close();
  image.expect_clean();
}

TEST(Volume, TheSuperblocksOwnFieldsChangeWithTheTransaction) {
  VolumeImage image(16, {}, 1024);
  ASSERT_TRUE(image.open());
  {
    auto handle = image.start(credits::kSuperblock);
    ASSERT_OK(image->edit_superblock(handle, [](std::span<std::byte> raw) { format::set_label(raw, "boat"); }));
    handle.finish();
  }
  EXPECT_EQ(image->label(), "boat");
  EXPECT_EQ(image->last_orphan(), 0U);
  image.close();
  EXPECT_EQ(superblock_on(image.device()).label, "boat");
  image.expect_clean();
}

// mkfs makes file systems with an external journal on block devices only; the same fields by hand.
class ExternalJournal : public ::testing::Test {
protected:
  void SetUp() override {
    journal_path_ = image_.file("journal");
    ASSERT_OK(testing::make_image(journal_path_, 16 << 20, {"-O", "journal_dev", "-U", "11111111-2222-3333-4444-555555555555"}, 1024));
    ASSERT_OK(testing::debugfs_write(image_.path(), {"feature has_journal", "set_super_value journal_dev 0x700",
                                                     "set_super_value journal_uuid 11111111-2222-3333-4444-555555555555"}));
    image_.reload();
    auto memory = device::MemoryDevice::from_file(journal_path_);
    ASSERT_OK(memory);
    journal_ = *std::move(memory);
  }
  VolumeImage image_{32, {"-O", "^has_journal"}, 1024};
  std::string journal_path_;
  std::unique_ptr<device::MemoryDevice> journal_;
};

TEST_F(ExternalJournal, IsUsedAndRecovered) {
  {
    ASSIGN_OK(auto volume, Volume::open(image_.device(), {}, journal_.get()));
    Inode root = *volume->inodes().load(format::kRootInode);
    ASSERT_OK(names::create(*volume, root, "kept", {.mode = 0100644}));
    ASSERT_OK(volume->sync());
  }
  ASSIGN_OK(auto volume, Volume::open(image_.device(), {}, journal_.get()));
  EXPECT_TRUE(volume->report().recovery.was_needed);
  ASSERT_OK(volume->close());
  EXPECT_FALSE(superblock_on(image_.device()).has(format::Incompat::recover));
  image_.save();
  ASSERT_OK(journal_->save(journal_path_));
  ASSIGN_OK(const testing::CommandResult fsck, testing::run_command({"e2fsck", "-fn", "-j", journal_path_, image_.path()}));
  EXPECT_EQ(fsck.exit, 0) << fsck.out << fsck.err;
}

TEST_F(ExternalJournal, MustBeGivenAndBeTheRightOne) {
  std::string refusal;
  EXPECT_FALSE(Volume::open(image_.device(), {}, nullptr, &refusal));
  EXPECT_NE(refusal.find("journal"), std::string::npos);
  const std::string other = image_.file("other");
  ASSERT_OK(testing::make_image(other, 16 << 20, {"-O", "journal_dev", "-U", "99999999-2222-3333-4444-555555555555"}, 1024));
  ASSIGN_OK(auto stranger, device::MemoryDevice::from_file(other));
  EXPECT_FALSE(Volume::open(image_.device(), {}, stranger.get()));
  EXPECT_FALSE(Volume::open(image_.device(), {}, &image_.device()));  // a file system is no journal
}

}  // namespace
}  // namespace outboard::ext4

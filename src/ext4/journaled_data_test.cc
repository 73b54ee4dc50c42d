// Files whose data goes through the journal: the bytes, what a crash leaves of them, and what is left when the flag goes.
#include "ext4/journaled_data.h"

#include "ext4/inode_flags.h"
#include "ext4/map_test_support.h"
#include "iomap/buffered.h"
#include "testing/kernel_mount.h"

#include <fcntl.h>
#include <filesystem>

namespace outboard::ext4 {
namespace {

// The engine over one file, as vfs drives it.
class File {
public:
  File(MapVolume &volume, Inode inode, bool journaled = false)
      : volume_(volume), inode_(std::move(inode)), pages_(memory_, volume->block_size()) {
    pages_.set_size(inode_.fields.size);
    if (!journaled) return;
    EXPECT_OK(set_journaled(true));
    EXPECT_TRUE(journals_data(*volume_, inode_));
  }
  Inode &inode() { return inode_; }
  std::uint64_t size() const { return inode_.fields.size; }
  Status set_journaled(bool on) {
    const std::uint32_t old = inode_flags::get_flags(inode_);
    return inode_flags::set_flags(*volume_, inode_, on ? old | inode_flags::kJournalData : old & ~inode_flags::kJournalData, {});
  }
  Result<std::size_t> write(std::uint64_t offset, std::span<const std::byte> data) {
    Mapper mapper(*volume_, inode_, true);
    Result<std::size_t> done = iomap::buffered::write(mapper, pages_, volume_->device(), offset, data);
    EXPECT_TRUE(pages_.empty()) << "a page of a journaled file is dirty";
    EXPECT_EQ(pages_.size(), size());
    return done;
  }
  void write_all(std::uint64_t offset, std::span<const std::byte> data) {
    for (std::size_t done = 0; done < data.size();) {
      const auto put = write(offset + done, data.subspan(done));
      ASSERT_OK(put);
      ASSERT_GT(*put, 0u);
      done += *put;
    }
  }
  std::vector<std::byte> read() {
    std::vector<std::byte> bytes(size(), std::byte{0x5A});
    Mapper mapper(*volume_, inode_);
    const auto got = iomap::buffered::read(mapper, pages_, volume_->device(), 0, bytes);
    EXPECT_OK(got);
    EXPECT_EQ(got.value_or(0), bytes.size());
    return bytes;
  }
  Status changed(Status status) {
    pages_.set_size(size());
    return status;
  }

private:
  MapVolume &volume_;
  Inode inode_;
  pagecache::FolioMemory memory_;
  pagecache::FileCache pages_;
};

// What the file should hold.
class Model {
public:
  std::vector<std::byte> bytes;
  void write(std::uint64_t at, std::span<const std::byte> data) {
    if (bytes.size() < at + data.size()) bytes.resize(at + data.size());
    std::ranges::copy(data, bytes.begin() + static_cast<std::ptrdiff_t>(at));
  }
  void zero(std::uint64_t at, std::uint64_t length, bool grows) {
    if (grows && bytes.size() < at + length) bytes.resize(at + length);
    for (std::uint64_t n = at; n < std::min<std::uint64_t>(at + length, bytes.size()); ++n) bytes[n] = std::byte{0};
  }
};

struct Kind {
  const char *name;
  std::vector<std::string> mkfs;
  std::uint32_t block_size;
  bool extents;
};
void PrintTo(const Kind &kind, std::ostream *out) { *out << kind.name; }

class JournaledDataTest : public ::testing::TestWithParam<Kind> {
protected:
  void SetUp() override { set_log_level(LogLevel::warning); }
  void TearDown() override { set_log_level(LogLevel::info); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, JournaledDataTest,
                         ::testing::Values(Kind{"Ext4Blocks1k", {"-t", "ext4", "-J", "size=1"}, 1024, true},
                                           Kind{"Ext4Blocks4k", {"-t", "ext4", "-J", "size=4"}, 4096, true},
                                           Kind{"Ext3Blocks1k", {"-t", "ext3", "-J", "size=1"}, 1024, false}),
                         [](const auto &parameter) { return std::string(parameter.param.name); });

// One change of a random kind; the model follows.
void change(MapVolume &volume, File &file, Model &model, Random &random, const Kind &kind, bool magic) {
  const std::uint64_t at = random() % (300 * 1024), length = 1 + random() % 40000;
  const std::uint64_t block = kind.block_size;
  Inode &inode = file.inode();
  switch (random() % (kind.extents ? 9 : 5)) {
  case 0:
    ASSERT_OK(file.changed(truncate::set_size(*volume, inode, at)));
    model.bytes.resize(at);
    break;
  case 1:
    ASSERT_OK(file.changed(truncate::punch_hole(*volume, inode, {at, length})));
    model.zero(at, length, false);
    break;
  case 5:
    ASSERT_OK(file.changed(truncate::preallocate(*volume, inode, {at, length}, false)));
    if (model.bytes.size() < at + length) model.bytes.resize(at + length);
    break;
  case 6:
    ASSERT_OK(file.changed(truncate::zero_range(*volume, inode, {at, length}, false)));
    model.zero(at, length, true);
    break;
  case 7:
    if (file.size() <= 5 * block) break;
    ASSERT_OK(file.changed(truncate::collapse_range(*volume, inode, {block, 2 * block})));
    model.bytes.erase(model.bytes.begin() + static_cast<std::ptrdiff_t>(block), model.bytes.begin() + static_cast<std::ptrdiff_t>(3 * block));
    break;
  case 8:
    if (file.size() <= 5 * block) break;
    ASSERT_OK(file.changed(truncate::insert_range(*volume, inode, {2 * block, block})));
    model.bytes.insert(model.bytes.begin() + static_cast<std::ptrdiff_t>(2 * block), block, std::byte{0});
    break;
  default: {
    auto data = random_bytes(length, random());
    // What a log block must not begin with: it has to be escaped there.
    if (magic)
      for (std::uint64_t n = (block - at % block) % block; n + 4 <= length; n += block)
        for (unsigned byte = 0; byte < 4; ++byte) data[n + byte] = std::byte("\xC0\x3B\x39\x98"[byte]);
    file.write_all(at, data);
    model.write(at, data);
  }
  }
}

TEST_P(JournaledDataTest, BytesAreThereForUsAndForDebugfs) {
  MapVolume volume(48 << 20, GetParam().mkfs, GetParam().block_size);
  ASSERT_TRUE(volume.open());
  File file(volume, volume.create("f"), true);
  Model model;
  Random random(5);
  for (unsigned round = 0; round < 150; ++round) {
    change(volume, file, model, random, GetParam(), round % 3 == 0);
    ASSERT_FALSE(HasFatalFailure());
    ASSERT_TRUE(file.read() == model.bytes) << "round " << round;
    if (round % 40 == 39) {
      ASSERT_OK(volume->journal().checkpoint_all());
    }
  }
  volume.close_and_expect_clean();
  const std::string image = volume.saved(), out = volume.host_file("out");
  ASSERT_OK(testing::debugfs(image, "dump f " + out));
  ASSIGN_OK(const auto dumped, testing::read_file(out));
  EXPECT_TRUE(bytes_of(dumped) == model.bytes);
}

TEST_P(JournaledDataTest, DataIsInTheLogAndNotOnTheDeviceBeforeCheckpoint) {
  MapVolume volume(48 << 20, GetParam().mkfs, GetParam().block_size);
  ASSERT_TRUE(volume.open());
  File file(volume, volume.create("f"), true);
  const auto data = random_bytes(3 * GetParam().block_size, 1);
  file.write_all(0, data);
  const FileMapping found = *file_map::find(*volume, file.inode(), FileBlock(0), 3);
  ASSERT_EQ(found.state, FileMapping::State::mapped);
  std::vector<std::byte> home(data.size());
  ASSERT_OK(volume.device().read(found.start.value() * GetParam().block_size, home));
  EXPECT_FALSE(home == data);
  const std::uint64_t logged = volume->journal().counters().logged_blocks;
  ASSERT_OK(volume->journal().commit_and_wait(file.inode().datasync_tid));
  EXPECT_GE(volume->journal().counters().logged_blocks, logged + 3);
  EXPECT_TRUE(file.read() == data);
  // A crash now: the log brings it home.
  MapVolume recovered(volume.device().clone());
  ASSERT_TRUE(recovered.open());
  File again(recovered, recovered.find("f"));
  EXPECT_TRUE(again.read() == data);
  recovered.close_and_expect_clean();
  volume.close_and_expect_clean();
}

TEST_P(JournaledDataTest, EveryCutIsCleanAndShowsNoStaleBytes) {
  testing::TemporaryDirectory directory;
  const std::string path = directory.file("image");
  ASSERT_OK(testing::make_image(path, 16 << 20, GetParam().mkfs, GetParam().block_size));
  MapVolume volume(*device::MemoryDevice::from_file(path));
  ASSERT_TRUE(volume.open());
  {
    Inode junk = volume.create("junk");
    const std::vector<std::byte> old(1 << 20, std::byte{0xEE});
    while (volume.write(junk, junk.fields.size, old).value_or(0) > 0) {
    }
    volume.remove("junk");
    ASSERT_OK(volume->sync());
  }
  // Journaled files and an ordinary one take blocks from each other.
  std::vector<std::unique_ptr<File>> files;
  for (int n = 0; n < 2; ++n) files.push_back(std::make_unique<File>(volume, volume.create("f" + std::to_string(n))));
  for (auto &file : files) ASSERT_OK(file->set_journaled(true));
  Inode ordinary = volume.create("f2");
  ASSERT_OK(volume->sync());
  volume.device().record(7);
  Random random(9);
  const auto clean = [&](std::size_t length) {
    std::vector<std::byte> data(length);
    for (std::byte &byte : data) byte = std::byte(1 + random() % 0x7f);
    return data;
  };
  for (unsigned round = 0; round < 150; ++round) {
    File &file = *files[random() % files.size()];
    const std::uint64_t at = random() % (300 * 1024), length = 1 + random() % 40000;
    switch (random() % 8) {
    case 0: EXPECT_OK(file.changed(truncate::set_size(*volume, file.inode(), at))); break;
    case 1: EXPECT_OK(file.changed(truncate::punch_hole(*volume, file.inode(), {at, length}))); break;
    case 2: EXPECT_OK(volume->journal().commit_running()); break;
    case 3: EXPECT_OK(truncate::set_size(*volume, ordinary, at)); break;
    case 4: EXPECT_OK(volume.write(ordinary, at, clean(length))); break;
    case 5:
      if (GetParam().extents) {
        EXPECT_OK(file.changed(truncate::zero_range(*volume, file.inode(), {at, length}, false)));
      }
      break;
    default: file.write_all(at, clean(length));
    }
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
  const auto cuts = volume.device().take();
  ASSERT_GT(cuts.size(), 20u);
  volume.close_and_expect_clean();
  const std::size_t step = std::max<std::size_t>(1, cuts.size() / 30);
  for (std::size_t n = 0; n < cuts.size(); n += step) {
    MapVolume recovered(cuts[n]->clone());
    ASSERT_TRUE(recovered.open()) << n;
    for (int file = 0; file < 3; ++file) {
      File found(recovered, recovered.find("f" + std::to_string(file)));
      const auto bytes = found.read();
      ASSERT_EQ(std::ranges::find(bytes, std::byte{0xEE}), bytes.end()) << "old data at cut " << n;
    }
    recovered.close_and_expect_clean();
    ASSERT_FALSE(HasFailure()) << "cut " << n << " of " << cuts.size();
  }
}

// Each version overwrites all of a stretch that one handle takes: a cut shows one version, whole, and no older one than the
// last that was committed before it.
TEST_P(JournaledDataTest, OverwritesAreAllOrNothingAtEveryCut) {
  const std::size_t length = std::size_t{8} * GetParam().block_size;
  MapVolume volume(16 << 20, GetParam().mkfs, GetParam().block_size);
  ASSERT_TRUE(volume.open());
  File file(volume, volume.create("f"), true);
  const auto version = [&](unsigned n) { return std::vector<std::byte>(length, std::byte(n)); };
  file.write_all(0, version(1));
  ASSERT_OK(volume->sync());
  volume.device().record(1);
  for (unsigned n = 2; n <= 30; ++n) {
    file.write_all(0, version(n));
    if (n % 3 == 0) {
      ASSERT_OK(volume->sync());
    }
    if (n % 10 == 0) {
      ASSERT_OK(volume->journal().checkpoint_all());
    }
  }
  const auto cuts = volume.device().take();
  volume.close_and_expect_clean();
  unsigned last = 1;
  std::set<unsigned> seen;
  for (std::size_t n = 0; n < cuts.size(); ++n) {
    MapVolume recovered(cuts[n]->clone());
    ASSERT_TRUE(recovered.open());
    File found(recovered, recovered.find("f"));
    const auto bytes = found.read();
    ASSERT_EQ(bytes.size(), length);
    ASSERT_TRUE(std::ranges::all_of(bytes, [&](std::byte byte) { return byte == bytes[0]; })) << "torn at cut " << n;
    const auto shown = std::to_integer<unsigned>(bytes[0]);
    ASSERT_GE(shown, last) << "went back at cut " << n;
    last = shown;
    seen.insert(shown);
    recovered.close();
  }
  EXPECT_GT(seen.size(), 5u);
}

// The log still holds the blocks of a journaled file that is gone; an ordinary file has them now. Replay must not bring the
// old bytes home.
TEST_P(JournaledDataTest, ReusedBlocksAreNotOverwrittenByReplay) {
  MapVolume volume(16 << 20, GetParam().mkfs, GetParam().block_size);
  ASSERT_TRUE(volume.open());
  const std::size_t length = std::size_t{40} * GetParam().block_size;
  File file(volume, volume.create("f"), true);
  file.write_all(0, std::vector<std::byte>(length, std::byte{0xAA}));
  ASSERT_OK(volume->sync());
  const BlockNumber start = file_map::find(*volume, file.inode(), FileBlock(0), 1)->start;
  volume.remove("f");
  ASSERT_OK(volume->sync());
  Inode ordinary = volume.create("g");
  const std::vector<std::byte> data(length, std::byte{0xBB});
  ordinary.allocation_goal = start;
  ASSERT_EQ(volume.write(ordinary, 0, data).value_or(0), length);
  ASSERT_EQ(file_map::find(*volume, ordinary, FileBlock(0), 1)->start, start) << "the test needs the same blocks";
  ASSERT_OK(volume->sync());
  MapVolume recovered(volume.device().clone());
  ASSERT_TRUE(recovered.open());
  EXPECT_GT(recovered->report().recovery.blocks_revoked, 0u);
  Inode found = recovered.find("g");
  EXPECT_TRUE(recovered.read(found) == data);
  recovered.close_and_expect_clean();
  // ... nor checkpoint.
  EXPECT_TRUE(volume.read(ordinary) == data);
  volume.close();
  std::vector<std::byte> home(GetParam().block_size);
  ASSERT_OK(volume.device().read(start.value() * GetParam().block_size, home));
  EXPECT_EQ(home[0], std::byte{0xBB});
  volume.expect_clean();
}

// What was logged while the flag was on is not replayed over what was written directly after it went.
TEST_P(JournaledDataTest, TurnedOffTheDataOnTheDeviceIsTheTruth) {
  MapVolume volume(16 << 20, GetParam().mkfs, GetParam().block_size);
  ASSERT_TRUE(volume.open());
  const std::size_t length = std::size_t{20} * GetParam().block_size;
  File file(volume, volume.create("f"), true);
  const std::uint64_t cookie = file.inode().map_sequence;
  file.write_all(0, std::vector<std::byte>(length, std::byte{1}));
  ASSERT_OK(file.set_journaled(false));
  EXPECT_FALSE(journals_data(*volume, file.inode()));
  EXPECT_GT(file.inode().map_sequence, cookie);
  const std::vector<std::byte> direct(length, std::byte{2});
  ASSERT_EQ(volume.write(file.inode(), 0, direct).value_or(0), length);
  ASSERT_OK(volume.device().flush());
  {
    MapVolume recovered(volume.device().clone());
    ASSERT_TRUE(recovered.open());
    File found(recovered, recovered.find("f"));
    EXPECT_TRUE(found.read() == direct);
    recovered.close_and_expect_clean();
  }
  // On again: no buffer of the first time is left to be shown.
  ASSERT_OK(file.set_journaled(true));
  EXPECT_TRUE(file.read() == direct);
  const std::vector<std::byte> some(100, std::byte{3});
  file.write_all(50, some);
  auto mixed = direct;
  std::ranges::copy(some, mixed.begin() + 50);
  EXPECT_TRUE(file.read() == mixed);
  ASSERT_ERROR(volume.write(file.inode(), 0, direct), EOPNOTSUPP);  // past the journal
  volume.close_and_expect_clean();
}

TEST_P(JournaledDataTest, AllFilesOfAMountWithDataJournal) {
  MapVolume volume(16 << 20, GetParam().mkfs, GetParam().block_size);
  ASSERT_TRUE(volume.open({.journal_data = true}));
  File file(volume, volume.create("f"));
  EXPECT_TRUE(journals_data(*volume, file.inode()));
  const auto data = random_bytes(100000, 3);
  file.write_all(0, data);
  ASSERT_OK(volume->sync());
  MapVolume recovered(volume.device().clone());
  ASSERT_TRUE(recovered.open());
  File found(recovered, recovered.find("f"));
  EXPECT_FALSE(journals_data(*recovered, found.inode()));
  EXPECT_TRUE(found.read() == data);
  recovered.close_and_expect_clean();
  volume.close_and_expect_clean();
}

TEST_P(JournaledDataTest, AFullVolumeSaysSoAndKeepsWhatItHas) {
  MapVolume volume(16 << 20, GetParam().mkfs, GetParam().block_size);
  ASSERT_TRUE(volume.open());
  File file(volume, volume.create("f"), true);
  Model model;
  const auto data = random_bytes(10000, 3);
  for (unsigned n = 0;; ++n) {
    ASSERT_LT(n, 2000u);
    const std::uint64_t at = std::uint64_t{n} * 12000;  // with holes
    const auto put = file.write(at, data);
    if (!put) {
      ASSERT_ERROR(put, ENOSPC);
      break;
    }
    model.write(at, std::span(data).first(*put));
  }
  EXPECT_GT(model.bytes.size(), 3u << 20);
  EXPECT_TRUE(file.read() == model.bytes);
  ASSERT_OK(file.changed(truncate::set_size(*volume, file.inode(), 100)));
  ASSERT_OK(volume->sync());
  file.write_all(0, data);
  volume.close_and_expect_clean();
}

// More revokes than one transaction has room for.
TEST_P(JournaledDataTest, ALargeFileIsFreedInPieces) {
  MapVolume volume(48 << 20, GetParam().mkfs, GetParam().block_size);
  ASSERT_TRUE(volume.open());
  File file(volume, volume.create("f"), true);
  file.write_all(0, random_bytes(12 << 20, 1));
  ASSERT_OK(volume->sync());
  const std::uint64_t free = volume->counts().free_blocks;
  volume.device().record(20);
  volume.remove("f");
  ASSERT_OK(volume->sync());
  EXPECT_GE(volume->counts().free_blocks, free + (12u << 20) / GetParam().block_size);
  const auto cuts = volume.device().take();
  volume.close_and_expect_clean();
  const std::size_t step = std::max<std::size_t>(1, cuts.size() / 10);
  for (std::size_t n = 0; n < cuts.size(); n += step) {
    MapVolume recovered(cuts[n]->clone());
    ASSERT_TRUE(recovered.open());
    recovered.close_and_expect_clean();
    ASSERT_FALSE(HasFailure()) << "cut " << n;
  }
}

TEST_P(JournaledDataTest, TheKernelReplaysOurLogAndReadsTheBytes) {
  if (const std::string why = testing::why_no_kernel_mounts(); !why.empty()) GTEST_SKIP() << why;
  MapVolume volume(16 << 20, GetParam().mkfs, GetParam().block_size);
  ASSERT_TRUE(volume.open());
  File file(volume, volume.create("f"), true);
  Model model;
  Random random(11);
  for (unsigned round = 0; round < 40; ++round) {
    change(volume, file, model, random, GetParam(), true);
    ASSERT_FALSE(HasFatalFailure());
  }
  file.write_all(0, random_bytes(1000, 1));
  model.write(0, random_bytes(1000, 1));
  ASSERT_OK(volume->sync());
  const std::string image = volume.host_file("crashed");
  ASSERT_OK(volume.device().clone()->save(image));
  {
    const std::string where = volume.host_file("mnt");
    std::filesystem::create_directory(where);
    auto mounted = testing::KernelMount::mount(image, where);
    ASSERT_OK(mounted);
    ASSIGN_OK(const auto text, testing::read_file(where + "/f"));
    EXPECT_TRUE(bytes_of(text) == model.bytes);
    EXPECT_OK((*mounted)->unmount());
  }
  volume.close_and_expect_clean();
}

TEST(JournaledData, WithoutAJournalTheFlagMeansNothing) {
  MapVolume volume(16 << 20, {"-O", "^has_journal"}, 4096);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  ASSERT_OK(inode_flags::set_flags(*volume, inode, inode_flags::get_flags(inode) | inode_flags::kJournalData, {}));
  EXPECT_FALSE(journals_data(*volume, inode));
  const auto data = random_bytes(50000, 1);
  EXPECT_EQ(volume.write(inode, 0, data).value_or(0), data.size());
  volume.close_and_expect_clean();
  std::string refusal;
  EXPECT_ERROR(Volume::open(volume.device(), {.journal_data = true}, nullptr, &refusal), EINVAL);
  EXPECT_NE(refusal.find("journal"), std::string::npos);
}

}  // namespace
}  // namespace outboard::ext4

// The order in which data, metadata and space move while write-back runs by itself. Each test fails when the rule it is named
// after is broken (docs/inode-lifecycle.md, docs/vfs.md).
#include "testing/write_log_device.h"
#include "vfs/marked_device.h"
#include "vfs/test_volume.h"

#include <algorithm>
#include <atomic>
#include <fmt/format.h>
#include <future>
#include <linux/falloc.h>

namespace outboard::vfs {
namespace {

using namespace std::chrono_literals;
using outboard::testing::WriteLogDevice;
using Action = MarkedDevice::Action;

constexpr std::size_t kBlock = 4096;

// So many bytes, in which every block begins with the text (and nothing else is in it).
std::string filled(std::string_view text, std::size_t size) {
  std::string out;
  while (out.size() < size) out += text;
  out.resize(size);
  return out;
}
// Texts that divide a block, so that filled() repeats them at every block's start.
const std::string kA = "<data of file a>", kB = "<data of file b>";

// Nothing is written back or committed unless a test asks for it.
MountedVolumeOptions patient() {
  MountedVolumeOptions options;
  options.flusher.delay = 1h;
  options.flusher.eager = ~std::uint64_t{0};
  options.flusher.linger = 1h;
  options.memory.dirty = std::size_t{256} << 20;
  options.volume.commit_interval = 1h;
  return options;
}

// The flusher lets go of what it has pinned: an unlinked file is deleted soon.
MountedVolumeOptions quick() {
  MountedVolumeOptions options = patient();
  options.flusher.delay = options.flusher.linger = 5ms;
  return options;
}

class WriteBack : public ::testing::Test {
protected:
  void make(std::uint64_t megabytes = 32, const std::vector<std::string> &mkfs = {},
            const MountedVolumeOptions &options = patient()) {
    const std::string path = directory_.file("image");
    ASSERT_OK(outboard::testing::make_image(path, megabytes << 20, mkfs));
    ASSIGN_OK(auto memory, device::MemoryDevice::from_file(path));
    log_ = std::make_unique<WriteLogDevice>(std::move(memory));
    marked_ = std::make_unique<MarkedDevice>(*log_);
    for (const std::string &text : {kA, kB}) marked_->set(text, Action::pass);  // counted from here on
    ASSIGN_OK(volume_, MountedVolume::open(*marked_, options));
  }
  void unmount(bool clean = true) {
    ASSERT_OK(volume_->unmount());
    EXPECT_EQ(volume_->folio_memory().in_use(), 0u);
    volume_.reset();
    const auto report = outboard::testing::fsck(*log_);
    EXPECT_EQ(report.clean, clean) << report.text;
  }
  void TearDown() override {
    if (marked_)
      for (const std::string &text : {kA, kB}) marked_->set(text, Action::pass);
    volume_.reset();
  }

  NodeId create(const std::string &name) {
    const auto made = volume_->make_node(kRootNode, name, 0100644, 0, {});
    EXPECT_OK(made);
    return made ? made->node : 0;
  }
  Status write(NodeId node, std::string_view text, std::uint64_t offset = 0) {
    for (std::size_t done = 0; done < text.size();)
      done += TRY(volume_->write(node, offset + done, bytes_of(text.substr(done, 1 << 20)), {}));
    return {};
  }
  // Write-back and nothing else: no commit, no flush.
  void write_back(NodeId node) { static_cast<void>(volume_->map_block(node, 0, 1024)); }
  Status commit() { return volume_->volume().journal().commit_running(); }

  // Mounts what a power loss at `position` may leave, looks, and has it judged.
  void after_crash(std::uint64_t position, std::uint64_t seed, bool judge, const std::function<void(MountedVolume &)> &look) {
    SCOPED_TRACE(fmt::format("position {}, seed {}", position, seed));
    ASSIGN_OK(auto state, log_->crash_state(position, seed));
    {
      ASSIGN_OK(auto volume, MountedVolume::open(*state, patient()));
      look(*volume);
      ASSERT_OK(volume->unmount());
    }
    if (!judge) return;
    const auto report = outboard::testing::fsck(*state);
    EXPECT_TRUE(report.clean) << report.text;
  }
  // About `states` of the states since `from`, evenly over the points, the least and the most of each and a mixed one.
  void after_every_crash(std::uint64_t from, std::size_t states, const std::function<void(MountedVolume &)> &look) {
    std::vector<std::uint64_t> points;
    for (const std::uint64_t point : log_->crash_points())
      if (point >= from) points.push_back(point);
    ASSERT_FALSE(points.empty());
    const std::size_t step = std::max<std::size_t>(1, points.size() * 3 / states);
    for (std::size_t i = 0; i < points.size(); i += step)
      for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2} + i})
        after_crash(points[i], seed, i % (step * 4) == 0, look);
  }

  outboard::testing::TemporaryDirectory directory_;
  std::unique_ptr<WriteLogDevice> log_;
  std::unique_ptr<MarkedDevice> marked_;
  std::unique_ptr<MountedVolume> volume_;
};

// --- order on the device --------------------------------------------------------------------------------------------

TEST_F(WriteBack, DataReachesTheDeviceBeforeTheTransactionThatRecordsIt) {
  make();
  const NodeId node = create("f");
  ASSERT_OK(volume_->sync_all());
  const std::uint64_t from = log_->position();
  ASSERT_OK(write(node, filled(kA, 20 * kBlock)));
  marked_->set(kA, Action::hold);
  std::thread writer([&] { write_back(node); });
  ASSERT_TRUE(eventually([&] { return marked_->writes(kA) > 0; }));
  // The data is in the device's hands and not there yet: whatever commits now must not speak of it.
  ASSERT_OK(volume_->set_attributes(node, {.mode = 0600}));
  ASSERT_OK(commit());
  const std::uint64_t meanwhile = log_->position();
  marked_->set(kA, Action::pass);
  writer.join();
  for (std::uint64_t seed = 0; seed < 4; ++seed)
    after_crash(meanwhile, seed, true, [&](MountedVolume &volume) { EXPECT_EQ(contents(volume, "f"), ""); });
  ASSERT_OK(commit());
  after_crash(log_->position(), 0, true,
              [&](MountedVolume &volume) { EXPECT_EQ(contents(volume, "f"), filled(kA, 20 * kBlock)); });
  after_every_crash(from, 18, [&](MountedVolume &volume) {
    const std::string text = contents(volume, "f");
    EXPECT_TRUE(text.empty() || text == filled(kA, 20 * kBlock)) << text.size();
  });
  unmount();
}

// Free blocks are full of somebody's old bytes; no cut shows them.
TEST_F(WriteBack, NoCutShowsStaleBytesInADelayedFile) {
  make(16, {"-b", "1024"}, quick());
  const std::string secret = "<old secret data";
  const NodeId old = create("old");
  std::uint64_t size = 0;
  for (Status put; put && size < (12u << 20); size += 1 << 20) put = write(old, filled(secret, 1 << 20), size);
  ASSERT_OK(volume_->sync_all());
  ASSERT_OK(volume_->unlink(kRootNode, "old"));
  volume_->forget(old, 1);
  ASSERT_TRUE(eventually([&] { return !volume_->get_attributes(old); }));
  ASSERT_OK(volume_->sync_all());
  const std::uint64_t from = log_->position();
  // Grown, holed, overwritten, preallocated; each step written back or committed at another moment.
  const NodeId a = create("a"), b = create("b");
  for (unsigned round = 0; round < 6; ++round) {
    ASSERT_OK(write(a, filled(kA, 5000 + 700 * round), round * 9001));
    if (round % 2 == 0) write_back(a);
    ASSERT_OK(volume_->allocate(b, round * 20480, 10240, 0));
    ASSERT_OK(write(b, filled(kB, 3000), round * 20480 + 1024));
    if (round % 3 == 1) {
      ASSERT_OK(commit());
    } else if (round % 3 == 2) {
      ASSERT_OK(volume_->sync(b, true));
    }
  }
  ASSERT_OK(volume_->sync_all());
  after_every_crash(from, 40, [&](MountedVolume &volume) {
    for (const char *name : {"a", "b"}) EXPECT_EQ(contents(volume, name).find("old secret"), std::string::npos) << name;
  });
  unmount();
}

TEST_F(WriteBack, NewDataGetsOnlyBlocksThatAreFreeInTheLastCommittedState) {
  make(8, {}, quick());
  const NodeId a = create("a");
  // Nearly everything: what comes next has to take from it.
  const std::uint64_t room = volume_->statistics()->available_blocks;
  const std::string all = filled(kA, (room - 40) * kBlock);
  ASSERT_OK(write(a, all));
  ASSERT_OK(volume_->sync_all());
  ASSERT_OK(commit());
  const std::uint64_t from = log_->position();
  ASSERT_OK(volume_->unlink(kRootNode, "a"));
  volume_->forget(a, 1);
  ASSERT_TRUE(eventually([&] { return !volume_->get_attributes(a); }));
  const NodeId b = create("b");
  ASSERT_OK(write(b, filled(kB, 200 * kBlock)));
  write_back(b);
  ASSERT_GT(marked_->writes(kB), 0u);
  ASSERT_OK(volume_->sync_all());
  after_every_crash(from, 24, [&](MountedVolume &volume) {
    const std::string old = contents(volume, "a");
    EXPECT_TRUE(old == "-" || old == all) << "the deletion is not durable and the blocks are somebody else's";
    const std::string fresh = contents(volume, "b");
    EXPECT_TRUE(fresh == "-" || fresh.find(kA) == std::string::npos);
  });
  unmount();
}

// --- space ----------------------------------------------------------------------------------------------------------

class NearlyFull : public WriteBack, public ::testing::WithParamInterface<std::vector<std::string>> {};

TEST_P(NearlyFull, WriteSaysENOSPCAndWriteBackNeverMeetsIt) {
  make(8, GetParam());
  // Every other block of many files: as many map blocks as there can be.
  std::vector<NodeId> nodes;
  for (int i = 0; i < 8; ++i) nodes.push_back(create(fmt::format("f{}", i)));
  std::vector<std::uint64_t> blocks(nodes.size(), 0);
  const std::uint32_t size = volume_->statistics()->block_size;
  const std::string block = filled(kA, size);
  std::uint64_t accepted = 0;
  for (bool full = false; !full;) {
    full = true;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const auto put = volume_->write(nodes[i], 2 * blocks[i] * size, bytes_of(block), {});
      if (!put) {
        ASSERT_ERROR(put, ENOSPC);
        continue;
      }
      ASSERT_EQ(*put, size);
      ++blocks[i];
      ++accepted;
      full = false;
    }
    ASSERT_LT(accepted, 100'000u);
  }
  EXPECT_GT(accepted, 500u);
  ASSERT_OK(volume_->sync_all());  // EIO, had anything been lost
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    EXPECT_OK(volume_->sync(nodes[i], false));
    std::string text(size, '\0');
    for (std::uint64_t n = 0; n < blocks[i]; ++n) {
      ASSERT_OK(volume_->read(nodes[i], 2 * n * size, std::as_writable_bytes(std::span(text))));
      ASSERT_EQ(text, block) << i << " " << n;
    }
  }
  unmount();
}

// ... without the help of the flush that ENOSPC brings about: everything is promised at once and written at the end.
TEST_P(NearlyFull, WhatWasPromisedIsWrittenWhenNothingElseIsLeft) {
  make(8, GetParam());
  const std::uint32_t size = volume_->statistics()->block_size;
  const std::string block = filled(kA, size);
  const NodeId node = create("f"), filler = create("filler");
  constexpr std::uint64_t kPieces = 700;
  for (std::uint64_t n = 0; n < kPieces; ++n) ASSERT_OK(write(node, block, 2 * n * size));
  // The rest of the volume, recorded at once: what is left is what was promised.
  std::uint64_t at = 0;
  for (WriteFlags direct{.direct = true};;) {
    const auto put = volume_->volume().counts().available_blocks > 0
                         ? volume_->write(filler, at, bytes_of(filled(kB, 16 * size)), direct)
                         : Result<std::size_t>(0);
    if (!put) {
      ASSERT_ERROR(put, ENOSPC);
      break;
    }
    if (*put == 0) break;
    at += *put;
  }
  EXPECT_GT(at, 0u);
  ASSERT_OK(volume_->sync_all());
  EXPECT_OK(volume_->sync(node, false));
  std::string text(size, '\0');
  for (std::uint64_t n = 0; n < kPieces; ++n) {
    ASSERT_OK(volume_->read(node, 2 * n * size, std::as_writable_bytes(std::span(text))));
    ASSERT_EQ(text, block) << n;
  }
  unmount();
}

INSTANTIATE_TEST_SUITE_P(Maps, NearlyFull,
                         ::testing::Values(std::vector<std::string>{}, std::vector<std::string>{"-b", "1024"},
                                           std::vector<std::string>{"-O", "^extent,^64bit", "-b", "1024"}));

// --- who waits for whom ---------------------------------------------------------------------------------------------

class StuckWriteBack : public WriteBack {
protected:
  void SetUp() override {
    make();
    a_ = create("a");
    b_ = create("b");
    ASSERT_OK(volume_->sync_all());
  }
  void TearDown() override {
    let_go();
    WriteBack::TearDown();
  }
  // a's data stays in the device from here on.
  void get_stuck(std::uint64_t blocks = 30) {
    ASSERT_OK(write(a_, filled(kA, blocks * kBlock)));
    const std::uint64_t before = marked_->writes(kA);
    marked_->set(kA, Action::hold);
    writer_ = std::thread([this] { write_back(a_); });
    ASSERT_TRUE(eventually([&] { return marked_->writes(kA) > before; }));
  }
  void let_go() {
    marked_->set(kA, Action::pass);
    if (writer_.joinable()) writer_.join();
  }
  // True when it comes back though a's data is stuck. If not, it is let go, so that the test can end.
  bool goes_on(const std::function<void()> &body) {
    std::future<void> done = std::async(std::launch::async, body);
    const bool went = done.wait_for(30s) == std::future_status::ready;
    if (!went) marked_->set(kA, Action::pass);
    return went;
  }
  // False when it comes back before a's data is let go; true when it comes back after.
  bool waits(const std::function<void()> &body) {
    std::future<void> done = std::async(std::launch::async, body);
    const bool came_back = done.wait_for(300ms) == std::future_status::ready;
    let_go();
    done.get();
    return !came_back;
  }
  NodeId a_ = 0, b_ = 0;
  std::thread writer_;
};

TEST_F(StuckWriteBack, TruncationWaitsBeforeItFreesBlocks) {
  ASSERT_OK(write(a_, filled(kB, 30 * kBlock)));
  ASSERT_OK(volume_->sync_all());
  const std::uint64_t free_blocks = volume_->statistics()->free_blocks;
  get_stuck();
  EXPECT_TRUE(waits([&] { EXPECT_OK(volume_->set_attributes(a_, {.size = 0})); }));
  ASSERT_OK(volume_->sync_all());
  EXPECT_GT(volume_->statistics()->free_blocks, free_blocks);
  EXPECT_EQ(contents(*volume_, "a"), "");
  unmount();
}

TEST_F(StuckWriteBack, PunchingAHoleWaitsBeforeItFreesBlocks) {
  ASSERT_OK(write(a_, filled(kB, 30 * kBlock)));
  ASSERT_OK(volume_->sync_all());
  get_stuck();
  EXPECT_TRUE(waits(
      [&] { EXPECT_OK(volume_->allocate(a_, 0, 29 * kBlock, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)); }));
  EXPECT_EQ(contents(*volume_, "a"), std::string(29 * kBlock, '\0') + filled(kA, kBlock));
  unmount();
}

TEST_F(StuckWriteBack, ReadersAndWritersOfTheFileGoOn) {
  get_stuck();
  EXPECT_TRUE(goes_on([&] {
    EXPECT_EQ(contents(*volume_, "a"), filled(kA, 30 * kBlock));
    EXPECT_OK(write(a_, filled(kB, 3 * kBlock), 10 * kBlock));
    EXPECT_OK(write(a_, filled(kB, kBlock), 30 * kBlock));
    EXPECT_EQ(contents(*volume_, "a"), filled(kA, 10 * kBlock) + filled(kB, 3 * kBlock) + filled(kA, 17 * kBlock) +
                                           filled(kB, kBlock));
    EXPECT_OK(volume_->get_attributes(a_));
  }));
  let_go();
  ASSERT_OK(volume_->sync(a_, false));
  const std::string now = contents(*volume_, "a");
  EXPECT_EQ(now.substr(10 * kBlock, 3 * kBlock), filled(kB, 3 * kBlock));
  unmount();
}

TEST_F(StuckWriteBack, OthersAreWrittenCommittedAndSynced) {
  get_stuck();
  EXPECT_TRUE(goes_on([&] {
    EXPECT_OK(write(b_, filled(kB, 5 * kBlock)));
    EXPECT_OK(volume_->sync(b_, false));
    EXPECT_OK(volume_->unlink(kRootNode, "b"));
    volume_->forget(b_, 1);
    EXPECT_OK(commit());
  }));
  EXPECT_GT(marked_->writes(kB), 0u);
  let_go();
  unmount();
}

TEST_F(StuckWriteBack, FsyncOfTheFileAndSyncOfEverythingWait) {
  get_stuck();
  EXPECT_TRUE(waits([&] { EXPECT_OK(volume_->sync(a_, true)); }));
  get_stuck();
  EXPECT_TRUE(waits([&] { EXPECT_OK(volume_->sync_all()); }));
  unmount();
}

// After a crash nobody finds a file without a name: a sync of everything does not wait for it. Its own fsync does.
TEST_F(StuckWriteBack, SyncOfEverythingPassesOverAnUnlinkedOpenFileAndItsFsyncWaits) {
  get_stuck();
  ASSERT_OK(volume_->unlink(kRootNode, "a"));
  EXPECT_TRUE(goes_on([&] {
    EXPECT_OK(write(b_, filled(kB, 5 * kBlock)));
    EXPECT_OK(volume_->sync_all());
  }));
  EXPECT_GT(marked_->writes(kB), 0u);
  EXPECT_TRUE(waits([&] { EXPECT_OK(volume_->sync(a_, true)); }));
  get_stuck();
  EXPECT_TRUE(waits([&] { EXPECT_OK(volume_->set_attributes(a_, {.size = kBlock})); }));
  unmount();
}

TEST_F(WriteBack, UnmountWaitsForTheFlusherThatIsAtAnUnlinkedOpenFile) {
  MountedVolumeOptions options = patient();
  options.flusher.delay = 1ms;
  make(32, {}, options);
  const NodeId node = create("f");
  marked_->set(kA, Action::hold);
  ASSERT_OK(write(node, filled(kA, 20 * kBlock)));
  ASSERT_TRUE(eventually([&] { return marked_->writes(kA) > 0; }));
  ASSERT_OK(volume_->unlink(kRootNode, "f"));
  ASSERT_OK(volume_->sync_all());
  std::future<Status> done = std::async(std::launch::async, [&] { return volume_->unmount(); });
  EXPECT_EQ(done.wait_for(300ms), std::future_status::timeout);
  marked_->set(kA, Action::pass);
  EXPECT_OK(done.get());
  unmount();
}

// A name given after a sync that has passed over the file: with the name comes the data.
TEST_F(WriteBack, ATemporaryFileThatGetsANameBringsItsDataAtEveryCut) {
  make();
  const auto made = volume_->make_temporary(kRootNode, 0600, {});
  ASSERT_OK(made);
  const std::string text = filled(kA, 20 * kBlock);
  ASSERT_OK(write(made->node, text));
  ASSERT_OK(volume_->sync_all());
  EXPECT_EQ(marked_->writes(kA), 0u);
  const std::uint64_t from = log_->position();
  ASSERT_OK(volume_->link(made->node, kRootNode, "f"));
  ASSERT_OK(commit());
  after_crash(log_->position(), 0, true, [&](MountedVolume &volume) { EXPECT_EQ(contents(volume, "f"), text); });
  after_every_crash(from, 18, [&](MountedVolume &volume) {
    const std::string found = contents(volume, "f");
    EXPECT_TRUE(found == "-" || found == text) << found.size();
  });
  unmount();
}

// --- fsync and errors -----------------------------------------------------------------------------------------------

TEST_F(WriteBack, FsyncWritesNoOtherFilesPages) {
  make();
  const NodeId a = create("a"), b = create("b");
  ASSERT_OK(write(a, filled(kA, 10 * kBlock)));
  ASSERT_OK(write(b, filled(kB, 10 * kBlock)));
  for (const bool data_only : {true, false}) ASSERT_OK(volume_->sync(a, data_only));
  EXPECT_GT(marked_->writes(kA), 0u);
  EXPECT_EQ(marked_->writes(kB), 0u);
  ASSERT_OK(volume_->sync_all());
  EXPECT_GT(marked_->writes(kB), 0u);
  unmount();
}

TEST_F(WriteBack, AFailureReachesFsyncAndOneSyncOfEverything) {
  make();
  const NodeId a = create("a"), b = create("b");
  ASSERT_OK(write(b, filled(kB, 10 * kBlock)));
  ASSERT_OK(volume_->sync_all());
  ASSERT_OK(write(a, filled(kA, 10 * kBlock)));
  marked_->set(kA, Action::fail);
  write_back(a);  // as the flusher: nobody to be told yet
  marked_->set(kA, Action::pass);
  EXPECT_ERROR(volume_->sync(a, false), EIO);
  EXPECT_OK(volume_->sync(b, false));
  EXPECT_ERROR(volume_->sync_all(), EIO);
  EXPECT_OK(volume_->sync_all());
  // The promise has been taken back, and the file can be written again.
  ASSERT_OK(write(a, filled(kA, 10 * kBlock)));
  EXPECT_OK(volume_->sync_all());
  EXPECT_EQ(contents(*volume_, "a"), filled(kA, 10 * kBlock));
  EXPECT_EQ(contents(*volume_, "b"), filled(kB, 10 * kBlock));
  ASSERT_OK(volume_->unmount());
  volume_.reset();
  const auto report = outboard::testing::fsck(*log_);  // the error is on record, and nothing is wrong
  EXPECT_TRUE(report.exit == 0) << report.text;
}

// --- names ----------------------------------------------------------------------------------------------------------

// The device has stale bytes behind the end; their place is zeroed in memory by a write that the device then refuses. Data
// further on may not make the file so long that they show.
TEST_F(WriteBack, ATailThatCouldNotBeZeroedIsNeverPartOfTheFile) {
  make();
  const NodeId node = create("f");
  ASSERT_OK(write(node, filled(kA, 100)));
  ASSERT_OK(volume_->sync_all());
  ASSIGN_OK(const std::uint64_t block, volume_->map_block(node, 0, kBlock));
  ASSERT_NE(block, 0u);
  const std::string secret = filled("<old secret data", kBlock - 100);
  ASSERT_OK(log_->write(block * kBlock + 100, bytes_of(secret)));
  marked_->set(kA, Action::fail);
  ASSERT_OK(write(node, filled(kA, 10)));
  ASSERT_OK(write(node, filled(kB, 8 * kBlock), 20 << 20));
  EXPECT_ERROR(volume_->sync(node, false), EIO);
  marked_->set(kA, Action::pass);
  ASSERT_OK(commit());
  after_crash(log_->position(), 0, true, [&](MountedVolume &volume) {
    const std::string text = contents(volume, "f");
    EXPECT_GE(text.size(), 100u);
    EXPECT_EQ(text.find("old secret"), std::string::npos) << text.size();
  });
  static_cast<void>(volume_->unmount());
  volume_.reset();
}

TEST_F(WriteBack, ReplacingAFileByAFreshOneShowsOldOrNewContentsAtEveryCut) {
  make();
  const std::string before = filled("the old contents", 9 * kBlock), after = filled(kA, 25 * kBlock);
  const NodeId old = create("f");
  ASSERT_OK(write(old, before));
  ASSERT_OK(volume_->sync_all());
  const std::uint64_t from = log_->position();
  ASSERT_OK(write(create("f.new"), after));
  ASSERT_OK(volume_->rename(kRootNode, "f.new", kRootNode, "f", 0, {}));
  ASSERT_OK(commit());
  after_crash(log_->position(), 0, true, [&](MountedVolume &volume) { EXPECT_EQ(contents(volume, "f"), after); });
  after_every_crash(from, 24, [&](MountedVolume &volume) {
    const std::string found = contents(volume, "f");
    EXPECT_TRUE(found == before || found == after) << found.size() << " bytes: " << found.substr(0, 16);
  });
  unmount();
}

// The same for a file that had its blocks already: what was written to them must be recorded, not only be there.
TEST_F(WriteBack, ReplacingAFileByAPreallocatedOneShowsOldOrNewContentsAtEveryCut) {
  make();
  const std::string before = filled("the old contents", 9 * kBlock), after = filled(kA, 25 * kBlock);
  const NodeId old = create("f");
  ASSERT_OK(write(old, before));
  ASSERT_OK(volume_->sync_all());
  const std::uint64_t from = log_->position();
  const NodeId fresh = create("f.new");
  ASSERT_OK(volume_->allocate(fresh, 0, after.size(), 0));
  ASSERT_OK(write(fresh, after));
  ASSERT_OK(volume_->rename(kRootNode, "f.new", kRootNode, "f", 0, {}));
  ASSERT_OK(commit());
  after_every_crash(from, 24, [&](MountedVolume &volume) {
    const std::string found = contents(volume, "f");
    EXPECT_TRUE(found == before || found == after) << found.size() << " bytes: " << found.substr(0, 16);
  });
  unmount();
}

TEST_F(WriteBack, AnUnlinkedForgottenFilesPagesAreNeverWritten) {
  make();
  const NodeId a = create("a"), b = create("b");
  ASSERT_OK(write(a, filled(kA, 50 * kBlock)));
  ASSERT_OK(write(b, filled(kB, 50 * kBlock)));
  for (const char *name : {"a", "b"}) ASSERT_OK(volume_->unlink(kRootNode, name));
  volume_->forget(a, 1);
  volume_->forget(b, 1);
  ASSERT_OK(volume_->sync_all());
  // What comes later, too; and it is gone from memory and from the table.
  unmount();
  EXPECT_EQ(marked_->writes(kA), 0u);
  EXPECT_EQ(marked_->writes(kB), 0u);
}

}  // namespace
}  // namespace outboard::vfs

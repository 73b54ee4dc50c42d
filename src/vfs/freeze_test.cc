// Freeze: what the disk is meanwhile (as after a clean unmount, and nothing changes it), who waits and who does not, and that
// a freeze which does not get done leaves nothing behind.
#include "base/log.h"
#include "testing/write_log_device.h"
#include "vfs/marked_device.h"
#include "vfs/refuse_while_frozen.h"
#include "vfs/test_volume.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/stat.h>

namespace outboard::vfs {
namespace {

using namespace std::chrono_literals;
using outboard::testing::LogEntry;
using outboard::testing::WriteLogDevice;

constexpr auto kLong = 30s;

// As the superblock on the device says.
struct OnDisk {
  bool needs_recovery = false, clean = false;
};
OnDisk on_disk(device::BlockDevice &device) {
  std::array<std::byte, 1024> bytes{};
  EXPECT_OK(device.read(1024, bytes));
  std::uint16_t state = 0;
  std::uint32_t incompat = 0;
  std::memcpy(&state, &bytes[0x3A], sizeof state);
  std::memcpy(&incompat, &bytes[0x60], sizeof incompat);
  return {.needs_recovery = (incompat & 0x4) != 0, .clean = (state & 0x1) != 0};
}

class FreezeTest : public ::testing::Test {
protected:
  void make(const std::vector<std::string> &mkfs = {}) {
    const std::string path = directory_.file("image");
    ASSERT_OK(outboard::testing::make_image(path, std::uint64_t{32} << 20, mkfs));
    ASSIGN_OK(auto memory, device::MemoryDevice::from_file(path));
    log_ = std::make_unique<WriteLogDevice>(std::move(memory));
    device_ = std::make_unique<MarkedDevice>(*log_);
    options_.volume.commit_interval = 1s;
    ASSIGN_OK(volume_, MountedVolume::open(*device_, options_));
  }
  NodeId create(const std::string &name, std::string_view text = {}) {
    const Result<Entry> made = volume_->make_node(kRootNode, name, S_IFREG | 0644, 0, {});
    EXPECT_OK(made);
    if (!made) return 0;
    if (!text.empty()) {
      EXPECT_OK(volume_->write(made->node, 0, bytes_of(text), {}));
    }
    return made->node;
  }
  // A file whose direct write of this text the device holds back, and the thread that waits for it.
  std::pair<NodeId, std::thread> hold_a_write(const std::string &text) {
    const NodeId stuck = create("stuck", std::string(4096, '.'));
    EXPECT_OK(volume_->sync(stuck, false));
    device_->set(text, MarkedDevice::Action::hold);
    std::thread writer([this, stuck, text] { EXPECT_OK(volume_->write(stuck, 0, bytes_of(text + std::string(4080, '-')), {.direct = true})); });
    EXPECT_TRUE(eventually([&] { return device_->writes(text) == 1; }));
    return {stuck, std::move(writer)};
  }
  void freeze() {
    Filesystem::Frozen frozen;
    ASSERT_OK(volume_->freeze(kLong, frozen)) << frozen.held_by;
    ASSERT_TRUE(volume_->is_frozen());
  }
  // Requests that changed the device so far. Flushes change nothing.
  std::size_t changes() const {
    const auto entries = log_->entries();
    return static_cast<std::size_t>(std::ranges::count_if(entries, [](const LogEntry &e) { return e.kind != LogEntry::Kind::flush; }));
  }
  // Clean as it is: nothing to replay, and e2fsck finds nothing. A mount of it finds what it should.
  void expect_clean_copy(const std::function<void(MountedVolume &)> &look = [](MountedVolume &) {}) {
    ASSIGN_OK(auto copy, outboard::testing::copy_to_memory(*log_));
    EXPECT_FALSE(on_disk(*copy).needs_recovery);
    EXPECT_TRUE(on_disk(*copy).clean);
    const auto report = outboard::testing::fsck(*copy);
    EXPECT_TRUE(report.clean) << report.text;
    ASSIGN_OK(auto mounted, MountedVolume::open(*copy, {}));
    EXPECT_FALSE(mounted->volume().report().recovery.was_needed);
    look(*mounted);
    EXPECT_OK(mounted->unmount());
  }
  void unmount() {
    EXPECT_OK(volume_->unmount());
    volume_.reset();
    const auto report = outboard::testing::fsck(*log_);
    EXPECT_TRUE(report.clean) << report.text;
  }

  outboard::testing::TemporaryDirectory directory_;
  std::unique_ptr<WriteLogDevice> log_;
  std::unique_ptr<MarkedDevice> device_;
  MountedVolumeOptions options_;
  std::unique_ptr<MountedVolume> volume_;
};

struct Kind {
  const char *name;
  std::vector<std::string> mkfs;
};
class FreezeOf : public FreezeTest, public ::testing::WithParamInterface<Kind> {};

TEST_P(FreezeOf, TheDiskIsCleanAndNothingChangesItWhileReadsGoOn) {
  ASSERT_NO_FATAL_FAILURE(make(GetParam().mkfs));
  const NodeId kept = create("kept", "never synced");
  const NodeId gone = create("gone", "unlinked");
  ASSERT_OK(volume_->unlink(kRootNode, "gone"));
  volume_->forget(gone, 1);
  ASSERT_NO_FATAL_FAILURE(freeze());
  const std::size_t before = changes();
  expect_clean_copy([](MountedVolume &copy) {
    EXPECT_EQ(contents(copy, "kept"), "never synced");
    EXPECT_EQ(contents(copy, "gone"), "-");
  });

  // Reading (access times included) and syncing need no change, and do not wait.
  EXPECT_EQ(contents(*volume_, "kept"), "never synced");
  EXPECT_OK(volume_->sync(kept, false));
  EXPECT_OK(volume_->sync_all());
  EXPECT_OK(volume_->statistics());
  EXPECT_OK(volume_->get_attributes(kept));
  ListingSink sink(4096, true);
  EXPECT_OK(volume_->read_directory(kRootNode, 0, true, sink));
  EXPECT_FALSE(sink.names.empty());
  std::this_thread::sleep_for(options_.volume.commit_interval + 300ms);  // past the commit timer
  EXPECT_EQ(changes(), before) << "something was written while frozen";

  Filesystem::Frozen again;
  EXPECT_ERROR(volume_->freeze(kLong, again), EBUSY);
  ASSERT_OK(volume_->thaw());
  EXPECT_ERROR(volume_->thaw(), EINVAL);
  EXPECT_FALSE(volume_->is_frozen());
  const bool has_log = volume_->volume().superblock().has(ext4::format::Compat::has_journal);
  EXPECT_EQ(on_disk(*log_).needs_recovery, has_log);
  EXPECT_EQ(on_disk(*log_).clean, has_log);
  ASSERT_OK(volume_->write(kept, 0, bytes_of("later"), {}));
  create("new", "made after the thaw");
  unmount();
}

INSTANTIATE_TEST_SUITE_P(Kinds, FreezeOf,
                         ::testing::Values(Kind{"Default", {}}, Kind{"WithoutAJournal", {"-t", "ext2"}},
                                           Kind{"OrphanFile", {"-O", "orphan_file"}}, Kind{"FastCommit", {"-O", "fast_commit"}},
                                           Kind{"SmallBlocks", {"-b", "1024"}}),
                         [](const auto &param) { return param.param.name; });

TEST_F(FreezeTest, WhoeverChangesSomethingWaitsAndNothingIsLost) {
  ASSERT_NO_FATAL_FAILURE(make());
  const NodeId file = create("file", "before");
  create("old name");
  create("to go");
  ASSERT_NO_FATAL_FAILURE(freeze());
  const std::size_t before = changes();
  const std::vector<std::function<bool()>> operations = {
      [&] { return volume_->write(file, 0, bytes_of("after!"), {}).has_value(); },
      [&] { return volume_->make_node(kRootNode, "made", S_IFREG | 0644, 0, {}).has_value(); },
      [&] { return volume_->make_directory(kRootNode, "directory", 0755, {}).has_value(); },
      [&] { return volume_->make_symlink(kRootNode, "link", "file", {}).has_value(); },
      [&] { return volume_->make_temporary(kRootNode, 0644, {}).has_value(); },
      [&] { return volume_->link(file, kRootNode, "second name").has_value(); },
      [&] { return volume_->unlink(kRootNode, "to go").has_value(); },
      [&] { return volume_->rename(kRootNode, "old name", kRootNode, "new name", 0, {}).has_value(); },
      [&] { return volume_->allocate(file, 0, 65536, 0).has_value(); },
      [&] { return volume_->set_attributes(file, {.mode = 0600}).has_value(); },
      [&] { return volume_->set_xattr(file, "user.x", bytes_of("value"), 0, false).has_value(); },
      [&] { return volume_->ioctl(kRootNode, FS_IOC_SETFSLABEL, bytes_of("label"), {}, {}).has_value(); },
  };
  std::atomic<std::size_t> begun{0}, done{0};
  std::vector<std::thread> clients;
  for (const auto &operation : operations)
    clients.emplace_back([&] {
      ++begun;
      EXPECT_TRUE(operation());
      ++done;
    });
  EXPECT_TRUE(eventually([&] { return begun == operations.size(); }));
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(done, 0u);
  // They hold nothing that others need.
  EXPECT_EQ(contents(*volume_, "file"), "before");
  EXPECT_EQ(contents(*volume_, "made"), "-");
  EXPECT_EQ(changes(), before);
  expect_clean_copy([](MountedVolume &copy) { EXPECT_EQ(contents(copy, "made"), "-"); });
  ASSERT_OK(volume_->thaw());
  for (std::thread &client : clients) client.join();
  EXPECT_EQ(done, operations.size());
  EXPECT_EQ(contents(*volume_, "file").substr(0, 6), "after!");
  EXPECT_OK(volume_->lookup(kRootNode, "new name"));
  EXPECT_OK(volume_->lookup(kRootNode, "second name"));
  EXPECT_ERROR(volume_->lookup(kRootNode, "to go"), ENOENT);
  unmount();
}

TEST_F(FreezeTest, AThreadThatMayNotWaitIsRefusedBeforeAnythingIsDone) {
  ASSERT_NO_FATAL_FAILURE(make());
  ASSERT_NO_FATAL_FAILURE(freeze());
  {
    const RefuseWhileFrozen no_waiting;
    EXPECT_FALSE(RefuseWhileFrozen::refused());
    EXPECT_ERROR(volume_->make_directory(kRootNode, "directory", 0755, {}), EAGAIN);
    EXPECT_TRUE(RefuseWhileFrozen::refused());
    ASSERT_OK(volume_->thaw());
    EXPECT_OK(volume_->make_directory(kRootNode, "directory", 0755, {}));
  }
  unmount();
}

TEST_F(FreezeTest, AnOperationThatDoesNotEndIsNamedAndTheFreezeUndone) {
  ASSERT_NO_FATAL_FAILURE(make());
  const std::string text = "<held by device>";
  auto [stuck, writer] = hold_a_write(text);
  Filesystem::Frozen frozen;
  EXPECT_ERROR(volume_->freeze(50ms, frozen), ETIMEDOUT);
  EXPECT_NE(frozen.held_by.find(fmt::format("write of inode {}", volume_->get_attributes(stuck)->inode)), std::string::npos)
      << frozen.held_by;
  EXPECT_FALSE(volume_->is_frozen());
  EXPECT_ERROR(volume_->thaw(), EINVAL);
  // Undone completely: others change what they like, also durably, while that one is still stuck.
  const NodeId other = create("other", "goes on");
  EXPECT_OK(volume_->sync(other, false));
  EXPECT_TRUE(on_disk(*log_).needs_recovery);
  device_->set(text, MarkedDevice::Action::pass);
  writer.join();
  ASSERT_NO_FATAL_FAILURE(freeze());
  expect_clean_copy([](MountedVolume &copy) { EXPECT_EQ(contents(copy, "other"), "goes on"); });
  unmount();  // which thaws
}

TEST_F(FreezeTest, WriteBackThatDoesNotEndIsNamedAndTheFreezeUndone) {
  options_.flusher.delay = 1h;
  ASSERT_NO_FATAL_FAILURE(make());
  const std::string text = "<held by device>";
  device_->set(text, MarkedDevice::Action::hold);
  create("stuck", text + std::string(4080, '-'));
  Filesystem::Frozen frozen;
  EXPECT_ERROR(volume_->freeze(200ms, frozen), ETIMEDOUT);
  EXPECT_NE(frozen.held_by.find("writing dirty files back"), std::string::npos) << frozen.held_by;
  EXPECT_FALSE(volume_->is_frozen());
  create("other", "goes on");
  device_->set(text, MarkedDevice::Action::pass);
  ASSERT_NO_FATAL_FAILURE(freeze());
  expect_clean_copy([](MountedVolume &copy) { EXPECT_EQ(contents(copy, "other"), "goes on"); });
  unmount();
}

TEST_F(FreezeTest, IsTriedOnceMore) {
  ASSERT_NO_FATAL_FAILURE(make());
  const std::string text = "<held by device>";
  auto [stuck, writer] = hold_a_write(text);
  set_log_sink([&](LogLevel, std::string_view line) {
    if (line.find("trying again") != std::string_view::npos) device_->set(text, MarkedDevice::Action::pass);
  });
  Filesystem::Frozen frozen;
  const Status status = volume_->freeze(3s, frozen);
  set_log_sink({});
  device_->set(text, MarkedDevice::Action::pass);
  writer.join();
  ASSERT_OK(status) << frozen.held_by;
  EXPECT_NE(frozen.held_by, "") << "the first try succeeded";
  EXPECT_TRUE(volume_->is_frozen());
  EXPECT_ERROR(volume_->thaw(frozen.ticket + 1), EINVAL);
  EXPECT_OK(volume_->thaw(frozen.ticket));
  unmount();
}

TEST_F(FreezeTest, DeletionWaitsForTheThawAndACopyDeletesForItself) {
  ASSERT_NO_FATAL_FAILURE(make());
  const NodeId open = create("open", "unlinked while open");
  ASSERT_OK(volume_->unlink(kRootNode, "open"));
  ASSERT_NO_FATAL_FAILURE(freeze());
  const std::size_t before = changes();
  ASSIGN_OK(auto copy, outboard::testing::copy_to_memory(*log_));
  EXPECT_FALSE(on_disk(*copy).needs_recovery);
  {
    ASSIGN_OK(auto mounted, MountedVolume::open(*copy, {}));
    EXPECT_FALSE(mounted->volume().report().recovery.was_needed);
    EXPECT_EQ(mounted->volume().report().orphans_deleted, 1u);
    EXPECT_OK(mounted->unmount());
  }
  const auto report = outboard::testing::fsck(*copy);
  EXPECT_TRUE(report.clean) << report.text;

  volume_->forget(open, 1);
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(changes(), before);
  ASSERT_OK(volume_->thaw());
  EXPECT_TRUE(eventually([&] { return volume_->inode_table().counts_of(ThreadRole::reaper).deleted > 0; }));
  unmount();
}

TEST_F(FreezeTest, AShutdownAtOnceEndsItWithoutAWriteAndOthersAreRefused) {
  ASSERT_NO_FATAL_FAILURE(make());
  create("kept", "as it was");
  ASSERT_NO_FATAL_FAILURE(freeze());
  const std::size_t before = changes();
  std::thread waiting([&] { EXPECT_ERROR(volume_->make_directory(kRootNode, "late", 0755, {}), EIO); });
  EXPECT_ERROR(volume_->shutdown(ShutdownMode::flush), EBUSY);
  EXPECT_ERROR(volume_->shutdown(ShutdownMode::log), EBUSY);
  EXPECT_OK(volume_->shutdown(ShutdownMode::now));
  waiting.join();
  Filesystem::Frozen frozen;
  EXPECT_ERROR(volume_->freeze(kLong, frozen), EIO);
  EXPECT_OK(volume_->unmount());
  volume_.reset();
  EXPECT_EQ(changes(), before);
  expect_clean_copy([](MountedVolume &copy) { EXPECT_EQ(contents(copy, "kept"), "as it was"); });
}

TEST_F(FreezeTest, TheDiskSaysInUseBeforeTheFirstChangeAfterTheThaw) {
  ASSERT_NO_FATAL_FAILURE(make());
  create("first", "before the freeze");
  ASSERT_NO_FATAL_FAILURE(freeze());
  const std::uint64_t from = log_->position();
  ASSERT_OK(volume_->thaw());
  const NodeId second = create("second", "after the thaw");
  ASSERT_OK(volume_->sync(second, false));
  const std::uint64_t promised = log_->position();
  volume_.reset();  // a crash
  std::size_t looked = 0;
  for (const std::uint64_t point : log_->crash_points()) {
    if (point < from || point > promised) continue;
    for (const std::uint64_t seed : {0u, 1u, 2u}) {
      ASSIGN_OK(auto state, log_->crash_state(point, seed));
      ASSIGN_OK(auto mounted, MountedVolume::open(*state, {}));
      EXPECT_EQ(contents(*mounted, "first"), "before the freeze");
      EXPECT_OK(mounted->unmount());
      mounted.reset();
      const auto report = outboard::testing::fsck(*state);
      EXPECT_TRUE(report.clean) << "at " << point << "\n" << report.text;
      ++looked;
    }
  }
  EXPECT_GT(looked, 6u);
  ASSIGN_OK(auto state, log_->crash_state(promised, 0));
  ASSIGN_OK(auto mounted, MountedVolume::open(*state, {}));
  EXPECT_EQ(contents(*mounted, "second"), "after the thaw");
}

TEST_F(FreezeTest, EveryCopyIsCleanWhileManyWork) {
  ASSERT_NO_FATAL_FAILURE(make());
  std::atomic<bool> stop{false};
  std::atomic<std::size_t> rounds{0};
  std::vector<std::thread> clients;
  for (int who = 0; who < 4; ++who)
    clients.emplace_back([&, who] {
      for (int i = 0; !stop; ++i, ++rounds) {
        const std::string name = fmt::format("{}-{}", who, i % 20), moved = name + "m";
        const Result<Entry> made = volume_->make_node(kRootNode, name, S_IFREG | 0644, 0, {});
        if (made) {
          EXPECT_OK(volume_->write(made->node, 0, bytes_of(std::string(static_cast<std::size_t>(i % 7) * 3000 + 1, 'x')), {}));
          if (i % 5 == 0) {
            EXPECT_OK(volume_->sync(made->node, false));
          }
        }
        EXPECT_OK(volume_->rename(kRootNode, name, kRootNode, moved, 0, {}));
        EXPECT_OK(volume_->unlink(kRootNode, moved));
        if (made) volume_->forget(made->node, 1);
      }
    });
  for (int round = 0; round < 6; ++round) {
    const std::size_t from = rounds;
    EXPECT_TRUE(eventually([&] { return rounds > from + 8; })) << "nobody goes on after a thaw";
    ASSERT_NO_FATAL_FAILURE(freeze());
    const std::size_t before = changes();
    ASSIGN_OK(auto copy, outboard::testing::copy_to_memory(*log_));
    EXPECT_FALSE(on_disk(*copy).needs_recovery);
    // Files without a name may be on record: a mount deletes them.
    ASSIGN_OK(auto mounted, MountedVolume::open(*copy, {}));
    EXPECT_FALSE(mounted->volume().report().recovery.was_needed);
    EXPECT_OK(mounted->unmount());
    mounted.reset();
    const auto report = outboard::testing::fsck(*copy);
    EXPECT_TRUE(report.clean) << report.text;
    EXPECT_EQ(changes(), before);
    ASSERT_OK(volume_->thaw());
  }
  stop = true;
  for (std::thread &client : clients) client.join();
  unmount();
}

}  // namespace
}  // namespace outboard::vfs

// Shutdown: after it nothing reaches the device, whoever tries and however the volume ends; what was promised before is there
// after replay, and the mode says what else is.
#include "testing/expect.h"
#include "testing/faulty_device.h"
#include "testing/fsck_oracle.h"
#include "testing/image_builder.h"
#include "testing/write_log_device.h"
#include "vfs/test_volume.h"

#include <algorithm>
#include <atomic>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <thread>

namespace outboard::vfs {
namespace {

using namespace std::chrono_literals;
using outboard::testing::WriteLogDevice;

class ShutdownTest : public ::testing::TestWithParam<ShutdownMode> {
protected:
  void make(const std::vector<std::string> &mkfs = {}) {
    const std::string path = directory_.file("image");
    ASSERT_OK(outboard::testing::make_image(path, std::uint64_t{32} << 20, mkfs));
    ASSIGN_OK(auto memory, device::MemoryDevice::from_file(path));
    device_ = std::make_unique<WriteLogDevice>(std::move(memory));
    options_.volume.commit_interval = 1s;
    ASSIGN_OK(volume_, MountedVolume::open(*device_, options_));
  }
  NodeId create(const std::string &name, std::string_view text) {
    Result<Entry> made = volume_->make_node(kRootNode, name, S_IFREG | 0644, 0, {});
    EXPECT_OK(made);
    if (!made) return 0;
    EXPECT_OK(volume_->write(made->node, 0, bytes_of(text), {}));
    return made->node;
  }
  // Written and never synced: flushed; or its name only, unless the data had gone to the device by itself; or nothing of it.
  static void expect_unsynced(MountedVolume &volume) {
    const std::string found = contents(volume, "unsynced");
    switch (GetParam()) {
    case ShutdownMode::flush: EXPECT_EQ(found, "never synced"); break;
    case ShutdownMode::log: EXPECT_TRUE(found.empty() || found == "never synced") << found; break;
    case ShutdownMode::now: EXPECT_EQ(found, "-"); break;
    }
  }
  void expect_stopped(NodeId node) {
    std::array<std::byte, 8> buffer{};
    EXPECT_ERROR(volume_->write(node, 0, bytes_of("late"), {}), EIO);
    EXPECT_ERROR(volume_->read(node, 0, buffer), EIO);
    EXPECT_ERROR(volume_->sync(node, true), EIO);
    EXPECT_ERROR(volume_->sync_all(), EIO);
    EXPECT_ERROR(volume_->make_node(kRootNode, "late", S_IFREG | 0644, 0, {}), EIO);
    EXPECT_ERROR(volume_->make_directory(kRootNode, "late", 0755, {}), EIO);
    EXPECT_ERROR(volume_->unlink(kRootNode, "synced"), EIO);
    EXPECT_ERROR(volume_->rename(kRootNode, "synced", kRootNode, "moved", 0, {}), EIO);
    EXPECT_ERROR(volume_->link(node, kRootNode, "late"), EIO);
    EXPECT_ERROR(volume_->allocate(node, 0, 4096, 0), EIO);
    EXPECT_ERROR(volume_->set_attributes(node, {.mode = 0600}), EIO);
    EXPECT_ERROR(volume_->get_xattr(node, "user.x", buffer), EIO);
    EXPECT_ERROR(volume_->set_xattr(node, "user.x", buffer, 0, false), EIO);
    // As ext4: names and attributes can still be looked at.
    EXPECT_OK(volume_->lookup(kRootNode, "synced"));
    EXPECT_OK(volume_->get_attributes(node));
    EXPECT_OK(volume_->statistics());
  }

  outboard::testing::TemporaryDirectory directory_;
  std::unique_ptr<WriteLogDevice> device_;
  MountedVolumeOptions options_;
  std::unique_ptr<MountedVolume> volume_;
};

TEST_P(ShutdownTest, NothingReachesTheDeviceAfterwardsAndThePromisesHold) {
  ASSERT_NO_FATAL_FAILURE(make());
  const NodeId synced = create("synced", "kept by fsync");
  ASSERT_OK(volume_->sync(synced, false));
  const NodeId late = create("unsynced", "never synced");
  const NodeId gone = create("deleted", "unlinked while open");
  ASSERT_OK(volume_->unlink(kRootNode, "deleted"));
  ASSERT_OK(volume_->shutdown(GetParam()));
  EXPECT_TRUE(volume_->is_shut_down());

  const std::size_t written = device_->entries().size();
  const std::uint64_t position = device_->position();
  expect_stopped(synced);
  EXPECT_ERROR(volume_->write(late, 0, bytes_of("later"), {}), EIO);
  EXPECT_OK(volume_->shutdown(ShutdownMode::now));  // again
  std::this_thread::sleep_for(options_.volume.commit_interval + 300ms);  // past the commit timer
  volume_->forget(gone, 1);                                               // the reaper must leave it alone
  EXPECT_OK(volume_->unmount());
  volume_.reset();
  EXPECT_EQ(device_->entries().size(), written) << "something reached the device after the shutdown";

  ASSIGN_OK(auto image, device_->image_at(position));
  ASSIGN_OK(auto next, MountedVolume::open(*image, {}));
  EXPECT_TRUE(next->volume().report().recovery.was_needed);
  EXPECT_EQ(contents(*next, "synced"), "kept by fsync");
  expect_unsynced(*next);
  EXPECT_EQ(contents(*next, "deleted"), "-");
  EXPECT_EQ(contents(*next, "late"), "-");
  EXPECT_OK(next->unmount());
  next.reset();
  const auto report = outboard::testing::fsck(*image);
  EXPECT_TRUE(report.clean) << report.text;
}

TEST_P(ShutdownTest, HoldsWhileOthersAreInTheMiddleOfWriting) {
  ASSERT_NO_FATAL_FAILURE(make());
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> done{0};
  std::vector<std::string> promised(3);
  std::vector<std::thread> writers;
  for (std::size_t who = 0; who < promised.size(); ++who)
    writers.emplace_back([&, who] {
      for (int i = 0; !stop; ++i) {
        const std::string name = fmt::format("w{}-{}", who, i);
        const Result<Entry> made = volume_->make_node(kRootNode, name, S_IFREG | 0644, 0, {});
        if (!made) {
          EXPECT_TRUE(made.error().is(EIO)) << made.error().message();
          continue;
        }
        const bool kept = volume_->write(made->node, 0, bytes_of(name), {}).has_value() && volume_->sync(made->node, false);
        if (kept) promised[who] = name;
        ++done;
      }
    });
  while (done < 20) std::this_thread::sleep_for(1ms);
  ASSERT_OK(volume_->shutdown(GetParam()));
  const std::size_t written = device_->entries().size();
  const std::uint64_t position = device_->position();
  std::this_thread::sleep_for(50ms);
  stop = true;
  for (std::thread &writer : writers) writer.join();
  EXPECT_OK(volume_->unmount());
  volume_.reset();
  EXPECT_EQ(device_->entries().size(), written);

  ASSIGN_OK(auto image, device_->image_at(position));
  ASSIGN_OK(auto next, MountedVolume::open(*image, {}));
  EXPECT_TRUE(std::ranges::any_of(promised, [](const std::string &name) { return !name.empty(); }));
  for (const std::string &name : promised) {
    // A writer that was promised nothing before the end.
    if (name.empty()) continue;
    EXPECT_EQ(contents(*next, name), name);
  }
  EXPECT_OK(next->unmount());
  next.reset();
  const auto report = outboard::testing::fsck(*image);
  EXPECT_TRUE(report.clean) << report.text;
}

TEST_P(ShutdownTest, WithoutAJournalToo) {
  ASSERT_NO_FATAL_FAILURE(make({"-t", "ext2"}));
  const NodeId synced = create("synced", "kept by fsync");
  ASSERT_OK(volume_->sync(synced, false));
  create("unsynced", "never synced");
  ASSERT_OK(volume_->shutdown(GetParam()));
  const std::size_t written = device_->entries().size();
  expect_stopped(synced);
  EXPECT_OK(volume_->unmount());
  volume_.reset();
  EXPECT_EQ(device_->entries().size(), written);
  ASSIGN_OK(auto image, device_->image_at(device_->position()));
  ASSIGN_OK(auto next, MountedVolume::open(*image, {}));
  EXPECT_EQ(contents(*next, "synced"), "kept by fsync");
  expect_unsynced(*next);
}

TEST(ShutdownOfAStuckDevice, AtOnceCutsShortTheOneThatWaits) {
  using outboard::testing::FaultyDevice;
  outboard::testing::TemporaryDirectory directory;
  ASSERT_OK(outboard::testing::make_image(directory.file("image"), std::uint64_t{32} << 20));
  ASSIGN_OK(auto memory, device::MemoryDevice::from_file(directory.file("image")));
  FaultyDevice device(*memory);
  ASSIGN_OK(auto volume, MountedVolume::open(device, {}));
  ASSERT_OK(volume->make_directory(kRootNode, "dir", 0755, {}));
  device.hold(FaultyDevice::Op::write);
  device.hold(FaultyDevice::Op::flush);
  std::thread waiting([&] { EXPECT_OK(volume->shutdown(ShutdownMode::flush)); });
  ASSERT_TRUE(device.wait_until_held(1));
  EXPECT_OK(volume->shutdown(ShutdownMode::now));
  waiting.join();
  EXPECT_ERROR(volume->make_directory(kRootNode, "late", 0755, {}), EIO);
  device.release_all();
  EXPECT_OK(volume->unmount());
}

INSTANTIATE_TEST_SUITE_P(Modes, ShutdownTest, ::testing::Values(ShutdownMode::flush, ShutdownMode::log, ShutdownMode::now),
                         [](const auto &param) {
                           return param.param == ShutdownMode::flush ? "Flush" : param.param == ShutdownMode::log ? "Log" : "Now";
                         });

}  // namespace
}  // namespace outboard::vfs

// A device that stops answering: a read fails alone; after a write or a flush the volume takes no more changes; whoever waits gets
// an answer; the disk holds what had been promised.
#include "device/deadline_device.h"
#include "testing/faulty_device.h"
#include "testing/write_log_device.h"
#include "vfs/test_volume.h"

#include <array>
#include <future>
#include <sys/stat.h>

namespace outboard::vfs {
namespace {

using namespace std::chrono_literals;
using outboard::testing::FaultyDevice;
using Op = FaultyDevice::Op;

class UnansweredTest : public ::testing::TestWithParam<ext4::ErrorPolicy> {
protected:
  void SetUp() override {
    const std::string path = directory_.file("image");
    ASSERT_OK(outboard::testing::make_image(path, std::uint64_t{32} << 20));
    ASSIGN_OK(memory_, device::MemoryDevice::from_file(path));
    faulty_ = std::make_shared<FaultyDevice>(*memory_);
    timed_ = std::make_unique<device::DeadlineDevice>(faulty_, device::DeadlineOptions{.patience = 1s, .grace = grace_});
    MountedVolumeOptions options;
    options.volume.errors = GetParam();
    options.volume.commit_interval = 1h;
    ASSIGN_OK(volume_, MountedVolume::open(*timed_, options));
    kept_ = create("kept", "promised");
    ASSERT_OK(volume_->sync(kept_, false));
  }
  void TearDown() override {
    if (!faulty_) return;
    faulty_->release_all();
    volume_.reset();
    timed_.reset();
    while (faulty_.use_count() > 1) std::this_thread::sleep_for(1ms);  // requests that were given up use memory_
  }
  NodeId create(const std::string &name, std::string_view text) {
    Result<Entry> made = volume_->make_node(kRootNode, name, S_IFREG | 0644, 0, {});
    EXPECT_OK(made);
    if (!made) return 0;
    EXPECT_OK(volume_->write(made->node, 0, bytes_of(text), {}));
    return made->node;
  }
  // Ends everything while the device still does not answer, then looks at what the disk holds.
  void expect_unmounts_and_the_disk_holds_the_promise() {
    static_cast<void>(volume_->unmount());  // it may tell of what was lost; it returns
    volume_.reset();
    auto disk = memory_->clone();
    faulty_->release_all();
    timed_.reset();
    ASSIGN_OK(auto next, MountedVolume::open(*disk, {}));
    const Result<Entry> entry = next->lookup(kRootNode, "kept");
    ASSERT_OK(entry);
    std::string text(entry->attributes.size, '\0');
    ASSERT_OK(next->read(entry->node, 0, std::as_writable_bytes(std::span(text))));
    EXPECT_EQ(text, "promised");
    ASSERT_OK(next->unmount());
    next.reset();
    const auto report = outboard::testing::fsck(*disk);
    EXPECT_TRUE(report.clean) << report.text;
  }
  void expect_no_more_changes() {
    EXPECT_FALSE(volume_->make_node(kRootNode, "late", S_IFREG | 0644, 0, {}).has_value());
    EXPECT_FALSE(volume_->unlink(kRootNode, "kept").has_value());
    EXPECT_FALSE(volume_->sync_all().has_value());
    EXPECT_OK(volume_->lookup(kRootNode, "kept"));  // looking goes on
    std::array<std::byte, 8> buffer{};
    // A device that has fallen silent is asked for a sign of life by whoever comes first; he is not kept waiting for the answer for long.
    EXPECT_TRUE(eventually([&] { return volume_->read(kept_, 0, buffer).has_value(); }));
  }

  std::chrono::milliseconds grace_ = 100ms;
  outboard::testing::TemporaryDirectory directory_;
  std::unique_ptr<device::MemoryDevice> memory_;
  std::shared_ptr<FaultyDevice> faulty_;
  std::unique_ptr<device::DeadlineDevice> timed_;
  std::unique_ptr<MountedVolume> volume_;
  NodeId kept_ = 0;
};

TEST_P(UnansweredTest, AReadFailsWithEioAndTheVolumeGoesOn) {
  // Data that is in no cache of ours: written back, and read again.
  const std::string text(200'000, 'r');
  const NodeId node = create("file", text);
  ASSERT_OK(volume_->sync(node, false));
  std::vector<std::byte> buffer(text.size());
  faulty_->hold(Op::read);
  ASSERT_ERROR(volume_->read(node, 0, buffer), EIO);
  EXPECT_FALSE(volume_->volume().read_only());
  faulty_->release_all();
  while (timed_->late() > 0) std::this_thread::sleep_for(1ms);
  EXPECT_OK(volume_->read(node, 0, buffer));
  EXPECT_EQ(buffer[100'000], std::byte{'r'});
  create("after", "still writable");
  ASSERT_OK(volume_->sync_all());
  ASSERT_OK(volume_->unmount());
  volume_.reset();
  const auto report = outboard::testing::fsck(*memory_);
  EXPECT_TRUE(report.clean) << report.text;
}

TEST_P(UnansweredTest, AWriteFailsItsFsyncAndNothingIsChangedFromThenOn) {
  const NodeId node = create("doomed", std::string(100'000, 'd'));
  faulty_->hold(Op::write);
  faulty_->hold(Op::read);
  // All who wait, each for another reason.
  auto other = std::async(std::launch::async, [&] { return volume_->sync(node, true).has_value(); });
  auto all = std::async(std::launch::async, [&] { return volume_->sync_all().has_value(); });
  EXPECT_FALSE(volume_->sync(node, false).has_value());
  EXPECT_FALSE(other.get());
  EXPECT_FALSE(all.get());
  faulty_->release(Op::read);
  expect_no_more_changes();
  expect_unmounts_and_the_disk_holds_the_promise();
}

TEST_P(UnansweredTest, AFlushFailsItsFsyncAndNothingIsChangedFromThenOn) {
  const NodeId node = create("doomed", "waits for a flush");
  faulty_->hold(Op::flush);
  faulty_->hold(Op::read);
  EXPECT_ERROR(volume_->sync(node, false), EIO);
  faulty_->release(Op::read);
  expect_no_more_changes();
  expect_unmounts_and_the_disk_holds_the_promise();
}

TEST_P(UnansweredTest, UnmountingReturnsWhenNothingIsAnsweredAtAll) {
  create("doomed", std::string(100'000, 'd'));
  for (Op op : {Op::read, Op::write, Op::flush, Op::discard, Op::zero}) faulty_->hold(op);
  EXPECT_FALSE(volume_->unmount().has_value());
  expect_unmounts_and_the_disk_holds_the_promise();
}

// A sign of life takes as long as it takes on a busy machine.
class FrozenTest : public UnansweredTest {
protected:
  FrozenTest() { grace_ = 1min; }
};

TEST_P(FrozenTest, AFrozenDeviceHoldsWritersUpServesReadersAndLosesNothing) {
  const NodeId other = create("other", "read meanwhile");
  ASSERT_OK(volume_->sync(other, false));
  const NodeId node = create("held up", std::string(100'000, 'h'));
  faulty_->hold(Op::write);
  faulty_->hold(Op::flush);
  const std::uint64_t before = faulty_->requests(Op::read);
  auto waiting = std::async(std::launch::async, [&] { return volume_->sync(node, false).has_value(); });
  while (faulty_->requests(Op::read) < before + 3) std::this_thread::sleep_for(1ms);  // over its deadline, and over again
  std::array<std::byte, 14> buffer{};
  EXPECT_OK(volume_->read(other, 0, buffer));
  EXPECT_EQ(buffer[0], std::byte{'r'});
  EXPECT_EQ(waiting.wait_for(0s), std::future_status::timeout);
  faulty_->release_all();
  EXPECT_TRUE(waiting.get());
  EXPECT_FALSE(volume_->volume().read_only());
  create("after", "still writable");
  ASSERT_OK(volume_->unmount());
  volume_.reset();
  timed_.reset();
  ASSIGN_OK(auto next, MountedVolume::open(*memory_, {}));
  for (const char *name : {"held up", "after"}) EXPECT_OK(next->lookup(kRootNode, name));
  ASSERT_OK(next->unmount());
  next.reset();
  const auto report = outboard::testing::fsck(*memory_);
  EXPECT_TRUE(report.clean) << report.text;
}

INSTANTIATE_TEST_SUITE_P(One, FrozenTest, ::testing::Values(ext4::ErrorPolicy::remount_read_only));
INSTANTIATE_TEST_SUITE_P(Policies, UnansweredTest, ::testing::Values(ext4::ErrorPolicy::remount_read_only, ext4::ErrorPolicy::continue_),
                         [](const auto &policy) { return policy.param == ext4::ErrorPolicy::continue_ ? "Continue" : "RemountReadOnly"; });

}  // namespace
}  // namespace outboard::vfs

// A device that takes no writes (its file system is frozen, a network is gone): whoever reads is answered all the same, however many
// wait for their changes to get to the journal, and also for what those are changing.
#include "testing/image_builder.h"
#include "vfs/marked_device.h"
#include "vfs/test_volume.h"

#include <algorithm>
#include <atomic>
#include <fmt/format.h>
#include <sys/stat.h>
#include <thread>

namespace outboard::vfs {
namespace {

using namespace std::chrono_literals;

TEST(StuckWrites, ReadersAreAnsweredWhileChangesOfTheSameWaitForTheJournal) {
  outboard::testing::TemporaryDirectory directory;
  const std::string path = directory.file("image");
  ASSERT_OK(outboard::testing::make_image(path, std::uint64_t{64} << 20, {"-b", "1024", "-J", "size=4"}));
  ASSIGN_OK(auto memory, device::MemoryDevice::from_file(path));
  MarkedDevice device(*memory);
  MountedVolumeOptions options;
  options.flusher.delay = 1h;
  options.volume.commit_interval = 1h;
  ASSIGN_OK(auto volume, MountedVolume::open(device, options));
  ASSIGN_OK(const Entry file, volume->make_node(kRootNode, "file", S_IFREG | 0644, 0, {}));
  ASSERT_OK(volume->write(file.node, 0, bytes_of("text"), {}));
  ASSERT_OK(volume->sync_all());
  ASSERT_OK(volume->make_node(kRootNode, "to commit", S_IFREG | 0644, 0, {}));

  // Every write of the device begins with this.
  const std::string any;
  device.set(any, MarkedDevice::Action::hold);
  std::thread committer([&] { EXPECT_OK(volume->sync_all()); });
  EXPECT_TRUE(eventually([&] { return device.writes(any) >= 1; }));
  // They go on until the transaction behind the stuck one has no room.
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> changes{0};
  std::vector<std::thread> changers;
  for (int who = 0; who < 3; ++who)
    changers.emplace_back([&, who] {
      for (int i = 0; !stop; ++i) {
        EXPECT_OK(volume->make_directory(kRootNode, fmt::format("{}-{}", who, i), 0755, {}));
        ++changes;
      }
    });
  changers.emplace_back([&] {
    for (std::uint32_t i = 0; !stop; ++i) {
      EXPECT_OK(volume->set_attributes(file.node, {.mode = 0600 + i % 64}));
      ++changes;
    }
  });
  EXPECT_TRUE(eventually([&] {
    const std::uint64_t before = changes;
    std::this_thread::sleep_for(500ms);
    return before > 0 && changes == before;
  })) << "changes do not wait for a journal that takes none";

  std::atomic<bool> answered{false};
  std::thread reader([&] {
    EXPECT_OK(volume->lookup(kRootNode, "file"));
    EXPECT_OK(volume->get_attributes(kRootNode));
    std::string text(4, '\0');
    EXPECT_OK(volume->read(file.node, 0, std::as_writable_bytes(std::span(text))));
    EXPECT_EQ(text, "text");
    answered = true;
  });
  EXPECT_TRUE(eventually([&] { return answered.load(); })) << "a reader waits for the device to take writes";
  stop = true;
  device.set(any, MarkedDevice::Action::pass);
  reader.join();
  committer.join();
  for (std::thread &changer : changers) changer.join();
  EXPECT_OK(volume->unmount());
  volume.reset();
  const auto report = outboard::testing::fsck(*memory);
  EXPECT_TRUE(report.clean) << report.text;
}

}  // namespace
}  // namespace outboard::vfs

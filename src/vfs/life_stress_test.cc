// The lives of inodes under load: files are made, written, truncated, replaced, unlinked and forgotten while the flusher,
// commits, syncs and a lack of memory are at them. Nothing leaks, and no thread that others wait for ever deletes.
#include "vfs/test_volume.h"

#include <atomic>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <random>

namespace outboard::vfs {
namespace {

using namespace std::chrono_literals;

InodeTable::Counts counts(MountedImage &image, ThreadRole role) { return image->inode_table().counts_of(role); }

// The rule of docs/inode-lifecycle.md.
void expect_nobody_waited_for_has_waited(MountedImage &image) {
  for (const ThreadRole role : {ThreadRole::flusher, ThreadRole::commit, ThreadRole::checkpoint, ThreadRole::memory_pressure}) {
    EXPECT_EQ(counts(image, role).deleted, 0u) << static_cast<int>(role);
    EXPECT_EQ(counts(image, role).times_taken, 0u) << static_cast<int>(role);
  }
  EXPECT_EQ(counts(image, ThreadRole::client).deleted, 0u) << "FORGET does not delete either";
}

TEST(InodeLives, TheFlusherThatHoldsAnUnlinkedFileLastOnlyQueuesIt) {
  MountedVolumeOptions options;
  options.flusher.delay = 100ms;
  options.flusher.linger = 1ms;
  MountedImage image({}, 16, options);
  // Once more, should the flusher have been quicker than we.
  EXPECT_TRUE(eventually([&] {
    const NodeId node = image.file("f");
    image.write(node, std::string(20000, 'x'));
    EXPECT_OK(image->unlink(kRootNode, "f"));
    image->forget(node, 1);
    EXPECT_TRUE(eventually([&] { return image.gone(node); }));
    return counts(image, ThreadRole::flusher).retired > 0;
  }));
  EXPECT_TRUE(eventually([&] { return counts(image, ThreadRole::reaper).deleted > 0; }));
  expect_nobody_waited_for_has_waited(image);
  EXPECT_TRUE(eventually([&] { return image->folio_memory().in_use() == 0; }));
  image.unmount();
}

// Times that are only in memory are written by the reaper, whoever made room for another idle inode.
TEST(InodeLives, TheFlusherEvictsFromMemoryOnly) {
  MountedVolumeOptions options;
  options.flusher.delay = 1ms;
  options.flusher.linger = 1ms;
  options.idle_inodes = 0;
  options.atime = AtimePolicy::strict;
  MountedImage image({}, 16, options);
  EXPECT_TRUE(eventually([&] {
    for (int i = 0; i < 200; ++i) {
      const NodeId node = image.file(fmt::format("f{}", i));
      image.write(node, "x");
      image->forget(node, 1);
    }
    std::this_thread::sleep_for(20ms);
    for (int i = 0; i < 200; ++i) {
      const auto found = image->lookup(kRootNode, fmt::format("f{}", i));
      EXPECT_OK(found);
      if (!found) return true;
      EXPECT_EQ(image.read(found->node), "x");
      image->forget(found->node, 1);
    }
    for (int i = 0; i < 200; ++i) EXPECT_OK(image->unlink(kRootNode, fmt::format("f{}", i)));
    return counts(image, ThreadRole::flusher).evicted > 0 && counts(image, ThreadRole::reaper).times_taken > 0;
  }));
  expect_nobody_waited_for_has_waited(image);
  image.unmount();
}

class ConcurrentLives : public ::testing::Test {
protected:
  static MountedVolumeOptions hurried() {
    MountedVolumeOptions options;
    options.memory = {.dirty = 768 << 10, .spare = 256 << 10};  // writers wait all the time
    options.flusher = {.delay = 5ms, .eager = 128 << 10, .linger = 10ms};
    options.idle_inodes = 64;
    options.volume.commit_interval = 1s;
    return options;
  }
  // What anybody may meet: names come and go under everybody.
  static constexpr std::initializer_list<int> kRaces = {ENOENT, EEXIST, ESTALE, ENOSPC};

  void write(NodeId node, std::mt19937 &random) {
    const std::string text(1 + random() % 90000, static_cast<char>('a' + random() % 26));
    expected(image_->write(node, random() % 200000, bytes_of(text), {}), kRaces);
  }
  std::string name(std::mt19937 &random) { return fmt::format("n{}", random() % 8); }

  void create_write_unlink_write(std::mt19937 &random) {
    const std::string name = fmt::format("own{}", random() % 4);
    const auto made = image_->make_node(kRootNode, name, 0100644, 0, {});
    if (!expected(made, kRaces) || !made) return;
    write(made->node, random);
    expected(image_->unlink(kRootNode, name), kRaces);
    write(made->node, random);
    if (random() % 2 == 0) expected(image_->sync(made->node, random() % 2 == 0), kRaces);
    if (random() % 2 == 0) write(made->node, random);
    image_->forget(made->node, 1);
  }
  void replace(std::mt19937 &random) {
    const std::string fresh = fmt::format("new{}", random() % 4);
    const auto made = image_->make_node(kRootNode, fresh, 0100644, 0, {});
    if (!expected(made, kRaces) || !made) return;
    write(made->node, random);
    expected(image_->rename(kRootNode, fresh, kRootNode, name(random), 0, {}), kRaces);
    image_->forget(made->node, 1);
  }
  void temporary(std::mt19937 &random) {
    const auto made = image_->make_temporary(kRootNode, 0600, {});
    if (!expected(made, kRaces) || !made) return;
    write(made->node, random);
    if (random() % 2 == 0) {
      const auto linked = image_->link(made->node, kRootNode, name(random));
      if (expected(linked, kRaces) && linked) image_->forget(linked->node, 1);
    }
    write(made->node, random);
    image_->forget(made->node, 1);
  }
  void truncate(std::mt19937 &random) {
    const auto found = image_->lookup(kRootNode, name(random));
    if (!expected(found, kRaces) || !found) return;
    write(found->node, random);
    if (random() % 3 == 0)
      expected(image_->allocate(found->node, random() % 100000, 1 + random() % 50000,
                                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), kRaces);
    else expected(image_->set_attributes(found->node, {.size = random() % 100000}), kRaces);
    if (random() % 2 == 0) expected(image_->unlink(kRootNode, name(random)), kRaces);
    image_->forget(found->node, 1);
  }
  MountedImage image_{{}, 48, hurried()};
};

TEST_F(ConcurrentLives, StormsUnderFlusherSyncsAndThrottlingLeakNothing) {
  ASSERT_OK(image_->sync_all());
  const Statistics before = *image_->statistics();
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> steps{0};
  std::vector<std::thread> running;
  for (unsigned t = 0; t < 5; ++t)
    running.emplace_back([&, t] {
      std::mt19937 random(t + 1);
      for (; !stop; ++steps) {
        switch (random() % 4) {
        case 0: create_write_unlink_write(random); break;
        case 1: replace(random); break;
        case 2: temporary(random); break;
        default: truncate(random);
        }
      }
    });
  running.emplace_back([&] {
    std::mt19937 random(99);
    while (!stop) {
      expected(image_->sync_all(), {});
      const auto found = image_->lookup(kRootNode, name(random));
      if (found) {
        EXPECT_OK(image_->sync(found->node, false));
        image_->forget(found->node, 1);
      }
      EXPECT_OK(image_->volume().journal().commit_running());
    }
  });
  std::this_thread::sleep_for(3s);
  // However slow the machine: until everything has happened.
  EXPECT_TRUE(eventually([&] {
    return steps > 200 && image_->folio_memory().waits() > 0 && counts(image_, ThreadRole::reaper).deleted > 50;
  })) << steps << " steps, " << image_->folio_memory().waits() << " waits for memory";
  stop = true;
  for (std::thread &thread : running) thread.join();

  expect_nobody_waited_for_has_waited(image_);
  for (const char *kind : {"n", "own", "new"})
    for (int i = 0; i < 8; ++i) expected(image_->unlink(kRootNode, fmt::format("{}{}", kind, i)), {ENOENT});
  // Everything comes back: numbers, blocks, promises, memory, objects.
  EXPECT_TRUE(eventually([&] {
    EXPECT_OK(image_->sync_all());
    const Statistics now = *image_->statistics();
    return now.free_inodes == before.free_inodes && now.free_blocks == before.free_blocks;
  })) << image_->statistics()->free_inodes << " of " << before.free_inodes << " inodes, "
      << image_->statistics()->free_blocks << " of " << before.free_blocks << " blocks";
  EXPECT_TRUE(eventually([&] { return image_->folio_memory().in_use() == 0; })) << image_->folio_memory().in_use();
  EXPECT_TRUE(eventually([&] { return image_->inodes_in_memory() == 1; })) << image_->inodes_in_memory() << ": the root, and?";
  image_.unmount();
}

// Unmount in the middle of it: what is dirty is written, what is unlinked is deleted.
TEST_F(ConcurrentLives, UnmountRightAfterAStormLeavesACleanImage) {
  std::vector<std::thread> running;
  std::atomic<bool> stop{false};
  for (unsigned t = 0; t < 4; ++t)
    running.emplace_back([&, t] {
      std::mt19937 random(t + 50);
      while (!stop) t % 2 == 0 ? create_write_unlink_write(random) : temporary(random);
    });
  std::this_thread::sleep_for(500ms);
  const auto held = image_->make_temporary(kRootNode, 0600, {});
  ASSERT_OK(held);
  ASSERT_OK(image_->write(held->node, 0, bytes_of(std::string(100000, 'x')), {}));
  stop = true;
  for (std::thread &thread : running) thread.join();
  ASSERT_OK(image_->unmount());
  expect_nobody_waited_for_has_waited(image_);
  EXPECT_EQ(image_->folio_memory().in_use(), 0u);
  image_.unmount();
}

}  // namespace
}  // namespace outboard::vfs

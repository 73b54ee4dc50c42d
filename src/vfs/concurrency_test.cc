// Many threads in one volume: no deadlock, no object that two think is theirs, and a clean image.
#include "vfs/test_volume.h"

#include <atomic>
#include <fmt/format.h>
#include <linux/fs.h>
#include <random>

namespace outboard::vfs {
namespace {

// Runs `body(thread number, generator)` on so many threads and waits for all.
void storm(unsigned threads, const std::function<void(unsigned, std::mt19937 &)> &body) {
  std::vector<std::thread> running;
  for (unsigned t = 0; t < threads; ++t)
    running.emplace_back([&body, t] {
      std::mt19937 random(t + 1);
      body(t, random);
    });
  for (std::thread &thread : running) thread.join();
}

TEST(ConcurrentVolume, MixedOperationsOnFewNamesLeaveACleanImage) {
  MountedImage image({"-N", "256"});
  std::vector<NodeId> directories = {kRootNode};
  for (int i = 0; i < 3; ++i) directories.push_back(image.directory(fmt::format("d{}", i)));
  storm(6, [&](unsigned, std::mt19937 &random) {
    for (int i = 0; i < 400; ++i) {
      const NodeId a = directories[random() % directories.size()], b = directories[random() % directories.size()];
      const std::string x = fmt::format("n{}", random() % 6), y = fmt::format("n{}", random() % 6);
      switch (random() % 9) {
      case 0:
      case 1: {
        const auto made = image->make_node(a, x, 0100644, 0, {});
        if (expected(made, {EEXIST, ENOSPC}) && made) {
          expected(image->write(made->node, random() % 20000, bytes_of("some text"), {}), {ENOSPC});
          image->forget(made->node, 1);
        }
        break;
      }
      case 2: expected(image->unlink(a, x), {ENOENT, EISDIR}); break;
      case 3: expected(image->rename(a, x, b, y, 0, {}), {ENOENT, EISDIR, ENOTDIR, ENOTEMPTY, EINVAL, ENOSPC}); break;
      case 4: expected(image->rename(a, x, b, y, RENAME_EXCHANGE, {}), {ENOENT, EINVAL}); break;
      case 5: {
        const auto found = image->lookup(a, x);
        if (!expected(found, {ENOENT}) || !found) break;
        std::byte buffer[64];
        expected(image->read(found->node, 0, buffer), {EISDIR, EINVAL});
        const auto linked = image->link(found->node, b, y);
        if (expected(linked, {EEXIST, ENOENT, EPERM, ENOSPC}) && linked) image->forget(linked->node, 1);
        image->forget(found->node, 1);
        break;
      }
      case 6: {
        const auto made = image->make_directory(a, x, 0755, {});
        if (expected(made, {EEXIST, ENOSPC}) && made) image->forget(made->node, 1);
        break;
      }
      case 7: expected(image->remove_directory(a, x), {ENOENT, ENOTDIR, ENOTEMPTY}); break;
      default: {
        ListingSink sink(65536, true);
        const Status listed = image->read_directory(a, 0, true, sink);
        expected(listed, {});
        for (const auto &one : sink.names)
          if (one.looked_up) image->forget(one.inode, 1);
        if (random() % 8 == 0) expected(image->sync_all(), {});
      }
      }
    }
  });
  image.unmount();
}

// Numbers are used again all the time; a look-up must not return what has come to live under the number it has read.
TEST(ConcurrentVolume, ALookupNeverFindsTheSuccessorOfItsNumber) {
  MountedImage image({"-N", "16"});
  std::atomic<int> makers{2};
  std::atomic<std::uint64_t> found{0};
  storm(4, [&](unsigned thread, std::mt19937 &) {
    if (thread < 2) {
      // Thread 0 makes and removes "x" with mode 0600, thread 1 "y" with 0640.
      const std::string name = thread == 0 ? "x" : "y";
      for (int i = 0; i < 1500; ++i) {
        const auto made = image->make_node(kRootNode, name, 0100000 | (thread == 0 ? 0600 : 0640), 0, {});
        if (!expected(made, {ENOSPC}) || !made) continue;
        image->forget(made->node, 1);
        expected(image->unlink(kRootNode, name), {});
      }
      --makers;
    } else {
      while (makers > 0) {
        const auto entry = image->lookup(kRootNode, "x");
        if (!expected(entry, {ENOENT}) || !entry) continue;
        ++found;
        EXPECT_EQ(entry->attributes.mode, 0100600u) << "another file's inode";
        image->forget(entry->node, 1);
      }
    }
  });
  EXPECT_GT(found, 0u);
  image.unmount();
}

TEST(ConcurrentVolume, DirectoriesMovedIntoEachOtherFromAllSidesFormATree) {
  MountedImage image;
  std::vector<NodeId> nodes = {kRootNode};
  for (int i = 0; i < 6; ++i) nodes.push_back(image.directory(fmt::format("m{}", i)));
  std::atomic<int> moved{0};
  storm(5, [&](unsigned, std::mt19937 &random) {
    for (int i = 0; i < 400; ++i) {
      const std::string name = fmt::format("m{}", random() % 6);
      const NodeId from = nodes[random() % nodes.size()], to = nodes[random() % nodes.size()];
      const Status status = image->rename(from, name, to, name, random() % 4 == 0 ? RENAME_EXCHANGE : 0, {});
      if (status) ++moved;
      else expected(status, {ENOENT, EINVAL, ENOTEMPTY});
    }
  });
  EXPECT_GT(moved, 50);
  // Every directory is still reached from the root, once.
  std::set<NodeId> seen;
  std::vector<NodeId> level = {kRootNode};
  while (!level.empty()) {
    const NodeId at = level.back();
    level.pop_back();
    for (int i = 0; i < 6; ++i)
      if (const auto entry = image.peek(at, fmt::format("m{}", i)); entry) {
        ASSERT_TRUE(seen.insert(entry->node).second);
        level.push_back(entry->node);
      }
  }
  EXPECT_EQ(seen.size(), 6u);
  image.unmount();
}

TEST(ConcurrentVolume, ReadersSeeWholeWritesOfOneFile) {
  MountedImage image;
  const NodeId node = image.file("f");
  constexpr std::size_t kSize = 20000;
  image.write(node, std::string(kSize, 'a'));
  std::atomic<bool> done{false};
  storm(4, [&](unsigned thread, std::mt19937 &) {
    if (thread == 0) {
      for (int i = 0; i < 300; ++i) {
        image.write(node, std::string(kSize, static_cast<char>('a' + i % 26)));
        if (i % 50 == 0) {
          EXPECT_OK(image->sync(node, true));
        }
      }
      done = true;
    } else {
      while (!done) {
        const std::string text = image.read(node);
        ASSERT_EQ(text.size(), kSize);
        ASSERT_EQ(text.find_first_not_of(text[0]), std::string::npos) << "half of one write and half of another";
      }
    }
  });
  image.unmount();
}

TEST(ConcurrentVolume, LookupsAndForgetsOfUnlinkedFilesDeleteEachOnce) {
  MountedImage image;
  ASSERT_OK(image->sync_all());
  const std::uint64_t free_before = image->statistics()->free_inodes;
  for (int round = 0; round < 30; ++round) {
    const NodeId node = image.file("f");
    storm(4, [&](unsigned thread, std::mt19937 &) {
      if (thread == 0) {
        expected(image->unlink(kRootNode, "f"), {});
        image->forget(node, 1);
        return;
      }
      for (int i = 0; i < 50; ++i) {
        const auto entry = image->lookup(kRootNode, "f");
        if (!expected(entry, {ENOENT}) || !entry) continue;
        EXPECT_EQ(entry->node, node);
        EXPECT_OK(image->get_attributes(node));
        image->forget(node, 1);
      }
    });
    ASSERT_TRUE(eventually([&] { return image.gone(node); }));
  }
  ASSERT_OK(image->sync_all());
  EXPECT_EQ(image->statistics()->free_inodes, free_before);
  image.unmount();
}

}  // namespace
}  // namespace outboard::vfs

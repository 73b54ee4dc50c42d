// What keeps an inode: lookups, references, links; and what becomes of it without.
#include "vfs/test_volume.h"

#include <fmt/format.h>

namespace outboard::vfs {
namespace {

TEST(Lifecycle, EveryEntryHandedOutCountsAndForgetTakesItBack) {
  MountedImage image;
  const NodeId node = image.file("f");           // one
  ASSERT_OK(image->lookup(kRootNode, "f"));      // two
  ASSERT_OK(image->link(node, kRootNode, "g"));  // three
  ListingSink sink(4096, true);
  ASSERT_OK(image->read_directory(kRootNode, 0, true, sink));  // five: under each of its names
  ASSERT_OK(image->unlink(kRootNode, "f"));
  ASSERT_OK(image->unlink(kRootNode, "g"));
  for (int left = 5; left > 0; --left) {
    EXPECT_EQ(image.attributes(node).links, 0u) << left;
    image->forget(node, 1);
  }
  EXPECT_TRUE(eventually([&] { return image.gone(node); }));
  image.unmount();
}

TEST(Lifecycle, AnUnlinkedFileKeepsItsContentsAndTakesChangesWhileItIsHeld) {
  MountedImage image;
  const NodeId node = image.file("f");
  image.write(node, "before");
  ASSERT_OK(image->unlink(kRootNode, "f"));
  EXPECT_ERROR(image.peek(kRootNode, "f"), ENOENT);
  EXPECT_EQ(image.read(node), "before");
  image.write(node, "after!", 6);
  EXPECT_EQ(image.read(node), "beforeafter!");
  EXPECT_OK(image->sync(node, false));
  // Its number is not on offer, and its name is free.
  EXPECT_NE(image.file("f"), node);
  image->forget(node, 1);
  EXPECT_TRUE(eventually([&] { return image.gone(node); }));
  image.unmount();
}

TEST(Lifecycle, SpaceAndNumberComeBackAfterTheLastForget) {
  MountedImage image;
  ASSERT_OK(image->sync_all());
  const Statistics before = *image->statistics();
  const NodeId node = image.file("f");
  image.write(node, std::string(1 << 20, 'x'));
  ASSERT_OK(image->unlink(kRootNode, "f"));
  ASSERT_OK(image->sync_all());
  EXPECT_LE(image->statistics()->free_blocks, before.free_blocks - 256);
  EXPECT_EQ(image->statistics()->free_inodes, before.free_inodes - 1);
  image->forget(node, 1);
  EXPECT_TRUE(eventually([&] {
    EXPECT_OK(image->sync_all());
    const Statistics now = *image->statistics();
    return now.free_blocks == before.free_blocks && now.free_inodes == before.free_inodes;
  }));
  image.unmount();
}

TEST(Lifecycle, ANumberIsNotUsedAgainBeforeItsNodeIsForgotten) {
  MountedImage image({"-N", "64"});
  const NodeId held = image.file("held");
  const std::uint64_t generation = image->lookup(kRootNode, "held")->generation;
  ASSERT_OK(image->unlink(kRootNode, "held"));
  std::set<NodeId> others;
  for (int i = 0;; ++i) {
    const auto made = image->make_node(kRootNode, fmt::format("f{}", i), 0100644, 0, {});
    if (!made) {
      EXPECT_ERROR(made, ENOSPC);
      break;
    }
    EXPECT_NE(made->node, held);
    ASSERT_TRUE(others.insert(made->node).second) << "handed out twice";
  }
  ASSERT_GT(others.size(), 10u);
  image->forget(held, 1);
  EXPECT_ERROR(image->make_node(kRootNode, "still held", 0100644, 0, {}), ENOSPC);
  image->forget(held, 1);  // the look-up's
  // The creation that finds no inode waits for what is being deleted.
  const auto again = image->make_node(kRootNode, "again", 0100644, 0, {});
  ASSERT_OK(again);
  EXPECT_EQ(again->node, held);
  EXPECT_NE(again->generation, generation);
  image.unmount();
}

TEST(Lifecycle, ForgettingTooMuchOrWhatIsNotThereDoesNothing) {
  MountedImage image;
  const NodeId node = image.file("f");
  image->forget(node, ~std::uint64_t{0});
  image->forget(node, 3);
  image->forget(kRootNode, 1000);
  image->forget(0, 1);
  image->forget(1'000'000, 1);
  image->forget(node | (std::uint64_t{1} << 32), 1);
  EXPECT_EQ(image.peek(kRootNode, "f")->node, node);
  EXPECT_EQ(image.attributes(node).links, 1u);
  image.unmount();
}

TEST(Lifecycle, NodesThatAreNoneAreRefused) {
  MountedImage image;
  EXPECT_ERROR(image->get_attributes(100), ESTALE);  // in range and free
  for (const NodeId node : {NodeId{0}, NodeId{1'000'000}, NodeId{11} | (NodeId{1} << 32)}) {
    EXPECT_FALSE(image->get_attributes(node)) << node;
    EXPECT_FALSE(image->lookup(node, "f")) << node;
    ListingSink sink(4096);
    EXPECT_FALSE(image->read_directory(node, 0, false, sink)) << node;
  }
  image.crash();  // e2fsck would find the errors recorded
}

TEST(Lifecycle, AHeldNodeIsStaleOnceForgottenAndDeletedAndItsSuccessorIsAnotherGeneration) {
  MountedImage image({"-N", "16"});
  const auto first = image->make_node(kRootNode, "f", 0100644, 0, {});
  ASSERT_OK(first);
  ASSERT_OK(image->unlink(kRootNode, "f"));
  image->forget(first->node, 1);
  ASSERT_TRUE(eventually([&] { return image.gone(first->node); }));
  EXPECT_ERROR(image->write(first->node, 0, bytes_of("x"), {}), ESTALE);
  EXPECT_ERROR(image->link(first->node, kRootNode, "g"), ESTALE);
  EXPECT_ERROR(image->sync(first->node, false), ESTALE);
  image.unmount();
}

TEST(Lifecycle, ATemporaryFileVanishesUnlessItIsLinked) {
  MountedImage image;
  const auto vanishing = image->make_temporary(kRootNode, 0600, {}),
             staying = image->make_temporary(kRootNode, 0600, {});
  ASSERT_OK(vanishing);
  ASSERT_OK(staying);
  EXPECT_EQ(vanishing->attributes.links, 0u);
  image.write(staying->node, "kept");
  ASSERT_OK(image->link(staying->node, kRootNode, "named"));
  image->forget(vanishing->node, 1);
  image->forget(staying->node, 2);
  EXPECT_TRUE(eventually([&] { return image.gone(vanishing->node); }));
  const auto named = image->lookup(kRootNode, "named");
  ASSERT_OK(named);
  EXPECT_EQ(named->node, staying->node);
  EXPECT_EQ(image.read(named->node), "kept");
  image.unmount();
}

TEST(Lifecycle, UnmountDeletesWhatWasOnlyHeld) {
  MountedImage image;
  ASSERT_OK(image->sync_all());
  const Statistics before = *image->statistics();
  for (int i = 0; i < 20; ++i) {
    const std::string name = fmt::format("f{}", i);
    image.write(image.file(name), std::string(10000, 'x'));
    ASSERT_OK(image->unlink(kRootNode, name));
  }
  image.unmount();  // e2fsck finds neither orphans nor blocks in use
  image.mount();
  EXPECT_EQ(image->statistics()->free_inodes, before.free_inodes);
  EXPECT_EQ(image->statistics()->free_blocks, before.free_blocks);
}

TEST(Lifecycle, ACrashLeavesWhatWasHeldToTheNextMount) {
  MountedImage image;
  ASSERT_OK(image->sync_all());
  const Statistics before = *image->statistics();
  const NodeId node = image.file("f");
  image.write(node, std::string(10000, 'x'));
  ASSERT_OK(image->unlink(kRootNode, "f"));
  ASSERT_OK(image->sync_all());
  image.mount();  // without an unmount
  EXPECT_EQ(image->volume().report().orphans_deleted, 1u);
  ASSERT_OK(image->sync_all());
  EXPECT_EQ(image->statistics()->free_inodes, before.free_inodes);
  EXPECT_EQ(image->statistics()->free_blocks, before.free_blocks);
  image.unmount();
}

TEST(Lifecycle, SyncAndUnmountTwiceAreHarmless) {
  MountedImage image;
  image.file("f");
  EXPECT_OK(image->sync_all());
  EXPECT_OK(image->sync_all());
  EXPECT_OK(image->unmount());
  EXPECT_OK(image->unmount());
}

TEST(Lifecycle, WhatWasSyncedIsThereAfterACrashAndUnsyncedNamesMayNot) {
  MountedImage image;
  const NodeId node = image.file("f");
  image.write(node, "durable");
  ASSERT_OK(image->sync(node, false));
  image.mount();
  const auto found = image->lookup(kRootNode, "f");
  ASSERT_OK(found);
  EXPECT_EQ(image.read(found->node), "durable");
  image.unmount();
}

// --- the table itself -----------------------------------------------------------------------------------------------

class TableTest : public ::testing::Test {
protected:
  void SetUp() override {
    for (int i = 0; i < 1000; ++i) numbers_.push_back(number_of(image_.file(fmt::format("f{}", i))));
  }
  MountedImage image_;
  std::vector<InodeNumber> numbers_;
  static constexpr std::size_t kShards = 64;
};

TEST_F(TableTest, IdleInodesAreBoundedAndTheLeastRecentlyUsedGo) {
  const std::size_t bound = 128;
  pagecache::FolioMemory memory;
  InodeTable table(image_->volume(), memory, bound, [](InodeNumber) { FAIL() << "nothing was unlinked"; });
  for (const InodeNumber number : numbers_) EXPECT_OK(table.get(number));
  EXPECT_LE(table.size(), bound + kShards);
  EXPECT_GE(table.size(), bound);
  // What is held, or looked up, is not idle.
  std::vector<InodeRef> held;
  for (const InodeNumber number : numbers_) {
    auto inode = table.get(number);
    ASSERT_OK(inode);
    table.count_lookup(**inode);
    if (number.value() % 2 == 0) held.push_back(*std::move(inode));
  }
  EXPECT_EQ(table.size(), numbers_.size());
  for (const InodeNumber number : numbers_) table.forget(number, 1);
  EXPECT_GE(table.size(), held.size());
  EXPECT_LE(table.size(), held.size() + bound + kShards);
  held.clear();
  EXPECT_LE(table.size(), bound + kShards);
}

TEST_F(TableTest, OneObjectForANumberAtATime) {
  pagecache::FolioMemory memory;
  InodeTable table(image_->volume(), memory, 64, [](InodeNumber) {});
  auto one = table.get(numbers_[0]), other = table.get(numbers_[0]);
  ASSERT_OK(one);
  ASSERT_OK(other);
  EXPECT_EQ(&**one, &**other);
}

TEST_F(TableTest, UnlinkedInodesAreToldOnceTheyAreIdleAndTakenOnlyThen) {
  std::vector<InodeNumber> told;
  pagecache::FolioMemory memory;
  InodeTable table(image_->volume(), memory, 64, [&](InodeNumber number) { told.push_back(number); });
  {
    auto inode = table.get(numbers_[0]);
    ASSERT_OK(inode);
    table.count_lookup(**inode);
    table.note_links(**inode, 0);
    EXPECT_FALSE(table.take_for_deletion(numbers_[0]));
  }
  EXPECT_TRUE(told.empty());
  EXPECT_FALSE(table.take_for_deletion(numbers_[0]));
  table.forget(numbers_[0], 1);
  ASSERT_EQ(told, std::vector{numbers_[0]});
  {
    InodeRef taken = table.take_for_deletion(numbers_[0]);
    ASSERT_TRUE(taken);
    EXPECT_ERROR(table.get(numbers_[0]), ESTALE);
    EXPECT_FALSE(table.take_for_deletion(numbers_[0]));
    table.drop_deleted(std::move(taken));
  }
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(TableTest, ANameBeforeTheReaperCameKeepsTheInode) {
  pagecache::FolioMemory memory;
  InodeTable table(image_->volume(), memory, 64, [](InodeNumber) {});
  { table.note_links(**table.get(numbers_[0]), 0); }
  { table.note_links(**table.get(numbers_[0]), 1); }
  EXPECT_FALSE(table.take_for_deletion(numbers_[0]));
  EXPECT_OK(table.get(numbers_[0]));
}

}  // namespace

// --- the bound holds for inodes whose access times are only in memory, too
// ----------------------------------------------

TEST(IdleInodes, ReadingManyFilesDoesNotKeepThemAll) {
  MountedVolumeOptions options;
  options.idle_inodes = 64;
  options.atime = AtimePolicy::strict;
  MountedImage image({}, 16, options);
  std::vector<NodeId> nodes;
  for (int i = 0; i < 1000; ++i) {
    nodes.push_back(image.file(fmt::format("f{}", i)));
    image.write(nodes.back(), "x");
    image->forget(nodes.back(), 1);
  }
  for (const NodeId node : nodes) EXPECT_EQ(image.read(node), "x");
  // Two in each of 64 shards, and the root, which is always held.
  EXPECT_TRUE(eventually([&] { return image->inodes_in_memory() <= 2 * 64 + 1; })) << image->inodes_in_memory();
  image.unmount();
}

}  // namespace outboard::vfs

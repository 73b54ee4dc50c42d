#include "ext4/format/htree.h"

#include "ext4/format/test_volume.h"

#include <gtest/gtest.h>

namespace outboard::ext4::format {
namespace {

DirFormat format_of(std::uint32_t block_size, bool checksum = true) {
  DirFormat format;
  format.block_size = block_size;
  format.inodes_count = 1000;
  format.has_checksum = checksum;
  return format;
}

class Dx : public ::testing::TestWithParam<std::tuple<std::uint32_t, bool>> {
protected:
  DirFormat format_ = format_of(std::get<0>(GetParam()), std::get<1>(GetParam()));
  Bytes root_ = make_root();
  Bytes node_ = make_node();

  Bytes make_root() {
    Bytes block(format_.block_size);
    init_dot_entries(block, format_, InodeNumber(20), InodeNumber(2));
    EXPECT_OK(init_dx_root(block, format_, 1, FileBlock(1)));
    return block;
  }
  Bytes make_node() {
    Bytes block(format_.block_size);
    init_dx_node(block, format_, FileBlock(2));
    return block;
  }
};
INSTANTIATE_TEST_SUITE_P(Sizes, Dx, ::testing::Combine(::testing::Values(1024u, 4096u, 65536u), ::testing::Bool()));

TEST_P(Dx, NewBlocksAreGood) {
  EXPECT_OK(verify_dx_root(root_, format_, 3));
  EXPECT_OK(verify_dx_node(node_, format_, 3));
  EXPECT_FALSE(verify_dx_root(root_, format_, 1).has_value());
  EXPECT_FALSE(verify_dx_node(node_, format_, 2).has_value());
  EXPECT_EQ(dir_block_kind(root_, format_), DirBlockKind::dx_root);
  EXPECT_EQ(dir_block_kind(node_, format_), DirBlockKind::dx_node);
  Bytes linear(format_.block_size);
  init_dot_entries(linear, format_, InodeNumber(20), InodeNumber(2));
  if (format_.has_checksum) {
    EXPECT_EQ(dir_block_kind(linear, format_), DirBlockKind::linear);
  }
  for (Bytes *block : {&root_, &node_, &linear}) {
    seal_any_dir_block(*block, format_, 5);
    EXPECT_OK(verify_any_dir_block(*block, format_, 5));
    EXPECT_EQ(verify_any_dir_block(*block, format_, 6).has_value(), !format_.has_checksum);
  }
  // Old programs see a directory with two names in it.
  ASSIGN_OK(const auto parent, find_entry(root_, format_, ".."));
  EXPECT_EQ(parent->inode, InodeNumber(2));
  ASSIGN_OK(const auto nothing, find_entry(root_, format_, "x"));
  EXPECT_FALSE(nothing.has_value());
}

// The kernel makes a root of a linear block in place and leaves that block's tail where the index has its own.
TEST_P(Dx, ARootWithALinearBlocksTailLeftInItIsStillARoot) {
  if (!format_.has_checksum) return;
  Bytes linear(format_.block_size);
  init_dot_entries(linear, format_, InodeNumber(20), InodeNumber(2));
  std::copy(linear.end() - sizeof(RawDirTail), linear.end(), root_.end() - sizeof(RawDirTail));
  seal_any_dir_block(root_, format_, 5);
  EXPECT_OK(verify_any_dir_block(root_, format_, 5));
  ASSIGN_OK(const auto parent, find_entry(root_, format_, ".."));
  EXPECT_EQ(parent->inode, InodeNumber(2));
}

TEST_P(Dx, IndexIsSearchedSplitAndMoved) {
  DxEdit root(root_, DxKind::root), node(node_, DxKind::node);
  std::uint32_t i = 1;
  for (; !root.full(); ++i) root.insert(root.count(), {i * 10, FileBlock(i + 1)});
  EXPECT_EQ(root.count(), dx_limit(format_, DxKind::root));
  EXPECT_OK(verify_dx_root(root_, format_, i + 2));
  EXPECT_EQ(root.find(0), 0);
  EXPECT_EQ(root.find(9), 0);
  EXPECT_EQ(root.find(10), 1);
  EXPECT_EQ(root.find(19), 1);
  EXPECT_EQ(root.find(0xffffffff), root.count() - 1);
  seal_dx_block(root_, format_, DxKind::root, 3);
  EXPECT_TRUE(dx_checksum_matches(root_, format_, DxKind::root, 3));

  node.assign(root);
  EXPECT_EQ(node.count(), root.count());
  EXPECT_EQ(node.get(5), root.get(5));
  Bytes right_bytes = make_node();
  DxEdit right(right_bytes, DxKind::node);
  const std::uint16_t half = node.count() / 2;
  EXPECT_EQ(node.move_tail(half, right), half * 10u);
  EXPECT_EQ(node.count(), half);
  EXPECT_EQ(right.get(0), (DxEntry{0, FileBlock(half + 1u)}));
  EXPECT_EQ(right.get(1), (DxEntry{(half + 1u) * 10, FileBlock(half + 2u)}));
  EXPECT_OK(verify_dx_node(node_, format_, i + 2));
  EXPECT_OK(verify_dx_node(right_bytes, format_, i + 2));

  root.set_count(1);
  root.set(0, {0, FileBlock(7)});
  root.insert(1, {half * 10u, FileBlock(8)});
  root.set_indirect_levels(1);
  EXPECT_EQ(root.indirect_levels(), 1);
  EXPECT_EQ(root.hash_version(), 1);
  EXPECT_OK(verify_dx_root(root_, format_, 9));
}

TEST_P(Dx, BrokenOnesAreCorrupt) {
  const Bytes good_root = root_, good_node = node_;
  const auto expect_corrupt = [&](const char *what, auto change) {
    root_ = good_root;
    DxEdit(root_, DxKind::root).insert(1, {10, FileBlock(2)});
    ASSERT_OK(verify_dx_root(root_, format_, 5));
    change(edit_as<RawDxRootInfo>(root_, 24), edit_as<RawDxCountLimit>(root_, 32), edit_as<RawDxEntry>(root_, 40));
    const Status status = verify_dx_root(root_, format_, 5);
    ASSERT_FALSE(status.has_value()) << what;
    EXPECT_TRUE(status.error().is_corrupt()) << what;
    if (!format_.has_checksum) return;
    EXPECT_FALSE(dx_checksum_matches(root_, format_, DxKind::root, 1)) << what;
  };
  using R = RawDxRootInfo &;
  using C = RawDxCountLimit &;
  using E = RawDxEntry &;
  expect_corrupt("limit", [](R, C c, E) { c.limit.set(static_cast<std::uint16_t>(c.limit.get() + 1)); });
  expect_corrupt("limit 0", [](R, C c, E) { c.limit.set(0); });
  expect_corrupt("count 0", [](R, C c, E) { c.count.set(0); });
  expect_corrupt("count", [](R, C c, E) { c.count.set(0xffff); });
  expect_corrupt("block 0", [](R, C, E e) { e.block.set(0); });
  expect_corrupt("block outside", [](R, C, E e) { e.block.set(5); });
  expect_corrupt("info", [](R r, C, E) { r.info_length = 9; });
  expect_corrupt("hash version", [](R r, C, E) { r.hash_version = 4; });
  expect_corrupt("levels", [](R r, C, E) { r.indirect_levels = 2; });
  expect_corrupt("flags", [](R r, C, E) { r.unused_flags = 1; });
  root_ = good_root;
  edit_as<RawDxRootInfo>(root_, 24).hash_version = 6;
  EXPECT_EQ(verify_dx_root(root_, format_, 5).error().kind(), ErrorKind::unsupported);
  root_ = good_root;
  edit_as<RawDxRootInfo>(root_, 24).indirect_levels = 2;
  format_.large_dir = true;
  EXPECT_OK(verify_dx_root(root_, format_, 5));
  node_ = good_node;
  DxEdit node(node_, DxKind::node);
  node.insert(1, {50, FileBlock(3)});
  node.insert(2, {50, FileBlock(4)});  // one name's collisions may fill blocks
  EXPECT_OK(verify_dx_node(node_, format_, 5));
  node.insert(3, {40, FileBlock(4)});
  EXPECT_FALSE(verify_dx_node(node_, format_, 5).has_value());
}

TEST_P(Dx, RootNeedsTheDotsOfItsDirectory) {
  Bytes block(format_.block_size);
  init_dir_block(block, format_);
  EXPECT_FALSE(init_dx_root(block, format_, 1, FileBlock(1)).has_value());
}

TEST(DxNoise, NeverCrashes) {
  std::mt19937 random(9);
  const DirFormat format = format_of(1024);
  Bytes good(1024);
  init_dot_entries(good, format, InodeNumber(20), InodeNumber(2));
  ASSERT_OK(init_dx_root(good, format, 1, FileBlock(1)));
  for (int i = 0; i < 30000; ++i) {
    Bytes block = good;
    if (i % 3 == 0) fill_random(block, random);
    else
      for (int n = 0; n < 4; ++n) block[random() % 48] = static_cast<std::byte>(random() & 0xff);
    (void)verify_dx_root(block, format, 10);
    (void)verify_dx_node(block, format, 10);
    (void)dx_checksum_matches(block, format, DxKind::root, 1);
    (void)dx_checksum_matches(block, format, DxKind::node, 1);
    EXPECT_FALSE(verify_any_dir_block(block, format, 1).has_value());
  }
}

}  // namespace
}  // namespace outboard::ext4::format

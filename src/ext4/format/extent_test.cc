#include "ext4/format/extent.h"

#include "ext4/format/test_volume.h"

#include <gtest/gtest.h>

namespace outboard::ext4::format {
namespace {

constexpr std::uint64_t kBlocks = std::uint64_t{1} << 40;
constexpr BlockNumber kFirst{0};

Extent extent(std::uint32_t logical, std::uint64_t start, std::uint32_t len, bool unwritten = false) {
  return {FileBlock(logical), BlockNumber(start), len, unwritten};
}
Status verify(std::span<const std::byte> node, std::optional<std::uint16_t> depth = std::nullopt) {
  return verify_extent_node(node, depth, node.size() == kInodeBlockBytes, kBlocks, kFirst);
}

TEST(ExtentNode, HoldsWhatIsPutIn) {
  Bytes bytes(4096);
  ExtentNodeEdit node(bytes);
  node.init(0, 7);
  EXPECT_EQ(node.max(), 340);
  EXPECT_EQ(node.generation(), 7u);
  EXPECT_OK(verify(bytes, 0));
  const Extent a = extent(10, (std::uint64_t{1} << 39) + 5, kMaxExtentBlocks);
  const Extent b = extent(100000, 50, kMaxUnwrittenExtentBlocks, true);
  const Extent c = extent(5, 1000, 5);
  node.insert(0, a);
  node.insert(1, b);
  node.insert(0, c);
  ASSERT_EQ(node.entries(), 3);
  EXPECT_EQ(node.get_extent(0), c);
  EXPECT_EQ(node.get_extent(1), a);
  EXPECT_EQ(node.get_extent(2), b);
  EXPECT_OK(verify(bytes, 0));
  node.set(1, extent(10, 77, 1));
  EXPECT_EQ(node.get_extent(1).start, BlockNumber(77));
  node.erase(0);
  EXPECT_EQ(node.get_extent(0), extent(10, 77, 1));
  EXPECT_EQ(node.entries(), 2);
  EXPECT_OK(verify(bytes, 0));
}

TEST(ExtentNode, FindsTheLastEntryAtOrBeforeABlock) {
  Bytes bytes(kInodeBlockBytes);
  ExtentNodeEdit node(bytes);
  node.init(0);
  EXPECT_EQ(node.max(), 4);
  EXPECT_FALSE(node.find(FileBlock(0)).has_value());
  for (std::uint16_t i = 0; i < 4; ++i) node.insert(i, extent(10u * i + 10, 100u * i + 100, 5));
  EXPECT_TRUE(node.full());
  EXPECT_FALSE(node.find(FileBlock(9)).has_value());
  EXPECT_EQ(node.find(FileBlock(10)), 0);
  EXPECT_EQ(node.find(FileBlock(19)), 0);
  EXPECT_EQ(node.find(FileBlock(20)), 1);
  EXPECT_EQ(node.find(FileBlock(0xfffffffe)), 3);
}

TEST(ExtentNode, RootMovesIntoABlockAndTailsSplitOff) {
  Bytes root_bytes(kInodeBlockBytes), block_bytes(1024), other_bytes(1024);
  ExtentNodeEdit root(root_bytes), block(block_bytes), other(other_bytes);
  root.init(0);
  for (std::uint16_t i = 0; i < 4; ++i) root.insert(i, extent(10u * i, 100u * i + 100, 5));
  block.init(0);
  block.assign(root);
  EXPECT_EQ(block.entries(), 4);
  EXPECT_EQ(block.max(), 84);
  root.init(1);
  root.insert(0, ExtentIndex{FileBlock(0), BlockNumber(0x123456789)});
  EXPECT_EQ(root.get_index(0), (ExtentIndex{FileBlock(0), BlockNumber(0x123456789)}));
  EXPECT_OK(verify(root_bytes, 1));
  other.init(0);
  block.move_tail(1, other);
  EXPECT_EQ(block.entries(), 1);
  EXPECT_EQ(other.entries(), 3);
  EXPECT_EQ(other.get_extent(0), extent(10, 200, 5));
  root.insert(1, ExtentIndex{other.logical(0), BlockNumber(9)});
  root.set_logical(1, FileBlock(11));
  EXPECT_EQ(root.logical(1), FileBlock(11));
  root.assign(block);
  EXPECT_EQ(root.depth(), 0);
  EXPECT_OK(verify(root_bytes, 0));
  EXPECT_OK(verify(block_bytes, 0));
  EXPECT_OK(verify(other_bytes, 0));
}

TEST(ExtentNode, ChecksumIsOfTheOwnersSeed) {
  for (const std::size_t size : {1024u, 2048u, 4096u, 65536u}) {
    Bytes bytes(size);
    ExtentNodeEdit node(bytes);
    node.init(0);
    while (!node.full()) node.insert(node.entries(), extent(node.entries(), node.entries() + 1u, 1));
    seal_extent_node(bytes, 42);
    EXPECT_TRUE(extent_checksum_matches(bytes, 42));
    EXPECT_FALSE(extent_checksum_matches(bytes, 43));
    EXPECT_OK(verify(bytes, 0));
    bytes[100] ^= std::byte{1};
    EXPECT_FALSE(extent_checksum_matches(bytes, 42));
  }
}

TEST(ExtentNode, BrokenOnesAreCorrupt) {
  const auto expect_corrupt = [](const char *what, std::uint16_t depth, auto change) {
    Bytes bytes(1024);
    ExtentNodeEdit node(bytes);
    node.init(depth);
    for (std::uint16_t i = 0; i < 3; ++i) {
      if (depth == 0) node.insert(i, extent(10u * i, 100u * i + 100, 10));
      else node.insert(i, ExtentIndex{FileBlock(10u * i), BlockNumber(100u * i + 100)});
    }
    ASSERT_OK(verify(bytes, depth));
    change(edit_as<RawExtentHeader>(bytes), edit_as<RawExtent>(bytes, 24), edit_as<RawExtentIndex>(bytes, 24));
    const Status status = verify(bytes, depth);
    ASSERT_FALSE(status.has_value()) << what;
    EXPECT_EQ(status.error().kind(), ErrorKind::corrupt) << what;
  };
  using H = RawExtentHeader &;
  using E = RawExtent &;
  using I = RawExtentIndex &;
  expect_corrupt("magic", 0, [](H h, E, I) { h.eh_magic.set(0xF30B); });
  expect_corrupt("entries", 0, [](H h, E, I) { h.eh_entries.set(85); });
  expect_corrupt("max", 0, [](H h, E, I) { h.eh_max.set(85); });
  expect_corrupt("max 0", 0, [](H h, E, I) { h.eh_max.set(0); });
  expect_corrupt("depth", 0, [](H h, E, I) { h.eh_depth.set(1); });
  expect_corrupt("length 0", 0, [](H, E e, I) { e.ee_len.set(0); });
  expect_corrupt("overlap", 0, [](H, E e, I) { e.ee_len.set(11); });
  expect_corrupt("overlap unwritten", 0, [](H, E e, I) { e.ee_len.set(32768 + 11); });
  expect_corrupt("order", 0, [](H, E e, I) { e.ee_block.set(5); });
  expect_corrupt("end of file", 0, [](H, E e, I) { e.ee_block.set(0xfffffffb); });
  expect_corrupt("block 0", 0, [](H, E e, I) { e.ee_start_lo.set(0); });
  expect_corrupt("outside", 0, [](H, E e, I) { e.ee_start_hi.set(0x100); });
  expect_corrupt("index order", 1, [](H, E, I i) { i.ei_block.set(20); });
  expect_corrupt("index block 0", 1, [](H, E, I i) { i.ei_leaf_lo.set(0); });
  expect_corrupt("index outside", 1, [](H, E, I i) { i.ei_leaf_hi.set(0x100); });
  expect_corrupt("index empty", 1, [](H h, E, I) { h.eh_entries.set(0); });
  Bytes deep(kInodeBlockBytes);
  ExtentNodeEdit(deep).init(5);
  edit_as<RawExtentHeader>(deep).eh_depth.set(6);
  EXPECT_FALSE(verify(deep).has_value());
  EXPECT_FALSE(verify(std::span(deep).first(8)).has_value());
}

TEST(ExtentNode, RangeOfTheDeviceIsExact) {
  Bytes bytes(kInodeBlockBytes);
  ExtentNodeEdit node(bytes);
  node.init(0);
  node.insert(0, extent(0, 990, 10));
  EXPECT_OK(verify_extent_node(bytes, 0, true, 1000, BlockNumber(1)));
  EXPECT_FALSE(verify_extent_node(bytes, 0, true, 999, BlockNumber(1)).has_value());
  node.set(0, extent(0, 1, 1));
  EXPECT_FALSE(verify_extent_node(bytes, 0, true, 1000, BlockNumber(1)).has_value());
}

TEST(ExtentNode, NoiseNeverCrashes) {
  std::mt19937 random(6);
  int accepted = 0;
  for (const std::size_t size : {std::size_t{60}, std::size_t{1024}}) {
    Bytes bytes(size);
    for (int i = 0; i < 20000; ++i) {
      fill_random(bytes, random);
      auto &header = edit_as<RawExtentHeader>(bytes);
      header.eh_magic.set(kExtentMagic);
      if (i % 2 == 0) {
        header.eh_max.set(extent_node_capacity(size));
        header.eh_depth.set(static_cast<std::uint16_t>(i / 2 % 7));
        header.eh_entries.set(static_cast<std::uint16_t>(random() % 3));
      }
      (void)extent_checksum_matches(bytes, 1);
      if (!verify_extent_node(bytes, std::nullopt, size == 60, ~std::uint64_t{0}, kFirst)) continue;
      ++accepted;
      const ExtentNodeView view(bytes);
      for (std::uint16_t e = 0; e < view.entries(); ++e) {
        if (view.is_leaf()) EXPECT_GT(view.get_extent(e).len, 0u);
        else EXPECT_TRUE(view.get_index(e).child);
      }
      (void)view.find(FileBlock(static_cast<std::uint32_t>(random())));
    }
  }
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace outboard::ext4::format

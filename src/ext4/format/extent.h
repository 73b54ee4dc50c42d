// Extent tree nodes: a 12-byte header and 12-byte entries, in the inode's 60 bytes (the root) or in a block with a
// 4-byte checksum after the last place for an entry. Documentation/filesystems/ext4/ifork.rst. Block checksum:
// crc32c(inode's seed, block up to the tail).
#pragma once

#include "base/endian.h"
#include "base/result.h"
#include "base/units.h"

#include <cstdint>
#include <optional>
#include <span>

namespace outboard::ext4::format {

inline constexpr std::uint16_t kExtentMagic = 0xF30A;
inline constexpr std::uint16_t kMaxExtentDepth = 5;
inline constexpr std::uint32_t kMaxExtentBlocks = 32768;           // of a written extent
inline constexpr std::uint32_t kMaxUnwrittenExtentBlocks = 32767;  // of an unwritten one
inline constexpr std::size_t kExtentEntrySize = 12;

struct RawExtentHeader {
  le16 eh_magic;
  le16 eh_entries;
  le16 eh_max;
  le16 eh_depth;
  le32 eh_generation;
};
LAYOUT_SIZE(RawExtentHeader, 12);
LAYOUT_FIELD(RawExtentHeader, eh_magic, 0x0);
LAYOUT_FIELD(RawExtentHeader, eh_entries, 0x2);
LAYOUT_FIELD(RawExtentHeader, eh_max, 0x4);
LAYOUT_FIELD(RawExtentHeader, eh_depth, 0x6);
LAYOUT_FIELD(RawExtentHeader, eh_generation, 0x8);

struct RawExtentIndex {
  le32 ei_block;
  le32 ei_leaf_lo;
  le16 ei_leaf_hi;
  le16 ei_unused;
};
LAYOUT_SIZE(RawExtentIndex, 12);
LAYOUT_FIELD(RawExtentIndex, ei_block, 0x0);
LAYOUT_FIELD(RawExtentIndex, ei_leaf_lo, 0x4);
LAYOUT_FIELD(RawExtentIndex, ei_leaf_hi, 0x8);
LAYOUT_FIELD(RawExtentIndex, ei_unused, 0xA);

struct RawExtent {
  le32 ee_block;
  le16 ee_len;
  le16 ee_start_hi;
  le32 ee_start_lo;
};
LAYOUT_SIZE(RawExtent, 12);
LAYOUT_FIELD(RawExtent, ee_block, 0x0);
LAYOUT_FIELD(RawExtent, ee_len, 0x4);
LAYOUT_FIELD(RawExtent, ee_start_hi, 0x6);
LAYOUT_FIELD(RawExtent, ee_start_lo, 0x8);

struct Extent {
  FileBlock logical;
  BlockNumber start;
  std::uint32_t len = 0;  // 1..kMaxExtentBlocks, unwritten 1..kMaxUnwrittenExtentBlocks
  bool unwritten = false;

  FileBlock end() const { return logical + len; }
  friend bool operator==(const Extent &, const Extent &) = default;
};

struct ExtentIndex {
  FileBlock logical;  // the first block that may be found below
  BlockNumber child;
  friend bool operator==(const ExtentIndex &, const ExtentIndex &) = default;
};

// A verified node (or one we have initialised). Numbers out of range are our own mistakes here: assertions.
class ExtentNodeView {
public:
  explicit ExtentNodeView(std::span<const std::byte> node) : bytes_(node) {}

  std::uint16_t depth() const { return header().eh_depth.get(); }
  bool is_leaf() const { return depth() == 0; }
  std::uint16_t entries() const { return header().eh_entries.get(); }
  std::uint16_t max() const { return header().eh_max.get(); }
  bool full() const { return entries() >= max(); }
  std::uint32_t generation() const { return header().eh_generation.get(); }
  // First file block of entry `i`, whatever kind it is.
  FileBlock logical(std::uint16_t i) const;
  Extent get_extent(std::uint16_t i) const;      // leaves only
  ExtentIndex get_index(std::uint16_t i) const;  // index nodes only
  // The last entry that begins at or before `block`: the only one that can hold or lead to it. Binary search.
  std::optional<std::uint16_t> find(FileBlock block) const;

  std::span<const std::byte> bytes() const { return bytes_; }

private:
  const RawExtentHeader &header() const { return view_as<RawExtentHeader>(bytes_); }
  std::span<const std::byte> bytes_;
};

// The same, to change. Order and limits are kept by the caller; asserted.
class ExtentNodeEdit : public ExtentNodeView {
public:
  explicit ExtentNodeEdit(std::span<std::byte> node) : ExtentNodeView(node), bytes_(node) {}

  // An empty node over all of the span (root: 60 bytes; else a block, the rest zeroed).
  void init(std::uint16_t depth, std::uint32_t generation = 0);
  void set(std::uint16_t i, const Extent &extent);
  void set(std::uint16_t i, const ExtentIndex &index);
  void set_logical(std::uint16_t i, FileBlock logical);
  // Before entry `i`, which and those after it move up; i == entries() appends. The node must not be full.
  void insert(std::uint16_t i, const Extent &extent);
  void insert(std::uint16_t i, const ExtentIndex &index);
  void erase(std::uint16_t i, std::uint16_t count = 1);
  // Appends the entries from `from` on to `target` (same depth, room enough) and cuts them off here.
  void move_tail(std::uint16_t from, ExtentNodeEdit &target);
  // Takes over depth and entries of another node (root into a block when the tree grows, and back). Room enough.
  void assign(const ExtentNodeView &source);
  void set_depth(std::uint16_t depth);

  std::span<std::byte> bytes() { return bytes_; }

private:
  RawExtentHeader &header() { return edit_as<RawExtentHeader>(bytes_); }
  std::span<std::byte> entry(std::uint16_t i);
  void open_gap(std::uint16_t i);
  std::span<std::byte> bytes_;
};

// Entries that fit a node of this many bytes.
std::uint16_t extent_node_capacity(std::size_t bytes);

// Magic, room, depth (at most 5, `expected_depth` when known), entries in ascending order without overlap, lengths, and
// that every block pointed to lies in [first_data_block, blocks_count). Not the checksum.
Status verify_extent_node(std::span<const std::byte> node, std::optional<std::uint16_t> expected_depth, bool is_root,
                          std::uint64_t blocks_count, BlockNumber first_data_block);

// The tail of a node in a block (the root has none). `seed`: the inode's. The check fails, too, when there is no room
// for a tail.
bool extent_checksum_matches(std::span<const std::byte> block, std::uint32_t seed);
void seal_extent_node(std::span<std::byte> block, std::uint32_t seed);  // verified or initialised nodes

}  // namespace outboard::ext4::format

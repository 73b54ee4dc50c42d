#include "ext4/format/extent.h"

#include "base/checksum.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace outboard::ext4::format {
namespace {

constexpr std::uint64_t kEndOfFile = 0xffffffff;  // file blocks are below this
constexpr std::uint64_t kMaxPhysical = (std::uint64_t{1} << 48) - 1;

constexpr std::size_t entry_offset(std::uint16_t i) {
  return sizeof(RawExtentHeader) + std::size_t{i} * kExtentEntrySize;
}

Extent decode(const RawExtent &raw) {
  Extent extent;
  extent.logical = FileBlock(raw.ee_block.get());
  extent.start = BlockNumber(join(raw.ee_start_lo, raw.ee_start_hi));
  extent.len = raw.ee_len.get();
  // Lengths above 32768 say "unwritten"; so 32768 itself is a written one.
  if (extent.len > kMaxExtentBlocks) {
    extent.len -= kMaxExtentBlocks;
    extent.unwritten = true;
  }
  return extent;
}

RawExtent encode(const Extent &extent) {
  assert(extent.len != 0 && extent.len <= (extent.unwritten ? kMaxUnwrittenExtentBlocks : kMaxExtentBlocks));
  assert(extent.start.value() <= kMaxPhysical);
  RawExtent raw;
  raw.ee_block.set(extent.logical.value());
  raw.ee_len.set(static_cast<std::uint16_t>(extent.len + (extent.unwritten ? kMaxExtentBlocks : 0)));
  raw.ee_start_hi.set(static_cast<std::uint16_t>(extent.start.value() >> 32));
  raw.ee_start_lo.set(static_cast<std::uint32_t>(extent.start.value()));
  return raw;
}

ExtentIndex decode(const RawExtentIndex &raw) {
  return {FileBlock(raw.ei_block.get()), BlockNumber(join(raw.ei_leaf_lo, raw.ei_leaf_hi))};
}

RawExtentIndex encode(const ExtentIndex &index) {
  assert(index.child.value() <= kMaxPhysical);
  RawExtentIndex raw{};
  raw.ei_block.set(index.logical.value());
  raw.ei_leaf_lo.set(static_cast<std::uint32_t>(index.child.value()));
  raw.ei_leaf_hi.set(static_cast<std::uint16_t>(index.child.value() >> 32));
  return raw;
}

bool inside(BlockNumber start, std::uint64_t count, std::uint64_t blocks_count, BlockNumber first) {
  return start > first && start.value() < blocks_count && count <= blocks_count - start.value();
}

Status verify_leaf(const ExtentNodeView &node, std::uint64_t blocks_count, BlockNumber first) {
  std::uint64_t from = 0;  // the first file block that the next entry may hold
  for (std::uint16_t i = 0; i < node.entries(); ++i) {
    const Extent extent = node.get_extent(i);
    if (extent.len == 0) return fail(Error::corrupt("extent: length"));
    if (extent.logical.value() < from) return fail(Error::corrupt("extent: order"));
    from = std::uint64_t{extent.logical.value()} + extent.len;
    if (from > kEndOfFile) return fail(Error::corrupt("extent: beyond the last file block"));
    if (!inside(extent.start, extent.len, blocks_count, first))
      return fail(Error::corrupt("extent: blocks outside").in_block(extent.start.value()));
  }
  return {};
}

Status verify_index(const ExtentNodeView &node, std::uint64_t blocks_count, BlockNumber first) {
  if (node.entries() == 0) return fail(Error::corrupt("extent index: empty"));
  for (std::uint16_t i = 0; i < node.entries(); ++i) {
    const ExtentIndex index = node.get_index(i);
    if (i != 0 && index.logical <= node.logical(static_cast<std::uint16_t>(i - 1)))
      return fail(Error::corrupt("extent index: order"));
    if (!inside(index.child, 1, blocks_count, first))
      return fail(Error::corrupt("extent index: block outside").in_block(index.child.value()));
  }
  return {};
}

}  // namespace

FileBlock ExtentNodeView::logical(std::uint16_t i) const {
  assert(i < entries());
  return FileBlock(view_as<le32>(bytes_, entry_offset(i)).get());  // both kinds begin with it
}

Extent ExtentNodeView::get_extent(std::uint16_t i) const {
  assert(is_leaf() && i < entries());
  return decode(view_as<RawExtent>(bytes_, entry_offset(i)));
}

ExtentIndex ExtentNodeView::get_index(std::uint16_t i) const {
  assert(!is_leaf() && i < entries());
  return decode(view_as<RawExtentIndex>(bytes_, entry_offset(i)));
}

std::optional<std::uint16_t> ExtentNodeView::find(FileBlock block) const {
  std::uint16_t low = 0, high = entries();  // the answer is before `high` and, if any is right, at least low - 1
  while (low < high) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    if (logical(middle) <= block) low = static_cast<std::uint16_t>(middle + 1);
    else high = middle;
  }
  if (low == 0) return std::nullopt;
  return static_cast<std::uint16_t>(low - 1);
}

void ExtentNodeEdit::init(std::uint16_t depth, std::uint32_t generation) {
  assert(depth <= kMaxExtentDepth && bytes_.size() >= sizeof(RawExtentHeader) + kExtentEntrySize);
  std::fill(bytes_.begin(), bytes_.end(), std::byte{0});
  header().eh_magic.set(kExtentMagic);
  header().eh_max.set(extent_node_capacity(bytes_.size()));
  header().eh_depth.set(depth);
  header().eh_generation.set(generation);
}

std::span<std::byte> ExtentNodeEdit::entry(std::uint16_t i) {
  assert(i < entries());
  return bytes_.subspan(entry_offset(i), kExtentEntrySize);
}

void ExtentNodeEdit::set(std::uint16_t i, const Extent &extent) {
  assert(is_leaf());
  edit_as<RawExtent>(entry(i)) = encode(extent);
}

void ExtentNodeEdit::set(std::uint16_t i, const ExtentIndex &index) {
  assert(!is_leaf());
  edit_as<RawExtentIndex>(entry(i)) = encode(index);
}

void ExtentNodeEdit::set_logical(std::uint16_t i, FileBlock logical) { edit_as<le32>(entry(i)).set(logical.value()); }

void ExtentNodeEdit::open_gap(std::uint16_t i) {
  const std::uint16_t count = entries();
  assert(count < max() && i <= count);
  header().eh_entries.set(static_cast<std::uint16_t>(count + 1));
  std::byte *at = bytes_.data() + entry_offset(i);
  std::memmove(at + kExtentEntrySize, at, std::size_t(count - i) * kExtentEntrySize);
}

void ExtentNodeEdit::insert(std::uint16_t i, const Extent &extent) {
  open_gap(i);
  set(i, extent);
}

void ExtentNodeEdit::insert(std::uint16_t i, const ExtentIndex &index) {
  open_gap(i);
  set(i, index);
}

void ExtentNodeEdit::erase(std::uint16_t i, std::uint16_t count) {
  const std::uint16_t had = entries();
  assert(i <= had && count <= had - i);
  std::byte *at = bytes_.data() + entry_offset(i);
  const std::size_t gone = std::size_t{count} * kExtentEntrySize;
  const std::size_t kept = std::size_t(had - i - count) * kExtentEntrySize;
  std::memmove(at, at + gone, kept);
  std::memset(at + kept, 0, gone);
  header().eh_entries.set(static_cast<std::uint16_t>(had - count));
}

void ExtentNodeEdit::move_tail(std::uint16_t from, ExtentNodeEdit &target) {
  assert(from <= entries() && target.depth() == depth());
  const auto moved = static_cast<std::uint16_t>(entries() - from);
  const std::uint16_t there = target.entries();
  assert(moved <= target.max() - there);
  target.header().eh_entries.set(static_cast<std::uint16_t>(there + moved));
  std::memcpy(target.bytes_.data() + entry_offset(there), bytes_.data() + entry_offset(from),
              std::size_t{moved} * kExtentEntrySize);
  erase(from, moved);
}

void ExtentNodeEdit::assign(const ExtentNodeView &source) {
  assert(source.entries() <= max() && source.bytes().data() != bytes_.data());
  erase(0, entries());
  header().eh_depth.set(source.depth());
  header().eh_entries.set(source.entries());
  std::memcpy(bytes_.data() + entry_offset(0), source.bytes().data() + entry_offset(0),
              std::size_t{source.entries()} * kExtentEntrySize);
}

void ExtentNodeEdit::set_depth(std::uint16_t depth) {
  assert(depth <= kMaxExtentDepth);
  header().eh_depth.set(depth);
}

std::uint16_t extent_node_capacity(std::size_t bytes) {
  return static_cast<std::uint16_t>((bytes - sizeof(RawExtentHeader)) / kExtentEntrySize);
}

Status verify_extent_node(std::span<const std::byte> bytes, std::optional<std::uint16_t> expected_depth, bool is_root,
                          std::uint64_t blocks_count, BlockNumber first_data_block) {
  if (bytes.size() < sizeof(RawExtentHeader) + kExtentEntrySize) return fail(Error::corrupt("extent header: no room"));
  const auto &header = view_as<RawExtentHeader>(bytes);
  if (header.eh_magic.get() != kExtentMagic) return fail(Error::corrupt("extent header: magic"));
  const std::uint16_t depth = header.eh_depth.get();
  if (depth > kMaxExtentDepth || (expected_depth && depth != *expected_depth))
    return fail(Error::corrupt("extent header: depth"));
  // Room for the tail is checked with it: in blocks of a power of two there is always some behind the last whole entry.
  if (header.eh_max.get() == 0 || header.eh_max.get() > extent_node_capacity(bytes.size()))
    return fail(Error::corrupt("extent header: max"));
  if (header.eh_entries.get() > header.eh_max.get()) return fail(Error::corrupt("extent header: entries"));
  if (!is_root && depth == kMaxExtentDepth) return fail(Error::corrupt("extent header: depth"));
  const ExtentNodeView node(bytes);
  return depth == 0 ? verify_leaf(node, blocks_count, first_data_block)
                    : verify_index(node, blocks_count, first_data_block);
}

namespace {
// Where the checksum stands: after the last place for an entry. None when that leaves no room.
std::optional<std::size_t> tail_offset(std::span<const std::byte> block) {
  if (block.size() < sizeof(RawExtentHeader)) return std::nullopt;
  const std::size_t offset = entry_offset(view_as<RawExtentHeader>(block).eh_max.get());
  if (offset + sizeof(le32) > block.size()) return std::nullopt;
  return offset;
}
}  // namespace

bool extent_checksum_matches(std::span<const std::byte> block, std::uint32_t seed) {
  const std::optional<std::size_t> tail = tail_offset(block);
  return tail && view_as<le32>(block, *tail).get() == crc32c(seed, block.first(*tail));
}

void seal_extent_node(std::span<std::byte> block, std::uint32_t seed) {
  const std::optional<std::size_t> tail = tail_offset(block);
  assert(tail);
  if (tail) edit_as<le32>(block, *tail).set(crc32c(seed, block.first(*tail)));
}

}  // namespace outboard::ext4::format

#include "ext4/format/htree.h"

#include "base/checksum.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

namespace outboard::ext4::format {
namespace {

constexpr std::uint32_t kDotSize = dir_entry_size(1);  // "." and "..": 12 bytes each
constexpr std::uint32_t kRootInfoOffset = 2 * kDotSize;
constexpr std::uint8_t kRootInfoLength = sizeof(RawDxRootInfo);
static_assert(kRootInfoOffset + kRootInfoLength == kDxRootIndexOffset && kRootInfoOffset == 24);
constexpr std::uint8_t kUnknownHashFlag =
    1;  // of unused_flags: "a program that does not know me must not use this index"

constexpr std::uint32_t index_offset_of(DxKind kind) {
  return kind == DxKind::root ? kDxRootIndexOffset : kDxNodeIndexOffset;
}

void init_index(std::span<std::byte> block, const DirFormat &format, DxKind kind, FileBlock first) {
  auto &counts = edit_as<RawDxCountLimit>(block, index_offset_of(kind));
  counts.limit.set(dx_limit(format, kind));
  counts.count.set(1);
  DxEdit(block, kind).set(0, {0, first});
}

// limit, count, order and targets: the part that roots and nodes share.
Status verify_index(std::span<const std::byte> block, const DirFormat &format, DxKind kind,
                    std::uint32_t directory_blocks) {
  const DxView view(block, kind);
  if (view.limit() != dx_limit(format, kind)) return fail(Error::corrupt("directory index: limit"));
  if (view.count() == 0 || view.count() > view.limit()) return fail(Error::corrupt("directory index: count"));
  std::uint32_t before = 0;
  for (std::uint16_t i = 0; i < view.count(); ++i) {
    const DxEntry entry = view.get(i);
    // Equal hashes are possible: one name's collisions over three blocks.
    if (entry.hash < before) return fail(Error::corrupt("directory index: order of hashes"));
    before = entry.hash;
    if (entry.block.value() == 0 || entry.block.value() >= directory_blocks)
      return fail(Error::corrupt("directory index: block outside"));
  }
  return {};
}

std::uint32_t rec_len_at(std::span<const std::byte> block, const DirFormat &format, std::uint32_t offset) {
  return decode_rec_len(view_as<RawDirEntry>(block, offset).rec_len.get(), format.block_size);
}

// Offset of the tail, or 0 when limit and count cannot be right.
std::uint32_t tail_offset(std::span<const std::byte> block, const DirFormat &format, DxKind kind) {
  const DxView view(block, kind);
  if (view.limit() != dx_limit(format, kind) || view.count() > view.limit()) return 0;
  return static_cast<std::uint32_t>(index_offset_of(kind) + view.limit() * sizeof(RawDxEntry));
}

std::uint32_t checksum_of(std::span<const std::byte> block, DxKind kind, std::uint32_t tail, std::uint32_t seed) {
  constexpr std::array<std::byte, 4> kZeroChecksum{};
  const std::size_t used = index_offset_of(kind) + DxView(block, kind).count() * sizeof(RawDxEntry);
  std::uint32_t crc = crc32c(seed, block.first(used));
  crc = crc32c(crc, block.subspan(tail, sizeof(le32)));
  return crc32c(crc, kZeroChecksum);
}

}  // namespace

DxEntry DxView::get(std::uint16_t i) const {
  assert(i < count());
  const RawDxEntry &raw = view_as<RawDxEntry>(bytes_, index_offset() + i * sizeof(RawDxEntry));
  return {i == 0 ? 0 : raw.hash.get(), FileBlock(raw.block.get() & kDxBlockMask)};
}

std::uint16_t DxView::find(std::uint32_t hash) const {
  std::uint16_t low = 1, high = count();  // everything before `low` is at most `hash`
  while (low < high) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    if (get(middle).hash <= hash) low = static_cast<std::uint16_t>(middle + 1);
    else high = middle;
  }
  return static_cast<std::uint16_t>(low - 1);
}

RawDxEntry &DxEdit::entry(std::uint16_t i) {
  assert(i < count());
  return edit_as<RawDxEntry>(bytes_, index_offset() + i * sizeof(RawDxEntry));
}

void DxEdit::set(std::uint16_t i, const DxEntry &value) {
  RawDxEntry &raw = entry(i);
  if (i != 0) raw.hash.set(value.hash);  // the first one's place is taken by limit and count
  raw.block.set(value.block.value());
}

void DxEdit::set_count(std::uint16_t count) {
  assert(count >= 1 && count <= limit());
  edit_as<RawDxCountLimit>(bytes_, index_offset()).count.set(count);
}

void DxEdit::set_indirect_levels(std::uint8_t levels) {
  assert(kind() == DxKind::root);
  edit_as<RawDxRootInfo>(bytes_, kRootInfoOffset).indirect_levels = levels;
}

void DxEdit::insert(std::uint16_t i, const DxEntry &value) {
  const std::uint16_t had = count();
  assert(i >= 1 && i <= had && had < limit());
  set_count(static_cast<std::uint16_t>(had + 1));
  auto *at = bytes_.data() + index_offset() + i * sizeof(RawDxEntry);
  std::memmove(at + sizeof(RawDxEntry), at, std::size_t(had - i) * sizeof(RawDxEntry));
  set(i, value);
}

std::uint32_t DxEdit::move_tail(std::uint16_t from, DxEdit &target) {
  const std::uint16_t had = count();
  assert(from >= 1 && from < had && had - from <= target.limit());
  const std::uint32_t first_hash = get(from).hash;
  target.set_count(static_cast<std::uint16_t>(had - from));
  for (std::uint16_t i = from; i < had; ++i) target.set(static_cast<std::uint16_t>(i - from), get(i));
  set_count(from);
  return first_hash;
}

void DxEdit::assign(const DxView &source) {
  assert(source.count() <= limit());
  set_count(source.count());
  for (std::uint16_t i = 0; i < source.count(); ++i) set(i, source.get(i));
}

std::uint16_t dx_limit(const DirFormat &format, DxKind kind) {
  const std::uint32_t room =
      format.block_size - index_offset_of(kind) - (format.has_checksum ? std::uint32_t{sizeof(RawDxTail)} : 0);
  return static_cast<std::uint16_t>(room / sizeof(RawDxEntry));
}

Status init_dx_root(std::span<std::byte> block, const DirFormat &format, std::uint8_t stored_hash_version,
                    FileBlock first) {
  DirCursor cursor(block, format);
  std::array<InodeNumber, 2> dots;
  for (std::size_t i = 0; i < dots.size(); ++i) {
    if (!TRY(cursor.next()) || cursor.entry().name != (i == 0 ? "." : "..") || !cursor.entry().used())
      return fail(Error::corrupt("directory: does not begin with its dots"));
    dots[i] = cursor.entry().inode;
  }
  DirFormat whole = format;  // no tail behind the second entry: the index has its own
  whole.has_checksum = false;
  init_dot_entries(block, whole, dots[0], dots[1]);
  // Dots may be apart or not in old images; here they are 12 bytes each, so that the index is where readers look for
  // it.
  auto &info = edit_as<RawDxRootInfo>(block, kRootInfoOffset);
  info.hash_version = stored_hash_version;
  info.info_length = kRootInfoLength;
  init_index(block, format, DxKind::root, first);
  return {};
}

void init_dx_node(std::span<std::byte> block, const DirFormat &format, FileBlock first) {
  std::fill(block.begin(), block.end(), std::byte{0});
  edit_as<RawDirEntry>(block).rec_len.set(encode_rec_len(format.block_size, format.block_size));
  init_index(block, format, DxKind::node, first);
}

Status verify_dx_root(std::span<const std::byte> block, const DirFormat &format, std::uint32_t directory_blocks) {
  DirFormat whole = format;
  whole.has_checksum = false;
  DirCursor cursor(block, whole);
  if (!TRY(cursor.next()) || cursor.entry().name != "." || !cursor.entry().used() || cursor.entry().rec_len != kDotSize)
    return fail(Error::corrupt("directory index root: first entry"));
  if (!TRY(cursor.next()) || cursor.entry().name != ".." || !cursor.entry().used() ||
      cursor.entry().rec_len != format.block_size - kDotSize)
    return fail(Error::corrupt("directory index root: second entry"));
  const auto &info = view_as<RawDxRootInfo>(block, kRootInfoOffset);
  if (info.reserved_zero.get() != 0 || info.info_length != kRootInfoLength)
    return fail(Error::corrupt("directory index root: info"));
  if (info.hash_version == static_cast<std::uint8_t>(HashVersion::siphash))
    return fail(Error::unsupported("directory index root: siphash"));
  if (info.hash_version > static_cast<std::uint8_t>(HashVersion::tea))
    return fail(Error::corrupt("directory index root: hash version"));
  if ((info.unused_flags & kUnknownHashFlag) != 0) return fail(Error::corrupt("directory index root: flags"));
  if (info.indirect_levels > dx_max_indirect_levels(format))
    return fail(Error::corrupt("directory index root: levels"));
  return verify_index(block, format, DxKind::root, directory_blocks);
}

Status verify_dx_node(std::span<const std::byte> block, const DirFormat &format, std::uint32_t directory_blocks) {
  const auto &disguise = view_as<RawDirEntry>(block);
  if (disguise.inode.get() != 0 || rec_len_at(block, format, 0) != format.block_size)
    return fail(Error::corrupt("directory index node: first entry"));
  return verify_index(block, format, DxKind::node, directory_blocks);
}

bool dx_checksum_matches(std::span<const std::byte> block, const DirFormat &format, DxKind kind, std::uint32_t seed) {
  if (!format.has_checksum) return true;
  const std::uint32_t tail = tail_offset(block, format, kind);
  return tail != 0 && view_as<RawDxTail>(block, tail).dt_checksum.get() == checksum_of(block, kind, tail, seed);
}

void seal_dx_block(std::span<std::byte> block, const DirFormat &format, DxKind kind, std::uint32_t seed) {
  if (!format.has_checksum) return;
  const std::uint32_t tail = tail_offset(block, format, kind);
  assert(tail != 0);
  edit_as<RawDxTail>(block, tail).dt_checksum.set(checksum_of(block, kind, tail, seed));
}

DirBlockKind dir_block_kind(std::span<const std::byte> block, const DirFormat &format) {
  const std::uint32_t first = rec_len_at(block, format, 0);
  if (first == format.block_size && view_as<RawDirEntry>(block).inode.get() == 0) return DirBlockKind::dx_node;
  if (first != kDotSize || rec_len_at(block, format, kDotSize) != format.block_size - kDotSize)
    return DirBlockKind::linear;
  const auto &info = view_as<RawDxRootInfo>(block, kRootInfoOffset);
  return info.reserved_zero.get() == 0 && info.info_length == kRootInfoLength ? DirBlockKind::dx_root
                                                                              : DirBlockKind::linear;
}

Status verify_any_dir_block(std::span<const std::byte> block, const DirFormat &format, std::uint32_t seed) {
  const DirBlockKind kind = format.has_checksum ? dir_block_kind(block, format) : DirBlockKind::linear;
  if (kind == DirBlockKind::linear) {
    TRY(verify_dir_block(block, format));
    if (!dir_checksum_matches(block, format, seed)) return fail(Error::bad_checksum("directory block: checksum"));
    return {};
  }
  if (!dx_checksum_matches(block, format, kind == DirBlockKind::dx_root ? DxKind::root : DxKind::node, seed))
    return fail(Error::bad_checksum("directory index: checksum"));
  DirFormat whole = format;
  whole.has_checksum = false;
  return verify_dir_block(block, whole);
}

void seal_any_dir_block(std::span<std::byte> block, const DirFormat &format, std::uint32_t seed) {
  if (!format.has_checksum) return;
  switch (dir_block_kind(block, format)) {
  case DirBlockKind::linear: return seal_dir_block(block, format, seed);
  case DirBlockKind::dx_root: return seal_dx_block(block, format, DxKind::root, seed);
  case DirBlockKind::dx_node: return seal_dx_block(block, format, DxKind::node, seed);
  }
}

}  // namespace outboard::ext4::format

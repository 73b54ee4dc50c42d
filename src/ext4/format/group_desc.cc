#include "ext4/format/group_desc.h"

#include "base/checksum.h"
#include "ext4/format/bitmap.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

namespace outboard::ext4::format {
namespace {

// bg_checksum's own two bytes, as crc32c sees them.
constexpr std::array<std::byte, 2> kZeroChecksum{};

std::uint16_t checksum_of(const Superblock &sb, GroupNumber group, std::span<const std::byte> raw) {
  constexpr std::size_t kBefore = offsetof(RawGroupDesc, bg_checksum);
  constexpr std::size_t kAfter = kBefore + sizeof(le16);
  const std::span<const std::byte> before = raw.first(kBefore);
  const std::span<const std::byte> after = raw.subspan(kAfter, sb.desc_size - kAfter);
  const le32 number(group.value());
  if (sb.has_metadata_checksums()) {
    std::uint32_t crc = crc32c(sb.checksum_seed, &number, sizeof number);
    crc = crc32c(crc, before);
    crc = crc32c(crc, kZeroChecksum);
    return static_cast<std::uint16_t>(crc32c(crc, after));
  }
  std::uint16_t crc = crc16(0xffff, sb.uuid);
  crc = crc16(crc, std::as_bytes(std::span(&number, 1)));
  crc = crc16(crc, before);
  return crc16(crc, after);
}

// A field of the second half, 0 in short descriptors. The second half is not read without 64bit: it may be another
// descriptor.
struct HighHalf {
  bool there;
  std::uint64_t block(le32 low, const le32 &high) const {
    return low.get() | (there ? std::uint64_t{high.get()} << 32 : 0);
  }
  std::uint32_t count(le16 low, const le16 &high) const {
    return low.get() | (there ? std::uint32_t{high.get()} << 16 : 0);
  }
};

RawGroupDesc copy_in(const Superblock &sb, std::span<const std::byte> raw) {
  RawGroupDesc copy{};
  std::memcpy(&copy, raw.data(), std::min<std::size_t>(sb.desc_size, sizeof copy));
  return copy;
}

Error misplaced(const char *what, BlockNumber block) { return Error::corrupt(what).in_block(block.value()); }

Status check_places(const Superblock &sb, const Geometry &geometry, GroupNumber group, const GroupDesc &desc) {
  const std::uint32_t table_blocks = geometry.inode_table_blocks();
  if (!sb.contains(desc.block_bitmap))
    return fail(misplaced("group descriptor: block bitmap outside", desc.block_bitmap));
  if (!sb.contains(desc.inode_bitmap))
    return fail(misplaced("group descriptor: inode bitmap outside", desc.inode_bitmap));
  if (!sb.contains(desc.inode_table, table_blocks))
    return fail(misplaced("group descriptor: inode table outside", desc.inode_table));
  if (!sb.has(Incompat::flex_bg)) {
    const BlockNumber first = geometry.group_first_block(group);
    const BlockNumber end = first + geometry.blocks_in_group(group);
    const auto inside = [&](BlockNumber block, std::uint32_t count) {
      return block >= first && block < end && end - block >= count;
    };
    if (!inside(desc.block_bitmap, 1))
      return fail(misplaced("group descriptor: block bitmap in another group", desc.block_bitmap));
    if (!inside(desc.inode_bitmap, 1))
      return fail(misplaced("group descriptor: inode bitmap in another group", desc.inode_bitmap));
    if (!inside(desc.inode_table, table_blocks))
      return fail(misplaced("group descriptor: inode table in another group", desc.inode_table));
  }
  const auto in_table = [&](BlockNumber block) {
    return block >= desc.inode_table && block < desc.inode_table + table_blocks;
  };
  if (desc.block_bitmap == desc.inode_bitmap || in_table(desc.block_bitmap) || in_table(desc.inode_bitmap))
    return fail(misplaced("group descriptor: bitmaps and table overlap", desc.block_bitmap));
  if (geometry.overlaps_static_metadata(desc.block_bitmap) || geometry.overlaps_static_metadata(desc.inode_bitmap) ||
      geometry.overlaps_static_metadata(desc.inode_table, table_blocks))
    return fail(misplaced("group descriptor: bitmaps or table on a superblock or descriptors", desc.block_bitmap));
  return {};
}

}  // namespace

bool group_desc_checksum_matches(const Superblock &sb, GroupNumber group, std::span<const std::byte> raw) {
  assert(raw.size() >= sb.desc_size);
  if (!sb.has_group_checksums()) return true;
  return view_as<le16>(raw, offsetof(RawGroupDesc, bg_checksum)).get() == checksum_of(sb, group, raw);
}

Result<GroupDesc> parse_group_desc(const Superblock &sb, GroupNumber group, std::span<const std::byte> bytes) {
  assert(bytes.size() >= sb.desc_size && group.value() < sb.group_count);
  if (!group_desc_checksum_matches(sb, group, bytes)) return fail(Error::bad_checksum("group descriptor: checksum"));
  const RawGroupDesc raw = copy_in(sb, bytes);
  const HighHalf high{sb.desc_size >= kLargeDescSize};
  GroupDesc desc;
  desc.block_bitmap = BlockNumber(high.block(raw.bg_block_bitmap_lo, raw.bg_block_bitmap_hi));
  desc.inode_bitmap = BlockNumber(high.block(raw.bg_inode_bitmap_lo, raw.bg_inode_bitmap_hi));
  desc.inode_table = BlockNumber(high.block(raw.bg_inode_table_lo, raw.bg_inode_table_hi));
  desc.free_blocks = high.count(raw.bg_free_blocks_count_lo, raw.bg_free_blocks_count_hi);
  desc.free_inodes = high.count(raw.bg_free_inodes_count_lo, raw.bg_free_inodes_count_hi);
  desc.used_dirs = high.count(raw.bg_used_dirs_count_lo, raw.bg_used_dirs_count_hi);
  if (sb.has_group_checksums()) {
    const std::uint16_t flags = raw.bg_flags.get();
    desc.inode_uninit = (flags & kGroupInodeUninit) != 0;
    desc.block_uninit = (flags & kGroupBlockUninit) != 0;
    desc.itable_zeroed = (flags & kGroupItableZeroed) != 0;
    desc.itable_unused = high.count(raw.bg_itable_unused_lo, raw.bg_itable_unused_hi);
  }
  if (sb.has_metadata_checksums()) {
    desc.block_bitmap_csum = high.count(raw.bg_block_bitmap_csum_lo, raw.bg_block_bitmap_csum_hi);
    desc.inode_bitmap_csum = high.count(raw.bg_inode_bitmap_csum_lo, raw.bg_inode_bitmap_csum_hi);
  }
  const Geometry geometry(sb);
  TRY(check_places(sb, geometry, group, desc));
  if (desc.free_blocks > geometry.clusters_in_group(group))
    return fail(Error::corrupt("group descriptor: free blocks"));
  if (desc.free_inodes > sb.inodes_per_group) return fail(Error::corrupt("group descriptor: free inodes"));
  if (desc.used_dirs > sb.inodes_per_group) return fail(Error::corrupt("group descriptor: directories"));
  if (desc.itable_unused > sb.inodes_per_group) return fail(Error::corrupt("group descriptor: unused inodes"));
  return desc;
}

void encode_group_desc(const Superblock &sb, GroupNumber group, const GroupDesc &desc, std::span<std::byte> bytes) {
  assert(bytes.size() >= sb.desc_size && group.value() < sb.group_count);
  const bool has_high = sb.desc_size >= kLargeDescSize;
  RawGroupDesc raw = copy_in(sb, bytes);
  const auto put_block = [&](BlockNumber value, le32 &low, le32 &high) {
    low.set(static_cast<std::uint32_t>(value.value()));
    if (has_high) high.set(static_cast<std::uint32_t>(value.value() >> 32));
  };
  const auto put_count = [&](std::uint32_t value, le16 &low, le16 &high) {
    low.set(static_cast<std::uint16_t>(value));
    if (has_high) high.set(static_cast<std::uint16_t>(value >> 16));
  };
  put_block(desc.block_bitmap, raw.bg_block_bitmap_lo, raw.bg_block_bitmap_hi);
  put_block(desc.inode_bitmap, raw.bg_inode_bitmap_lo, raw.bg_inode_bitmap_hi);
  put_block(desc.inode_table, raw.bg_inode_table_lo, raw.bg_inode_table_hi);
  put_count(desc.free_blocks, raw.bg_free_blocks_count_lo, raw.bg_free_blocks_count_hi);
  put_count(desc.free_inodes, raw.bg_free_inodes_count_lo, raw.bg_free_inodes_count_hi);
  put_count(desc.used_dirs, raw.bg_used_dirs_count_lo, raw.bg_used_dirs_count_hi);
  if (sb.has_group_checksums()) {
    std::uint16_t flags =
        raw.bg_flags.get() & static_cast<std::uint16_t>(~(kGroupInodeUninit | kGroupBlockUninit | kGroupItableZeroed));
    if (desc.inode_uninit) flags |= kGroupInodeUninit;
    if (desc.block_uninit) flags |= kGroupBlockUninit;
    if (desc.itable_zeroed) flags |= kGroupItableZeroed;
    raw.bg_flags.set(flags);
    put_count(desc.itable_unused, raw.bg_itable_unused_lo, raw.bg_itable_unused_hi);
  }
  if (sb.has_metadata_checksums()) {
    put_count(desc.block_bitmap_csum, raw.bg_block_bitmap_csum_lo, raw.bg_block_bitmap_csum_hi);
    put_count(desc.inode_bitmap_csum, raw.bg_inode_bitmap_csum_lo, raw.bg_inode_bitmap_csum_hi);
  }
  std::memcpy(bytes.data(), &raw, std::min<std::size_t>(sb.desc_size, sizeof raw));
  if (sb.has_group_checksums())
    edit_as<le16>(bytes, offsetof(RawGroupDesc, bg_checksum)).set(checksum_of(sb, group, bytes));
}

std::uint32_t block_bitmap_checksum(const Superblock &sb, std::span<const std::byte> bitmap) {
  if (!sb.has_metadata_checksums()) return 0;
  return crc32c(sb.checksum_seed, bitmap.first(sb.clusters_per_group / 8));
}

std::uint32_t inode_bitmap_checksum(const Superblock &sb, std::span<const std::byte> bitmap) {
  if (!sb.has_metadata_checksums()) return 0;
  return crc32c(sb.checksum_seed, bitmap.first(sb.inodes_per_group / 8));
}

bool bitmap_checksum_matches(const Superblock &sb, std::uint32_t stored, std::uint32_t computed) {
  if (!sb.has_metadata_checksums()) return true;
  const std::uint32_t kept = sb.desc_size >= kLargeDescSize ? 0xffffffff : 0xffff;
  return (stored & kept) == (computed & kept);
}

void initial_block_bitmap(const Geometry &geometry, GroupNumber group, const GroupDesc &desc,
                          std::span<std::byte> bitmap) {
  std::fill(bitmap.begin(), bitmap.end(), std::byte{0});
  const BlockNumber first = geometry.group_first_block(group);
  const BlockNumber end = first + geometry.blocks_in_group(group);
  const auto bits = static_cast<std::uint32_t>(bitmap.size() * 8);
  BitmapEdit edit(bitmap, bits);
  // What lies in this group of [start, start + count), by cluster: neighbours may share one.
  const auto use = [&](BlockNumber start, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i)
      if (start + i >= first && start + i < end) edit.set(geometry.locate(start + i).bit);
  };
  use(first, std::min(geometry.base_metadata_blocks(group), geometry.blocks_in_group(group)));
  use(desc.block_bitmap, 1);
  use(desc.inode_bitmap, 1);
  use(desc.inode_table, geometry.inode_table_blocks());
  // Bits that stand for no block are set.
  const std::uint32_t used = geometry.clusters_in_group(group);
  edit.set(used, bits - used);
}

void initial_inode_bitmap(const Geometry &geometry, std::span<std::byte> bitmap) {
  std::fill(bitmap.begin(), bitmap.end(), std::byte{0});
  const auto bits = static_cast<std::uint32_t>(bitmap.size() * 8);
  BitmapEdit(bitmap, bits).set(geometry.inodes_per_group(), bits - geometry.inodes_per_group());
}

}  // namespace outboard::ext4::format

#include "ext4/format/geometry.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <limits>

namespace outboard::ext4::format {
namespace {

constexpr std::uint64_t kDirectBlocks = 12;
constexpr std::uint64_t kMaxFileBlocks = 0xffffffff;  // a file block number has 32 bits, and the last is not used
constexpr std::uint64_t kMaxOffset = std::numeric_limits<std::int64_t>::max();

// i_blocks counts 512-byte sectors in 32 bits, with huge_file 48 bits of blocks.
std::uint64_t countable_blocks(const Superblock &sb) {
  if (sb.has(RoCompat::huge_file)) return (std::uint64_t{1} << 48) - 1;
  return 0xffffffffULL >> (sb.block_bits - 9);
}

// Indirect blocks for `data` blocks mapped through direct, single, double and triple indirection.
std::uint64_t indirect_blocks(std::uint64_t data, std::uint64_t per_block) {
  if (data <= kDirectBlocks) return 0;
  data -= kDirectBlocks;
  std::uint64_t blocks = 1;
  if (data <= per_block) return blocks;
  data -= per_block;
  blocks += 1 + std::min(divide_up(data, per_block), per_block);
  if (data <= per_block * per_block) return blocks;
  data -= per_block * per_block;
  return blocks + 1 + divide_up(data, per_block) + divide_up(data, per_block * per_block);
}

// The largest file whose own and indirect blocks i_blocks can still count, in bytes.
std::uint64_t blockmap_limit(const Superblock &sb) {
  const std::uint64_t per_block = sb.block_size / 4;
  std::uint64_t data = kDirectBlocks + per_block + per_block * per_block + per_block * per_block * per_block;
  const std::uint64_t countable = countable_blocks(sb);
  if (data + indirect_blocks(data, per_block) > countable) data = countable - indirect_blocks(countable, per_block);
  data = std::min(data, kMaxFileBlocks);
  return std::min(data << sb.block_bits, kMaxOffset);
}

std::uint64_t extent_limit(const Superblock &sb) {
  std::uint64_t bytes = kMaxFileBlocks << sb.block_bits;
  if (!sb.has(RoCompat::huge_file)) bytes = std::min(bytes, countable_blocks(sb) << sb.block_bits);
  return std::min(bytes, kMaxOffset);
}

bool is_power_of(std::uint32_t value, std::uint32_t base) {
  std::uint64_t power = base;
  while (power < value) power *= base;
  return power == value;
}

}  // namespace

Geometry::Geometry(const Superblock &sb)
    : block_size_(sb.block_size), cluster_bits_(sb.cluster_bits), flex_bits_(sb.log_groups_per_flex),
      meta_bg_(sb.has(Incompat::meta_bg)), sparse_super_(sb.has(RoCompat::sparse_super)),
      sparse_super2_(sb.has(Compat::sparse_super2)), blocks_count_(sb.blocks_count), inodes_count_(sb.inodes_count),
      group_count_(sb.group_count), blocks_per_group_(sb.blocks_per_group), clusters_per_group_(sb.clusters_per_group),
      inodes_per_group_(sb.inodes_per_group), first_data_block_(sb.first_data_block),
      super_block_(kSuperblockOffset / sb.block_size), super_offset_(kSuperblockOffset % sb.block_size),
      inode_size_(sb.inode_size), desc_size_(sb.desc_size), reserved_gdt_blocks_(sb.reserved_gdt_blocks),
      first_meta_bg_(sb.first_meta_bg), backup_bgs_{sb.backup_bgs[0], sb.backup_bgs[1]},
      inodes_per_block_(sb.block_size / sb.inode_size), descriptors_per_block_(sb.block_size / sb.desc_size),
      max_extent_file_size_(extent_limit(sb)), max_blockmap_file_size_(blockmap_limit(sb)) {
  inode_table_blocks_ = divide_up(inodes_per_group_, inodes_per_block_);
  descriptor_blocks_ = divide_up(group_count_, descriptors_per_block_);
}

BlockNumber Geometry::group_first_block(GroupNumber group) const {
  assert(group.value() < group_count_);
  return first_data_block_ + std::uint64_t{group.value()} * blocks_per_group_;
}

std::uint32_t Geometry::blocks_in_group(GroupNumber group) const {
  const std::uint64_t left = blocks_count_ - group_first_block(group).value();
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(left, blocks_per_group_));
}

std::uint32_t Geometry::clusters_in_group(GroupNumber group) const {
  return divide_up(blocks_in_group(group), std::uint32_t{1} << cluster_bits_);
}

bool Geometry::group_has_super(GroupNumber group) const {
  const std::uint32_t g = group.value();
  assert(g < group_count_);
  if (g == 0) return true;
  if (sparse_super2_) return g == backup_bgs_[0] || g == backup_bgs_[1];
  if (!sparse_super_ || g == 1) return true;
  return g % 2 != 0 && (is_power_of(g, 3) || is_power_of(g, 5) || is_power_of(g, 7));
}

GroupNumber Geometry::group_of(BlockNumber block) const {
  assert(contains(block));
  return GroupNumber(static_cast<std::uint32_t>((block - first_data_block_) / blocks_per_group_));
}

BlockLocation Geometry::locate(BlockNumber block) const {
  assert(contains(block));
  const std::uint64_t index = block - first_data_block_;
  return {GroupNumber(static_cast<std::uint32_t>(index / blocks_per_group_)),
          static_cast<std::uint32_t>(index % blocks_per_group_) >> cluster_bits_};
}

BlockNumber Geometry::block_at(GroupNumber group, std::uint32_t bit) const {
  assert(bit < clusters_per_group_);
  return group_first_block(group) + (std::uint64_t{bit} << cluster_bits_);
}

InodeLocation Geometry::locate(InodeNumber inode) const {
  assert(contains(inode));
  const std::uint32_t number = inode.value() - 1;
  InodeLocation at;
  at.group = GroupNumber(number / inodes_per_group_);
  at.index = number % inodes_per_group_;
  at.table_block = at.index / inodes_per_block_;
  at.offset = at.index % inodes_per_block_ * inode_size_;
  return at;
}

InodeNumber Geometry::inode_at(GroupNumber group, std::uint32_t index) const {
  assert(group.value() < group_count_ && index < inodes_per_group_);
  return InodeNumber(group.value() * inodes_per_group_ + index + 1);
}

BlockNumber Geometry::descriptor_block(std::uint32_t index) const {
  assert(index < descriptor_blocks_);
  if (!meta_bg_ || index < first_meta_bg_) return super_block_ + 1 + index;
  // meta_bg: each block of descriptors stands in the first group that it describes, after a superblock if that has one.
  const GroupNumber group(index * descriptors_per_block_);
  BlockNumber block = group_first_block(group) + (group_has_super(group) ? 1 : 0);
  // With clusters and 1k blocks group 0 begins with the boot block.
  if (index == 0 && super_block_ > first_data_block_) ++block;
  return block;
}

std::uint32_t Geometry::descriptor_blocks_in(GroupNumber group) const {
  const std::uint32_t meta_group = group.value() / descriptors_per_block_;
  if (meta_bg_ && meta_group >= first_meta_bg_) {
    // A copy each in the first, second and last group of those it describes.
    const std::uint32_t place = group.value() % descriptors_per_block_;
    return place == 0 || place == 1 || place == descriptors_per_block_ - 1 ? 1 : 0;
  }
  if (!group_has_super(group)) return 0;
  return meta_bg_ ? first_meta_bg_ : descriptor_blocks_;
}

std::uint32_t Geometry::reserved_descriptor_blocks_in(GroupNumber group) const {
  if (meta_bg_ && group.value() / descriptors_per_block_ >= first_meta_bg_) return 0;
  return group_has_super(group) ? reserved_gdt_blocks_ : 0;
}

std::uint32_t Geometry::base_metadata_blocks(GroupNumber group) const {
  std::uint32_t blocks = group_has_super(group) ? 1 : 0;
  if (group.value() == 0 && super_block_ > first_data_block_) ++blocks;  // the boot block, see descriptor_block()
  return blocks + descriptor_blocks_in(group) + reserved_descriptor_blocks_in(group);
}

bool Geometry::overlaps_static_metadata(BlockNumber block) const {
  if (block < first_data_block_) return true;
  if (!contains(block)) return false;
  const GroupNumber group = group_of(block);
  return block - group_first_block(group) < base_metadata_blocks(group);
}

bool Geometry::overlaps_static_metadata(BlockNumber start, std::uint64_t count) const {
  if (count == 0) return false;
  if (overlaps_static_metadata(start)) return true;
  // Static metadata stands at the start of groups: look at each group that begins inside the run.
  const std::uint64_t end =
      count > blocks_count_ - std::min(start.value(), blocks_count_) ? blocks_count_ : start.value() + count;
  if (!contains(start)) return false;
  for (std::uint64_t group = std::uint64_t{group_of(start).value()} + 1; group < group_count_; ++group) {
    const GroupNumber number(static_cast<std::uint32_t>(group));
    if (group_first_block(number).value() >= end) return false;
    if (base_metadata_blocks(number) != 0) return true;
  }
  return false;
}

std::uint64_t Geometry::static_overhead_blocks() const {
  std::uint64_t blocks = first_data_block_.value();
  for (std::uint32_t g = 0; g < group_count_; ++g) blocks += base_metadata_blocks(GroupNumber(g));
  return blocks + std::uint64_t{group_count_} * (2 + std::uint64_t{inode_table_blocks_});
}

}  // namespace outboard::ext4::format

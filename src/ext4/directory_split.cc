// Insertion into indexed directories: a full leaf is split at the middle of its hashes, full nodes above it at the middle of
// their entries, and when the root is full too its entries move into a new node below it.
//
// Order: everything is read and verified, every block to change is made writable, new blocks are appended (ENOSPC here
// changes nothing), and only then contents move.
#include "ext4/directory_htree.h"
#include "ext4/directory_leaf.h"
#include "ext4/inode_alloc.h"
#include "ext4/inode_flags.h"

#include <cassert>

namespace outboard::ext4 {
namespace {

// The halves into their blocks, and the new name into the one it belongs to.
Status deal_out(const DirectoryBlocks &blocks, const LeafContents::Halves &halves, std::uint32_t major, const NewName &name,
                std::span<std::byte> lower, std::span<std::byte> upper) {
  format::fill_dir_block(lower, blocks.format(), halves.lower);
  format::fill_dir_block(upper, blocks.format(), halves.upper);
  std::span<std::byte> target = major >= halves.boundary ? upper : lower;
  // Always true: either half is at most half a block and one entry, which leaves room for the longest name.
  if (!TRY(format::insert_entry(target, blocks.format(), name.name, name.inode, name.file_type)))
    return fail(blocks.corrupt("directory leaf: no room after a split"));
  return {};
}

std::uint32_t index_hash(const LeafContents::Halves &halves) { return halves.boundary | (halves.continued ? 1u : 0u); }

}  // namespace

Result<HashIndex::Growth> HashIndex::plan_growth() const {
  Growth growth{.full_from = depth_, .new_level = false, .blocks = 1};
  while (growth.full_from > 0 && levels_[growth.full_from - 1].view().full()) --growth.full_from;
  growth.new_level = growth.full_from == 0;
  if (growth.new_level) {
    if (depth_ > format::dx_max_indirect_levels(blocks_->format()))
      return fail(Error::user(ENOSPC, "the directory's index is full"));
    growth.full_from = 1;  // the root is emptied into the new node, not split
    ++growth.blocks;
  }
  growth.blocks += depth_ - growth.full_from;
  assert(growth.blocks <= kMaxAppended);
  return growth;
}

// The levels that will change, verified whole and writable.
Status HashIndex::prepare_levels(jbd2::Handle &handle, const Growth &growth) {
  for (std::uint32_t i = growth.full_from - 1; i < depth_; ++i) {
    Level &level = levels_[i];
    const std::span<const std::byte> bytes = level.buffer->bytes();
    TRY(blocks_->placed(level.kind == format::DxKind::root ? format::verify_dx_root(bytes, blocks_->format(), count_)
                                                           : format::verify_dx_node(bytes, blocks_->format(), count_),
                        level.buffer));
    level.writable = TRY(level.buffer->writable(handle));
  }
  return {};
}

void HashIndex::add_level(std::span<std::byte> node, const cache::BufferRef &buffer, FileBlock block) {
  format::init_dx_node(node, blocks_->format(), block);
  format::DxEdit root = levels_[0].edit();
  format::DxEdit(node, format::DxKind::node).assign(root);
  root.set_count(1);
  root.set(0, {0, block});
  root.set_indirect_levels(static_cast<std::uint8_t>(root.indirect_levels() + 1));

  for (std::uint32_t i = depth_; i > 1; --i) levels_[i] = levels_[i - 1];
  levels_[1] = {buffer, block, format::DxKind::node, levels_[0].at, node};
  levels_[0].at = 0;
  ++depth_;
}

void HashIndex::split_level(std::uint32_t at_level, std::span<std::byte> node, const cache::BufferRef &buffer,
                            FileBlock block) {
  Level &level = levels_[at_level], &parent = levels_[at_level - 1];
  format::init_dx_node(node, blocks_->format(), block);
  format::DxEdit target(node, format::DxKind::node);
  const auto half = static_cast<std::uint16_t>(level.view().count() / 2);
  const std::uint32_t hash = level.edit().move_tail(half, target);
  parent.edit().insert(static_cast<std::uint16_t>(parent.at + 1), {hash, block});
  if (level.at < half) return;
  level = {buffer, block, format::DxKind::node, static_cast<std::uint16_t>(level.at - half), node};
  ++parent.at;
}

// Room for one more leaf at the bottom of the path. Uses all appended blocks but the first, which is the leaf.
void HashIndex::grow(const Growth &growth, const AppendedBlocks &added) {
  std::uint32_t next = 1, full_from = growth.full_from;
  if (growth.new_level) {
    add_level(added.bytes[next], added.buffers[next], added.first + next);
    ++next;
    ++full_from;
  }
  for (std::uint32_t level = full_from; level < depth_; ++level, ++next)
    split_level(level, added.bytes[next], added.buffers[next], added.first + next);
  assert(next == growth.blocks);
}

Status HashIndex::split_leaf(jbd2::Handle &handle, Inode &inode, cache::BufferRef leaf_buffer, const NewName &name,
                             LeafContents contents) {
  const LeafContents::Halves halves = contents.halves(blocks_->format().block_size);
  const Growth growth = TRY(plan_growth());
  TRY(prepare_levels(handle, growth));
  std::span<std::byte> lower = TRY(leaf_buffer->writable(handle));
  const AppendedBlocks added = TRY(append_blocks(handle, blocks_->volume(), inode, growth.blocks));

  grow(growth, added);
  bottom().edit().insert(static_cast<std::uint16_t>(bottom().at + 1), {index_hash(halves), added.first});
  TRY(deal_out(*blocks_, halves, hash_(name.name).major, name, lower, added.bytes[0]));
  return blocks_->volume().inodes().store(handle, inode);
}

Status HashIndex::insert(jbd2::Handle &handle, Inode &inode, const NewName &name) {
  const cache::BufferRef buffer = TRY(read_leaf());
  if (TRY(linear::insert_into(handle, *blocks_, buffer, name))) return {};
  LeafContents contents = TRY(LeafContents::of(*blocks_, buffer, hash_, false));
  if (!contents.fits(blocks_->format(), name.name.size()))
    return split_leaf(handle, inode, buffer, name, std::move(contents));
  // Room enough, but in pieces: positions are hashes, so entries may move within their block.
  std::span<std::byte> bytes = TRY(buffer->writable(handle));
  format::fill_dir_block(bytes, blocks_->format(), contents.all());
  if (!TRY(format::insert_entry(bytes, blocks_->format(), name.name, name.inode, name.file_type)))
    return fail(blocks_->corrupt("directory leaf: no room after packing"));
  return {};
}

namespace htree {

Result<bool> insert(jbd2::Handle &handle, Volume &volume, Inode &inode, const NewName &name) {
  DirectoryBlocks blocks(volume, inode);
  std::optional<HashIndex> index = TRY(HashIndex::open(blocks));
  if (!index || !TRY(index->descend(index->hash()(name.name).major))) return false;
  TRY(index->insert(handle, inode, name));
  return true;
}

Status insert_or_convert(jbd2::Handle &handle, Volume &volume, Inode &inode, const NewName &name) {
  DirectoryBlocks blocks(volume, inode);
  const cache::BufferRef buffer = TRY(blocks.read(FileBlock(0)));
  if (TRY(linear::insert_into(handle, blocks, buffer, name))) return {};

  const format::NameHash hash = TRY(default_hash(volume));
  const LeafContents contents = TRY(LeafContents::of(blocks, buffer, hash, true));
  std::span<std::byte> first = TRY(buffer->writable(handle));
  if (contents.fits(blocks.format(), name.name.size())) {
    format::fill_dir_block(first, blocks.format(), contents.all());
    if (!TRY(format::insert_entry(first, blocks.format(), name.name, name.inode, name.file_type)))
      return fail(blocks.corrupt("directory block: no room after packing"));
    return {};
  }

  const LeafContents::Halves halves = contents.halves(blocks.format().block_size);
  const AppendedBlocks added = TRY(append_blocks(handle, volume, inode, 2));
  TRY(deal_out(blocks, halves, hash(name.name).major, name, added.bytes[0], added.bytes[1]));
  // The block must begin with the dots, which it does once it is packed (they are first in all()).
  format::fill_dir_block(first, blocks.format(), contents.all());
  TRY(format::init_dx_root(first, blocks.format(), hash.stored_version(), added.first));
  format::DxEdit(first, format::DxKind::root).insert(1, {index_hash(halves), added.first + 1});
  inode.fields.flags |= inode_flags::kIndex;
  return volume.inodes().store(handle, inode);
}

}  // namespace htree
}  // namespace outboard::ext4

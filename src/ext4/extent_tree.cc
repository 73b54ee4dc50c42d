#include "ext4/extent_tree.h"

#include "ext4/block_alloc.h"

#include <algorithm>

namespace outboard::ext4 {
namespace {

constexpr std::uint64_t kEndOfFile = 0xffffffff;  // blocks of a file are below this

std::uint64_t end_of(const format::Extent &extent) { return std::uint64_t{extent.logical.value()} + extent.len; }

}  // namespace

format::ExtentNodeView ExtentTree::view(const Inode &inode, const Level &level) {
  return format::ExtentNodeView(level.buffer ? level.buffer->bytes() : std::span<const std::byte>(inode.fields.block));
}

// The node that entry `index` of level `parent` leads to becomes the next level.
Status ExtentTree::load_child(Volume &volume, const Inode &inode, Path &path, unsigned parent) {
  const Level &above = path.levels[parent];
  const format::ExtentNodeView node = view(inode, above);
  const format::ExtentIndex entry = node.get_index(above.index);
  const auto broken = [&](const char *rule) {
    return fail(Error::corrupt(rule).in_block(entry.child.value()).of_inode(inode.number.value()));
  };
  if (!volume.blocks().may_hold_file_data({entry.child, 1})) return broken("extent index: node in fixed metadata");
  Level &below = path.levels[parent + 1];
  below.buffer = TRY(volume.cache().read(entry.child, volume.types().extent_node(), inode.checksum_seed));
  below.low = entry.logical.value();
  const auto next = static_cast<std::uint16_t>(above.index + 1);
  below.high = next < node.entries() ? node.logical(next).value() : above.high;

  const format::ExtentNodeView child = view(inode, below);
  if (child.depth() + 1 != node.depth()) return broken("extent node: depth does not follow its parent's");
  const std::uint16_t entries = child.entries();
  if (entries == 0) return broken("extent node: empty");
  const auto last = static_cast<std::uint16_t>(entries - 1);
  const std::uint64_t end =
      child.is_leaf() ? end_of(child.get_extent(last)) : std::uint64_t{child.logical(last).value()} + 1;
  if (child.logical(0).value() < below.low || end > below.high)
    return broken("extent node: entries outside its parent's range");
  below.index = 0;
  return {};
}

Result<ExtentTree::Path> ExtentTree::load(Volume &volume, const Inode &inode, std::uint64_t block) {
  const format::Geometry &geometry = volume.geometry();
  Status sane = format::verify_extent_node(inode.fields.block, std::nullopt, true, geometry.blocks_count(),
                                           geometry.first_data_block());
  if (!sane) return fail(std::move(sane).error().of_inode(inode.number.value()));
  Path path;
  path.levels[0].high = kEndOfFile;
  path.depth = view(inode, path.levels[0]).depth();
  const FileBlock target(static_cast<std::uint32_t>(std::min(block, kEndOfFile)));
  for (unsigned level = 0; level < path.depth; ++level) {
    // Left of every key: the first child is where such a block would be inserted.
    path.levels[level].index = view(inode, path.levels[level]).find(target).value_or(0);
    TRY(load_child(volume, inode, path, level));
  }
  return path;
}

Result<bool> ExtentTree::step(Volume &volume, const Inode &inode, Path &path, int direction) {
  for (unsigned level = path.depth; level-- > 0;) {
    Level &node = path.levels[level];
    const int sibling = node.index + direction;
    if (sibling < 0 || sibling >= view(inode, node).entries()) continue;
    node.index = static_cast<std::uint16_t>(sibling);
    for (; level < path.depth; ++level) {
      TRY(load_child(volume, inode, path, level));
      if (direction < 0 && level + 1 < path.depth) {
        Level &below = path.levels[level + 1];
        below.index = static_cast<std::uint16_t>(view(inode, below).entries() - 1);
      }
    }
    return true;
  }
  return false;
}

Status ExtentTree::check_data(Volume &volume, const Inode &inode, const Extent &extent) {
  if (volume.blocks().may_hold_file_data({extent.start, extent.len})) return {};
  return fail(
      Error::corrupt("extent: blocks in fixed metadata").in_block(extent.start.value()).of_inode(inode.number.value()));
}

Result<FileMapping> ExtentTree::find(Volume &volume, const Inode &inode, FileBlock block, std::uint32_t limit) {
  const Path path = TRY(load(volume, inode, block.value()));
  const format::ExtentNodeView leaf = view(inode, path.leaf());
  const std::optional<std::uint16_t> at = leaf.find(block);
  FileMapping mapping;
  mapping.first = block;
  if (at) {
    const Extent extent = leaf.get_extent(*at);
    if (block.value() < end_of(extent)) {
      TRY(check_data(volume, inode, extent));
      mapping.state = extent.unwritten ? FileMapping::State::unwritten : FileMapping::State::mapped;
      mapping.start = extent.start + (block - extent.logical);
      mapping.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(end_of(extent) - block.value(), limit));
      return mapping;
    }
  }
  const auto next = static_cast<std::uint16_t>(at ? *at + 1 : 0);
  // Behind the leaf's last extent the parent's next key says how far nothing can be.
  const std::uint64_t end = next < leaf.entries() ? leaf.logical(next).value() : path.leaf().high;
  if (end <= block.value()) return fail(Error::user(EFBIG, "extent tree: beyond the last block of a file"));
  mapping.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(end - block.value(), limit));
  return mapping;
}

}  // namespace outboard::ext4

// The shape of an extent tree: nodes split, new levels, nodes that go.
#include "ext4/extent_tree.h"
#include "ext4/new_blocks.h"

#include <algorithm>
#include <cassert>

namespace outboard::ext4 {
namespace {

// A node in a block has room for 84 entries at least. A header that claims next to none comes from no ext4; splitting
// such nodes would never make the room that is asked for.
constexpr std::uint16_t kFewestPlaces = 8;

}  // namespace

Status ExtentTree::fix_parent_keys(jbd2::Handle &handle, Path &path, unsigned level) {
  const FileBlock key = view(path.levels[level]).logical(0);
  while (level-- > 0) {
    format::ExtentNodeEdit parent = TRY(edit(handle, path.levels[level]));
    parent.set_logical(path.levels[level].index, key);
    if (path.levels[level].index != 0) break;
  }
  return {};
}

std::optional<unsigned> ExtentTree::lowest_with_room(const Path &path) const {
  for (unsigned level = path.depth + 1; level-- > 0;)
    if (!view(path.levels[level]).full()) return level;
  return std::nullopt;
}

Result<cache::BufferRef> ExtentTree::new_node(jbd2::Handle &handle, BlockNumber block, std::uint16_t depth) {
  cache::BufferRef node = TRY(volume_.cache().create(block, volume_.types().extent_node(), inode_.checksum_seed));
  const std::span<std::byte> bytes = TRY(node->writable(handle));
  format::ExtentNodeEdit(bytes).init(depth);
  inode_.fields.sectors += sectors(1);
  return node;
}

Status ExtentTree::free_node(jbd2::Handle &handle, Level &level) {
  const BlockNumber block = level.buffer->block();
  level.buffer = {};
  inode_.fields.sectors -= std::min(inode_.fields.sectors, sectors(1));
  return volume_.blocks().free(handle, {block, 1}, true);
}

// The root's entries move into a new block, which becomes the root's only child.
Status ExtentTree::grow(jbd2::Handle &handle, Path &path, BlockNumber block) {
  cache::BufferRef child = TRY(new_node(handle, block, view(path.levels[0]).depth()));
  format::ExtentNodeEdit below(TRY(child->writable(handle)));
  format::ExtentNodeEdit root(inode_.fields.block);
  below.assign(root);
  const auto depth = static_cast<std::uint16_t>(root.depth() + 1);
  root.init(depth, root.generation());
  root.insert(0, format::ExtentIndex{below.logical(0), block});
  for (unsigned level = path.depth + 1; level > 0; --level) path.levels[level] = std::move(path.levels[level - 1]);
  path.levels[1].buffer = std::move(child);
  path.levels[0] = Level{{}, 0, path.levels[1].low, path.levels[1].high};
  ++path.depth;
  return {};
}

// The upper half of a full node moves to `block`; its parent has room. The path goes on through the half it led
// through.
Status ExtentTree::split(jbd2::Handle &handle, Path &path, unsigned level, BlockNumber block, std::uint16_t &position,
                         std::uint16_t old_count) {
  Level &left_level = path.levels[level];
  format::ExtentNodeEdit left = TRY(edit(handle, left_level));
  cache::BufferRef buffer = TRY(new_node(handle, block, left.depth()));
  format::ExtentNodeEdit right(TRY(buffer->writable(handle)));
  const auto middle = static_cast<std::uint16_t>(left.entries() / 2);
  left.move_tail(middle, right);
  Level &parent_level = path.levels[level - 1];
  format::ExtentNodeEdit parent = TRY(edit(handle, parent_level));
  parent.insert(static_cast<std::uint16_t>(parent_level.index + 1), format::ExtentIndex{right.logical(0), block});

  std::uint16_t &followed = level == path.depth ? position : left_level.index;
  // An insert between the halves stays on the left: no key changes. An entry that is there goes where it went.
  const bool stays = level == path.depth && old_count == 0 ? followed <= middle : followed < middle;
  if (stays) {
    left_level.high = right.logical(0).value();
    return {};
  }
  followed = static_cast<std::uint16_t>(followed - middle);
  ++parent_level.index;
  left_level.low = right.logical(0).value();
  left_level.buffer = std::move(buffer);
  return {};
}

Status ExtentTree::make_room(jbd2::Handle &handle, Path &path, std::uint16_t &position, std::uint16_t old_count) {
  for (unsigned level = 1; level <= path.depth; ++level)
    if (view(path.levels[level]).max() < kFewestPlaces)
      return fail(broken("extent header: too little room in a block"));
  // The leaf counts as full even when one place is left: two may be needed.
  std::optional<unsigned> top;
  for (unsigned level = path.depth; level-- > 0 && !top;)
    if (!view(path.levels[level]).full()) top = level;
  const bool grows = !top;
  if (grows && path.depth == kMaxDepth) return fail(Error::user(EFBIG, "extent tree: deepest already"));
  const unsigned count = grows ? path.depth + 1 : path.depth - *top;
  const BlockNumber near = path.depth > 0 ? path.leaf().buffer->block() : BlockNumber();
  NewBlocks blocks = TRY(NewBlocks::claim(handle, volume_, near, inode_, count));
  if (grows) {
    TRY(grow(handle, path, blocks.take()));
    top = 1;
  }
  for (unsigned level = *top + 1; level <= path.depth; ++level)
    TRY(split(handle, path, level, blocks.take(), position, old_count));
  return {};
}

bool ExtentTree::can_append_branch(const Path &path) const {
  const std::optional<unsigned> top = lowest_with_room(path);
  if (!top || *top == path.depth) return false;
  for (unsigned level = *top + 1; level < path.depth; ++level)
    if (path.levels[level].index + 1 != view(path.levels[level]).entries()) return false;
  return true;
}

// A leaf with this extent alone, index nodes with one entry above it, up to the node that has room: files written from
// front to back fill every node before the next begins.
Status ExtentTree::append_branch(jbd2::Handle &handle, Path &path, const Extent &extent) {
  const unsigned top = *lowest_with_room(path);
  NewBlocks blocks = TRY(NewBlocks::claim(handle, volume_, path.leaf().buffer->block(), inode_, path.depth - top));
  BlockNumber child = blocks.take();
  {
    const cache::BufferRef leaf = TRY(new_node(handle, child, 0));
    format::ExtentNodeEdit(TRY(leaf->writable(handle))).insert(0, extent);
  }
  for (unsigned level = path.depth - 1; level > top; --level) {
    const BlockNumber block = blocks.take();
    const cache::BufferRef node = TRY(new_node(handle, block, view(path.levels[level]).depth()));
    format::ExtentNodeEdit(TRY(node->writable(handle))).insert(0, format::ExtentIndex{extent.logical, child});
    child = block;
  }
  format::ExtentNodeEdit node = TRY(edit(handle, path.levels[top]));
  node.insert(static_cast<std::uint16_t>(path.levels[top].index + 1), format::ExtentIndex{extent.logical, child});
  return {};
}

Status ExtentTree::drop_empty_nodes(jbd2::Handle &handle, Path &path) {
  assert(path.depth > 0 && view(path.leaf()).entries() == 0);
  Status first_error;
  for (unsigned level = path.depth; level > 0; --level) {
    Level &parent_level = path.levels[level - 1];
    format::ExtentNodeEdit parent = TRY(edit(handle, parent_level));
    parent.erase(parent_level.index);
    // The tree no longer knows the node, so the tree is whole whatever the bitmap says to this.
    Status freed = free_node(handle, path.levels[level]);
    if (!freed && first_error) first_error = std::move(freed);
    if (parent.entries() > 0) {
      if (parent_level.index == 0) TRY(fix_parent_keys(handle, path, level - 1));
      return first_error;
    }
  }
  format::ExtentNodeEdit root(inode_.fields.block);
  root.init(0, root.generation());
  return first_error;
}

Status ExtentTree::shrink_depth(jbd2::Handle &handle) {
  for (;;) {
    format::ExtentNodeEdit root(inode_.fields.block);
    if (root.depth() == 0 || root.entries() != 1) return {};
    Path path;
    path.depth = 1;
    path.levels[0].high = ~std::uint32_t{0};
    TRY(load_child(volume_, inode_, path, 0));
    const format::ExtentNodeView child = view(path.levels[1]);
    if (child.entries() > root.max()) return {};
    root.assign(child);
    TRY(free_node(handle, path.levels[1]));
  }
}

}  // namespace outboard::ext4

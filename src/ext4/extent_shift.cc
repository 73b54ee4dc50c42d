// Ranges collapsed and inserted: every mapping behind a point gets another place in the file, none another block.
#include "ext4/credits.h"
#include "ext4/extent_tree.h"
#include "ext4/inode_alloc.h"

namespace outboard::ext4 {

// Entries of this leaf at or behind `from` move. The caller goes through the leaves in the order in which the moved
// keys run ahead into empty space: to the right for a move to the left, and the other way round.
Status ExtentTree::shift_leaf(jbd2::Handle &handle, Path &path, std::uint64_t from, std::int64_t delta, bool &more) {
  format::ExtentNodeEdit leaf = TRY(edit(handle, path.leaf()));
  bool first_moved = false;
  for (std::uint16_t i = 0; i < leaf.entries(); ++i) {
    const std::uint64_t key = leaf.logical(i).value();
    if (key < from) continue;
    leaf.set_logical(i, FileBlock(static_cast<std::uint32_t>(key + static_cast<std::uint64_t>(delta))));
    if (i == 0) first_moved = true;
  }
  if (first_moved) TRY(fix_parent_keys(handle, path, path.depth));
  more = delta < 0 || first_moved;
  ++inode_.map_sequence;
  return {};
}

Status ExtentTree::check_last(std::int64_t delta) const {
  const Path path = TRY(load(~std::uint32_t{0}));
  const format::ExtentNodeView leaf = view(path.leaf());
  if (leaf.entries() == 0) return {};
  const Extent last = leaf.get_extent(static_cast<std::uint16_t>(leaf.entries() - 1));
  const std::uint64_t end = std::uint64_t{last.logical.value()} + last.len;
  if (static_cast<std::uint64_t>(delta) > ~std::uint32_t{0} - end)
    return fail(Error::user(EFBIG, "extent tree: blocks would leave the file"));
  return {};
}

Status ExtentTree::shift(jbd2::Handle &handle, FileBlock from, std::int64_t delta) {
  if (delta > 0) {
    TRY(check_last(delta));
    TRY(split_extent_at(handle, from.value()));
  }
  const std::uint64_t start = delta < 0 ? from.value() : ~std::uint32_t{0};
  Path path = TRY(load(start));
  for (;;) {
    const std::uint32_t needed = path.depth + 1 + credits::kStoreInode;
    if (handle.credits() < needed && !handle.extend(needed)) {
      TRY(volume_.inodes().store(handle, inode_));
      TRY(handle.restart(needed));
    }
    bool more = false;
    TRY(shift_leaf(handle, path, from.value(), delta, more));
    if (!more || !TRY(step(volume_, inode_, path, delta < 0 ? 1 : -1))) return {};
  }
}

Result<std::uint32_t> ExtentTree::shift_credits() {
  Path path = TRY(load(0));
  std::uint32_t nodes = path.depth + 1;
  while (TRY(step(volume_, inode_, path, 1))) nodes += 2;  // a leaf, and generously its share of the index nodes
  return nodes + 4 * (kMaxDepth + 1);                      // and a split
}

}  // namespace outboard::ext4

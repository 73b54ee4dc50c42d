#include "ext4/file_map.h"

#include "ext4/block_map.h"
#include "ext4/extent_tree.h"
#include "ext4/fast_commit_tracker.h"
#include "ext4/freed_groups.h"
#include "ext4/trace.h"

#include <algorithm>

namespace outboard::ext4::file_map {
namespace {

bool has_extents(const Inode &inode) { return (inode.fields.flags & format::kInodeFlagExtents) != 0; }

// Inodes whose 60 bytes are something else than a map.
Status check_mapped(const Inode &inode) {
  if ((inode.fields.flags & format::kInodeFlagInlineData) != 0)
    return fail(Error::unsupported("file map: data in the inode").of_inode(inode.number.value()));
  return {};
}

std::uint32_t tree_depth(const Inode &inode) {
  return std::min<std::uint32_t>(format::ExtentNodeView(inode.fields.block).depth(), ExtentTree::kMaxDepth);
}

}  // namespace

Result<FileMapping> find(Volume &volume, const Inode &inode, FileBlock block, std::uint32_t limit) {
  TRY(check_mapped(inode));
  if (limit == 0) return fail(Error::user(EINVAL, "file map: empty range"));
  return has_extents(inode) ? ExtentTree::find(volume, inode, block, limit)
                            : BlockMap::find(volume, inode, block, limit);
}

Status insert(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first, BlockRun run, bool unwritten) {
  TRY(check_mapped(inode));
  if (run.count == 0 || run.count > max_insert(volume, inode, first))
    return fail(Error::user(E2BIG, "file map: more blocks than one insert records"));
  trace::map_insert(inode.number, first, run.start, run.count, unwritten);
  volume.fast_commits().mapped(handle, inode, first.value(), std::uint64_t{first.value()} + run.count);
  if (has_extents(inode)) return ExtentTree(volume, inode).insert(handle, first, run, unwritten);
  if (unwritten) return fail(Error::unsupported("block map: no unwritten blocks"));
  return BlockMap(volume, inode).insert(handle, first, run);
}

Status mark_written(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first, std::uint32_t count) {
  TRY(check_mapped(inode));
  if (!has_extents(inode)) return {};  // every mapped block is written there
  trace::map_written(inode.number, first, count);
  volume.fast_commits().mapped(handle, inode, first.value(), std::uint64_t{first.value()} + count);
  return ExtentTree(volume, inode).set_state(handle, first, count, false);
}

Status mark_unwritten(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first, std::uint32_t count) {
  TRY(check_mapped(inode));
  if (!has_extents(inode)) return fail(Error::unsupported("block map: no unwritten blocks"));
  volume.fast_commits().mapped(handle, inode, first.value(), std::uint64_t{first.value()} + count);
  return ExtentTree(volume, inode).set_state(handle, first, count, true);
}

Result<FileBlock> remove_piece(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first, FileBlock end,
                               bool metadata) {
  TRY(check_mapped(inode));
  if (end <= first) return first;
  trace::map_remove(inode.number, first, end);
  // All of it, not the piece: what is still mapped at the fast commit is told as mapped.
  volume.fast_commits().mapped(handle, inode, first.value(), end.value());
  return has_extents(inode) ? ExtentTree(volume, inode).remove_piece(handle, first, end, metadata)
                            : BlockMap(volume, inode).remove_piece(handle, first, end, metadata);
}

Status shift(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock from, std::int64_t delta) {
  TRY(check_mapped(inode));
  if (!has_extents(inode)) return fail(Error::unsupported("block map: ranges cannot be shifted"));
  handle.needs_full_commit();
  return ExtentTree(volume, inode).shift(handle, from, delta);
}

Result<std::uint32_t> shift_credits(Volume &volume, Inode &inode) {
  TRY(check_mapped(inode));
  if (!has_extents(inode)) return fail(Error::unsupported("block map: ranges cannot be shifted"));
  return ExtentTree(volume, inode).shift_credits();
}

std::uint32_t max_insert(const Volume &volume, const Inode &inode, FileBlock first) {
  const std::uint64_t limit = max_file_blocks(volume, inode);
  if (first.value() >= limit) return 0;
  const std::uint32_t one =
      has_extents(inode) ? ExtentTree::kMaxUnwritten : BlockMap::max_insert(volume.block_size(), first);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(one, limit - first.value()));
}

// Extent trees: every node on the way changes; at worst every one is split and the root gets a level more, each new
// node with the bitmap and descriptor of its group. Block maps: the same for three indirect blocks.
std::uint32_t insert_credits(const Volume &, const Inode &inode) {
  const std::uint32_t depth = has_extents(inode) ? tree_depth(inode) : BlockMap::kDepth;
  return depth + (depth + 1) * (1 + credits::kAllocateBlock);
}

// As for an insert (cutting out the middle splits an extent), and: nodes that become empty are given back, and the
// data.
std::uint32_t remove_credits(const Volume &volume, const Inode &inode) {
  const std::uint32_t depth = has_extents(inode) ? tree_depth(inode) : BlockMap::kDepth;
  return insert_credits(volume, inode) + (depth + 1) * credits::kGroup + FreedGroups::kCredits;
}

std::uint64_t max_file_blocks(const Volume &volume, const Inode &inode) {
  const format::Geometry &geometry = volume.geometry();
  const std::uint64_t bytes = has_extents(inode) ? geometry.max_extent_file_size() : geometry.max_blockmap_file_size();
  return std::min<std::uint64_t>(bytes / volume.block_size(), ~std::uint32_t{0});
}

}  // namespace outboard::ext4::file_map

// Extents inserted, removed, split, joined and converted; everything comes down to replacing a few entries of one leaf.
#include "ext4/block_alloc.h"
#include "ext4/extent_tree.h"
#include "ext4/freed_groups.h"
#include "ext4/journaled_data.h"

#include <algorithm>
#include <cassert>

namespace outboard::ext4 {
namespace {

using format::Extent;

std::uint64_t end_of(const Extent &extent) { return std::uint64_t{extent.logical.value()} + extent.len; }

// The part [from, to) of an extent.
Extent part(const Extent &whole, std::uint64_t from, std::uint64_t to) {
  return {FileBlock(static_cast<std::uint32_t>(from)), whole.start + (from - whole.logical.value()),
          static_cast<std::uint32_t>(to - from), whole.unwritten};
}

bool joins(const Extent &left, const Extent &right) {
  const std::uint32_t most = left.unwritten ? format::kMaxUnwrittenExtentBlocks : format::kMaxExtentBlocks;
  return left.unwritten == right.unwritten && end_of(left) == right.logical.value() &&
         left.start + left.len == right.start && left.len + right.len <= most;
}

// At most three new extents and a neighbour on each side, joined where they touch.
class FewExtents {
public:
  void add(const Extent &extent, bool merge) {
    if (merge && count_ > 0 && joins(extents_[count_ - 1], extent)) {
      extents_[count_ - 1].len += extent.len;
      return;
    }
    assert(count_ < extents_.size());
    extents_[count_++] = extent;
  }
  std::uint16_t count() const { return count_; }
  const Extent &operator[](std::size_t i) const { return extents_[i]; }
  operator std::span<const Extent>() const { return std::span(extents_).first(count_); }

private:
  std::array<Extent, 5> extents_;
  std::uint16_t count_ = 0;
};

}  // namespace

Result<format::ExtentNodeEdit> ExtentTree::edit(jbd2::Handle &handle, Level &level) {
  if (!level.buffer) return format::ExtentNodeEdit(inode_.fields.block);
  return format::ExtentNodeEdit(TRY(level.buffer->writable(handle)));
}

Status ExtentTree::replace(jbd2::Handle &handle, Path &path, std::uint16_t position, std::uint16_t old_count,
                           std::span<const Extent> fresh, bool merge) {
  // A second round follows a split, which leaves room enough.
  for (unsigned round = 0; round < 2; ++round) {
    const format::ExtentNodeView leaf = view(path.leaf());
    FewExtents result;
    std::uint16_t from = position, replaced = old_count;
    if (merge && position > 0 && !fresh.empty()) {
      const Extent left = leaf.get_extent(static_cast<std::uint16_t>(position - 1));
      if (joins(left, fresh.front())) {
        result.add(left, true);
        --from;
        ++replaced;
      }
    }
    for (const Extent &extent : fresh) result.add(extent, merge);
    const auto behind = static_cast<std::uint16_t>(position + old_count);
    if (merge && behind < leaf.entries() && result.count() > 0) {
      const Extent right = leaf.get_extent(behind);
      if (joins(result[result.count() - 1], right)) {
        result.add(right, true);
        ++replaced;
      }
    }
    if (leaf.entries() - replaced + result.count() <= leaf.max()) {
      format::ExtentNodeEdit node = TRY(edit(handle, path.leaf()));
      for (std::uint16_t i = 0; i < std::min(replaced, result.count()); ++i)
        node.set(static_cast<std::uint16_t>(from + i), result[i]);
      for (std::uint16_t i = replaced; i < result.count(); ++i)
        node.insert(static_cast<std::uint16_t>(from + i), result[i]);
      if (replaced > result.count())
        node.erase(static_cast<std::uint16_t>(from + result.count()),
                   static_cast<std::uint16_t>(replaced - result.count()));
      ++inode_.map_sequence;
      if (node.entries() == 0) return path.depth > 0 ? drop_empty_nodes(handle, path) : Status{};
      return from == 0 ? fix_parent_keys(handle, path, path.depth) : Status{};
    }
    if (old_count == 0 && position == leaf.entries() && result.count() == 1 && can_append_branch(path)) {
      TRY(append_branch(handle, path, result[0]));
      ++inode_.map_sequence;
      return {};
    }
    TRY(make_room(handle, path, position, old_count));
  }
  return fail(broken("extent tree: no room after a split"));
}

Status ExtentTree::insert(jbd2::Handle &handle, FileBlock first, BlockRun run, bool unwritten) {
  assert(run.count > 0 && run.count <= (unwritten ? kMaxUnwritten : kMaxWritten));
  Path path = TRY(load(first.value()));
  const format::ExtentNodeView leaf = view(path.leaf());
  const std::optional<std::uint16_t> before = leaf.find(first);
  const auto position = static_cast<std::uint16_t>(before ? *before + 1 : 0);
  const std::uint64_t end = std::uint64_t{first.value()} + run.count;
  const std::uint64_t next = position < leaf.entries() ? leaf.logical(position).value() : path.leaf().high;
  if ((before && end_of(leaf.get_extent(*before)) > first.value()) || end > next)
    return fail(broken("extent tree: insert over mapped blocks"));
  const Extent extent{first, run.start, run.count, unwritten};
  TRY(replace(handle, path, position, 0, std::span(&extent, 1), true));
  inode_.fields.sectors += sectors(run.count);
  return {};
}

Result<FileBlock> ExtentTree::remove_piece(jbd2::Handle &handle, FileBlock first, FileBlock end, bool metadata) {
  const auto done = [&](std::uint64_t block) -> Result<FileBlock> {
    const auto reached = std::max(first, FileBlock(static_cast<std::uint32_t>(block)));
    TRY(shrink_depth(handle));
    return reached;
  };
  if (end <= first) return first;
  Path path = TRY(load(end.value() - 1));
  FreedGroups groups(volume_, metadata);
  std::optional<std::uint16_t> at = view(path.leaf()).find(end - 1);
  std::uint64_t reached = end.value();
  if (!at) return done(first.value());
  for (std::uint16_t position = *at;; --position) {
    const Extent extent = view(path.leaf()).get_extent(position);
    if (end_of(extent) <= first.value()) return done(first.value());
    TRY(check_data(volume_, inode_, extent));
    const std::uint64_t to = std::min<std::uint64_t>(end.value(), end_of(extent));
    std::uint64_t from = std::max(first, extent.logical).value();
    // As much of its end as the piece's budget of groups allows.
    const Extent all = part(extent, from, to);
    const std::uint32_t admitted = groups.admit_tail({all.start, all.len});
    if (admitted == 0) return done(reached);
    from = to - admitted;
    const Extent gone = part(extent, from, to);
    FewExtents rest;
    if (from > extent.logical.value()) rest.add(part(extent, extent.logical.value(), from), false);
    if (to < end_of(extent)) rest.add(part(extent, to, end_of(extent)), false);
    const bool whole = rest.count() == 0;
    TRY(replace(handle, path, position, 1, rest, false));
    inode_.fields.sectors -= std::min(inode_.fields.sectors, sectors(gone.len));
    TRY(volume_.blocks().free(handle, {gone.start, gone.len}, metadata));
    reached = from;
    if (!whole || position == 0) return done(reached);
  }
}

Status ExtentTree::split_extent_at(jbd2::Handle &handle, std::uint64_t block) {
  Path path = TRY(load(block));
  const format::ExtentNodeView leaf = view(path.leaf());
  const std::optional<std::uint16_t> at = leaf.find(FileBlock(static_cast<std::uint32_t>(block)));
  if (!at) return {};
  const Extent extent = leaf.get_extent(*at);
  if (extent.logical.value() == block || end_of(extent) <= block) return {};
  const std::array<Extent, 2> halves{part(extent, extent.logical.value(), block), part(extent, block, end_of(extent))};
  return replace(handle, path, *at, 1, halves, false);
}

// Zeros for the blocks of `extent` outside [from, to), but for those that have their data already.
Status ExtentTree::write_out(jbd2::Handle &, const Extent &extent, std::uint64_t from, std::uint64_t to) {
  const std::uint64_t block_size = volume_.block_size();
  const auto zero = [&](std::uint64_t first, std::uint64_t end) -> Status {
    while (first < end) {
      const IntervalSet::Run kept = inode_.delayed.written.at_or_after(first);
      const std::uint64_t until = kept.empty() ? end : std::min(kept.first, end);
      if (first < until) {
        const Extent piece = part(extent, first, until);
        TRY(volume_.device().zero(piece.start.value() * block_size, piece.len * block_size));
      }
      first = kept.empty() ? end : std::max(kept.end, until);
    }
    return {};
  };
  TRY(zero(extent.logical.value(), from));
  return zero(to, end_of(extent));
}

Status ExtentTree::convert_one(jbd2::Handle &handle, std::uint64_t &position, std::uint64_t end, bool unwritten) {
  Path path = TRY(load(position));
  const format::ExtentNodeView leaf = view(path.leaf());
  const std::optional<std::uint16_t> at = leaf.find(FileBlock(static_cast<std::uint32_t>(position)));
  if (!at || end_of(leaf.get_extent(*at)) <= position) return fail(broken("extent tree: conversion of a hole"));
  const Extent extent = leaf.get_extent(*at);
  const std::uint64_t from = position;
  std::uint64_t to = std::min(end, end_of(extent));
  if (unwritten) to = std::min<std::uint64_t>(to, from + kMaxUnwritten);
  position = to;
  if (extent.unwritten == unwritten) return {};
  TRY(check_data(volume_, inode_, extent));
  FewExtents pieces;
  if (from > extent.logical.value()) pieces.add(part(extent, extent.logical.value(), from), false);
  Extent middle = part(extent, from, to);
  middle.unwritten = unwritten;
  pieces.add(middle, false);
  if (to < end_of(extent)) pieces.add(part(extent, to, end_of(extent)), false);
  Status status = replace(handle, path, *at, 1, pieces, true);
  if (status || !status.error().is(ENOSPC) || unwritten) return status;
  // Zeros past the journal would be overwritten when older copies come home.
  if (journals_data(volume_, inode_)) return status;
  // No block for a node, and nothing has changed. Written as a whole the extent needs no more places than it has;
  // blocks behind the file's end must stay unwritten, though.
  if (end_of(extent) > divide_up<std::uint64_t>(inode_.fields.size, volume_.block_size())) return status;
  handle.needs_full_commit();  // more changes than the caller knows of
  TRY(write_out(handle, extent, from, to));
  Extent written = extent;
  written.unwritten = false;
  path = TRY(load(from));
  return replace(handle, path, *at, 1, std::span(&written, 1), true);
}

Status ExtentTree::set_state(jbd2::Handle &handle, FileBlock first, std::uint32_t count, bool unwritten) {
  const std::uint64_t end = std::uint64_t{first.value()} + count;
  for (std::uint64_t position = first.value(); position < end;) TRY(convert_one(handle, position, end, unwritten));
  return {};
}

}  // namespace outboard::ext4

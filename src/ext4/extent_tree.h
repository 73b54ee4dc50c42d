// The extent tree of one inode: sorted runs of blocks in leaves, index nodes above, the root in the inode.
// Format: Documentation/filesystems/ext4/ifork.rst; bytes: format/extent.h.
//
// What holds on disk, and is checked on the way down: depth falls by one per level (so nothing can loop), a node's keys
// lie inside the range its parent gives it, an index key equals the first key below it (we keep it so; e2fsck demands
// it), nodes other than the root are not empty, every block pointed to may hold file data.
//
// Changes keep that true after every step, so a caller that gets an error other than an aborted journal may finish()
// its handle: the tree is whole, and says exactly what was done. ENOSPC comes before anything has changed. Every change
// takes place under the inode's exclusive lock and bumps inode.map_sequence.
#pragma once

#include "ext4/file_map.h"
#include "ext4/format/extent.h"

#include <array>
#include <optional>

namespace outboard::ext4 {

class ExtentTree {
public:
  static constexpr unsigned kMaxDepth = format::kMaxExtentDepth;
  static constexpr std::uint32_t kMaxWritten = format::kMaxExtentBlocks;
  static constexpr std::uint32_t kMaxUnwritten = format::kMaxUnwrittenExtentBlocks;

  ExtentTree(Volume &volume, Inode &inode) : volume_(volume), inode_(inode) {}

  static Result<FileMapping> find(Volume &volume, const Inode &inode, FileBlock block, std::uint32_t limit);

  // See file_map for these.
  Status insert(jbd2::Handle &handle, FileBlock first, BlockRun run, bool unwritten);
  Result<FileBlock> remove_piece(jbd2::Handle &handle, FileBlock first, FileBlock end, bool metadata);
  // Blocks [first, first+count), all of them mapped, become written or unwritten. When the last room on the volume is
  // gone and an extent would have to be split in order to become written, its other blocks inside the file are zeroed
  // on the device and become written as well: what was preallocated can always be written.
  Status set_state(jbd2::Handle &handle, FileBlock first, std::uint32_t count, bool unwritten);
  // Moves the mappings at and behind `from` by `delta`. An extent across `from` is split first. Leaf by leaf in an
  // order in which keys never collide; the handle is restarted (inode stored before) when its credits do not reach for
  // all.
  Status shift(jbd2::Handle &handle, FileBlock from, std::int64_t delta);

  // Blocks that shift() changes at most, for a handle that needs no restart.
  Result<std::uint32_t> shift_credits();

private:
  using Extent = format::Extent;

  struct Level {
    cache::BufferRef buffer;  // empty for the root
    std::uint16_t index = 0;  // index nodes: the entry followed
    std::uint64_t low = 0;    // file blocks this node answers for: [low, high)
    std::uint64_t high = 0;
  };
  // From the root to a leaf. Stays valid while entries change in place, not when nodes come or go.
  struct Path {
    unsigned depth = 0;
    std::array<Level, kMaxDepth + 1> levels;
    Level &leaf() { return levels[depth]; }
    const Level &leaf() const { return levels[depth]; }
  };

  // Looking (extent_tree.cc).
  static format::ExtentNodeView view(const Inode &inode, const Level &level);
  static Status load_child(Volume &volume, const Inode &inode, Path &path, unsigned parent);
  static Result<Path> load(Volume &volume, const Inode &inode, std::uint64_t block);
  // The leaf to the right (+1) or left (-1). False when there is none.
  static Result<bool> step(Volume &volume, const Inode &inode, Path &path, int direction);
  static Status check_data(Volume &volume, const Inode &inode, const Extent &extent);
  format::ExtentNodeView view(const Level &level) const { return view(inode_, level); }
  Result<Path> load(std::uint64_t block) const { return load(volume_, inode_, block); }

  // Changing entries (extent_change.cc).
  Result<format::ExtentNodeEdit> edit(jbd2::Handle &handle, Level &level);
  // In the leaf, `old_count` (0 or 1) entries at `position` give way to `fresh`, at most three; `merge` joins what
  // touches, neighbours included. The path is used up.
  Status replace(jbd2::Handle &handle, Path &path, std::uint16_t position, std::uint16_t old_count,
                 std::span<const Extent> fresh, bool merge);
  Status split_extent_at(jbd2::Handle &handle, std::uint64_t block);
  Status write_out(jbd2::Handle &handle, const Extent &extent, std::uint64_t from, std::uint64_t to);
  Status convert_one(jbd2::Handle &handle, std::uint64_t &position, std::uint64_t end, bool unwritten);

  // Moving entries (extent_shift.cc). `more` becomes false when the leaf holds the last entry to move.
  // No extent would move behind the last block a file can have.
  Status check_last(std::int64_t delta) const;
  Status shift_leaf(jbd2::Handle &handle, Path &path, std::uint64_t from, std::int64_t delta, bool &more);

  // Changing the shape (extent_nodes.cc).
  Status fix_parent_keys(jbd2::Handle &handle, Path &path, unsigned level);
  // The lowest level with a free entry; nothing: the root is full, too.
  std::optional<unsigned> lowest_with_room(const Path &path) const;
  // Room for two more entries in the leaf: splits what is full, from the top down. `position` follows its entry.
  Status make_room(jbd2::Handle &handle, Path &path, std::uint16_t &position, std::uint16_t old_count);
  // True when a new rightmost branch below a node with room can take an extent that comes last in a full leaf.
  bool can_append_branch(const Path &path) const;
  Status append_branch(jbd2::Handle &handle, Path &path, const Extent &extent);
  Status grow(jbd2::Handle &handle, Path &path, BlockNumber block);
  Status split(jbd2::Handle &handle, Path &path, unsigned level, BlockNumber block, std::uint16_t &position,
               std::uint16_t old_count);
  // The leaf has lost its last entry: it goes, and every node above that is empty then.
  Status drop_empty_nodes(jbd2::Handle &handle, Path &path);
  // While the root has a single child whose entries fit into the root, they move there.
  Status shrink_depth(jbd2::Handle &handle);
  Result<cache::BufferRef> new_node(jbd2::Handle &handle, BlockNumber block, std::uint16_t depth);
  Status free_node(jbd2::Handle &handle, Level &level);

  std::uint64_t sectors(std::uint64_t blocks) const { return blocks * (volume_.block_size() / 512); }
  Error broken(const char *rule) const { return Error::corrupt(rule).of_inode(inode_.number.value()); }

  Volume &volume_;
  Inode &inode_;
};

}  // namespace outboard::ext4

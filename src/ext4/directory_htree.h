// Directories with an index: a tree of hash ranges whose leaves are ordinary directory blocks (format/htree.h).
// Entries of one hash may spill over into the following leaf; that leaf's index entry then has bit 0 set.
// Leaves are split when they are full and never merged. Private to directory*.cc.
#pragma once

#include "ext4/directory_linear.h"
#include "ext4/format/htree.h"

#include <array>
#include <optional>

namespace outboard::ext4 {

// A place in the index of one directory: the path from the root to a leaf. Bounded: at most three levels, no block twice
// on a path, and never more leaves than the directory has blocks.
class HashIndex {
public:
  // Empty when the root is no index that we know how to use (logged): the directory must then be searched as a linear one.
  static Result<std::optional<HashIndex>> open(DirectoryBlocks &blocks);

  const format::NameHash &hash() const { return hash_; }

  // To the leaf for this major hash: the first one that may hold it. False when a node is not usable (logged).
  Result<bool> descend(std::uint32_t major);
  Result<cache::BufferRef> read_leaf();
  FileBlock leaf() const { return bottom().view().get(bottom().at).block; }
  // The hash at which the following leaf starts, with bit 0 when it continues this leaf's last hash. Empty at the last leaf.
  std::optional<std::uint32_t> next_hash() const;
  // To the following leaf, which there must be. Corrupt when the way is not usable.
  Status advance();

  // A name into the leaf at the path's end; splits the leaf and grows the index as necessary. The path is void afterwards.
  Status insert(jbd2::Handle &handle, Inode &inode, const NewName &name);

private:
  static constexpr std::uint32_t kMaxLevels = 3;
  struct Level {
    cache::BufferRef buffer;
    FileBlock block;
    format::DxKind kind = format::DxKind::root;
    std::uint16_t at = 0;           // the entry that the path goes through
    std::span<std::byte> writable;  // once the handle has it
    format::DxView view() const { return {buffer->bytes(), kind}; }
    format::DxEdit edit() const { return {writable, kind}; }
  };
  struct Growth {
    std::uint32_t full_from = 0;  // levels from here to the bottom are full
    bool new_level = false;       // ... and so is the root
    std::uint32_t blocks = 0;     // to append: the leaf and the nodes
  };

  HashIndex(DirectoryBlocks &blocks, cache::BufferRef root, std::uint32_t count, const format::NameHash &hash);
  Level &bottom() { return levels_[depth_ - 1]; }
  const Level &bottom() const { return levels_[depth_ - 1]; }
  const char *check(const Level &level) const;  // null when the block may be walked
  // The node that the level above points to becomes level `depth_`.
  Result<const char *> push();

  Status split_leaf(jbd2::Handle &handle, Inode &inode, cache::BufferRef leaf, const NewName &name, class LeafContents contents);
  Result<Growth> plan_growth() const;
  Status prepare_levels(jbd2::Handle &handle, const Growth &growth);
  void grow(const Growth &growth, const AppendedBlocks &added);
  void add_level(std::span<std::byte> node, const cache::BufferRef &buffer, FileBlock block);
  void split_level(std::uint32_t level, std::span<std::byte> node, const cache::BufferRef &buffer, FileBlock block);

  DirectoryBlocks *blocks_;
  std::uint32_t count_;  // blocks of the directory
  format::NameHash hash_;
  std::array<Level, kMaxLevels> levels_;
  std::uint32_t depth_ = 1;
  std::uint32_t steps_ = 0;
};

namespace htree {

// Whether the directory's order is that of hashes: indexed, or so small that it will be indexed when it grows, so that
// positions stay valid when that happens. `count`: its blocks.
bool in_hash_order(const Volume &volume, const Inode &inode, std::uint32_t count);
// Indexed by its flag, on a volume that has indexes.
bool has_index(const Volume &volume, const Inode &inode);
// The hash a new index would use; the one that unindexed directories in hash order are read by.
Result<format::NameHash> default_hash(const Volume &volume);

// ENOENT; empty when the index is not usable.
Result<std::optional<EntryPlace>> find(DirectoryBlocks &blocks, std::string_view name);
// False when the index is not usable, and nothing has changed.
Result<bool> insert(jbd2::Handle &handle, Volume &volume, Inode &inode, const NewName &name);
// Into the only block of a directory in hash order: entries may move within it; when it is full it becomes an index's root.
Status insert_or_convert(jbd2::Handle &handle, Volume &volume, Inode &inode, const NewName &name);

}  // namespace htree
}  // namespace outboard::ext4

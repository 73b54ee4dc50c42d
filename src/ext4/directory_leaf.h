// The entries of one directory block taken out of it, with their hashes: to be packed, or dealt out over two blocks.
// Private to directory*.cc.
#pragma once

#include "ext4/directory_blocks.h"
#include "ext4/format/dirhash.h"

#include <vector>

namespace outboard::ext4 {

class LeafContents {
public:
  // Copies the block; "." and ".." of an unindexed directory's first block are kept apart.
  static Result<LeafContents> of(const DirectoryBlocks &blocks, const cache::BufferRef &buffer,
                                 const format::NameHash &hash, bool first_block);

  // Bytes that the entries take when packed, the dots included.
  std::uint32_t packed_size() const { return packed_size_; }
  bool fits(const format::DirFormat &format, std::size_t name_length) const {
    return packed_size_ + format::dir_entry_size(name_length) <= format.usable();
  }
  // The dots, if any, then the rest in the order they stood.
  std::vector<format::DirEntryView> all() const;

  // The entries but the dots in hash order, cut where the halves are about equal in bytes. At least two entries.
  struct Halves {
    std::vector<format::DirEntryView> lower, upper;
    std::uint32_t boundary = 0;  // the major hash at which the upper half starts
    bool continued = false;      // the lower half ends with the same
  };
  Halves halves(std::uint32_t block_size) const;
  std::size_t count() const { return entries_.size(); }

private:
  struct Entry {
    std::uint32_t major;
    format::DirEntryView view;
  };
  std::vector<std::byte> copy_;  // what the names lie in
  std::vector<format::DirEntryView> dots_;
  std::vector<Entry> entries_;
  std::uint32_t packed_size_ = 0;
};

}  // namespace outboard::ext4

// The in-inode half of an inode's attributes: what fits between the fixed fields and the end of the inode's record.
#pragma once

#include "ext4/format/xattr.h"
#include "ext4/volume.h"

#include <vector>

namespace outboard::ext4 {

// A copy of the area: made once per operation, changed in memory, written back whole.
class InlineXattrs {
public:
  static Result<InlineXattrs> read(Volume &volume, const Inode &inode);

  // Points into this object. Corrupt when the area is malformed.
  Result<std::optional<format::XattrView>> find(format::XattrName name) const;
  Result<std::vector<format::XattrItem>> items() const;
  // Whether a set of attributes would fit; false for every set when the record has no area.
  bool fits(std::span<const format::XattrItem> items) const;
  // The set must fit. The checksum and the rest of the record are InodeAllocator's.
  Status write(jbd2::Handle &handle, Volume &volume, const Inode &inode, std::span<const format::XattrItem> items);

  // Whether the record has room for attributes at all; only then is there a cursor.
  bool exists() const;
  Result<format::XattrCursor> cursor() const { return format::XattrCursor::in_inode(area_); }

private:
  explicit InlineXattrs(std::vector<std::byte> area) : area_(std::move(area)) {}

  std::vector<std::byte> area_;  // empty: no room in this inode
};

}  // namespace outboard::ext4

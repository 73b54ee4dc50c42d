#include "ext4/xattr_inode.h"

#include "ext4/inode_alloc.h"

#include <cassert>

namespace outboard::ext4 {

Result<InlineXattrs> InlineXattrs::read(Volume &volume, const Inode &inode) {
  return InlineXattrs(TRY(volume.inodes().read_inline_xattrs(inode)));
}

// Header and terminator must fit, or there is nothing to look at.
bool InlineXattrs::exists() const { return area_.size() >= format::inline_xattr_size({}); }

Result<std::optional<format::XattrView>> InlineXattrs::find(format::XattrName name) const {
  if (!exists()) return std::nullopt;
  const format::XattrCursor entries = TRY(cursor());
  return format::find_xattr(entries, name);
}

Result<std::vector<format::XattrItem>> InlineXattrs::items() const {
  if (!exists()) return std::vector<format::XattrItem>{};
  const format::XattrCursor entries = TRY(cursor());
  return format::read_xattrs(entries);
}

bool InlineXattrs::fits(std::span<const format::XattrItem> items) const {
  return exists() && format::inline_xattr_size(items) <= area_.size();
}

Status InlineXattrs::write(jbd2::Handle &handle, Volume &volume, const Inode &inode,
                           std::span<const format::XattrItem> items) {
  [[maybe_unused]] const bool fitted = format::build_inline_xattrs(area_, items);
  assert(fitted);
  return volume.inodes().write_inline_xattrs(handle, inode, area_);
}

}  // namespace outboard::ext4

// Both halves of an inode's attributes in memory while an operation decides what goes where.
// Private to xattrs.cc and acls.cc.
#pragma once

#include "ext4/xattr_inode.h"

#include <optional>
#include <span>
#include <vector>

namespace outboard::ext4 {

class XattrSets {
public:
  static Result<XattrSets> load(Volume &volume, const Inode &inode);

  bool contains(format::XattrName name) const;
  // Where ext4 puts it: in the inode if it fits there as the inode is, else in the block, and nowhere else.
  // ENOSPC: neither has room; nothing has changed.
  Status set(format::XattrName name, std::span<const std::byte> value);
  void remove(format::XattrName name);  // from both halves

  // What set() and remove() changed, to the disk. Changes inode.fields (file_acl, sectors) and stores the inode, with a
  // new ctime, even if nothing else changed. ENOSPC before anything has been written; fields are as they were after any
  // error. Credits: kCredits.
  Status store(jbd2::Handle &handle, Volume &volume, Inode &inode);
  static constexpr std::uint32_t kCredits = 6 + 1 + 1;  // XattrBlocks::kCredits, the inode, the superblock's feature

private:
  XattrSets(InlineXattrs area, std::size_t block_size) : area_(std::move(area)), block_size_(block_size) {}

  InlineXattrs area_;
  std::size_t block_size_;
  std::vector<format::XattrItem> in_inode_, in_block_;
  bool inode_changed_ = false, block_changed_ = false;
};

// One attribute without building the sets: what reading needs. Empty optional: absent.
Result<std::optional<std::vector<std::byte>>> find_xattr_value(Volume &volume, const Inode &inode,
                                                               format::XattrName name);

}  // namespace outboard::ext4

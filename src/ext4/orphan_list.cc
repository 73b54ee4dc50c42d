#include "ext4/orphan_list.h"

#include "ext4/inode_alloc.h"

#include <cassert>

namespace outboard::ext4 {

// The superblock names it when `from` is none.
Status OrphanList::point(jbd2::Handle &handle, InodeNumber from, std::uint32_t to) {
  if (from) return volume_.inodes().set_orphan_link(handle, from, to);
  return volume_.edit_superblock(handle,
                                 [to](std::span<std::byte> bytes) { format::set_last_orphan(bytes, InodeNumber(to)); });
}

Status OrphanList::push(jbd2::Handle &handle, Inode &inode) {
  assert(!contains(inode.number) && !inode.on_orphan_list);
  const std::uint32_t old_head = volume_.last_orphan();
  // The inode first: its table block may have to be read, and nothing has changed if that fails.
  const std::uint32_t old_time = inode.fields.dtime;
  inode.fields.dtime = old_head;
  Status stored = volume_.inodes().store(handle, inode);
  if (!stored) {
    inode.fields.dtime = old_time;
    return stored;
  }
  TRY(point(handle, InodeNumber(0), inode.number.value()));
  inode.on_orphan_list = true;
  if (auto next = members_.find(InodeNumber(old_head)); next != members_.end()) next->second.before = inode.number;
  members_.emplace(inode.number, Links{InodeNumber(0), old_head});
  return {};
}

Status OrphanList::remove(jbd2::Handle &handle, Inode &inode) {
  const auto self = members_.find(inode.number);
  assert(self != members_.end());
  const Links links = self->second;
  inode.on_orphan_list = false;  // the field is the inode's own again
  inode.fields.dtime = 0;
  Status stored = volume_.inodes().store(handle, inode);
  if (!stored) {
    inode.on_orphan_list = true;
    inode.fields.dtime = links.after;
    return stored;
  }
  TRY(point(handle, links.before, links.after));
  members_.erase(self);
  if (links.before) members_.at(links.before).after = links.after;
  if (auto next = members_.find(InodeNumber(links.after)); next != members_.end()) next->second.before = links.before;
  return {};
}

void OrphanList::adopt_head(InodeNumber number, std::uint32_t link) {
  assert(members_.empty());
  members_.emplace(number, Links{InodeNumber(0), link});
}

Status OrphanList::drop(jbd2::Handle &handle) {
  TRY(point(handle, InodeNumber(0), 0));
  members_.clear();
  return {};
}

}  // namespace outboard::ext4

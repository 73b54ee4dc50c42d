// The orphan list: singly linked on disk (superblock's s_last_orphan, then each member's deletion-time field), doubly
// linked in memory. Not thread-safe: Orphans holds its lock around every call. See orphans.h for who may write a
// member's link.
#pragma once

#include "ext4/volume.h"

#include <unordered_map>

namespace outboard::ext4 {

class OrphanList {
public:
  explicit OrphanList(Volume &volume) : volume_(volume) {}

  bool contains(InodeNumber number) const { return members_.contains(number); }
  std::size_t size() const { return members_.size(); }

  // Puts the inode in front. Nothing has changed when it fails (unless the journal has been aborted).
  Status push(jbd2::Handle &handle, Inode &inode);
  // Takes a member out and clears its link.
  Status remove(jbd2::Handle &handle, Inode &inode);

  // The member that the superblock names was read from disk and has this link. Only for the clean-up, which takes
  // members from the front, so that no more than one is known.
  void adopt_head(InodeNumber number, std::uint32_t link);
  // Forgets every member, on disk by clearing the superblock's field.
  Status drop(jbd2::Handle &handle);

private:
  struct Links {
    InodeNumber before;       // the member whose link names us; none: the superblock does
    std::uint32_t after = 0;  // our link; an inode number that need not be in members_ (adopt_head)
  };
  Status point(jbd2::Handle &handle, InodeNumber from, std::uint32_t to);

  Volume &volume_;
  std::unordered_map<InodeNumber, Links> members_;
};

}  // namespace outboard::ext4

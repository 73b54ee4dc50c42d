// Inodes whose deletion or truncation has begun and must end, also across a crash: the linked list from the superblock,
// or the orphan file when the volume has the feature. Thread-safe (Rank::orphan_list). docs/ext4-orphans.md.
//
// Who owns the link. On disk a list member's successor stands in its deletion-time field. Removing a member rewrites
// the field of its *predecessor*, whose Inode object somebody else may hold at that moment. So, while an inode is on
// the list, that field on disk belongs to Orphans and to nobody else:
//  - Orphans writes it with InodeAllocator::set_orphan_link(), which changes only those bytes and the checksum;
//  - InodeAllocator::store() of an inode with on_orphan_list keeps what stands in the table (and copies it to
//  fields.dtime);
//  - InodeAllocator::load() sets on_orphan_list from contains(), so that every object of the inode obeys.
// The order of the list is kept in memory: no member but the neighbours is ever read.
#pragma once

#include "ext4/volume.h"

#include <vector>

namespace outboard::ext4 {

class Orphans {
public:
  explicit Orphans(Volume &volume);
  ~Orphans();

  // Adds once (inode.on_orphan_list); the inode may be unlinked (deleted at recovery) or linked (truncated to its
  // size). Falls back to the list when the orphan file is full. Changes inode.fields.dtime for the list's link; stores
  // the inode.
  Status add(jbd2::Handle &handle, Inode &inode);
  // Does nothing when it is not on the list. Stores the inode with fields.dtime 0.
  Status remove(jbd2::Handle &handle, Inode &inode);
  static constexpr std::uint32_t kCredits = 4;

  // True while the inode is recorded as an orphan. Cheap when nothing is.
  bool contains(InodeNumber number) const;
  bool none_recorded() const;

  // Before the first add() of a read-write mount and after the last remove() of a clean unmount: the superblock's
  // orphan_present flag for volumes with an orphan file. end_use() leaves the flag when orphans remain. Neither does
  // anything for other volumes. begin_use() reads the orphan file; a broken one is corrupt. Credits:
  // credits::kSuperblock.
  Status begin_use(jbd2::Handle &handle);
  Status end_use(jbd2::Handle &handle);

  // Every inode number on record, unchecked but bounded; for replaying fast commits, which neither adopts nor processes
  // them. After begin_use().
  Result<std::vector<InodeNumber>> on_record();

  // After recovery and begin_use(): delete or truncate everything found, bounded by the number of inodes; loops and bad
  // numbers are corrupt (logged, list cut). Counts go into the report. On a volume marked as having errors nothing is
  // deleted; the list is dropped for e2fsck to sort out.
  struct Cleaned {
    std::uint32_t deleted = 0, truncated = 0;
  };
  Result<Cleaned> clean_up();

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outboard::ext4

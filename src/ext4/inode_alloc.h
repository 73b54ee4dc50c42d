// Inodes: allocate, free, read, write back. Thread-safe (Rank::inode_alloc per group).
#pragma once

#include "ext4/volume.h"

namespace outboard::ext4 {

// What the rest of the program takes for granted of an inode in use: type, flags, a map that is one. Corrupt otherwise.
Status check_inode_fields(const format::Superblock &superblock, InodeNumber number, const format::InodeFields &fields);

class InodeAllocator {
public:
  explicit InodeAllocator(Volume &volume);
  ~InodeAllocator();

  // The inode, verified: number in range and allocated in the bitmap, checksum, fields sane. A number that is free or has
  // no links and no deletion time set is returned as it is; callers that came by a name treat links == 0 as corrupt (ESTALE by handle).
  // Sets on_orphan_list from Orphans::contains().
  Result<Inode> load(InodeNumber number);
  // A new inode near its parent (directories spread over groups as ext4 does: Orlov), mode/uid/gid/projid, links 0,
  // times now, new generation, extents flag and an empty tree when the volume has extents. Recorded in the transaction.
  // ENOSPC when there is none. Credits: credits::kAllocateInode.
  Result<Inode> allocate(jbd2::Handle &handle, const Inode &parent, std::uint32_t mode, std::uint32_t uid, std::uint32_t gid);
  // Back to the bitmap, deletion time set, mode cleared as ext4 does. Its blocks must be gone.
  Status free(jbd2::Handle &handle, Inode &inode);
  // For replaying fast commits: this very number, free or not, is in use from now on, and its record is zeros but for the
  // deletion time when `keep_orphan_link`. Credits: adopt_credits().
  Status adopt(jbd2::Handle &handle, InodeNumber number, bool directory, bool keep_orphan_link);
  Result<std::uint32_t> adopt_credits(InodeNumber number);
  // The fields to the inode table in this transaction; sets sync_tid (and datasync_tid when `data_reachable`, i.e. size or map changed).
  // Credits: credits::kStoreInode.
  // While inode.on_orphan_list the on-disk deletion time is the orphan list's link and belongs to Orphans: store() keeps what
  // stands in the table and copies it into fields.dtime.
  Status store(jbd2::Handle &handle, Inode &inode, bool data_reachable = true);
  // For Orphans only: the orphan list's link (the deletion time's place) of an inode that may be somebody's Inode object at
  // this moment. Changes those bytes and the checksum in the table, nothing else; excludes store() and
  // write_inline_xattrs() of the same inode. Credits: credits::kStoreInode.
  Status set_orphan_link(jbd2::Handle &handle, InodeNumber number, std::uint32_t link);

  // The whole record as it stands in the table. For fast commits: no handle is open.
  Result<std::vector<std::byte>> record(InodeNumber number);

  // In-inode extended attributes: the bytes after the fixed fields. `edit` changes the copy, which is then stored.
  Result<std::vector<std::byte>> read_inline_xattrs(const Inode &inode);
  Status write_inline_xattrs(jbd2::Handle &handle, const Inode &inode, std::span<const std::byte> area);

  // Numbers that must not be handed out although they are free: their lookup count has not reached zero. Counted.
  void hold_number(InodeNumber number);
  void release_number(InodeNumber number);

  std::uint64_t free_inodes() const;

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outboard::ext4

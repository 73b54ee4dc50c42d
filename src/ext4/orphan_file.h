// The orphan file: a hidden, fully allocated file whose blocks are arrays of inode numbers, each block with a
// checksummed tail. Recording an orphan touches one block of it and no other inode, so that many threads do not meet in
// the superblock. The file never grows; when it is full the caller falls back to the list. Not thread-safe: Orphans
// holds its lock around every call.
#pragma once

#include "ext4/format/orphan_file.h"
#include "ext4/volume.h"

#include <optional>
#include <unordered_map>
#include <vector>

namespace outboard::ext4 {

class OrphanFile {
public:
  struct Slot {
    std::uint32_t block = 0;  // index of the file's block
    std::uint32_t index = 0;  // in that block
  };
  struct Record {
    InodeNumber number;  // as read: not checked
    Slot slot;
  };

  // Reads the whole file (bounded: kMaxBytes) and counts its free slots. Corrupt when it is not a regular, fully mapped
  // file of whole blocks, or a block is bad.
  static Result<OrphanFile> open(Volume &volume);
  static constexpr std::uint64_t kMaxBytes = std::uint64_t{8} << 20;  // the kernel's limit

  bool contains(InodeNumber number) const { return slots_.contains(number); }
  std::size_t size() const { return slots_.size(); }
  InodeNumber inode() const { return inode_; }

  // False when there is no free slot. Credits: 1.
  Result<bool> insert(jbd2::Handle &handle, InodeNumber number);
  // Clears the member's slot. Credits: 1.
  Status remove(jbd2::Handle &handle, InodeNumber number);

  // For the clean-up: the next used slot at or after `from`; then either its number is made a member, or the slot
  // cleared.
  Result<std::optional<Record>> next_record(Slot from);
  void adopt(const Record &record) { slots_.try_emplace(record.number, record.slot); }
  // Clears a slot that is nobody's.
  Status clear(jbd2::Handle &handle, Slot slot);

private:
  struct Block {
    BlockNumber home;
    std::uint32_t free = 0;
    std::uint32_t hint = 0;  // where to begin looking for a free slot
  };

  OrphanFile(Volume &volume, const Inode &inode) : volume_(&volume), inode_(inode.number), seed_(inode.checksum_seed) {}
  Status map(const Inode &inode);
  Status count();
  Result<cache::BufferRef> read(std::uint32_t block) const;
  std::uint32_t slots_per_block() const;

  Volume *volume_;
  InodeNumber inode_;
  std::uint32_t seed_;
  std::vector<Block> blocks_;
  std::uint32_t block_hint_ = 0;  // a block that had a free slot
  std::unordered_map<InodeNumber, Slot> slots_;
};

}  // namespace outboard::ext4

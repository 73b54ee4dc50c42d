// What fast commits say, done to a volume that is in the state of the last full commit and has no other user.
//
// Records of names are done in order. Inode records replace fields; link counts are not taken from them but counted with
// the names, so that the tree is consistent whatever they say. Ranges are collected, the last word on a block of a file
// counts, and the maps are changed at the end: first everything that gives blocks back, in all inodes, then everything
// that takes them. Until then no allocation touches a block that a range names.
//
// An inode whose last name goes is left without blocks on the orphan list: deleting it is the clean-up's, later.
// Records about inodes that do not exist are passed over, as the kernel does: they were gone when the fast commit was made.
#pragma once

#include "ext4/format/fast_commit.h"
#include "ext4/volume.h"

#include <map>
#include <memory>
#include <set>
#include <unordered_map>

namespace outboard::ext4 {

class FastCommitApply {
public:
  explicit FastCommitApply(Volume &volume) : volume_(volume) {}

  // After an error the volume is good for nothing. Corrupt: what no driver writes.
  Status run(const std::vector<std::vector<format::FastCommitRecord>> &commits);

private:
  using Record = format::FastCommitRecord;
  enum class Life : std::uint8_t {
    absent,    // the number is free
    unlinked,  // allocated, no names left
    nameless,  // a record has made it; its first name is to come
    alive,
  };
  struct Piece {
    std::uint64_t end = 0;  // file block behind it
    BlockNumber start;      // none: a hole
    bool unwritten = false;
  };
  struct Subject {
    Inode inode;
    Life life = Life::absent;
    std::map<std::uint64_t, Piece> pieces;  // by first file block; disjoint
    bool exists() const { return life == Life::nameless || life == Life::alive; }
  };

  // fast_commit_apply.cc
  Result<Subject *> subject(InodeNumber number);
  Status apply(const Record &record, const std::vector<Record> &commit);
  Status add_range(const Record &record);
  Status delete_range(const Record &record);
  Status settle();
  Status set_aside(const Record &record);
  Status give_back(Subject &subject);
  Status take(Subject &subject);
  Status store(Subject &subject);

  // fast_commit_inodes.cc
  Result<format::InodeFields> decode(const Record &record) const;
  Status inode(const Record &record);
  Status update(Subject &subject, const format::InodeFields &image);
  Status make(Subject &subject, const format::InodeFields &image);
  Status drop_blocks(Subject &subject);

  // fast_commit_names.cc
  Result<Subject *> parent_of(const Record &record);
  Status create(const Record &record);
  Status link(const Record &record, const std::vector<Record> &commit);
  Status unlink(const Record &record);
  Status insert(Subject &parent, const Record &record, Subject &target);

  Volume &volume_;
  std::set<InodeNumber> orphans_;  // on record before
  std::unordered_map<InodeNumber, std::unique_ptr<Subject>> subjects_;
};

}  // namespace outboard::ext4

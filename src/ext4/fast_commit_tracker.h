// What the running transaction has changed, small enough for a fast commit: which inodes, which ranges of their maps, which
// names, in order. The rules are in docs/jbd2.md, "Fast commits: writing".
//
// Nothing has to be reported for safety: a handle that does not say mark_tracked() makes its transaction one for a full
// commit. Whoever says it must have told everything it changed here, with the handle still open.
//
// Thread-safe (Rank::leaf). Memory is bounded: beyond kMostEntries the transaction takes a full commit.
#pragma once

#include "ext4/format/fast_commit.h"
#include "ext4/volume.h"

#include <unordered_map>
#include <vector>

namespace outboard::ext4 {

class FastCommits {
public:
  FastCommits(Volume &volume, bool enabled) : volume_(volume), enabled_(enabled) {}

  bool enabled() const { return enabled_; }

  // The inode has been stored. Directories are their names, and are not remembered; other things than files with extents
  // are not for fast commits.
  void stored(jbd2::Handle &handle, const Inode &inode);
  // File blocks [first, end) are mapped otherwise than before.
  void mapped(jbd2::Handle &handle, const Inode &inode, std::uint64_t first, std::uint64_t end);
  // What is recorded depends on data that has been written to the device and perhaps not been flushed.
  void after_data();
  void created(jbd2::Handle &handle, const Inode &directory, std::string_view name, const Inode &inode);
  void linked(jbd2::Handle &handle, const Inode &directory, std::string_view name, const Inode &inode);
  void unlinked(jbd2::Handle &handle, const Inode &directory, std::string_view name, const Inode &inode);
  // The inode is on the orphan list from now on.
  void orphaned(jbd2::Handle &handle, const Inode &inode);
  // The number is free from now on, and handed out again only when the full commit is durable.
  void freed(jbd2::Handle &handle, InodeNumber number);

  // A full commit takes all of it. No handle is open.
  void forget();
  // Everything since the last call, as JournalOptions::fast_commit wants it. No handle is open. After "nothing" the
  // transaction must get a full commit: what was remembered is gone.
  std::optional<jbd2::FastCommit> encode(jbd2::Tid tid, bool first, std::uint32_t room);

private:
  static constexpr std::size_t kMostEntries = 8192;
  static constexpr std::size_t kMostRanges = 8;  // of an inode; then neighbours are joined, with what lies between

  struct Range {
    std::uint64_t first, end;
  };
  struct Changed {
    bool created = false;  // since the last fast commit
    std::vector<Range> ranges;  // sorted, disjoint
  };
  struct Name {
    format::FastCommitTag tag;
    InodeNumber parent, inode;
    std::string name;
  };
  struct Window {  // since the last fast commit
    std::unordered_map<InodeNumber, Changed> inodes;
    std::vector<Name> names;
    bool after_data = false;
  };
  class Encoding;

  bool watches(const jbd2::Handle &handle) const { return enabled_ && handle.tracking(); }
  static void add(std::vector<Range> &ranges, Range range);
  void add_name(jbd2::Handle &handle, format::FastCommitTag tag, const Inode &directory, std::string_view name,
                const Inode &inode);
  bool full() const REQUIRES(lock_) { return window_.names.size() + window_.inodes.size() > kMostEntries; }

  Volume &volume_;
  const bool enabled_;
  Mutex lock_{Rank::leaf};
  Window window_ GUARDED_BY(lock_);
};

}  // namespace outboard::ext4

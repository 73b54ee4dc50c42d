#include "ext4/fast_commit_tracker.h"

#include "ext4/file_map.h"
#include "ext4/inode_alloc.h"

#include <algorithm>

namespace outboard::ext4 {

using format::FastCommitTag;

// --- remembering ----------------------------------------------------------------------------------------------------

void FastCommits::stored(jbd2::Handle &handle, const Inode &inode) {
  // Mode 0: an inode that is just being freed.
  if (!watches(handle) || inode.is_directory() || inode.fields.mode == 0) return;
  if (!inode.is_regular() || !inode.fields.uses_extents() || inode.fields.has_flag(format::kInodeFlagJournalData) ||
      inode.number < volume_.superblock().first_ino) {
    handle.needs_full_commit();
    return;
  }
  MutexLock lock(lock_);
  window_.inodes.try_emplace(inode.number);
  if (full()) handle.needs_full_commit();
}

void FastCommits::mapped(jbd2::Handle &handle, const Inode &inode, std::uint64_t first, std::uint64_t end) {
  // A directory's blocks come with its names.
  if (!watches(handle) || inode.is_directory() || first >= end) return;
  if (!inode.is_regular() || !inode.fields.uses_extents()) {
    handle.needs_full_commit();
    return;
  }
  MutexLock lock(lock_);
  add(window_.inodes[inode.number].ranges, {first, end});
}

void FastCommits::add(std::vector<Range> &ranges, Range range) {
  std::vector<Range> joined;
  for (const Range &old : ranges) {
    if (old.end < range.first || range.end < old.first) {
      joined.push_back(old);
    } else {
      range.first = std::min(range.first, old.first);
      range.end = std::max(range.end, old.end);
    }
  }
  joined.insert(std::ranges::upper_bound(joined, range.first, {}, &Range::first), range);
  if (joined.size() > kMostRanges) {
    std::size_t best = 1;
    for (std::size_t i = 2; i < joined.size(); ++i)
      if (joined[i].first - joined[i - 1].end < joined[best].first - joined[best - 1].end) best = i;
    joined[best - 1].end = joined[best].end;
    joined.erase(joined.begin() + static_cast<std::ptrdiff_t>(best));
  }
  ranges = std::move(joined);
}

void FastCommits::after_data() {
  if (!enabled_) return;
  MutexLock lock(lock_);
  window_.after_data = true;
}

void FastCommits::add_name(jbd2::Handle &handle, FastCommitTag tag, const Inode &directory, std::string_view name,
                           const Inode &inode) {
  if (!watches(handle)) return;
  MutexLock lock(lock_);
  if (tag == FastCommitTag::create) window_.inodes[inode.number].created = true;
  window_.names.push_back({tag, directory.number, inode.number, std::string(name)});
  if (full()) handle.needs_full_commit();
}

void FastCommits::created(jbd2::Handle &handle, const Inode &directory, std::string_view name, const Inode &inode) {
  add_name(handle, FastCommitTag::create, directory, name, inode);
}
void FastCommits::linked(jbd2::Handle &handle, const Inode &directory, std::string_view name, const Inode &inode) {
  add_name(handle, FastCommitTag::link, directory, name, inode);
}
void FastCommits::unlinked(jbd2::Handle &handle, const Inode &directory, std::string_view name, const Inode &inode) {
  add_name(handle, FastCommitTag::unlink, directory, name, inode);
}

// A truncation that takes more than one transaction needs the list to survive a crash: that is a full commit's. A file
// without names needs nothing: replaying the removal of its last name deletes it.
void FastCommits::orphaned(jbd2::Handle &handle, const Inode &inode) {
  if (enabled_ && inode.fields.links != 0) handle.needs_full_commit();
}

void FastCommits::freed(jbd2::Handle &handle, InodeNumber number) {
  if (!enabled_) return;
  // In the state that a replay starts from the number may be an inode with blocks, or a link of the orphan list: a record of
  // a new file under it would be told apart from that by our replay only.
  InodeAllocator &inodes = volume_.inodes();
  inodes.hold_number(number);
  handle.after_commit([&inodes, number] { inodes.release_number(number); });
  if (!handle.tracking()) return;
  MutexLock lock(lock_);
  const auto changed = window_.inodes.find(number);
  if (changed == window_.inodes.end()) return;
  // Of an inode that no fast commit has told of nothing is left to tell; of others, that their names are gone.
  if (changed->second.created) std::erase_if(window_.names, [&](const Name &name) { return name.inode == number; });
  window_.inodes.erase(changed);
}

void FastCommits::forget() {
  if (!enabled_) return;
  MutexLock lock(lock_);
  window_ = {};
}

// --- telling --------------------------------------------------------------------------------------------------------

// One fast commit being put together. As no handle is open, the cached blocks are what the transaction would commit now.
class FastCommits::Encoding {
public:
  Encoding(Volume &volume, Window window, jbd2::Tid tid)
      : volume_(volume), window_(std::move(window)), encoder_(volume.block_size(), tid) {}

  // False: it does not fit.
  Result<bool> run(bool first, std::uint32_t room) {
    room_ = room;
    for (auto &[number, changed] : window_.inodes) {
      Subject subject;
      subject.raw = TRY(volume_.inodes().record(number));
      subject.inode.number = number;
      subject.inode.fields = TRY(format::parse_inode(volume_.superblock(), number, subject.raw));
      subject.inode.checksum_seed =
          format::inode_checksum_seed(volume_.superblock(), number, subject.inode.fields.generation);
      subjects_.emplace(number, std::move(subject));
    }
    if (first) encoder_.begin_area();
    for (const Name &name : window_.names)
      if (!TRY(add_name(name))) return false;
    for (const auto &[number, changed] : window_.inodes)
      if (!TRY(add_inode(number))) return false;
    return true;
  }
  bool empty() const { return !said_; }
  std::vector<std::byte> finish() { return encoder_.finish(); }

private:
  struct Subject {
    std::vector<std::byte> raw;
    Inode inode;
    bool ranges_told = false;
    bool gone() const { return inode.fields.links == 0; }
  };

  bool fits() {
    said_ = true;
    return encoder_.block_count() <= room_;
  }

  Result<bool> add_name(const Name &name) {
    const auto subject = subjects_.find(name.inode);
    const bool fresh = subject != subjects_.end() && window_.inodes.at(name.inode).created;
    if (fresh && subject->second.gone()) return true;  // came and went
    if (name.tag == FastCommitTag::create) {
      // First the inode without a name, then what it holds, then the name: so the kernel wants it.
      if (subject == subjects_.end()) return false;
      if (!add_record(subject->second)) return false;
      const bool told = TRY(add_ranges(subject->second));
      if (!told) return false;
    }
    return encoder_.entry(name.tag, name.parent, name.inode, name.name) && fits();
  }

  bool add_record(const Subject &subject) {
    const format::Superblock &superblock = volume_.superblock();
    std::size_t length = format::kGoodOldInodeSize;
    if (superblock.inode_size > format::kGoodOldInodeSize) length += subject.inode.fields.extra_isize;
    return encoder_.inode(subject.inode.number, std::span(subject.raw).first(length)) && fits();
  }

  Result<bool> add_ranges(Subject &subject) {
    if (subject.ranges_told) return true;
    subject.ranges_told = true;
    for (const Range &range : window_.inodes.at(subject.inode.number).ranges) {
      for (std::uint64_t at = range.first; at < range.end;) {
        const FileBlock block(static_cast<std::uint32_t>(at));
        const auto most = static_cast<std::uint32_t>(std::min<std::uint64_t>(range.end - at, ~std::uint32_t{0}));
        const FileMapping found = TRY(file_map::find(volume_, subject.inode, block, most));
        if (found.state == FileMapping::State::hole) {
          encoder_.del_range(subject.inode.number, block, found.count);
        } else {
          const bool unwritten = found.state == FileMapping::State::unwritten;
          encoder_.add_range(subject.inode.number, {block, found.start, found.count, unwritten});
        }
        if (!fits()) return false;
        at += found.count;
      }
    }
    return true;
  }

  // An inode without names is not told of: the kernel's recovery fails on one.
  Result<bool> add_inode(InodeNumber number) {
    Subject &subject = subjects_.at(number);
    if (subject.gone()) return true;
    const bool told = TRY(add_ranges(subject));
    return told && add_record(subject);
  }

  Volume &volume_;
  Window window_;
  format::FastCommitEncoder encoder_;
  std::unordered_map<InodeNumber, Subject> subjects_;
  std::uint32_t room_ = 0;
  bool said_ = false;
};

std::optional<jbd2::FastCommit> FastCommits::encode(jbd2::Tid tid, bool first, std::uint32_t room) {
  Window window;
  {
    MutexLock lock(lock_);
    window = std::exchange(window_, {});
  }
  const bool after_data = window.after_data;
  Encoding encoding(volume_, std::move(window), tid);
  const Result<bool> fits = encoding.run(first, room);
  if (!fits || !*fits) return std::nullopt;
  jbd2::FastCommit result;
  if (encoding.empty()) return result;
  result.blocks = encoding.finish();
  result.after_data = after_data;
  if (result.blocks.size() / volume_.block_size() > room) return std::nullopt;
  return result;
}

}  // namespace outboard::ext4

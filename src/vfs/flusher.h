// Write-behind: when dirty pages go to the device though nobody asked.
//
// An inode enters with its first dirty page and is pinned by a reference of the flusher's own until it has been clean for a
// while. Data is written soon after it arrived (small files made together are then allocated together), at once when a
// file has much of it, and at once for everybody when memory for folios runs short. What happens to an inode is the
// owner's business (two callbacks); *when* is this class's.
//
// Thread-safe. Its mutex (Rank::flusher) is never held across a callback.
#pragma once

#include "vfs/inode_table.h"

#include <chrono>
#include <functional>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

namespace outboard::vfs {

struct FlusherOptions {
  std::chrono::milliseconds delay{200};    // after the first byte became dirty
  std::uint64_t eager = std::uint64_t{4} << 20;  // a file with this many dirty bytes is written at once
  std::chrono::milliseconds linger{3000};  // clean inodes keep what was set aside for them this long
};

class Flusher {
public:
  struct Work {
    std::function<void(Inode &)> write_back;  // makes it clean (or gives its data up); errors are kept in the inode
    std::function<void(Inode &)> settle;      // it seems to be finished: what waits in memory is recorded and released
  };
  Flusher(InodeTable &inodes, pagecache::FolioMemory &memory, Work work, FlusherOptions options = {});
  ~Flusher();  // stop()

  // The inode has dirty pages, or something to settle. Cheap when it is known already.
  void note(Inode &inode);
  // Everything that is dirty now has been written back, or its failure noted, when this returns.
  void flush_all();
  // As flush_all, and settles and lets go of every inode.
  void release_all();
  // Calls `visit` for every inode in here.
  void for_each(const std::function<void(Inode &)> &visit);
  // The thread ends; what is dirty stays so.
  void stop();

  struct Counters {
    std::uint64_t written_back = 0, settled = 0;
  };
  Counters counters() const;

private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    InodeRef inode;
    Clock::time_point due;
    bool working = false;  // the thread is at it: not in the schedule
    bool again = false;    // noted meanwhile
  };
  void run();
  Clock::time_point due_for(const Inode &inode) const;
  bool memory_is_short() const { return memory_.in_use() > memory_.limit() / 2; }
  void schedule(InodeNumber number, Entry &entry, Clock::time_point due) REQUIRES(mutex_);
  // The number of the entry whose time has come; 0: none before `until`.
  InodeNumber next_due(Clock::time_point &until) REQUIRES(mutex_);
  void work_on(InodeNumber number) REQUIRES(mutex_);
  std::vector<InodeRef> all() EXCLUDES(mutex_);

  InodeTable &inodes_;
  pagecache::FolioMemory &memory_;
  const Work work_;
  const FlusherOptions options_;
  mutable Mutex mutex_{Rank::flusher};
  CondVar changed_;
  std::unordered_map<InodeNumber, Entry> entries_ GUARDED_BY(mutex_);
  std::set<std::pair<Clock::time_point, InodeNumber>> schedule_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  Counters counters_ GUARDED_BY(mutex_);
  std::thread thread_;  // last: it uses the above
};

}  // namespace outboard::vfs

// The one thread that deletes inodes: whoever drops the last reference only queues. Nobody that commit, writeback or a
// FORGET waits for ever truncates.
#pragma once

#include "base/mutex.h"
#include "base/units.h"

#include <deque>
#include <functional>
#include <thread>

namespace outboard::vfs {

class Reaper {
public:
  // `destroy` is called on the reaper's thread for each queued number.
  explicit Reaper(std::function<void(InodeNumber)> destroy);
  ~Reaper();  // stops after the queue is empty

  void queue(InodeNumber number);
  // Returns when everything queued before the call has been destroyed. Must not be called with an inode lock or a handle held.
  void drain();
  void stop();

private:
  void run();
  const std::function<void(InodeNumber)> destroy_;
  Mutex mutex_{Rank::leaf};
  CondVar changed_;
  std::deque<InodeNumber> queue_ GUARDED_BY(mutex_);
  std::uint64_t queued_ GUARDED_BY(mutex_) = 0;
  std::uint64_t done_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses the above
};

}  // namespace outboard::vfs

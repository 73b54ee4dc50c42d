// Requests that wait, each on a thread that it holds up alone: for a thaw, when a worker met a frozen file system
// (vfs/refuse_while_frozen.h), or for a device that takes no writes, when all workers do so already. The workers go on, so that
// reads are served however many writers wait. None waits behind another: what has to wait may lie before what need not, and
// behind that one the kernel keeps lookups (a CREATE holds its directory there).
//
// A request lies here with its payload. How many there can be is the kernel's business: its write-back keeps to a share of memory
// (strictly so for FUSE) and to max_background requests, and each process that waits has one of its own.
#pragma once

#include "base/mutex.h"
#include "fuse/channel.h"
#include "fuse/dispatcher.h"
#include "fuse/gate.h"

#include <deque>
#include <list>
#include <memory>
#include <thread>
#include <vector>

namespace outboard::fuse {

class ParkedRequests {
public:
  // Beyond `most_threads` requests do wait behind others.
  ParkedRequests(Dispatcher &dispatcher, Gate &gate, std::size_t most_threads)
      : dispatcher_(dispatcher), gate_(gate), most_threads_(most_threads) {}
  ~ParkedRequests() { stop(); }
  ParkedRequests(const ParkedRequests &) = delete;
  ParkedRequests &operator=(const ParkedRequests &) = delete;

  // The first thread; it stays.
  Status start() EXCLUDES(mutex_);
  // Takes a copy of the message; `channel` is where it came from and where the reply goes.
  void add(std::shared_ptr<Channel> channel, std::span<const std::byte> message) EXCLUDES(mutex_);
  // What is parked is carried out first. The file system has been thawed.
  void stop() EXCLUDES(mutex_);
  // After Gate::close(): waits until nobody here is inside.
  void wait_outside() EXCLUDES(mutex_);

private:
  struct Job {
    std::shared_ptr<Channel> channel;
    std::vector<std::byte> message;
  };
  struct Thread {
    Gate::Slot slot;
    ReplyBuffer buffer;
    bool finished = false;  // guarded by mutex_; set as the thread's last use of it
    std::thread thread;
  };
  Status add_thread() REQUIRES(mutex_);
  void join_finished() REQUIRES(mutex_);
  void run(Thread &self) EXCLUDES(mutex_);
  void carry_out(Thread &self, const Job &job);

  Dispatcher &dispatcher_;
  Gate &gate_;
  const std::size_t most_threads_;
  Mutex mutex_{Rank::leaf};
  CondVar changed_;
  CondVar ended_;
  std::deque<Job> jobs_ GUARDED_BY(mutex_);
  std::list<Thread> threads_ GUARDED_BY(mutex_);
  std::size_t free_ GUARDED_BY(mutex_) = 0;  // threads without a job; each will take one of those in jobs_
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace outboard::fuse

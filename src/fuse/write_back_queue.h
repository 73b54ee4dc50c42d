// The thread for requests that are only true once the kernel has written back what it holds
// (Dispatcher::needs_write_back): it makes the kernel do that, while the workers serve the WRITEs that come of it, and
// then answers. One such request at a time: they are rare, and each is over when the file is clean.
// A shutdown is among them: what the kernel holds dirty goes before it (if it is to), and what it has cached goes after it,
// so that clients do not go on reading and writing pages that have nothing behind them any more.
#pragma once

#include "base/mutex.h"
#include "fuse/channel.h"
#include "fuse/dispatcher.h"
#include "fuse/gate.h"

#include <chrono>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

namespace outboard::fuse {

class WriteBackQueue {
public:
  WriteBackQueue(Dispatcher &dispatcher, Gate &gate) : dispatcher_(dispatcher), gate_(gate) {}
  ~WriteBackQueue() { stop(); }
  WriteBackQueue(const WriteBackQueue &) = delete;
  WriteBackQueue &operator=(const WriteBackQueue &) = delete;

  Status start();
  // Takes a copy of the message; `channel` is where it came from and where the reply goes.
  void add(std::shared_ptr<Channel> channel, std::span<const std::byte> message) EXCLUDES(mutex_);
  // After a shutdown that a worker has carried out: the kernel drops what it has cached. Returns when that is done, or at the
  // deadline while it goes on: a page whose READ is under way on a device that does not answer cannot be dropped.
  void drop_everything(std::shared_ptr<Channel> channel, std::chrono::steady_clock::time_point deadline) EXCLUDES(mutex_);
  // What is queued is answered with EINTR, what is under way is finished: the workers must still be there.
  void stop() EXCLUDES(mutex_);

  const Gate::Slot &slot() const { return slot_; }

private:
  struct Job {
    std::shared_ptr<Channel> channel;
    std::vector<std::byte> message;  // empty: drop_everything()
  };
  // The last block that was asked for. A walk over a file (FIBMAP of each block, swapon) needs one write-back, not one
  // for each block.
  struct Walk {
    vfs::NodeId node = 0;
    std::uint64_t block = 0;
    std::chrono::steady_clock::time_point at;
  };

  void run() EXCLUDES(mutex_);
  void carry_out(const Job &job, bool stopping);
  void write_back_for(const Job &job, const Request &request);
  // Every file that the kernel may have pages of: written back and dropped. Ends early when stop() is called.
  void write_back_everything(const Channel &channel) EXCLUDES(mutex_);
  bool continues_walk(const Request &request);

  Dispatcher &dispatcher_;
  Gate &gate_;
  Gate::Slot slot_;
  ReplyBuffer buffer_;
  Walk walk_;  // the thread's own
  Mutex mutex_{Rank::leaf};
  CondVar changed_;
  std::deque<Job> jobs_ GUARDED_BY(mutex_);
  std::uint64_t added_ GUARDED_BY(mutex_) = 0;
  std::uint64_t done_ GUARDED_BY(mutex_) = 0;
  CondVar finished_;  // a job is done
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace outboard::fuse

// The thread for requests that are only true once the kernel has written back what it holds
// (Dispatcher::needs_write_back): it makes the kernel do that, while the workers serve the WRITEs that come of it, and
// then answers. One such request at a time: they are rare, and each is over when the file is clean.
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
  // What is queued is answered with EINTR, what is under way is finished: the workers must still be there.
  void stop() EXCLUDES(mutex_);

  const Gate::Slot &slot() const { return slot_; }

private:
  struct Job {
    std::shared_ptr<Channel> channel;
    std::vector<std::byte> message;
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
  bool continues_walk(const Request &request);

  Dispatcher &dispatcher_;
  Gate &gate_;
  Gate::Slot slot_;
  ReplyBuffer buffer_;
  Walk walk_;  // the thread's own
  Mutex mutex_{Rank::leaf};
  CondVar changed_;
  std::deque<Job> jobs_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace outboard::fuse

// Requests that wait for a thaw. A worker that meets a frozen file system (vfs/refuse_while_frozen.h) puts its request here and
// goes on, so that reads are served however many writers wait; one thread takes them up again, in order, and does the waiting.
//
// A request lies here with its payload. How many there can be is the kernel's business: its write-back keeps to a share of memory
// (strictly so for FUSE) and to max_background requests, and each process that waits has one of its own.
#pragma once

#include "base/mutex.h"
#include "fuse/channel.h"
#include "fuse/dispatcher.h"
#include "fuse/gate.h"

#include <deque>
#include <memory>
#include <thread>
#include <vector>

namespace outboard::fuse {

class ParkedRequests {
public:
  ParkedRequests(Dispatcher &dispatcher, Gate &gate) : dispatcher_(dispatcher), gate_(gate) {}
  ~ParkedRequests() { stop(); }
  ParkedRequests(const ParkedRequests &) = delete;
  ParkedRequests &operator=(const ParkedRequests &) = delete;

  Status start();
  // Takes a copy of the message; `channel` is where it came from and where the reply goes.
  void add(std::shared_ptr<Channel> channel, std::span<const std::byte> message) EXCLUDES(mutex_);
  // What is parked is carried out first. The file system has been thawed.
  void stop() EXCLUDES(mutex_);

  const Gate::Slot &slot() const { return slot_; }

private:
  struct Job {
    std::shared_ptr<Channel> channel;
    std::vector<std::byte> message;
  };
  void run() EXCLUDES(mutex_);
  void carry_out(const Job &job);

  Dispatcher &dispatcher_;
  Gate &gate_;
  Gate::Slot slot_;
  ReplyBuffer buffer_;
  Mutex mutex_{Rank::leaf};
  CondVar changed_;
  std::deque<Job> jobs_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace outboard::fuse

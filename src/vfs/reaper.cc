#include "vfs/reaper.h"

#include "base/thread_role.h"

namespace outboard::vfs {

namespace {
constinit WaitClass kReaped{"vfs: inodes without a name are deleted"};  // owed by the reaper's thread
}

Reaper::Reaper(std::function<void(InodeNumber)> destroy) : destroy_(std::move(destroy)), thread_([this] { run(); }) {}

Reaper::~Reaper() { stop(); }

void Reaper::queue(InodeNumber number) {
  MutexLock lock(mutex_);
  queue_.push_back(number);
  ++queued_;
  changed_.notify_all();
}

void Reaper::drain() {
  MutexLock lock(mutex_);
  const std::uint64_t target = queued_;
  // Ends when the reaper's thread has worked off what is queued; its own waits are the journal's.
  while (done_ < target) changed_.wait(mutex_, kReaped);
}

void Reaper::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Reaper::run() {
  const ThreadRoleScope role(ThreadRole::reaper);
  MutexLock lock(mutex_);
  for (;;) {
    while (queue_.empty() && !stopping_) changed_.wait(mutex_, kIdle);
    if (queue_.empty()) return;
    const InodeNumber number = queue_.front();
    queue_.pop_front();
    lock.unlock();
    {
      const Owes reaped(kReaped);
      destroy_(number);
    }
    lock.lock();
    ++done_;
    changed_.notify_all();
  }
}

}  // namespace outboard::vfs

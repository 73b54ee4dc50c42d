#include "fuse/parked_requests.h"

#include "base/log.h"
#include "fuse/operation_table.h"
#include "fuse/thread_signals.h"

#include <chrono>
#include <system_error>

namespace outboard::fuse {

namespace {

using namespace std::chrono_literals;

// A thread without work goes after this long; the first one stays.
constexpr auto kLinger = 1s;

constinit WaitClass kParkedEnds{"fuse: a parked request ends"};  // owed by its thread

}  // namespace

Status ParkedRequests::start() {
  MutexLock lock(mutex_);
  return add_thread();
}

Status ParkedRequests::add_thread() {
  ReplyBuffer buffer = TRY(ReplyBuffer::allocate(kLeastReplyRoom));
  Thread &self = threads_.emplace_back();
  self.buffer = std::move(buffer);
  try {
    self.thread = std::thread([this, &self] {
      block_all_signals();
      run(self);
    });
  } catch (const std::system_error &error) {
    threads_.pop_back();
    return fail(Error::system(error.code().value(), "a thread for a request that waits"));
  }
  ++free_;
  return {};
}

void ParkedRequests::add(std::shared_ptr<Channel> channel, std::span<const std::byte> message) {
  MutexLock lock(mutex_);
  join_finished();
  jobs_.push_back({std::move(channel), {message.begin(), message.end()}});
  if (jobs_.size() > free_ && threads_.size() < most_threads_) {
    if (Status added = add_thread(); !added) log(LogLevel::warning, "no further thread: {}", added.error().message());
  }
  changed_.notify_one();
}

void ParkedRequests::stop() {
  MutexLock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  for (;;) {
    join_finished();
    if (threads_.empty()) return;
    // For the operations under way: nothing is frozen any more, so the rest is the device's.
    ended_.wait(mutex_, kParkedEnds);
  }
}

void ParkedRequests::wait_outside() {
  MutexLock lock(mutex_);
  // A slot is left without the mutex.
  for (const Thread &thread : threads_) Gate::wait_outside(thread.slot, kParkedEnds);
}

void ParkedRequests::join_finished() {
  for (auto thread = threads_.begin(); thread != threads_.end();) {
    if (!thread->finished) {
      ++thread;
      continue;
    }
    thread->thread.join();
    thread = threads_.erase(thread);
  }
}

void ParkedRequests::run(Thread &self) {
  MutexLock lock(mutex_);
  const bool stays = &self == &threads_.front();
  for (;;) {
    const auto until = std::chrono::steady_clock::now() + kLinger;
    bool lingered = false;
    // For the next job; stop() ends it, and having been of no use.
    while (jobs_.empty() && !stopping_ && !lingered) {
      if (stays) changed_.wait(mutex_, kIdle);
      else lingered = !changed_.wait_until(mutex_, until);
    }
    --free_;
    if (jobs_.empty()) break;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    {
      const Owes end(kParkedEnds);
      carry_out(self, job);
    }
    lock.lock();
    ++free_;
  }
  join_finished();
  self.finished = true;
  ended_.notify_all();
}

void ParkedRequests::carry_out(Thread &self, const Job &job) {
  Result<Request> request = split_message(job.message, dispatcher_.options().short_setxattr);
  if (!request) return;  // it was split before it came here
  Reply reply(self.buffer.payload());
  const bool entered = gate_.enter(self.slot);
  // Waits for the thaw here: it is an operation like any other.
  if (entered) dispatcher_.dispatch(*request, reply);
  else reply.fail(ENOTCONN);
  if (!operation(request->opcode()).answered) reply.suppress();
  if (reply.wanted()) {
    const Result<Delivery> sent = job.channel->send(request->header().unique, reply, self.buffer);
    if (!sent) log(LogLevel::error, "request {}: {}", request->header().opcode, sent.error().message());
    if (!sent || *sent == Delivery::gone) dispatcher_.undelivered(*request, reply);
  }
  if (entered) gate_.leave(self.slot);
}

}  // namespace outboard::fuse

#include "fuse/parked_requests.h"

#include "base/log.h"
#include "fuse/operation_table.h"
#include "fuse/thread_signals.h"

namespace outboard::fuse {

Status ParkedRequests::start() {
  buffer_ = TRY(ReplyBuffer::allocate(kLeastReplyRoom));
  thread_ = std::thread([this] {
    block_all_signals();
    run();
  });
  return {};
}

void ParkedRequests::add(std::shared_ptr<Channel> channel, std::span<const std::byte> message) {
  MutexLock lock(mutex_);
  jobs_.push_back({std::move(channel), {message.begin(), message.end()}});
  changed_.notify_one();
}

void ParkedRequests::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void ParkedRequests::run() {
  MutexLock lock(mutex_);
  for (;;) {
    // For the next job; stop() ends it.
    while (jobs_.empty() && !stopping_) changed_.wait(mutex_);
    if (jobs_.empty()) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    carry_out(job);
    lock.lock();
  }
}

void ParkedRequests::carry_out(const Job &job) {
  Result<Request> request = split_message(job.message, dispatcher_.options().short_setxattr);
  if (!request) return;  // it was split before it came here
  Reply reply(buffer_.payload());
  const bool entered = gate_.enter(slot_);
  // Waits for the thaw here: it is an operation like any other.
  if (entered) dispatcher_.dispatch(*request, reply);
  else reply.fail(ENOTCONN);
  if (!operation(request->opcode()).answered) reply.suppress();
  if (reply.wanted()) {
    const Result<Delivery> sent = job.channel->send(request->header().unique, reply, buffer_);
    if (!sent) log(LogLevel::error, "request {}: {}", request->header().opcode, sent.error().message());
    if (!sent || *sent == Delivery::gone) dispatcher_.undelivered(*request, reply);
  }
  if (entered) gate_.leave(slot_);
}

}  // namespace outboard::fuse

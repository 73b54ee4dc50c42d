#include "fuse/write_back_queue.h"

#include "base/log.h"
#include "fuse/shutdown_request.h"
#include "fuse/thread_signals.h"

namespace outboard::fuse {

Status WriteBackQueue::start() {
  buffer_ = TRY(ReplyBuffer::allocate(kLeastReplyRoom));
  thread_ = std::thread([this] {
    block_all_signals();
    run();
  });
  return {};
}

void WriteBackQueue::add(std::shared_ptr<Channel> channel, std::span<const std::byte> message) {
  MutexLock lock(mutex_);
  jobs_.push_back({std::move(channel), {message.begin(), message.end()}});
  ++added_;
  changed_.notify_one();
}

void WriteBackQueue::drop_everything(std::shared_ptr<Channel> channel, std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mutex_);
  jobs_.push_back({std::move(channel), {}});
  const std::uint64_t mine = ++added_;
  changed_.notify_one();
  // For the queue's thread to have come to our job and finished it; bounded by the deadline.
  while (done_ < mine && std::chrono::steady_clock::now() < deadline) finished_.wait_until(mutex_, deadline);
}

void WriteBackQueue::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void WriteBackQueue::run() {
  MutexLock lock(mutex_);
  for (;;) {
    // For the next job; stop() ends it.
    while (jobs_.empty() && !stopping_) changed_.wait(mutex_, kIdle);
    if (jobs_.empty()) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    const bool stopping = stopping_;
    lock.unlock();
    carry_out(job, stopping);
    lock.lock();
    ++done_;
    finished_.notify_all();
  }
}

bool WriteBackQueue::continues_walk(const Request &request) {
  if (request.opcode() != wire::Opcode::bmap) return false;
  const Result<wire::BmapIn> in = request.arguments<wire::BmapIn>();
  if (!in) return false;
  const auto now = std::chrono::steady_clock::now();
  const bool continues =
      walk_.node == request.node() && in->block > walk_.block && now - walk_.at < std::chrono::seconds(1);
  walk_ = {request.node(), in->block, now};
  return continues;
}

void WriteBackQueue::write_back_everything(const Channel &channel) {
  for (const vfs::NodeId node : dispatcher_.filesystem().known_nodes()) {
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
    }
    if (const Status written = channel.write_back(node, 0); !written)
      log(LogLevel::debug, "node {}: {}", node, written.error().message());
  }
}

void WriteBackQueue::write_back_for(const Job &job, const Request &request) {
  if (dispatcher_.needs_write_back_of_everything(request)) return write_back_everything(*job.channel);
  const std::uint64_t from = dispatcher_.needs_write_back(request).value_or(0);
  const Status written = continues_walk(request) ? Status{} : job.channel->write_back(request.node(), from);
  // A page that cannot be written stays with the kernel, which reports it at fsync; what we know is still an answer.
  if (!written) log(LogLevel::debug, "node {}: {}", request.node(), written.error().message());
}

void WriteBackQueue::carry_out(const Job &job, bool stopping) {
  if (job.message.empty()) {
    if (stopping || !gate_.enter(slot_)) return;
    const Owes end(kQueuedRequestEnds);
    write_back_everything(*job.channel);
    gate_.leave(slot_);
    return;
  }
  Result<Request> request = split_message(job.message);
  if (!request) return;  // it was split before it came here
  Reply reply(buffer_.payload());
  if (stopping) {
    reply.fail(EINTR);
  } else if (!gate_.enter(slot_)) {
    reply.fail(ENOTCONN);
  } else {
    const Owes end(kQueuedRequestEnds);
    write_back_for(job, *request);
    dispatcher_.dispatch(*request, reply);
    if (asks_for_shutdown(*request) && dispatcher_.filesystem().is_shut_down()) write_back_everything(*job.channel);
    gate_.leave(slot_);
  }
  const Result<Delivery> sent = job.channel->send(request->header().unique, reply, buffer_);
  if (!sent) log(LogLevel::error, "{}", sent.error().message());
}

}  // namespace outboard::fuse

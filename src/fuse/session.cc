#include "fuse/session.h"

#include "base/log.h"
#include "fuse/operation_table.h"
#include "fuse/shutdown_request.h"
#include "fuse/thread_signals.h"
#include "vfs/refuse_while_frozen.h"

#include <algorithm>
#include <chrono>

namespace outboard::fuse {

namespace {

using namespace std::chrono_literals;

// All workers inside the file system, none having finished anything for this long: they wait for something, and
// requests that need not wait are kept from being served.
constexpr auto kHeldUp = 2ms;
// ... and so many looks later, with as many workers as there may be, they wait for a device that takes no writes.
constexpr unsigned kLooksUntilStalled = 50;
// Between wake-up signals to workers that are to leave: one may just miss the read it should interrupt.
constexpr auto kWakeAgain = 5ms;
// Each waiting request has a thread; with more of them than this, what only reads is still served.
constexpr std::size_t kMostParkedThreads = 1024;
// WRITEs all wait for the same.
constexpr std::size_t kMostParkedWriteThreads = 4;
// How long the answer to a shutdown waits for the kernel's caches to be emptied.
constexpr auto kDropPatience = 2s;

unsigned base_threads(const SessionOptions &options) {
  if (options.threads != 0) return options.threads;
  return std::clamp(std::thread::hardware_concurrency(), 2u, 4u);
}

}  // namespace

Session::Session(UniqueFd descriptor, vfs::Filesystem &filesystem, const SessionOptions &options)
    : options_(options), base_threads_(base_threads(options)), filesystem_(filesystem),
      channel_(std::make_shared<Channel>(std::move(descriptor))) {}

Result<std::unique_ptr<Session>> Session::create(UniqueFd descriptor, vfs::Filesystem &filesystem,
                                                 const SessionOptions &options) {
  if (!descriptor) return fail(Error::system(EBADF, "session without a /dev/fuse descriptor"));
  install_wake_handler();
  return std::unique_ptr<Session>(new Session(std::move(descriptor), filesystem, options));
}

Session::~Session() = default;

Status Session::negotiate() {
  RequestBuffer requests = TRY(RequestBuffer::allocate(options_.max_write));
  ReplyBuffer replies = TRY(ReplyBuffer::allocate(kLeastReplyRoom));
  for (;;) {
    // Sent by the kernel as part of the mount: bounded by the mount's existence (ENODEV).
    const std::span<const std::byte> message = TRY(channel_->receive(requests));
    if (message.empty()) continue;  // a signal of the owner's; INIT is still to come
    Request request = TRY(split_message(message));
    if (request.opcode() != wire::Opcode::init)
      return fail(Error::system(EPROTO, "the kernel did not begin with INIT"));
    const std::uint64_t unique = request.header().unique;
    Reply reply(replies.payload());
    const wire::InitIn offer = TRY(decode_init(message.subspan(sizeof(wire::InHeader))));
    if (needs_other_major(offer)) {
      reply.put(refuse_major());
      TRY(channel_->send(unique, reply, replies));
      continue;
    }
    Result<Agreement> agreement = agree(
        offer, {.writeback_cache = options_.writeback_cache && !options_.read_only, .max_write = options_.max_write},
        page_size());
    if (!agreement) {
      reply.fail(EPROTO);
      TRY(channel_->send(unique, reply, replies));
      return fail(std::move(agreement).error());
    }
    agreement_ = *agreement;
    reply.put(agreement_.answer);
    TRY(channel_->send(unique, reply, replies));
    return {};
  }
}

Status Session::serve() {
  dispatcher_ = std::make_unique<Dispatcher>(
      filesystem_, DispatchOptions{.owner_uid = options_.owner_uid,
                                   .read_only = options_.read_only,
                                   .short_setxattr = !agreement_.has(wire::init_flag::setxattr_ext),
                                   .answer_opens = options_.answer_opens});
  write_backs_ = std::make_unique<WriteBackQueue>(*dispatcher_, gate_);
  TRY(write_backs_->start());
  parked_ = std::make_unique<ParkedRequests>(*dispatcher_, gate_, kMostParkedThreads);
  parked_writes_ = std::make_unique<ParkedRequests>(*dispatcher_, gate_, kMostParkedWriteThreads);
  TRY(parked_->start());
  TRY(parked_writes_->start());
  {
    MutexLock lock(mutex_);
    TRY(add_worker(channel_));
    for (unsigned i = 1; i < base_threads_; ++i) {
      Result<std::shared_ptr<Channel>> channel = another_channel();
      // A queue of its own is a convenience; the shared one serves as well.
      Status added = add_worker(channel ? *std::move(channel) : channel_);
      if (!added) log(LogLevel::warning, "serving with {} threads: {}", running_.load(), added.error().message());
    }
  }
  supervise();
  MutexLock lock(mutex_);
  return failure_;
}

void Session::stop() {
  MutexLock lock(mutex_);
  stop_wanted_ = true;
  changed_.notify_all();
}

Result<std::shared_ptr<Channel>> Session::another_channel() const {
  return std::make_shared<Channel>(TRY(channel_->clone()));
}

Status Session::add_worker(std::shared_ptr<Channel> channel) {
  RequestBuffer requests = TRY(RequestBuffer::allocate(agreement_.max_write));
  ReplyBuffer replies = TRY(ReplyBuffer::allocate(agreement_.max_write));
  Worker &worker = workers_.emplace_back();
  worker.channel = std::move(channel);
  worker.requests = std::move(requests);
  worker.replies = std::move(replies);
  running_.fetch_add(1);
  worker.thread = std::thread([this, &worker] {
    block_all_but_wake_signal();
    work(worker);
    MutexLock lock(mutex_);
    worker.finished.store(true);
    changed_.notify_all();
  });
  return {};
}

// --- a worker's life ----------------------------------------------------------------------------------------------

void Session::work(Worker &worker) {
  while (!ending_.load()) {
    idle_.fetch_add(1);
    Result<std::span<const std::byte>> message = worker.channel->receive(worker.requests);
    const unsigned others = idle_.fetch_sub(1) - 1;
    // Besides the one for reads: somebody who was held up is free.
    if (others != 0 && stalled_.load(std::memory_order_relaxed)) stalled_.store(false);
    if (!message) {
      end(message.error());
      break;
    }
    if (message->empty()) continue;
    worker.taken.fetch_add(1, std::memory_order_relaxed);
    if (others == 0) no_worker_left();
    handle(worker, *message);
    if (may_retire()) return;
  }
  running_.fetch_sub(1);
}

void Session::no_worker_left() {
  if (watched_.load(std::memory_order_relaxed) || watched_.exchange(true)) return;
  MutexLock lock(mutex_);
  changed_.notify_all();
}

// Workers beyond the usual number go when the usual number is free again.
bool Session::may_retire() {
  unsigned running = running_.load();
  while (running > base_threads_ && idle_.load() >= base_threads_)
    if (running_.compare_exchange_weak(running, running - 1)) return true;
  return false;
}

void Session::end(const Error &reason) {
  MutexLock lock(mutex_);
  if (!ending_.exchange(true)) {
    if (reason.is(ECONNABORTED)) log(LogLevel::warning, "the connection to the kernel was aborted");
    else if (!reason.is(ENODEV)) failure_ = fail(reason);
  }
  changed_.notify_all();
}

void Session::handle(Worker &worker, std::span<const std::byte> message) {
  Result<Request> request = split_message(message, dispatcher_->options().short_setxattr);
  if (!request) {
    log(LogLevel::error, "{}", request.error().message());
    return;
  }
  dispatcher_->count(*request);
  if (request->opcode() == wire::Opcode::destroy) return handle_destroy(worker, *request);
  if (dispatcher_->needs_write_back(*request) || dispatcher_->needs_write_back_of_everything(*request))
    return write_backs_->add(worker.channel, message);

  if (stalled_.load(std::memory_order_relaxed) && Dispatcher::may_wait_for_writes(*request)) return park(worker, *request, message);
  if (gate_.enter(worker.slot)) {
    const Owes end(kRequestEnds);
    Reply reply(worker.replies.payload());
    bool parked = false;
    {
      const vfs::RefuseWhileFrozen no_waiting;
      dispatcher_->dispatch(*request, reply);
      // Refused before it did anything: it is asked again. (One that had done a part has that part for an answer.)
      parked = vfs::RefuseWhileFrozen::refused() && reply.error() == EAGAIN;
    }
    if (parked) {
      park(worker, *request, message);
      return gate_.leave(worker.slot);
    }
    if (asks_for_shutdown(*request) && filesystem_.is_shut_down())
      write_backs_->drop_everything(worker.channel, std::chrono::steady_clock::now() + kDropPatience);
    send(worker, *request, reply);
    gate_.leave(worker.slot);
  } else {
    Reply reply(worker.replies.payload());
    reply.fail(ENOTCONN);
    if (!operation(request->opcode()).answered) reply.suppress();
    send(worker, *request, reply);
  }
}

void Session::park(Worker &worker, const Request &request, std::span<const std::byte> message) {
  (request.opcode() == wire::Opcode::write ? parked_writes_ : parked_)->add(worker.channel, message);
}

void Session::send(Worker &worker, const Request &request, const Reply &reply) {
  if (!reply.wanted()) return;
  const Result<Delivery> sent = worker.channel->send(request.header().unique, reply, worker.replies);
  if (!sent) log(LogLevel::error, "request {}: {}", request.header().opcode, sent.error().message());
  // A refused reply has not reached anybody either.
  if (!sent || *sent == Delivery::gone) dispatcher_->undelivered(request, reply);
}

void Session::handle_destroy(Worker &worker, const Request &request) {
  if (!gate_.close()) {
    Reply reply(worker.replies.payload());
    reply.fail(EINVAL);
    return send(worker, request, reply);
  }
  // The end of the mount is the end of a freeze; whoever waits for that is let out.
  static_cast<void>(filesystem_.thaw(0));
  {
    MutexLock lock(mutex_);
    // Each wait ends with the one operation that is still under way there.
    for (const Worker &other : workers_) Gate::wait_outside(other.slot, kRequestEnds);
    Gate::wait_outside(write_backs_->slot(), kQueuedRequestEnds);
  }
  parked_->wait_outside();
  parked_writes_->wait_outside();
  Reply reply(worker.replies.payload());
  unmount_result_ = filesystem_.unmount();
  if (!unmount_result_) reply.fail(error_number(unmount_result_.error(), "unmount", vfs::kRootNode));
  send(worker, request, reply);
}

// --- the thread that called serve() -------------------------------------------------------------------------------

void Session::supervise() {
  MutexLock lock(mutex_);
  bool write_backs_stopped = false;
  for (;;) {
    join_finished();
    if (workers_.empty()) break;
    if ((stop_wanted_ || ending_.load()) && !write_backs_stopped) {
      // Before the workers go: it waits for WRITEs that they serve.
      lock.unlock();
      static_cast<void>(filesystem_.thaw(0));  // nobody could any more
      write_backs_->stop();
      parked_->stop();
      parked_writes_->stop();
      lock.lock();
      write_backs_stopped = true;
      ending_.store(true);
    }
    const auto now = std::chrono::steady_clock::now();
    if (write_backs_stopped) {
      wake_workers();
      changed_.wait_until(mutex_, now + kWakeAgain);
    } else if (watched_.load()) {
      changed_.wait_until(mutex_, now + kHeldUp);
      relieve();
    } else {
      // Until a worker ends, stop() is called, or no worker is left for the next request.
      changed_.wait(mutex_, kIdle);
    }
  }
  lock.unlock();
  write_backs_->stop();
  static_cast<void>(filesystem_.thaw(0));
  parked_->stop();
  parked_writes_->stop();
}

void Session::join_finished() {
  for (auto worker = workers_.begin(); worker != workers_.end();) {
    if (!worker->finished.load()) {
      ++worker;
      continue;
    }
    // `finished` is set under the mutex as the thread's last use of it: the join cannot wait for us.
    worker->thread.join();
    worker = workers_.erase(worker);
  }
}

void Session::wake_workers() {
  for (Worker &worker : workers_)
    if (!worker.finished.load()) ::pthread_kill(worker.thread.native_handle(), wake_signal());
}

std::uint64_t Session::requests_taken() const {
  std::uint64_t sum = 0;
  for (const Worker &worker : workers_) sum += worker.taken.load(std::memory_order_relaxed);
  return sum;
}

std::uint64_t Session::requests() {
  MutexLock lock(mutex_);
  return requests_taken();
}

// Another worker if all have been held up since the last look. When one is free, nobody needs to look any more.
void Session::relieve() {
  const std::uint64_t taken = requests_taken();
  const bool held_up = idle_.load() == 0 && taken == taken_at_last_look_;
  taken_at_last_look_ = taken;
  if (held_up) {
    if (running_.load() >= options_.max_threads) {
      if (stalled_.load() || running_.load() >= 2 * options_.max_threads || ++looks_held_up_ < kLooksUntilStalled) return;
      stalled_.store(true);
    }
    looks_held_up_ = 0;
    Result<std::shared_ptr<Channel>> channel = another_channel();
    if (Status added = add_worker(channel ? *std::move(channel) : channel_); !added)
      log(LogLevel::warning, "no further thread: {}", added.error().message());
    return;
  }
  looks_held_up_ = 0;
  if (idle_.load() == 0) return;
  watched_.store(false);
  // A worker that became the last one in between saw `watched_` and did not tell us.
  if (idle_.load() == 0) watched_.store(true);
}

}  // namespace outboard::fuse

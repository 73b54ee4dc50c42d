#include "device/request_ring.h"

#include "device/deadline_device.h"

#include <algorithm>
#include <atomic>
#include <liburing.h>

namespace outboard::device {

namespace {
// One is waited for; the others are late ones.
constexpr unsigned kEntries = 16;
constexpr unsigned kWorkers = 64;

// The next ring may lie where this one lay. That the kernel unmaps before it maps is an order that race detectors do not see: this is it.
std::atomic<unsigned> rings_gone{0};
}  // namespace

struct RequestRing::InFlight {
  std::shared_ptr<RequestMemory> memory;
  int result = 0;
  bool ended = false;
  bool given_up = false;
};

Result<RequestRing *> RequestRing::of_this_thread() {
  // The kernel still writes into the memory of what is under way: then ring and memory stay.
  static std::atomic<RequestRing *> left;
  struct LeaveWhenLate {
    void operator()(RequestRing *ring) const {
      ring->take_completions();
      if (ring->late_.empty()) delete ring;
      else ring->left_before_ = left.exchange(ring);
    }
  };
  thread_local std::unique_ptr<RequestRing, LeaveWhenLate> ring;
  if (ring) return ring.get();
  std::unique_ptr<RequestRing> made(new RequestRing);
  TRY(made->open());
  ring.reset(made.release());
  return ring.get();
}

Status RequestRing::open() {
  auto ring = std::make_unique<io_uring>();
  int error = 0;
  // The cheapest way first; kernels before 6.1 do not have it.
  for (const unsigned flags : {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0u}) {
    error = -::io_uring_queue_init(kEntries, ring.get(), flags);
    if (error == EINVAL) continue;
    break;
  }
  if (error != 0) return fail(Error::system(error, "device: no io_uring"));
  static_cast<void>(rings_gone.load(std::memory_order_acquire));
  ring_ = std::move(ring);
  // Waiting with a time-out is a feature of its own (5.11).
  if ((ring_->features & IORING_FEAT_EXT_ARG) == 0) return fail(Error::system(ENOSYS, "device: io_uring without time-outs"));
  // Requests that the kernel cannot start without blocking have kernel threads of their own, which may all get stuck.
  unsigned most[2] = {kWorkers, kWorkers};
  ::io_uring_register_iowq_max_workers(ring_.get(), most);
  return {};
}

RequestRing::~RequestRing() {
  if (!ring_) return;
  rings_gone.fetch_add(1, std::memory_order_release);
  ::io_uring_queue_exit(ring_.get());
}

void RequestRing::take_completions() {
  io_uring_cqe *completion = nullptr;
  while (::io_uring_peek_cqe(ring_.get(), &completion) == 0 && completion != nullptr) {
    auto *request = static_cast<InFlight *>(::io_uring_cqe_get_data(completion));
    request->result = completion->res;
    request->ended = true;
    ::io_uring_cqe_seen(ring_.get(), completion);
    if (request->given_up) std::erase_if(late_, [request](const auto &late) { return late.get() == request; });
  }
}

Result<io_uring_sqe *> RequestRing::entry() {
  io_uring_sqe *entry = ::io_uring_get_sqe(ring_.get());
  if (entry == nullptr) return fail(Error::system(EAGAIN, "device: no free entry in the ring"));
  return entry;
}

Result<int> RequestRing::run(std::unique_ptr<InFlight> request, io_uring_sqe *entry, Deadline deadline, DeviceHealth *health) {
  ::io_uring_sqe_set_data(entry, request.get());
  for (bool last = false;;) {
    const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(deadline - Clock::now());
    const auto wait = std::max(left, std::chrono::nanoseconds(1));
    __kernel_timespec time{.tv_sec = wait.count() / 1'000'000'000, .tv_nsec = wait.count() % 1'000'000'000};
    io_uring_cqe *completion = nullptr;
    // For the device; bounded by the deadline. Submits the first time round.
    const int waited = ::io_uring_submit_and_wait_timeout(ring_.get(), &completion, 1, &time, nullptr);
    take_completions();
    if (request->ended) return request->result;
    if (last) break;
    if (waited < 0 && waited != -EINTR && waited != -ETIME && waited != -EAGAIN && waited != -EBUSY) break;
    if (Clock::now() < deadline) continue;
    // It may be answered while the question takes its time: one look more.
    const std::optional<Deadline> longer = health != nullptr ? health->wait_on() : std::nullopt;
    if (longer) deadline = *longer;
    else last = true;
  }
  // What the kernel has not taken, it takes with a later request: it must be nothing by then.
  if (::io_uring_sq_ready(ring_.get()) != 0) {
    ::io_uring_prep_nop(entry);
    ::io_uring_sqe_set_data(entry, request.get());
  }
  request->given_up = true;
  late_.push_back(std::move(request));
  return fail(no_answer());
}

Result<std::size_t> RequestRing::read(int fd, std::uint64_t position, const std::shared_ptr<RequestMemory> &memory, std::size_t length,
                                      Deadline deadline) {
  io_uring_sqe *sqe = TRY(entry());
  ::io_uring_prep_read(sqe, fd, memory->first(length).data(), static_cast<unsigned>(length), position);
  auto request = std::make_unique<InFlight>();
  request->memory = memory;
  const int got = TRY(run(std::move(request), sqe, deadline, nullptr));
  if (got < 0) return fail(Error::system(-got, "device: read"));
  return static_cast<std::size_t>(got);
}

Result<std::size_t> RequestRing::write(int fd, std::uint64_t position, const std::shared_ptr<RequestMemory> &memory,
                                       std::size_t length, Deadline deadline, DeviceHealth &health) {
  io_uring_sqe *sqe = TRY(entry());
  ::io_uring_prep_write(sqe, fd, memory->first(length).data(), static_cast<unsigned>(length), position);
  auto request = std::make_unique<InFlight>();
  request->memory = memory;
  const int put = TRY(run(std::move(request), sqe, deadline, &health));
  if (put < 0) return fail(Error::system(-put, "device: write"));
  return static_cast<std::size_t>(put);
}

Status RequestRing::sync(int fd, Deadline deadline, DeviceHealth &health) {
  io_uring_sqe *sqe = TRY(entry());
  ::io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
  const int done = TRY(run(std::make_unique<InFlight>(), sqe, deadline, &health));
  if (done < 0) return fail(Error::system(-done, "device: flush"));
  return {};
}

}  // namespace outboard::device

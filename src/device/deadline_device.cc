#include "device/deadline_device.h"

#include "base/log.h"
#include "device/host_file.h"
#include "device/request_memory.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace outboard::device {

namespace {
constexpr char kNoAnswer[] = "device: no answer within the deadline";
constexpr std::size_t kProbeLength = 4096;  // bytes
}  // namespace

// Of kind `user`: nothing is known to be broken, so it is no reason to distrust the volume.
Error no_answer(std::source_location at) { return Error::user(EIO, kNoAnswer, at); }
bool is_no_answer(const Error &error) { return error.what() == kNoAnswer; }

// Whether the device answers. Shared with requests that end when the device object is gone.
class DeadlineDevice::Health {
public:
  bool silent() const { return silent_.load(std::memory_order_relaxed); }

  void fell_silent() {
    MutexLock lock(mutex_);
    if (!silent_.exchange(true)) since_ = Clock::now();
  }
  void has_answered() {
    if (!silent()) return;
    MutexLock lock(mutex_);
    silent_.store(false);
    answered_.notify_all();
  }
  // Whether it is heard within `grace` of having fallen silent.
  bool is_heard(std::chrono::milliseconds grace) {
    MutexLock lock(mutex_);
    // For the probe's answer; bounded.
    while (silent_.load() && Clock::now() < since_ + grace) answered_.wait_until(mutex_, since_ + grace);
    return !silent_.load();
  }
  bool start_probe() { return !probing_.exchange(true); }
  void end_probe() { probing_.store(false); }

private:
  std::atomic<bool> silent_{false};
  std::atomic<bool> probing_{false};
  Mutex mutex_{Rank::leaf};
  CondVar answered_;
  Clock::time_point since_ GUARDED_BY(mutex_);
};

DeadlineDevice::DeadlineDevice(std::shared_ptr<BlockDevice> lower, const DeadlineOptions &options)
    : lower_(std::move(lower)), options_(options), health_(std::make_shared<Health>()),
      helpers_(options.threads, [health = health_] {
        health->has_answered();
        log(LogLevel::warning, "device: a request that had been given up has ended after all");
      }) {}

DeadlineDevice::~DeadlineDevice() = default;

bool DeadlineDevice::silent() const { return health_->silent(); }
std::size_t DeadlineDevice::late() const { return helpers_.late(); }

// Nothing is sent to a device that does not answer.
Status DeadlineDevice::admit() {
  if (!health_->silent()) return {};
  probe();
  if (health_->is_heard(std::min(options_.grace, options_.patience))) return {};
  return fail(no_answer());
}

void DeadlineDevice::probe() {
  if (!health_->start_probe()) return;
  Result<std::shared_ptr<RequestMemory>> memory = RequestMemory::allocate(kProbeLength);
  const std::size_t length = std::min<std::uint64_t>(kProbeLength, lower_->properties().size);
  const bool started = memory && helpers_.start([lower = lower_, health = health_, memory = *memory, length] {
    Status status = lower->read(0, memory->first(length));
    // An error is an answer.
    if (status || !is_no_answer(status.error())) health->has_answered();
    health->end_probe();
    return status;
  });
  if (!started) health_->end_probe();
}

Status DeadlineDevice::settle(Status status, const char *what, std::uint64_t offset, std::uint64_t length) {
  if (status || !is_no_answer(status.error())) {
    health_->has_answered();
    return status;
  }
  health_->fell_silent();
  probe();
  log(LogLevel::error, "device: a {} ({} bytes at {}) has not been answered within {} ms", what, length, offset, options_.patience.count());
  return status;
}

template <class Work>
Status DeadlineDevice::directly(const Work &work, const char *what, std::uint64_t offset, std::uint64_t length) {
  TRY(admit());
  return settle(work(), what, offset, length);
}

Status DeadlineDevice::handed_over(HelperThreads::Job job, Clock::time_point deadline) {
  std::optional<Status> ended = TRY(helpers_.run(std::move(job), deadline));
  if (!ended) return fail(no_answer());
  return *std::move(ended);
}

template <class Job>
Status DeadlineDevice::one_step(Job job, const char *what, std::uint64_t offset, std::uint64_t length) {
  TRY(admit());
  return settle(handed_over(std::move(job), Clock::now() + options_.patience), what, offset, length);
}

Status DeadlineDevice::read(std::uint64_t offset, std::span<std::byte> data) {
  if (lower_->properties().keeps_deadline) return directly([&] { return lower_->read(offset, data); }, "read", offset, data.size());
  TRY(admit());
  const Clock::time_point deadline = Clock::now() + options_.patience;
  while (!data.empty()) {
    const std::size_t piece = std::min(data.size(), RequestMemory::kLargest);
    std::shared_ptr<RequestMemory> memory = TRY(RequestMemory::of_this_thread(piece));
    TRY(settle(handed_over([lower = lower_, memory, offset, piece] { return lower->read(offset, memory->first(piece)); }, deadline), "read",
               offset, piece));
    std::memcpy(data.data(), memory->first(piece).data(), piece);
    data = data.subspan(piece);
    offset += piece;
  }
  return {};
}

Status DeadlineDevice::write(std::uint64_t offset, std::span<const std::byte> data) {
  const iovec piece = {const_cast<std::byte *>(data.data()), data.size()};
  return write_gather(offset, {&piece, 1});
}

Status DeadlineDevice::write_gather(std::uint64_t offset, std::span<const iovec> pieces) {
  std::uint64_t length = 0;
  for (const iovec &piece : pieces) length += piece.iov_len;
  if (lower_->properties().keeps_deadline)
    return directly([&] { return lower_->write_gather(offset, pieces); }, "write", offset, length);
  TRY(admit());
  const Clock::time_point deadline = Clock::now() + options_.patience;
  GatherCursor from(pieces);
  while (length > 0) {
    const std::size_t piece = std::min<std::uint64_t>(length, RequestMemory::kLargest);
    std::shared_ptr<RequestMemory> memory = TRY(RequestMemory::of_this_thread(piece));
    from.copy(memory->first(piece));
    TRY(settle(handed_over([lower = lower_, memory, offset, piece] { return lower->write(offset, memory->first(piece)); }, deadline), "write",
               offset, piece));
    length -= piece;
    offset += piece;
  }
  return {};
}

Status DeadlineDevice::flush() {
  if (lower_->properties().keeps_deadline) return directly([&] { return lower_->flush(); }, "flush", 0, 0);
  return one_step([lower = lower_] { return lower->flush(); }, "flush", 0, 0);
}

Status DeadlineDevice::discard(std::uint64_t offset, std::uint64_t length) {
  return one_step([lower = lower_, offset, length] { return lower->discard(offset, length); }, "discard", offset, length);
}

Status DeadlineDevice::zero(std::uint64_t offset, std::uint64_t length) {
  return one_step([lower = lower_, offset, length] { return lower->zero(offset, length); }, "zeroing", offset, length);
}

}  // namespace outboard::device

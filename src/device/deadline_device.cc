#include "device/deadline_device.h"

#include "base/log.h"
#include "device/host_file.h"
#include "device/request_memory.h"
#include "device/request_ring.h"

#include <algorithm>
#include <cstring>

namespace outboard::device {

namespace {
constexpr char kNoAnswer[] = "device: no answer within the deadline";
}  // namespace

// Of kind `user`: nothing is known to be broken, so it is no reason to distrust the volume.
Error no_answer(std::source_location at) { return Error::user(EIO, kNoAnswer, at); }
bool is_no_answer(const Error &error) { return error.what() == kNoAnswer; }

namespace {
std::function<void()> late_answer(const std::shared_ptr<DeviceHealth> &health) {
  return [health] {
    health->has_answered();
    log(LogLevel::warning, "device: a request that had been given up has ended after all");
  };
}
}  // namespace

DeadlineDevice::DeadlineDevice(std::shared_ptr<BlockDevice> lower, const DeadlineOptions &options, std::shared_ptr<DeviceHealth> health)
    : lower_(std::move(lower)), health_(health ? std::move(health) : std::make_shared<DeviceHealth>(options.patience, options.grace)),
      readers_(options.threads, late_answer(health_)), changers_(options.threads, late_answer(health_)) {
  health_->probe_with([this] { return start_probe(); });
}

DeadlineDevice::~DeadlineDevice() { health_->probe_with(nullptr); }

bool DeadlineDevice::silent() const { return health_->silent(); }
std::size_t DeadlineDevice::late() const { return readers_.late() + changers_.late(); }

// Nothing is sent to a device that does not answer.
Status DeadlineDevice::admit() {
  if (!health_->silent() || health_->is_heard()) return {};
  return fail(no_answer());
}

// Without a ring of its own a thread has helpers, who may get stuck.
bool DeadlineDevice::keeps_deadline_here() const {
  return lower_->properties().keeps_deadline && RequestRing::of_this_thread().has_value();
}

bool DeadlineDevice::start_probe() {
  return readers_.start([lower = lower_, health = health_] {
    const Status status = lower->sign_of_life();
    // An error is an answer.
    health->probe_ended(status || !is_no_answer(status.error()));
    return status;
  });
}

Status DeadlineDevice::settle(Status status, Kind kind, const char *what, std::uint64_t offset, std::uint64_t length) {
  if (status || !is_no_answer(status.error())) {
    health_->has_answered();
    if (kind == Kind::change) health_->change_answered();
    return status;
  }
  health_->fell_silent();
  log(LogLevel::error, "device: a {} ({} bytes at {}) has not been answered within {} ms", what, length, offset,
      health_->patience().count());
  return status;
}

template <class Work>
Status DeadlineDevice::directly(const Work &work, Kind kind, const char *what, std::uint64_t offset, std::uint64_t length) {
  TRY(admit());
  return settle(work(), kind, what, offset, length);
}

Status DeadlineDevice::handed_over(Kind kind, HelperThreads::Job job, Deadline deadline) {
  std::optional<Status> ended = TRY(kind == Kind::read ? readers_.run(std::move(job), deadline)
                                                       : changers_.run(std::move(job), deadline, health_.get()));
  if (!ended) return fail(no_answer());
  return *std::move(ended);
}

template <class Job>
Status DeadlineDevice::change_in_one_step(Job job, const char *what, std::uint64_t offset, std::uint64_t length) {
  TRY(admit());
  return settle(handed_over(Kind::change, std::move(job), health_->deadline()), Kind::change, what, offset, length);
}

Status DeadlineDevice::read(std::uint64_t offset, std::span<std::byte> data) {
  if (keeps_deadline_here()) return directly([&] { return lower_->read(offset, data); }, Kind::read, "read", offset, data.size());
  TRY(admit());
  const Deadline deadline = health_->deadline();
  while (!data.empty()) {
    const std::size_t piece = std::min(data.size(), RequestMemory::kLargest);
    std::shared_ptr<RequestMemory> memory = TRY(RequestMemory::of_this_thread(piece));
    TRY(settle(handed_over(Kind::read, [lower = lower_, memory, offset, piece] { return lower->read(offset, memory->first(piece)); }, deadline),
               Kind::read, "read", offset, piece));
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
  if (keeps_deadline_here())
    return directly([&] { return lower_->write_gather(offset, pieces); }, Kind::change, "write", offset, length);
  TRY(admit());
  const Deadline deadline = health_->deadline();
  GatherCursor from(pieces);
  while (length > 0) {
    const std::size_t piece = std::min<std::uint64_t>(length, RequestMemory::kLargest);
    std::shared_ptr<RequestMemory> memory = TRY(RequestMemory::of_this_thread(piece));
    from.copy(memory->first(piece));
    TRY(settle(handed_over(Kind::change, [lower = lower_, memory, offset, piece] { return lower->write(offset, memory->first(piece)); }, deadline),
               Kind::change, "write", offset, piece));
    length -= piece;
    offset += piece;
  }
  return {};
}

Status DeadlineDevice::flush() {
  if (keeps_deadline_here()) return directly([&] { return lower_->flush(); }, Kind::change, "flush", 0, 0);
  return change_in_one_step([lower = lower_] { return lower->flush(); }, "flush", 0, 0);
}

Status DeadlineDevice::discard(std::uint64_t offset, std::uint64_t length) {
  return change_in_one_step([lower = lower_, offset, length] { return lower->discard(offset, length); }, "discard", offset, length);
}

Status DeadlineDevice::zero(std::uint64_t offset, std::uint64_t length) {
  return change_in_one_step([lower = lower_, offset, length] { return lower->zero(offset, length); }, "zeroing", offset, length);
}

}  // namespace outboard::device

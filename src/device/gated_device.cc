#include "device/gated_device.h"

#include "device/deadline_device.h"
#include "device/trace.h"

#include <algorithm>

namespace outboard::device {

using outboard::trace::Stopwatch;

bool GatedDevice::enter() {
  under_way_.fetch_add(1);
  if (!shut_.load()) return true;
  leave();
  return false;
}

void GatedDevice::leave() {
  if (under_way_.fetch_sub(1) != 1 || !shut_.load()) return;
  MutexLock lock(mutex_);
  left_.notify_all();
}

bool GatedDevice::shut(std::chrono::steady_clock::time_point deadline) {
  shut_.store(true);
  MutexLock lock(mutex_);
  // Waits for the device to end the changes it has been given; bounded by the caller's deadline.
  while (under_way_.load() != 0) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    left_.wait_until(mutex_, deadline);
  }
  return true;
}

template <class Change> Status GatedDevice::let_through(const Change &change) {
  if (!enter()) return fail(Error::user(EIO, "device: shut down"));
  Status status = change();
  const bool unanswered = !status && is_no_answer(status.error());
  // The device may yet make the change, at any time: nothing that is to come after it may be sent.
  if (unanswered) shut_.store(true);
  leave();
  if (unanswered) return fail(Error::system(EIO, "device: a change was not answered; it takes no more"));
  return status;
}

Status GatedDevice::read(std::uint64_t offset, std::span<std::byte> data) {
  const Stopwatch watch;
  Status status = lower_.read(offset, data);
  trace::read(offset, data.size(), status, watch);
  return status;
}

Status GatedDevice::write(std::uint64_t offset, std::span<const std::byte> data) {
  const Stopwatch watch;
  Status status = let_through([&] { return lower_.write(offset, data); });
  trace::write(offset, data.size(), status, watch);
  return status;
}

Status GatedDevice::write_gather(std::uint64_t offset, std::span<const iovec> pieces) {
  const Stopwatch watch;
  Status status = let_through([&] { return lower_.write_gather(offset, pieces); });
  const auto length = [&] {
    std::uint64_t sum = 0;
    for (const iovec &piece : pieces) sum += piece.iov_len;
    return sum;
  };
  trace::write(offset, length, status, watch);
  return status;
}

Status GatedDevice::flush() {
  const Stopwatch watch;
  Status status = let_through([&] { return lower_.flush(); });
  trace::flush(status, watch);
  return status;
}

Status GatedDevice::discard(std::uint64_t offset, std::uint64_t length) {
  const Stopwatch watch;
  Status status = let_through([&] { return lower_.discard(offset, length); });
  trace::discard(offset, length, status, watch);
  return status;
}

Status GatedDevice::zero(std::uint64_t offset, std::uint64_t length) {
  const Stopwatch watch;
  Status status = let_through([&] { return lower_.zero(offset, length); });
  trace::zero(offset, length, status, watch);
  return status;
}

Status GatedDevice::run(std::span<Request> batch) {
  const Stopwatch watch;
  const auto is_read = [](const Request &request) { return request.op == Request::Op::read; };
  Status status = std::ranges::all_of(batch, is_read) ? lower_.run(batch) : let_through([&] { return lower_.run(batch); });
  const auto first = [&] { return batch.empty() ? 0 : batch.front().offset; };
  const auto length = [&] {
    std::uint64_t sum = 0;
    for (const Request &request : batch) sum += request.data.empty() ? request.length : request.data.size();
    return sum;
  };
  trace::batch(first, length, batch.size(), status, watch);
  return status;
}

}  // namespace outboard::device

#include "device/gated_device.h"

#include <algorithm>

namespace outboard::device {

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
  leave();
  return status;
}

Status GatedDevice::write(std::uint64_t offset, std::span<const std::byte> data) {
  return let_through([&] { return lower_.write(offset, data); });
}

Status GatedDevice::write_gather(std::uint64_t offset, std::span<const iovec> pieces) {
  return let_through([&] { return lower_.write_gather(offset, pieces); });
}

Status GatedDevice::flush() {
  return let_through([&] { return lower_.flush(); });
}

Status GatedDevice::discard(std::uint64_t offset, std::uint64_t length) {
  return let_through([&] { return lower_.discard(offset, length); });
}

Status GatedDevice::zero(std::uint64_t offset, std::uint64_t length) {
  return let_through([&] { return lower_.zero(offset, length); });
}

Status GatedDevice::run(std::span<Request> batch) {
  const auto is_read = [](const Request &request) { return request.op == Request::Op::read; };
  if (std::ranges::all_of(batch, is_read)) return lower_.run(batch);
  return let_through([&] { return lower_.run(batch); });
}

}  // namespace outboard::device

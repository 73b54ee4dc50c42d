#include "device/device_health.h"

#include "base/log.h"

namespace outboard::device {

DeviceHealth::DeviceHealth(std::chrono::milliseconds patience, std::chrono::milliseconds grace)
    : patience_(patience), grace_(grace) {}

void DeviceHealth::fell_silent() {
  MutexLock lock(mutex_);
  if (!silent_.exchange(true)) silent_since_ = Clock::now();
}

void DeviceHealth::has_answered() {
  if (!silent()) return;
  MutexLock lock(mutex_);
  silent_.store(false);
  heard_.notify_all();
}

bool DeviceHealth::is_heard() {
  probe();
  MutexLock lock(mutex_);
  // For any answer; bounded by the grace.
  while (silent() && Clock::now() < silent_since_ + grace_) heard_.wait_until(mutex_, silent_since_ + grace_);
  return !silent();
}

void DeviceHealth::probe() {
  {
    MutexLock lock(mutex_);
    if (!start_probe_ || probing_ == kProbes || (probing_ != 0 && Clock::now() < probed_at_ + grace_)) return;
    ++probing_;
    probed_at_ = Clock::now();
  }
  if (!start_probe_()) probe_ended(false);
}

void DeviceHealth::probe_ended(bool answered) {
  MutexLock lock(mutex_);
  --probing_;
  if (!answered) return;
  ++signs_;
  silent_.store(false);
  heard_.notify_all();
}

std::optional<DeviceHealth::Deadline> DeviceHealth::wait_on() {
  std::uint64_t before;
  {
    MutexLock lock(mutex_);
    before = signs_;
  }
  probe();
  {
    MutexLock lock(mutex_);
    // Longer than usual: to take a frozen device for a stuck one loses what has been written.
    const Deadline end = Clock::now() + 2 * grace_;
    // For the probe's answer; bounded.
    while (signs_ == before && Clock::now() < end) heard_.wait_until(mutex_, end);
    if (signs_ == before) return std::nullopt;
  }
  if (!frozen_.exchange(true))
    log(LogLevel::warning, "device: writes are held up and reads are answered, as by a frozen file system: writers wait until that ends");
  return deadline();
}

void DeviceHealth::thaw_if(bool frozen) {
  if (frozen && frozen_.exchange(false)) log(LogLevel::info, "device: writes are answered again");
}

}  // namespace outboard::device

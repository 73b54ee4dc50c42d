// Whether one device answers, as far as its requests have shown, and how long they are waited for.
//
// Silent: a request has gone unanswered, and nothing has been answered since. Whoever asks a silent device is told so soon, since a
// client of many requests must not wait for each of them.
// Frozen: changes (writes, flushes, ...) are held up and reads are answered, as by a file system that is being backed up. A change whose deadline has
// come is waited for on as long as that is so. What counts is a read that no cache answers (BlockDevice::sign_of_life), sent for
// the purpose.
// Thread-safe. Shared with requests that end when their device is gone.
#pragma once

#include "base/mutex.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

namespace outboard::device {

class DeviceHealth {
public:
  using Clock = std::chrono::steady_clock;
  using Deadline = Clock::time_point;

  // `grace`: how long a sign of life may take.
  DeviceHealth(std::chrono::milliseconds patience, std::chrono::milliseconds grace);

  std::chrono::milliseconds patience() const { return patience_; }
  Deadline deadline() const { return Clock::now() + patience_; }

  // How a sign of life is asked for: by somebody else's thread, which calls probe_ended(). False when it cannot. Not while requests are under way.
  void probe_with(std::function<bool()> start) { start_probe_ = std::move(start); }
  void probe_ended(bool answered) EXCLUDES(mutex_);

  bool silent() const { return silent_.load(std::memory_order_relaxed); }
  void fell_silent() EXCLUDES(mutex_);
  void has_answered() EXCLUDES(mutex_);
  // Of a silent device: whether it is heard within the grace since it fell silent. Asks for a sign of life.
  bool is_heard() EXCLUDES(mutex_);

  // A change has not been answered by its deadline. Its new deadline when the device is frozen; nothing when it is stuck. Takes up to twice the grace.
  std::optional<Deadline> wait_on() EXCLUDES(mutex_);
  void change_answered() { thaw_if(frozen_.load(std::memory_order_relaxed)); }

private:
  static constexpr unsigned kProbes = 4;  // at once: one that is lost for good must not end all asking

  void probe() EXCLUDES(mutex_);
  void thaw_if(bool frozen);

  const std::chrono::milliseconds patience_, grace_;
  std::function<bool()> start_probe_;
  std::atomic<bool> silent_{false};
  std::atomic<bool> frozen_{false};  // for the log

  Mutex mutex_{Rank::leaf};
  CondVar heard_;
  Deadline silent_since_ GUARDED_BY(mutex_);
  unsigned probing_ GUARDED_BY(mutex_) = 0;
  Deadline probed_at_ GUARDED_BY(mutex_);
  std::uint64_t signs_ GUARDED_BY(mutex_) = 0;  // probes answered so far
};

}  // namespace outboard::device

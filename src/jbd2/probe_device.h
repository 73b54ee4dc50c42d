// For the tests of this folder: a device that counts, fails, holds back and records what goes through it.
#pragma once

#include "base/mutex.h"
#include "device/block_device.h"

#include <atomic>
#include <functional>
#include <optional>
#include <random>
#include <vector>

namespace outboard::jbd2::testing_support {

class ProbeDevice final : public device::BlockDevice {
public:
  explicit ProbeDevice(device::BlockDevice &below) : below_(below) {}

  const device::Properties &properties() const override { return below_.properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override { return below_.read(offset, data); }
  Status write(std::uint64_t offset, std::span<const std::byte> data) override {
    ++writes;
    if (failing_writes.load()) return fail(Error::system(EIO, "probe: write"));
    pass_gate(offset);
    MutexLock lock(mutex_);
    if (recording_) events_.push_back({Event::Kind::write, offset, {data.begin(), data.end()}, 0});
    return below_.write(offset, data);
  }
  Status flush() override {
    ++flushes;
    if (on_flush) on_flush();
    if (failing_flushes.load()) return fail(Error::system(EIO, "probe: flush"));
    MutexLock lock(mutex_);
    if (recording_) events_.push_back({Event::Kind::flush, 0, {}, 0});
    return below_.flush();
  }
  Status discard(std::uint64_t offset, std::uint64_t length) override { return below_.discard(offset, length); }

  // --- holding writes back: those for which `held` is true wait until open_gate().
  void close_gate(std::function<bool(std::uint64_t offset)> held) {
    MutexLock lock(gate_mutex_);
    held_ = std::move(held);
  }
  void open_gate() {
    MutexLock lock(gate_mutex_);
    held_ = nullptr;
    gate_.notify_all();
  }
  int waiting() {
    MutexLock lock(gate_mutex_);
    return waiting_;
  }

  // --- recording
  struct Event {
    enum class Kind : std::uint8_t { write, flush, mark };
    Kind kind;
    std::uint64_t offset;
    std::vector<std::byte> data;
    std::uint64_t mark;
  };
  void record() {
    MutexLock lock(mutex_);
    recording_ = true;
  }
  void mark(std::uint64_t value) {
    MutexLock lock(mutex_);
    events_.push_back({Event::Kind::mark, 0, {}, value});
  }
  std::vector<Event> take_events() {
    MutexLock lock(mutex_);
    recording_ = false;
    return std::move(events_);
  }

  std::function<void()> on_flush;  // called by each flush, on its thread; set while nothing else runs
  std::atomic<int> writes{0}, flushes{0};
  std::atomic<bool> failing_writes{false}, failing_flushes{false};

private:
  void pass_gate(std::uint64_t offset) {
    MutexLock lock(gate_mutex_);
    ++waiting_;
    while (held_ && held_(offset)) gate_.wait(gate_mutex_);  // ended by the test's open_gate()
    --waiting_;
  }

  device::BlockDevice &below_;
  Mutex mutex_{Rank::device};
  bool recording_ GUARDED_BY(mutex_) = false;
  std::vector<Event> events_ GUARDED_BY(mutex_);
  Mutex gate_mutex_{Rank::leaf};
  CondVar gate_;
  std::function<bool(std::uint64_t)> held_ GUARDED_BY(gate_mutex_);
  int waiting_ GUARDED_BY(gate_mutex_) = 0;
};

}  // namespace outboard::jbd2::testing_support

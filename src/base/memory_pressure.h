// When memory gets short, what can be had again is given back, the cheapest first.
//
// Somebody says that memory is short: the kernel (pressure stall information, PressureSource below), or a limit of our
// own on what we count ourselves. One thread waits for that and calls the registered shrinkers in order of their cost
// until enough has been freed. A shrinker frees memory and does nothing else: it never waits for I/O, for a journal
// commit or for a client, because whoever is short of memory may be what those wait for.
#pragma once

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>

namespace outboard {

// What it takes to have it again, cheapest first.
enum class ShrinkCost : std::uint8_t {
  spare,     // nothing: memory kept for reuse, without contents (folio memory)
  rebuilt,   // a look at what is still in memory (mappings)
  reparsed,  // perhaps a read from the device, and work (idle inodes)
  reread,    // a read from the device (clean metadata buffers)
};

// Who notices that the system, or our part of it, is short of memory. One thread waits.
class PressureSource {
public:
  enum class Event : std::uint8_t { pressure, timeout, interrupted };
  virtual ~PressureSource() = default;
  // Without a time-out it waits for an event. A source that has broken waits like one that is never under pressure.
  virtual Event wait(std::optional<std::chrono::milliseconds> timeout) = 0;
  // From any thread: the wait, or the next one, ends with `interrupted`, and so does every one after it.
  virtual void interrupt() = 0;
};

struct PressureTrigger {
  // Tasks stalled for so long within a window raise an event, at most one for each window. Without privilege the kernel
  // takes only windows of whole multiples of 2 s.
  std::chrono::microseconds stall{200'000};
  std::chrono::microseconds window{2'000'000};
};
// The kernel's: memory.pressure of our control group (v2) where there is one, else the system's /proc/pressure/memory.
// Opens files, so it is made before a sandbox closes. ENOENT or EOPNOTSUPP when the kernel has none, EACCES, EINVAL for
// a trigger it does not take.
Result<std::unique_ptr<PressureSource>> open_pressure_source(const PressureTrigger &trigger = {});
// The same from one file that speaks PSI.
Result<std::unique_ptr<PressureSource>> open_pressure_file(const std::string &path,
                                                           const PressureTrigger &trigger = {});
// For a kernel without: only the own limit counts.
Result<std::unique_ptr<PressureSource>> no_pressure_source();

struct MemoryPressureOptions {
  std::size_t step = std::size_t{16} << 20;  // bytes to free for each event of the source
  // An own limit in bytes (0: none) on what `usage` says, looked at every `interval`: what is above it is freed.
  std::size_t limit = 0;
  std::function<std::size_t()> usage;
  std::chrono::milliseconds interval{1000};
};

class MemoryPressure {
public:
  // Frees about so many bytes if it can; returns what it freed.
  using Shrinker = std::function<std::size_t(std::size_t bytes)>;

  MemoryPressure(std::unique_ptr<PressureSource> source, MemoryPressureOptions options);
  ~MemoryPressure();  // no shrinker is called any more; every registration is gone
  MemoryPressure(const MemoryPressure &) = delete;
  MemoryPressure &operator=(const MemoryPressure &) = delete;

private:
  struct Entry {
    ShrinkCost cost;
    Shrinker shrink;
  };

public:
  // While it lives the shrinker may be called. Its end waits for a call that is under way, so hold no lock that the
  // shrinker takes. Must not outlive the MemoryPressure.
  class [[nodiscard]] Registration {
  public:
    Registration() = default;
    Registration(Registration &&other) noexcept : owner_(std::exchange(other.owner_, nullptr)), entry_(other.entry_) {}
    Registration &operator=(Registration &&other) noexcept {
      std::swap(owner_, other.owner_);
      std::swap(entry_, other.entry_);
      return *this;
    }
    ~Registration() {
      if (owner_ != nullptr) owner_->remove(entry_);
    }

  private:
    friend class MemoryPressure;
    Registration(MemoryPressure *owner, std::list<Entry>::iterator entry) : owner_(owner), entry_(entry) {}
    MemoryPressure *owner_ = nullptr;
    std::list<Entry>::iterator entry_;
  };
  // Shrinkers of equal cost are called in the order of their registration. One is called at a time.
  Registration add(ShrinkCost cost, Shrinker shrink) EXCLUDES(mutex_);

  // Frees about `bytes`, cheapest first, on the caller's thread. Returns what was freed.
  std::size_t shrink(std::size_t bytes) EXCLUDES(mutex_);

  struct Counters {
    std::uint64_t events = 0;  // of the source
    std::uint64_t over_limit = 0;
    std::uint64_t bytes_freed = 0;
  };
  Counters counters() const;

private:
  void watch();
  void keep_the_limit();
  void remove(std::list<Entry>::iterator entry) EXCLUDES(mutex_);

  const std::unique_ptr<PressureSource> source_;
  const MemoryPressureOptions options_;
  // Held while shrinkers run, so that a registration can end.
  mutable Mutex mutex_{Rank::memory_pressure};
  std::list<Entry> shrinkers_ GUARDED_BY(mutex_);  // cheapest first
  std::atomic<std::uint64_t> events_{0}, over_limit_{0}, bytes_freed_{0};
  std::thread thread_;  // last: it uses the rest
};

}  // namespace outboard

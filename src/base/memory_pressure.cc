#include "base/memory_pressure.h"

#include "base/thread_role.h"

#include <algorithm>
#include <cassert>

namespace outboard {

MemoryPressure::MemoryPressure(std::unique_ptr<PressureSource> source, MemoryPressureOptions options)
    : source_(std::move(source)), options_(std::move(options)) {
  assert(options_.limit == 0 || options_.usage);
  thread_ = std::thread([this] {
    const ThreadRoleScope role(ThreadRole::memory_pressure);
    watch();
  });
}

MemoryPressure::~MemoryPressure() {
  source_->interrupt();
  thread_.join();
  MutexLock lock(mutex_);
  assert(shrinkers_.empty());
}

// Waits for the source; without a limit of our own it sleeps until there is news. ~MemoryPressure ends it.
void MemoryPressure::watch() {
  std::optional<std::chrono::milliseconds> timeout;
  if (options_.limit > 0) timeout = options_.interval;
  while (true) {
    switch (source_->wait(timeout)) {
    case PressureSource::Event::interrupted: return;
    case PressureSource::Event::pressure:
      events_.fetch_add(1, std::memory_order_relaxed);
      shrink(options_.step);
      break;
    case PressureSource::Event::timeout: break;
    }
    if (options_.limit > 0) keep_the_limit();
  }
}

void MemoryPressure::keep_the_limit() {
  const std::size_t used = options_.usage();
  if (used <= options_.limit) return;
  over_limit_.fetch_add(1, std::memory_order_relaxed);
  shrink(used - options_.limit);
}

std::size_t MemoryPressure::shrink(std::size_t bytes) {
  std::size_t freed = 0;
  MutexLock lock(mutex_);
  for (const Entry &entry : shrinkers_) {
    if (freed >= bytes) break;
    freed += entry.shrink(bytes - freed);
  }
  bytes_freed_.fetch_add(freed, std::memory_order_relaxed);
  return freed;
}

MemoryPressure::Registration MemoryPressure::add(ShrinkCost cost, Shrinker shrink) {
  MutexLock lock(mutex_);
  const auto dearer = std::ranges::find_if(shrinkers_, [&](const Entry &entry) { return entry.cost > cost; });
  return {this, shrinkers_.insert(dearer, {cost, std::move(shrink)})};
}

void MemoryPressure::remove(std::list<Entry>::iterator entry) {
  MutexLock lock(mutex_);
  shrinkers_.erase(entry);
}

MemoryPressure::Counters MemoryPressure::counters() const {
  return {events_.load(std::memory_order_relaxed), over_limit_.load(std::memory_order_relaxed),
          bytes_freed_.load(std::memory_order_relaxed)};
}

}  // namespace outboard

// Slots. Position p (counted without end) lives in slot p % size. A slot's `turn` says whose it is: p, free for the
// writer of position p; p + 1, holds the record of p for the reader; the reader then sets p + size, free for the next
// round. A writer claims a position by advancing `head` and publishes by `turn` (release); so a record is
// never seen half written, and a writer that is held up holds up only its shard's reader, nobody else.
#include "base/trace_ring.h"

#include <algorithm>
#include <ctime>
#include <unistd.h>

// Beside nothing that is written often. The section is where tools expect semaphores.
[[gnu::section(".probes")]] std::uint32_t outboard_trace_users = 0;

namespace outboard::trace {

namespace {

constexpr std::uint32_t kRecorder = 1u << 16;  // in outboard_trace_users

// Made at the first start and kept: threads may be in the middle of put() at any time.
std::atomic<Ring *> g_ring{nullptr};
std::atomic<bool> g_recording{false};
std::atomic<std::uint32_t> g_layers{0};
std::atomic<std::uint64_t> g_last_read_ns{0};
Mutex g_reader{Rank::leaf};  // start, take, stop; never taken by record()

std::uint32_t thread_number() {
  thread_local const auto number = static_cast<std::uint32_t>(::gettid());
  return number;
}

void switch_off() {
  if (g_recording.exchange(false)) __atomic_fetch_sub(&outboard_trace_users, kRecorder, __ATOMIC_RELAXED);
}

}  // namespace

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

// --- the ring -------------------------------------------------------------------------------------------------------------

Ring::Ring() {
  for (Shard &shard : shards_) {
    shard.slots = std::make_unique<Slot[]>(kRecordsAShard);
    for (std::size_t i = 0; i < kRecordsAShard; ++i) shard.slots[i].turn.store(i, std::memory_order_relaxed);
  }
}

bool Ring::put(const Record &record) {
  Shard &shard = shards_[record.thread % kShards];
  std::uint64_t position = shard.head.load(std::memory_order_relaxed);
  for (;;) {
    Slot &slot = shard.slots[position % kRecordsAShard];
    const std::uint64_t turn = slot.turn.load(std::memory_order_acquire);
    if (turn < position) {  // the reader has not been here since the last round
      lost_.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    if (turn > position) {
      position = shard.head.load(std::memory_order_relaxed);
      continue;
    }
    if (!shard.head.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) continue;
    slot.record = record;
    slot.turn.store(position + 1, std::memory_order_release);
    return true;
  }
}

std::size_t Ring::take(std::span<Record> into) {
  std::size_t taken = 0;
  for (std::size_t visited = 0; visited < kShards && taken < into.size(); ++visited) {
    Shard &shard = shards_[next_shard_];
    while (taken < into.size()) {
      Slot &slot = shard.slots[shard.tail % kRecordsAShard];
      if (slot.turn.load(std::memory_order_acquire) != shard.tail + 1) break;
      into[taken++] = slot.record;
      slot.turn.store(shard.tail + kRecordsAShard, std::memory_order_release);
      ++shard.tail;
    }
    if (taken < into.size()) next_shard_ = (next_shard_ + 1) % kShards;
  }
  return taken;
}

void Ring::reset() {
  std::array<Record, 64> away;
  // Ends also while others write: what they add after a shard was seen is theirs to be read.
  for (std::size_t left = kShards * kRecordsAShard; left > 0;) {
    const std::size_t taken = take(away);
    if (taken == 0) break;
    left -= std::min(left, taken);
  }
  lost_.store(0, std::memory_order_relaxed);
}

// --- the recorder ---------------------------------------------------------------------------------------------------------

void record(std::uint16_t id, const std::array<std::uint64_t, kFields> &fields) {
  if (!g_recording.load(std::memory_order_acquire)) return;
  if ((g_layers.load(std::memory_order_relaxed) >> (id >> 8) & 1) == 0) return;
  const std::uint64_t now = now_ns();
  const std::uint64_t last = g_last_read_ns.load(std::memory_order_relaxed);
  if (now > last && now - last > static_cast<std::uint64_t>(std::chrono::nanoseconds(kAbandoned).count())) return switch_off();
  Record entry;
  entry.time_ns = now;
  entry.thread = thread_number();
  entry.event = id;
  entry.fields = fields;
  g_ring.load(std::memory_order_acquire)->put(entry);
}

Status start_recording(std::uint32_t layers) {
  MutexLock lock(g_reader);
  const bool alive = now_ns() - g_last_read_ns.load() < static_cast<std::uint64_t>(std::chrono::nanoseconds(kAbandoned).count());
  if (g_recording.load() && alive) return fail(Error::user(EBUSY, "trace: somebody else is reading"));
  if (g_ring.load() == nullptr) g_ring.store(std::make_unique<Ring>().release(), std::memory_order_release);
  g_ring.load()->reset();
  g_layers.store(layers);
  g_last_read_ns.store(now_ns());
  if (!g_recording.exchange(true)) __atomic_fetch_add(&outboard_trace_users, kRecorder, __ATOMIC_RELAXED);
  return {};
}

Result<std::size_t> take_records(std::span<Record> into, std::uint64_t &lost) {
  MutexLock lock(g_reader);
  if (!g_recording.load()) return fail(Error::user(ESTALE, "trace: not recording"));
  g_last_read_ns.store(now_ns());
  Ring &ring = *g_ring.load();
  const std::size_t taken = ring.take(into);
  lost = ring.lost();
  return taken;
}

void stop_recording() {
  MutexLock lock(g_reader);
  switch_off();
}

bool recording() { return g_recording.load(); }

}  // namespace outboard::trace

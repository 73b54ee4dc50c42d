// The ring that `outboard trace` reads: records of events, from all threads, without locks on the writers' side.
//
// Sharded by thread, bounded; what does not fit is dropped and counted. One reader at a time. Recording ends by itself
// when nobody has read for kAbandoned, so that a reader that was killed costs nothing.
#pragma once

#include "base/mutex.h"
#include "base/trace.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

namespace outboard::trace {

struct Record {
  std::uint64_t time_ns = 0;  // CLOCK_MONOTONIC
  std::uint32_t thread = 0;
  std::uint16_t event = 0;    // EventInfo::id
  std::uint16_t padding = 0;
  std::array<std::uint64_t, kFields> fields{};
};
static_assert(sizeof(Record) == 56);

class Ring {
public:
  static constexpr std::size_t kShards = 16;
  static constexpr std::size_t kRecordsAShard = 8192;  // a power of two

  Ring();
  // From any thread, at any time. False: full, the record is lost and counted.
  bool put(const Record &record);
  // Takes out up to `most`, in no order. One caller at a time.
  std::size_t take(std::span<Record> into);
  // Records lost since the last call of reset().
  std::uint64_t lost() const { return lost_.load(std::memory_order_relaxed); }
  // Forgets what is there. As take(): one caller at a time.
  void reset();

private:
  // trace_ring.cc says whose turn it is.
  struct Slot {
    std::atomic<std::uint64_t> turn{0};
    Record record;
  };
  struct alignas(64) Shard {
    std::atomic<std::uint64_t> head{0};  // next position to write
    alignas(64) std::uint64_t tail = 0;  // next to read; the reader's
    std::unique_ptr<Slot[]> slots;
  };
  std::array<Shard, kShards> shards_;
  std::size_t next_shard_ = 0;  // the reader's: where take() goes on
  std::atomic<std::uint64_t> lost_{0};
};

// The process's recorder.
inline constexpr std::chrono::seconds kAbandoned{5};

// Begins recording events of these layers (bit i: Layer i). EBUSY while somebody else is reading.
Status start_recording(std::uint32_t layers);
// Moves records out, in no order; ESTALE when recording has ended meanwhile. `lost`: since start_recording().
Result<std::size_t> take_records(std::span<Record> into, std::uint64_t &lost);
void stop_recording();
bool recording();

}  // namespace outboard::trace

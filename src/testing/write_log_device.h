// Records every change and flush on its way to another device, and makes the states that a crash may leave behind.
//
// Time is counted in events: the start and the end of each request are one event each. A position p means that the
// events before p have happened. What a device promises, and all it promises: a change that had ended before a flush
// began is durable once that flush has ended with success. Every other change that had begun may be there, may be
// missing, or may be there in some of its 512-byte sectors. For one sector, overlapping changes keep their order of
// beginning among those that survive, so a subset of them gives every state that reordering can give.
#pragma once

#include "base/mutex.h"
#include "device/block_device.h"
#include "device/memory_device.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace outboard::testing {

struct LogEntry {
  enum class Kind : std::uint8_t { write, zero, discard, flush, note };
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
  Kind kind = Kind::write;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::vector<std::byte> data;  // of a write
  std::string text;             // of a note
  std::uint64_t begin = 0;      // the event of its beginning
  std::uint64_t end = kNever;   // of its successful end; a request that failed never ends
};

class WriteLogDevice final : public device::BlockDevice {
public:
  // Over memory of its own: the usual case, and the cheap one.
  explicit WriteLogDevice(std::unique_ptr<device::MemoryDevice> contents);
  // Over any device, which outlives this one; its contents are copied to memory now.
  static Result<std::unique_ptr<WriteLogDevice>> over(device::BlockDevice &lower);

  // The position now. Taken after an fsync has returned, it is where that fsync's promise begins to hold.
  std::uint64_t position() const EXCLUDES(mutex_);
  // Puts a remark into the log and returns the position after it.
  std::uint64_t note(std::string text) EXCLUDES(mutex_);
  std::vector<LogEntry> entries() const EXCLUDES(mutex_);
  // Positions worth a crash: after the beginning of each change, and around each flush. Sorted.
  std::vector<std::uint64_t> crash_points() const EXCLUDES(mutex_);

  // The contents with every change that had begun before `position`, whole: no power was lost, the program died.
  Result<std::unique_ptr<device::MemoryDevice>> image_at(std::uint64_t position) const EXCLUDES(mutex_);
  // One of the states that a power loss at `position` may leave: seed 0 is the least (only what is durable), seed 1
  // the most (image_at, but for discards), others choose: some, all but one, just one, an early part; whole or torn.
  // Discarded ranges hold zeros, old bytes or garbage. The same arguments give the same state.
  Result<std::unique_ptr<device::MemoryDevice>> crash_state(std::uint64_t position, std::uint64_t seed) const
      EXCLUDES(mutex_);
  // How many changes are not durable at this position: 2 to the power of it is the number of states, torn ones aside.
  std::size_t volatile_changes(std::uint64_t position) const EXCLUDES(mutex_);

  const device::Properties &properties() const override { return lower_.properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override { return lower_.read(offset, data); }
  Status write(std::uint64_t offset, std::span<const std::byte> data) override;
  Status write_gather(std::uint64_t offset, std::span<const iovec> pieces) override;
  Status flush() override;
  Status discard(std::uint64_t offset, std::uint64_t length) override;
  Status zero(std::uint64_t offset, std::uint64_t length) override;

private:
  WriteLogDevice(device::BlockDevice &lower, std::unique_ptr<device::MemoryDevice> base)
      : lower_(lower), base_(std::move(base)) {}

  std::size_t begin(LogEntry entry) EXCLUDES(mutex_);
  Status end(std::size_t index, Status status) EXCLUDES(mutex_);
  // The greatest beginning of a flush that had ended by then: changes that ended before it are durable.
  std::uint64_t durable_before(std::uint64_t position) const REQUIRES(mutex_);

  std::unique_ptr<device::MemoryDevice> owned_;
  device::BlockDevice &lower_;
  const std::unique_ptr<device::MemoryDevice> base_;  // as it was before the first change
  mutable Mutex mutex_{Rank::device};                 // not held during I/O below
  std::vector<LogEntry> entries_ GUARDED_BY(mutex_);  // in order of beginning
  std::uint64_t next_event_ GUARDED_BY(mutex_) = 0;
};

// A copy of any device's contents.
Result<std::unique_ptr<device::MemoryDevice>> copy_to_memory(device::BlockDevice &device);

}  // namespace outboard::testing

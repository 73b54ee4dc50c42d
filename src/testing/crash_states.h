// The states that power losses may leave behind, for thousands of them: a recording is walked forward once, and each
// state is a copy-on-write snapshot of what is durable by then plus a choice of what is not.
//
// What may be there is said in write_log_device.h. A state is told by its position and its number, so any of them can be
// made again.
#pragma once

#include "base/units.h"
#include "testing/write_log_device.h"

#include <random>

namespace outboard::testing {

// Parts of a change, for whoever builds images from log entries.
using CrashRandom = std::mt19937_64;
inline bool one_in(CrashRandom &random, std::uint64_t n) { return random() % n == 0; }
bool is_change(const LogEntry &entry);
// `length` bytes of the change, from `from` of it on.
Status apply_part(device::MemoryDevice &image, const LogEntry &entry, std::uint64_t from, std::uint64_t length);
// Some of its 512-byte sectors: any of a small change, the beginning of a long one. The sectors of `whole` share their fate.
Status apply_torn(device::MemoryDevice &image, const LogEntry &entry, CrashRandom &random, ByteRange whole = {});
// Undefined contents: as they were, zeros, or garbage.
Status apply_discard(device::MemoryDevice &image, const LogEntry &entry, CrashRandom &random);

// Not thread-safe; the recording has ended.
class CrashStates {
public:
  // `never_torn`: whole sectors that the device is trusted to write together.
  explicit CrashStates(const WriteLogDevice &log, ByteRange never_torn = {});

  // The crash happens here. Positions only grow; they are those of WriteLogDevice.
  Status move_to(std::uint64_t position);
  // Changes that had begun and are not durable: each may be missing, or there in part.
  std::size_t loose() const { return loose_.size(); }
  // How many states there are here that were not possible one change earlier, torn ones aside: those with the newest
  // change in them. (The others were made where that change had not begun.) At most kMany.
  std::uint64_t distinct() const;
  static constexpr std::uint64_t kMany = std::uint64_t{1} << 32;

  // Every change so far in order: the prefix.
  Result<std::unique_ptr<device::MemoryDevice>> prefix() const;
  // The `number`-th subset, in [0, distinct()): the newest change, and of the others those whose bit is set.
  Result<std::unique_ptr<device::MemoryDevice>> subset(std::uint64_t number) const;
  // A choice by chance: some, few, most, all but one, only the newest, a beginning; some of them torn.
  Result<std::unique_ptr<device::MemoryDevice>> sample(std::uint64_t seed) const;

private:
  Result<std::unique_ptr<device::MemoryDevice>> with(const std::vector<bool> &survives, bool tears, CrashRandom &random) const;

  const std::vector<LogEntry> entries_;
  const ByteRange never_torn_;
  std::unique_ptr<device::MemoryDevice> durable_;
  std::vector<std::size_t> loose_;  // into entries_, ascending
  std::size_t next_ = 0;            // the first entry that has not begun
  std::uint64_t position_ = 0;
};

}  // namespace outboard::testing

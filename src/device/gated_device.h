// A device with a gate in front of everything that changes it: once shut, no write, flush, discard or zeroing reaches the
// device below any more, whoever asks and however late. Reads go on. It lies below the whole file system, so that a shutdown
// need not find everybody who might still write. For the same reason it is where requests to the device are traced.
//
// A change that the device has not answered (deadline_device.h) shuts the gate by itself: it may happen at any later time, so
// nothing may be sent that relies on what was there before.
#pragma once

#include "base/mutex.h"
#include "device/block_device.h"

#include <atomic>
#include <chrono>
#include <cstdint>

namespace outboard::device {

class GatedDevice final : public BlockDevice {
public:
  // `lower` outlives the device.
  explicit GatedDevice(BlockDevice &lower) : lower_(lower) {}

  // From now on changes fail (Error::user(EIO)) and do not reach the device below. True when also those that had been let
  // through before have ended; false when some are still under way at the deadline: the device may be stuck, and what it
  // has been given is beyond recall. Idempotent.
  bool shut(std::chrono::steady_clock::time_point deadline) EXCLUDES(mutex_);
  bool is_shut() const { return shut_.load(); }

  const Properties &properties() const override { return lower_.properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override;
  Status write(std::uint64_t offset, std::span<const std::byte> data) override;
  Status write_gather(std::uint64_t offset, std::span<const iovec> pieces) override;
  Status flush() override;
  Status discard(std::uint64_t offset, std::uint64_t length) override;
  Status zero(std::uint64_t offset, std::uint64_t length) override;
  // A batch with a change in it is refused as a whole.
  Status run(std::span<Request> batch) override;

private:
  template <class Change> Status let_through(const Change &change);
  bool enter();
  void leave() EXCLUDES(mutex_);

  BlockDevice &lower_;
  // Sequentially consistent on both sides: either a change sees the gate shut, or shut() sees the change under way.
  std::atomic<std::uint32_t> under_way_{0};
  std::atomic<bool> shut_{false};
  Mutex mutex_{Rank::device};  // not held during I/O below
  CondVar left_;               // the last change under way has ended, after the gate was shut
};

}  // namespace outboard::device

// A device with faults on demand: requests that fail, read what was never written, take long, never end, or change
// nothing although they say so. Faults can be set while other threads use the device.
#pragma once

#include "base/mutex.h"
#include "device/block_device.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

namespace outboard::testing {

class FaultyDevice final : public device::BlockDevice {
public:
  enum class Op : std::uint8_t { read, write, flush, discard, zero };
  static constexpr std::uint64_t kAll = ~std::uint64_t{0};

  // Requests of this kind that touch the range fail: after `skip` of them, `times` of them. The position of a flush is
  // 0.
  struct Fault {
    Op op = Op::read;
    std::uint64_t skip = 0;
    std::uint64_t times = kAll;
    std::uint64_t offset = 0;
    std::uint64_t length = kAll;
    int code = EIO;
    bool partial = false;  // of a failing write, the first half of its sectors is written all the same
  };

  // Reads that touch the range answer wrongly, one in so many of them: with flipped bits, zeros, noise, or another
  // place's bytes.
  struct Lies {
    std::uint64_t seed = 0;
    std::uint64_t one_in = 1;
    std::uint64_t offset = 0;
    std::uint64_t length = kAll;
  };

  // `lower` outlives the device.
  explicit FaultyDevice(device::BlockDevice &lower) : lower_(lower) {}
  explicit FaultyDevice(std::unique_ptr<device::BlockDevice> lower) : owned_(std::move(lower)), lower_(*owned_) {}
  ~FaultyDevice() override;  // releases what is held and waits for its end

  void add_fault(const Fault &fault) EXCLUDES(mutex_);
  void tell_lies(const Lies &lies) EXCLUDES(mutex_);
  // Writes, zeroes and discards succeed and change nothing.
  void lose_changes(bool lose) EXCLUDES(mutex_);
  void delay(Op op, std::chrono::milliseconds time) EXCLUDES(mutex_);
  void clear_faults() EXCLUDES(mutex_);  // all of the above; holds stay

  // Requests of this kind that come from now on do not start until release(op) or release_all().
  void hold(Op op) EXCLUDES(mutex_);
  void release(Op op) EXCLUDES(mutex_);
  void release_all() EXCLUDES(mutex_);
  // Waits until so many requests are held at once; false after the time-out.
  bool wait_until_held(std::size_t count, std::chrono::milliseconds timeout = std::chrono::seconds(10))
      EXCLUDES(mutex_);

  std::uint64_t requests(Op op) const EXCLUDES(mutex_);  // so far, failed ones included
  std::uint64_t lies_told() const EXCLUDES(mutex_);

  const device::Properties &properties() const override { return lower_.properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override;
  Status write(std::uint64_t offset, std::span<const std::byte> data) override;
  Status write_gather(std::uint64_t offset, std::span<const iovec> pieces) override;
  Status flush() override;
  Status discard(std::uint64_t offset, std::uint64_t length) override;
  Status zero(std::uint64_t offset, std::uint64_t length) override;

private:
  static constexpr std::size_t kOps = 5;
  static std::size_t index(Op op) { return static_cast<std::size_t>(op); }

  struct Verdict {
    int code = 0;  // 0: goes through
    bool partial = false;
    bool lost = false;
  };
  class InFlight;

  // Counts, holds, delays and judges one request.
  Verdict admit(Op op, std::uint64_t offset, std::uint64_t length) EXCLUDES(mutex_);
  Verdict judge(Op op, std::uint64_t offset, std::uint64_t length) REQUIRES(mutex_);
  void maybe_lie(std::uint64_t offset, std::span<std::byte> data) EXCLUDES(mutex_);

  std::unique_ptr<device::BlockDevice> owned_;
  device::BlockDevice &lower_;

  mutable Mutex mutex_{Rank::device};  // not held during I/O below
  CondVar changed_;                    // a hold begins to bite or ends, or the last request has left
  std::vector<Fault> faults_ GUARDED_BY(mutex_);
  std::vector<Lies> lies_ GUARDED_BY(mutex_);
  std::mt19937_64 random_ GUARDED_BY(mutex_);
  bool lose_ GUARDED_BY(mutex_) = false;
  std::array<std::chrono::milliseconds, kOps> delays_ GUARDED_BY(mutex_){};
  std::array<bool, kOps> holds_ GUARDED_BY(mutex_){};
  std::array<std::uint64_t, kOps> requests_ GUARDED_BY(mutex_){};
  std::size_t held_ GUARDED_BY(mutex_) = 0;
  std::size_t in_flight_ GUARDED_BY(mutex_) = 0;
  std::uint64_t lies_told_ GUARDED_BY(mutex_) = 0;
};

}  // namespace outboard::testing

// A device whose requests end: each with what the device below says, or, when that has said nothing within `patience`, with
// "no answer" (EIO). The request below goes on for itself, with memory of its own, and may end at any time or never.
// Changes have no deadline while the device answers reads: then it is frozen, and goes on some time.
//
// A device below that keeps the deadline itself (Properties::keeps_deadline) gets its reads, writes and flushes on the thread that
// asks, if the host has what it takes for that thread (a descriptor). Everything else is handed to a helper thread, which costs two switches of threads and a copy.
//
// What is known of the device is its DeviceHealth: a silent one is asked nothing but whether it is still there, and whoever
// asks it gets "no answer" within `grace`, so that a client of many requests does not wait for each of them.
#pragma once

#include "device/block_device.h"
#include "device/device_health.h"
#include "device/helper_threads.h"

#include <chrono>
#include <functional>
#include <memory>

namespace outboard::device {

// Why a request failed: "the device has not answered". Says nothing about what is on the disk, and of a change not whether
// it was or will be made.
Error no_answer(std::source_location at = std::source_location::current());
bool is_no_answer(const Error &error);

struct DeadlineOptions {
  std::chrono::milliseconds patience{30000};
  std::chrono::milliseconds grace{1000};  // for a sign of life
  unsigned threads = 64;                  // helpers at most, for reads and for changes each
};

class DeadlineDevice final : public BlockDevice {
public:
  // `lower` is shared with requests that are still under way when the device goes. `health`: what `lower` itself goes by when it keeps
  // deadlines; its times then count.
  DeadlineDevice(std::shared_ptr<BlockDevice> lower, const DeadlineOptions &options, std::shared_ptr<DeviceHealth> health = nullptr);
  ~DeadlineDevice() override;

  bool silent() const;         // it has left a request unanswered and answered nothing since
  std::size_t late() const;    // requests given up and still under way, of those on helper threads

  const Properties &properties() const override { return lower_->properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override;
  Status write(std::uint64_t offset, std::span<const std::byte> data) override;
  Status write_gather(std::uint64_t offset, std::span<const iovec> pieces) override;
  Status flush() override;
  Status discard(std::uint64_t offset, std::uint64_t length) override;
  Status zero(std::uint64_t offset, std::uint64_t length) override;

private:
  using Deadline = DeviceHealth::Deadline;
  enum class Kind : std::uint8_t { read, change };

  bool keeps_deadline_here() const;
  Status admit();
  bool start_probe();
  Status settle(Status status, Kind kind, const char *what, std::uint64_t offset, std::uint64_t length);
  template <class Work> Status directly(const Work &work, Kind kind, const char *what, std::uint64_t offset, std::uint64_t length);
  Status handed_over(Kind kind, HelperThreads::Job job, Deadline deadline);
  template <class Job> Status change_in_one_step(Job job, const char *what, std::uint64_t offset, std::uint64_t length);

  const std::shared_ptr<BlockDevice> lower_;
  const std::shared_ptr<DeviceHealth> health_;
  // Two, so that changes that are held up for long leave threads to reads.
  HelperThreads readers_, changers_;
};

}  // namespace outboard::device

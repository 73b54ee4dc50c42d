// A device whose requests end: each with what the device below says, or, when that has said nothing within `patience`, with
// "no answer" (EIO). The request below goes on for itself, with memory of its own, and may end at any time or never.
//
// A device below that keeps the deadline itself (Properties::keeps_deadline) gets its reads, writes and flushes on the thread that
// asks. Everything else is handed to a helper thread, which costs two switches of threads and a copy.
//
// Once a request has gone unanswered, the device is silent until it answers anything: whoever asks a silent device gets
// "no answer" within `grace`, so that a client of many requests does not wait for each of them. A probe (a read of the first bytes)
// finds out whether only that one request is lost; if so, the others do not notice.
#pragma once

#include "device/block_device.h"
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
  std::chrono::milliseconds grace{1000};  // for the probe; not more than `patience`
  unsigned threads = 64;                  // helpers at most
};

class DeadlineDevice final : public BlockDevice {
public:
  // `lower` is shared with requests that are still under way when the device goes.
  DeadlineDevice(std::shared_ptr<BlockDevice> lower, const DeadlineOptions &options);
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
  class Health;
  using Clock = HelperThreads::Clock;

  Status admit();
  void probe();
  Status settle(Status status, const char *what, std::uint64_t offset, std::uint64_t length);
  template <class Work> Status directly(const Work &work, const char *what, std::uint64_t offset, std::uint64_t length);
  Status handed_over(HelperThreads::Job job, Clock::time_point deadline);
  template <class Job> Status one_step(Job job, const char *what, std::uint64_t offset, std::uint64_t length);

  const std::shared_ptr<BlockDevice> lower_;
  const DeadlineOptions options_;
  const std::shared_ptr<Health> health_;
  HelperThreads helpers_;
};

}  // namespace outboard::device

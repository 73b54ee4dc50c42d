// An io_uring of one thread, for requests that the thread waits for, but not beyond a deadline.
//
// A request's memory is RequestMemory. When the deadline comes first the ring keeps the memory until the completion comes, however
// late; the entry it comes with is recognised by its request and touches nothing else. Each thread has its own ring, made at its
// first request; a thread that ends with requests under way leaves its ring behind.
#pragma once

#include "base/result.h"
#include "device/device_health.h"
#include "device/request_memory.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

struct io_uring;
struct io_uring_sqe;

namespace outboard::device {

class RequestRing {
public:
  using Clock = DeviceHealth::Clock;
  using Deadline = DeviceHealth::Deadline;

  // ENOSYS, EPERM, EMFILE, ENOMEM: the host gives no ring.
  static Result<RequestRing *> of_this_thread();
  ~RequestRing();
  RequestRing(const RequestRing &) = delete;
  RequestRing &operator=(const RequestRing &) = delete;

  // Bytes transferred, as pread and pwrite; fewer than asked is possible. no_answer() at the deadline; of changes
  // `health` is asked then whether to wait on.
  Result<std::size_t> read(int fd, std::uint64_t position, const std::shared_ptr<RequestMemory> &memory, std::size_t length,
                           Deadline deadline);
  Result<std::size_t> write(int fd, std::uint64_t position, const std::shared_ptr<RequestMemory> &memory, std::size_t length,
                            Deadline deadline, DeviceHealth &health);
  Status sync(int fd, Deadline deadline, DeviceHealth &health);  // fdatasync

  // Requests given up whose completion has not been seen yet.
  std::size_t late() const { return late_.size(); }

private:
  struct InFlight;
  RequestRing() = default;
  Status open();
  Result<int> run(std::unique_ptr<InFlight> request, io_uring_sqe *entry, Deadline deadline, DeviceHealth *health);
  Result<io_uring_sqe *> entry();
  void take_completions();

  std::unique_ptr<io_uring> ring_;
  RequestRing *left_before_ = nullptr;  // the rings that their threads left behind, as a list
  std::vector<std::unique_ptr<InFlight>> late_;  // given up and not completed
};

}  // namespace outboard::device

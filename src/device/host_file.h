// Whole transfers over one descriptor of the host: short transfers are continued, EINTR is retried, and a transfer
// that cannot be completed is EIO. Positions are bytes of the *host file*. Nothing above it calls pread.
//
// With a deadline to keep, transfers go through the calling thread's io_uring (request_ring.h) and memory of the request's own: one
// copy more, and no caller waits longer than the device's health says. Without one, and on helper threads (which are there to get
// stuck), they are plain pread and pwrite.
// Thread-safe, once set up.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "device/device_health.h"
#include "device/request_ring.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <sys/uio.h>

namespace outboard::device {

// A position in a list of pieces, for transfers that take the list in several steps.
class GatherCursor {
public:
  explicit GatherCursor(std::span<const iovec> pieces) : pieces_(pieces) {}
  bool at_end() const { return pieces_.empty(); }
  // The next pieces, at most `out.size()`; returns how many were filled in. Does not move.
  std::size_t peek(std::span<iovec> out) const;
  void advance(std::size_t bytes);
  // Takes `out.size()` bytes; the caller knows that so many are left.
  void copy(std::span<std::byte> out);

private:
  std::span<const iovec> pieces_;
  std::size_t done_ = 0;  // bytes of the first piece already taken
};

class HostFile {
public:
  explicit HostFile(UniqueFd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }
  // Transfers of an O_DIRECT descriptor may be continued only at multiples of this many bytes.
  void set_granule(std::size_t granule) { granule_ = granule; }

  // From now on transfers and syncs end by their deadlines, with no_answer(). False when the host has no way that is
  // known never to block its caller: no io_uring, or a file system that starts requests in the caller's time.
  bool keep_deadlines(const std::shared_ptr<DeviceHealth> &health);

  Status read(std::uint64_t position, std::span<std::byte> data) const;
  Status write(std::uint64_t position, GatherCursor from, std::uint64_t length) const;
  Status sync() const;  // fdatasync

private:
  bool timed() const;
  Result<std::size_t> read_some(std::uint64_t position, std::span<std::byte> data, DeviceHealth::Deadline deadline) const;
  Result<std::size_t> write_some(std::uint64_t position, GatherCursor from, std::uint64_t length, DeviceHealth::Deadline deadline) const;

  UniqueFd fd_;
  std::size_t granule_ = 1;
  std::shared_ptr<DeviceHealth> health_;  // null: no deadlines
};

}  // namespace outboard::device

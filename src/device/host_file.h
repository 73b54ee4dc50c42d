// Whole transfers over one descriptor of the host: short transfers are continued, EINTR is retried, and a transfer
// that cannot be completed is EIO. Positions are bytes of the *host file*. This is the place where another I/O
// mechanism (io_uring) would go; nothing above it calls pread.
// Thread-safe: it keeps no state but the descriptor.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstddef>
#include <cstdint>
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

  Status read(std::uint64_t position, std::span<std::byte> data) const;
  Status write(std::uint64_t position, GatherCursor from, std::uint64_t length) const;
  Status sync() const;  // fdatasync

private:
  UniqueFd fd_;
  std::size_t granule_ = 1;
};

}  // namespace outboard::device

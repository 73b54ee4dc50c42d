#include "device/host_file.h"

#include "base/units.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <unistd.h>

namespace outboard::device {

std::size_t GatherCursor::peek(std::span<iovec> out) const {
  std::size_t count = 0;
  std::size_t skip = done_;
  for (const iovec &piece : pieces_) {
    if (count == out.size()) break;
    if (piece.iov_len == skip) {  // an empty piece, or one used up
      skip = 0;
      continue;
    }
    out[count++] = {static_cast<std::byte *>(piece.iov_base) + skip, piece.iov_len - skip};
    skip = 0;
  }
  return count;
}

void GatherCursor::advance(std::size_t bytes) {
  while (!pieces_.empty()) {
    const std::size_t left = pieces_.front().iov_len - done_;
    if (bytes < left) {
      done_ += bytes;
      return;
    }
    bytes -= left;
    done_ = 0;
    pieces_ = pieces_.subspan(1);
  }
  assert(bytes == 0);
}

void GatherCursor::copy(std::span<std::byte> out) {
  while (!out.empty()) {
    assert(!pieces_.empty());
    const iovec &piece = pieces_.front();
    const std::size_t take = std::min(out.size(), piece.iov_len - done_);
    if (take > 0) std::memcpy(out.data(), static_cast<const std::byte *>(piece.iov_base) + done_, take);
    out = out.subspan(take);
    advance(take);
  }
}

Status HostFile::read(std::uint64_t position, std::span<std::byte> data) const {
  while (!data.empty()) {
    const ssize_t got = ::pread(fd_.get(), data.data(), data.size(), static_cast<off_t>(position));
    if (got < 0) {
      if (errno == EINTR) continue;
      return fail(Error::system(errno, "device: read"));
    }
    const std::size_t usable = round_down(static_cast<std::size_t>(got), granule_);
    if (usable == 0) return fail(Error::system(EIO, "device: read came back short"));
    position += usable;
    data = data.subspan(usable);
  }
  return {};
}

Status HostFile::write(std::uint64_t position, GatherCursor from, std::uint64_t length) const {
  std::array<iovec, 256> window;
  while (length > 0) {
    const std::size_t count = from.peek(window);
    assert(count > 0);
    const ssize_t put = ::pwritev(fd_.get(), window.data(), static_cast<int>(count), static_cast<off_t>(position));
    if (put < 0) {
      if (errno == EINTR) continue;
      return fail(Error::system(errno, "device: write"));
    }
    const std::size_t usable = round_down(static_cast<std::size_t>(put), granule_);
    if (usable == 0) return fail(Error::system(EIO, "device: write came back short"));
    assert(usable <= length);
    position += usable;
    length -= usable;
    from.advance(usable);
  }
  return {};
}

Status HostFile::sync() const {
  // Not retried after an error: the host reports a lost write once, and a second call would say that all is well.
  while (::fdatasync(fd_.get()) != 0) {
    if (errno != EINTR) return fail(Error::system(errno, "device: flush"));
  }
  return {};
}

}  // namespace outboard::device

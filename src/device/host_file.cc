#include "device/host_file.h"

#include "base/units.h"
#include "device/helper_threads.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
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

bool HostFile::keep_deadlines(const std::shared_ptr<DeviceHealth> &health) {
  struct stat info {};
  struct statfs system {};
  if (::fstat(fd_.get(), &info) != 0 || ::fstatfs(fd_.get(), &system) != 0) return false;
  // A ring helps only where starting a request does not block. FUSE says so and blocks (docs/device.md).
  if (!S_ISBLK(info.st_mode) && system.f_type != EXT4_SUPER_MAGIC && system.f_type != XFS_SUPER_MAGIC) return false;
  if (!RequestRing::of_this_thread()) return false;
  health_ = health;
  return true;
}

bool HostFile::timed() const { return health_ && !HelperThreads::is_this_one(); }

// Through the request's own memory: what comes late finds its caller gone.
Result<std::size_t> HostFile::read_some(std::uint64_t position, std::span<std::byte> data, DeviceHealth::Deadline deadline) const {
  if (!timed()) {
    const ssize_t got = ::pread(fd_.get(), data.data(), data.size(), static_cast<off_t>(position));
    if (got < 0) return fail(Error::system(errno, "device: read"));
    return static_cast<std::size_t>(got);
  }
  const std::size_t piece = std::min(data.size(), RequestMemory::kLargest);
  RequestRing *ring = TRY(RequestRing::of_this_thread());
  const std::shared_ptr<RequestMemory> memory = TRY(RequestMemory::of_this_thread(piece));
  const std::size_t got = TRY(ring->read(fd_.get(), position, memory, piece, deadline));
  std::memcpy(data.data(), memory->first(got).data(), got);
  return got;
}

Status HostFile::read(std::uint64_t position, std::span<std::byte> data) const {
  const DeviceHealth::Deadline deadline = timed() ? health_->deadline() : DeviceHealth::Deadline::max();
  while (!data.empty()) {
    const Result<std::size_t> got = read_some(position, data, deadline);
    if (!got) {
      if (got.error().is(EINTR)) continue;
      return fail(got.error());
    }
    const std::size_t usable = round_down(*got, granule_);
    if (usable == 0) return fail(Error::system(EIO, "device: read came back short"));
    position += usable;
    data = data.subspan(usable);
  }
  return {};
}

Result<std::size_t> HostFile::write_some(std::uint64_t position, GatherCursor from, std::uint64_t length,
                                         DeviceHealth::Deadline deadline) const {
  if (!timed()) {
    std::array<iovec, 256> window;
    const std::size_t count = from.peek(window);
    assert(count > 0);
    const ssize_t put = ::pwritev(fd_.get(), window.data(), static_cast<int>(count), static_cast<off_t>(position));
    if (put < 0) return fail(Error::system(errno, "device: write"));
    return static_cast<std::size_t>(put);
  }
  const std::size_t piece = std::min<std::uint64_t>(length, RequestMemory::kLargest);
  RequestRing *ring = TRY(RequestRing::of_this_thread());
  const std::shared_ptr<RequestMemory> memory = TRY(RequestMemory::of_this_thread(piece));
  from.copy(memory->first(piece));
  return ring->write(fd_.get(), position, memory, piece, deadline, *health_);
}

Status HostFile::write(std::uint64_t position, GatherCursor from, std::uint64_t length) const {
  const DeviceHealth::Deadline deadline = timed() ? health_->deadline() : DeviceHealth::Deadline::max();
  while (length > 0) {
    const Result<std::size_t> put = write_some(position, from, length, deadline);
    if (!put) {
      if (put.error().is(EINTR)) continue;
      return fail(put.error());
    }
    const std::size_t usable = round_down(*put, granule_);
    if (usable == 0) return fail(Error::system(EIO, "device: write came back short"));
    assert(usable <= length);
    position += usable;
    length -= usable;
    from.advance(usable);
  }
  return {};
}

Status HostFile::sync() const {
  if (timed()) {
    RequestRing *ring = TRY(RequestRing::of_this_thread());
    for (const DeviceHealth::Deadline deadline = timed() ? health_->deadline() : DeviceHealth::Deadline::max();;) {
      Status done = ring->sync(fd_.get(), deadline, *health_);
      if (done || !done.error().is(EINTR)) return done;
    }
  }
  // Not retried after an error: the host reports a lost write once, and a second call would say that all is well.
  while (::fdatasync(fd_.get()) != 0) {
    if (errno != EINTR) return fail(Error::system(errno, "device: flush"));
  }
  return {};
}

}  // namespace outboard::device

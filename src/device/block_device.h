// The seam to whatever stores the blocks: a file, a block device, memory, or a hostile device in tests.
//
// All positions and lengths are bytes from the start of the *file system* (an `offset=` is already applied).
// A device is thread-safe: any number of threads may call it at once. There is no ordering between requests that
// overlap in time; a completed write is durable only after a later flush() has returned success.
// Errors: Error::system with the host's errno; EIO for short transfers; EROFS for changes on a read-only device;
// ranges outside [0, size) are EIO, never a wrap.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <sys/uio.h>

namespace outboard::device {

// One piece of a batch. `data` is filled for reads, taken for writes; `length` is used by discard and zero.
struct Request {
  enum class Op : std::uint8_t { read, write, discard, zero };
  Op op = Op::read;
  std::uint64_t offset = 0;
  std::span<std::byte> data;
  std::uint64_t length = 0;
};

struct Properties {
  std::uint64_t size = 0;        // bytes of the file system's range
  std::uint32_t alignment = 1;   // offset, length and memory alignment that avoids a bounce copy (a power of two)
  bool read_only = false;
  bool discards = false;         // discard() does something
  bool keeps_deadline = false;   // read, write and flush end within a time of their own (deadline_device.h)
};

class BlockDevice {
public:
  BlockDevice() = default;
  BlockDevice(const BlockDevice &) = delete;
  BlockDevice &operator=(const BlockDevice &) = delete;
  virtual ~BlockDevice() = default;

  virtual const Properties &properties() const = 0;

  virtual Status read(std::uint64_t offset, std::span<std::byte> data) = 0;
  virtual Status write(std::uint64_t offset, std::span<const std::byte> data) = 0;
  // Consecutive bytes gathered from several places. The default writes piece by piece.
  virtual Status write_gather(std::uint64_t offset, std::span<const iovec> pieces);
  // Everything whose write has returned is durable when this returns success.
  virtual Status flush() = 0;
  // Contents become undefined; a hint that may be ignored.
  virtual Status discard(std::uint64_t offset, std::uint64_t length) = 0;
  // The range reads as zeros afterwards. The default writes zeros.
  virtual Status zero(std::uint64_t offset, std::uint64_t length);
  // Reads a little of what no cache of the host holds, where there is a way: to see whether the device answers. May be called from
  // threads that may get stuck only.
  virtual Status sign_of_life();
  // Runs every request of the batch, possibly in parallel, and returns the first error after all have ended.
  // The default runs them in turn.
  virtual Status run(std::span<Request> batch);
};

}  // namespace outboard::device

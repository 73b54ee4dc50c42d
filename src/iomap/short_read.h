// The short path for small direct reads: one known mapped stretch, one device read, straight into the caller's memory.
//
// No allocation, no iteration, no question to the file system. Whatever is not that simple is "not short": the caller
// takes the ordinary path (buffered::read), which gives the same bytes. Short is a read that is not empty after it was
// clipped to the file's size, is at most kMostBytes long, touches no dirty bytes, and lies in one plain mapped entry of
// the mapping cache.
//
// The caller holds the inode's lock, at least shared, for map() and short_read(). A ShortRead that is still under way
// when the lock is let go must be kept apart from truncation and the like, or its cookie be compared with the inode's
// sequence, under the lock, before the bytes are given to anybody: if it moved, they may be another file's.
#pragma once

#include "base/rendezvous.h"
#include "device/block_device.h"
#include "iomap/mapping_cache.h"
#include "pagecache/file_cache.h"

#include <optional>
#include <span>
#include <utility>

namespace outboard::iomap {

// One inode's part of the question.
struct ShortReadFile {
  InodeMappings &mappings;
  std::uint64_t cookie;  // the inode's mapping sequence
  const pagecache::FileCache &cache;
};

// A request that can be under way in any device, synchronous or not. Reusable once finished; it stays where it is.
class ShortRead {
public:
  static constexpr std::size_t kMostBytes = std::size_t{128} << 10;
  // Called exactly once for each submit(), on the thread that comes second: the submitting one or the completing one.
  // The request is the callee's again: it may be mapped anew, or freed.
  using Finish = void (*)(ShortRead &request, void *context);

  ShortRead(Finish finish, void *context) : finish_(finish), context_(context) {}
  ShortRead(const ShortRead &) = delete;
  ShortRead &operator=(const ShortRead &) = delete;

  // False: not short, nothing is prepared. Not while the request is under way.
  [[nodiscard]] bool map(MappingCache &cache, const ShortReadFile &file, std::uint64_t offset,
                         std::span<std::byte> into);

  // `start(request)` hands the request to a device, which calls completed() exactly once when it has ended, on any
  // thread, also before start() has returned. When submit() returns the request may be finished, or gone.
  template <class Start> void submit(Start &&start) {
    std::forward<Start>(start)(*this);
    if (rendezvous_.submitted()) finish_(*this, context_);
  }
  void completed(Status status) {
    status_ = std::move(status);
    if (rendezvous_.completed()) finish_(*this, context_);
  }

  std::uint64_t address() const { return address_; }  // device bytes
  std::span<std::byte> data() const { return data_; }
  std::uint64_t cookie() const { return cookie_; }  // under which the mapping was true
  // In Finish: the bytes read, or the device's error.
  Result<std::size_t> result() const {
    if (!status_) return fail(status_.error());
    return data_.size();
  }

private:
  const Finish finish_;
  void *const context_;
  std::uint64_t address_ = 0;
  std::span<std::byte> data_;
  std::uint64_t cookie_ = 0;
  Status status_;  // written by the completing side before it arrives
  Rendezvous rendezvous_;
};

// What submit() takes for a synchronous device: completion is part of submission.
inline auto start_inline(device::BlockDevice &device) {
  return [&device](ShortRead &request) { request.completed(device.read(request.address(), request.data())); };
}

// The same with no request object, over a synchronous device. nullopt: not short.
std::optional<Result<std::size_t>> short_read(MappingCache &cache, const ShortReadFile &file,
                                              device::BlockDevice &device, std::uint64_t offset,
                                              std::span<std::byte> into);

}  // namespace outboard::iomap

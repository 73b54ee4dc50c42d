// What goes back to the kernel for one request, before it is known how it travels, and the one place where an Error
// becomes an errno.
#pragma once

#include "base/result.h"
#include "fuse/wire.h"

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace outboard::fuse {

// Every reply buffer has at least this much room, so that fixed-size answers need no check.
inline constexpr std::size_t kLeastReplyRoom = 4096;

// A reply being built in memory that the transport owns: READ and the like fill room() directly, then commit().
class Reply {
public:
  explicit Reply(std::span<std::byte> payload) : payload_(payload) { assert(payload.size() >= kLeastReplyRoom); }

  std::span<std::byte> room() const { return payload_.subspan(size_); }
  // `size` bytes of room() are now part of the answer.
  void commit(std::size_t size) {
    assert(size <= payload_.size() - size_);
    size_ += size;
  }
  // A fixed-size answer. These all fit together into kLeastReplyRoom.
  template <class T> void put(const T &value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 512);
    std::memcpy(room().data(), &value, sizeof value);
    commit(sizeof value);
  }
  // Drops what has been put; used by an operation that changes its mind.
  void rewind() { size_ = 0; }

  // `error` as error_number() gives it.
  void fail(int error) {
    error_ = error;
    size_ = 0;
  }
  // FORGET and its kin: the kernel waits for nothing.
  void suppress() { wanted_ = false; }

  bool wanted() const { return wanted_; }
  int error() const { return error_; }
  std::span<const std::byte> payload() const { return payload_.first(size_); }

  wire::OutHeader header(std::uint64_t unique) const {
    return {.length = static_cast<std::uint32_t>(sizeof(wire::OutHeader) + size_), .error = -error_, .unique = unique};
  }

private:
  std::span<std::byte> payload_;
  std::size_t size_ = 0;
  int error_ = 0;
  bool wanted_ = true;
};

// The errno (positive, one that the protocol can carry) that the client of an operation gets. Corruption and failing
// devices also leave a line in the log, as often as a person can read.
int error_number(const Error &error, const char *operation, std::uint64_t node);

}  // namespace outboard::fuse

// One request, decoded no further than its parts. Nothing of it is trusted: every part is checked when it is taken.
// The parts may lie apart (FUSE-over-io_uring delivers an operation's own structure and its payload separately); for
// /dev/fuse split_message() finds them in the one message.
#pragma once

#include "base/result.h"
#include "fuse/wire.h"
#include "vfs/filesystem.h"

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>

namespace outboard::fuse {

class Request {
public:
  // `fixed`: the operation's own structure (may be empty); `rest`: names or data, without extensions.
  Request(const wire::InHeader &header, std::span<const std::byte> fixed, std::span<const std::byte> rest)
      : header_(header), fixed_(fixed), rest_(rest) {}

  const wire::InHeader &header() const { return header_; }
  wire::Opcode opcode() const { return static_cast<wire::Opcode>(header_.opcode); }
  vfs::NodeId node() const { return header_.node; }
  vfs::Caller caller(std::uint32_t umask = 0) const {
    return {.uid = header_.uid, .gid = header_.gid, .pid = header_.pid, .umask = umask & 0777u};
  }

  // The operation's own structure. EINVAL when the message is too short for it.
  template <class T> Result<T> arguments() const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (fixed_.size() < sizeof(T)) return fail(Error::user(EINVAL, "request: shorter than its operation's structure"));
    T value;
    std::memcpy(&value, fixed_.data(), sizeof value);
    return value;
  }
  // The same for structures that grew: what is missing reads as zero. EINVAL below `least` bytes.
  template <class T> Result<T> arguments_of_at_least(std::size_t least) const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (fixed_.size() < least) return fail(Error::user(EINVAL, "request: shorter than its operation's structure"));
    T value{};
    std::memcpy(&value, fixed_.data(), std::min(sizeof value, fixed_.size()));
    return value;
  }

  // The next part up to a NUL, which is taken too. EINVAL without a NUL or when empty.
  Result<std::string_view> take_text();
  // A directory entry's name. ENAMETOOLONG above 255 bytes, EINVAL with a slash.
  Result<std::string_view> take_name();
  // The same where "." and ".." cannot be meant: EINVAL.
  Result<std::string_view> take_proper_name();

  // What has not been taken yet.
  std::span<const std::byte> rest() const { return rest_; }
  // The first `size` bytes of it. EINVAL when there are fewer.
  Result<std::span<const std::byte>> data(std::size_t size) const {
    if (size > rest_.size()) return fail(Error::user(EINVAL, "request: less data than it says"));
    return rest_.first(size);
  }

private:
  wire::InHeader header_;
  std::span<const std::byte> fixed_;
  std::span<const std::byte> rest_;
};

// Parts of a message as read from /dev/fuse. EINVAL when there is no complete header, or the lengths contradict the
// message: such a message cannot even be answered. `short_setxattr`: setxattr_ext was not negotiated.
Result<Request> split_message(std::span<const std::byte> message, bool short_setxattr = false);

}  // namespace outboard::fuse

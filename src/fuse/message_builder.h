// Requests as the kernel would send them, for the tests.
#pragma once

#include "fuse/dispatcher.h"
#include "fuse/wire.h"

#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

namespace outboard::fuse::testing {

using Bytes = std::vector<std::byte>;

template <class T> Bytes bytes_of(const T &value) {
  static_assert(std::is_trivially_copyable_v<T>);
  Bytes bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// `text` with its NUL.
inline Bytes name_bytes(std::string_view text) {
  Bytes bytes(text.size() + 1);
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

inline Bytes operator+(Bytes left, const Bytes &right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

inline Bytes message(wire::Opcode opcode, std::uint64_t node, const Bytes &body = {}, std::uint32_t uid = 0) {
  const wire::InHeader header{.length = static_cast<std::uint32_t>(sizeof(wire::InHeader) + body.size()),
                              .opcode = static_cast<std::uint32_t>(opcode),
                              .unique = 77,
                              .node = node,
                              .uid = uid,
                              .gid = 100,
                              .pid = 1234,
                              .extensions = 0,
                              .padding = 0};
  return bytes_of(header) + body;
}

// A reply as the kernel would read it.
struct Answer {
  std::optional<wire::OutHeader> header;  // none: no reply
  Bytes payload;

  int error() const { return header ? -header->error : -1; }
  template <class T> T as() const {
    T value{};
    std::memcpy(&value, payload.data(), std::min(sizeof value, payload.size()));
    return value;
  }
  std::string_view text() const { return {reinterpret_cast<const char *>(payload.data()), payload.size()}; }
};

inline Result<Answer> ask(Dispatcher &dispatcher, const Bytes &request, std::size_t room = 1 << 17) {
  Bytes out(sizeof(wire::OutHeader) + room, std::byte{0xAA});
  const std::size_t size = TRY(dispatcher.answer(request, out));
  Answer answer;
  if (size == 0) return answer;
  wire::OutHeader header;
  std::memcpy(&header, out.data(), sizeof header);
  answer.header = header;
  answer.payload.assign(out.begin() + sizeof header, out.begin() + static_cast<std::ptrdiff_t>(size));
  return answer;
}

}  // namespace outboard::fuse::testing

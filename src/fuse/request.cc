#include "fuse/request.h"

#include "fuse/operation_table.h"

#include <algorithm>

namespace outboard::fuse {

Result<std::string_view> Request::take_text() {
  const auto end = std::find(rest_.begin(), rest_.end(), std::byte{0});
  if (end == rest_.end()) return fail(Error::user(EINVAL, "request: name without an end"));
  const std::string_view text(reinterpret_cast<const char *>(rest_.data()),
                              static_cast<std::size_t>(end - rest_.begin()));
  rest_ = rest_.subspan(text.size() + 1);
  if (text.empty()) return fail(Error::user(EINVAL, "request: empty name"));
  return text;
}

Result<std::string_view> Request::take_name() {
  const std::string_view name = TRY(take_text());
  if (name.size() > wire::kNameMax) return fail(Error::user(ENAMETOOLONG));
  if (name.find('/') != std::string_view::npos) return fail(Error::user(EINVAL, "request: slash in a name"));
  return name;
}

Result<std::string_view> Request::take_proper_name() {
  const std::string_view name = TRY(take_name());
  if (name == "." || name == "..") return fail(Error::user(EINVAL, "request: a dot is no new name"));
  return name;
}

Result<Request> split_message(std::span<const std::byte> message, bool short_setxattr) {
  wire::InHeader header;
  if (message.size() < sizeof header) return fail(Error::user(EINVAL, "request: no complete header"));
  std::memcpy(&header, message.data(), sizeof header);
  if (header.length != message.size()) return fail(Error::user(EINVAL, "request: length differs from what was read"));
  std::span<const std::byte> body = message.subspan(sizeof header);
  const std::size_t extensions = std::size_t{header.extensions} * 8;
  if (extensions > body.size()) return fail(Error::user(EINVAL, "request: extensions longer than the message"));
  body = body.first(body.size() - extensions);
  // A body that is too short for its structure is the operation's error, and that one can be answered.
  const std::size_t fixed = std::min(fixed_size(static_cast<wire::Opcode>(header.opcode), short_setxattr), body.size());
  return Request(header, body.first(fixed), body.subspan(fixed));
}

}  // namespace outboard::fuse

// Operations on what is known about a node: stat, its changes, extended attributes; and statfs.
#include "fuse/dispatcher.h"
#include "fuse/encoding.h"
#include "fuse/handlers.h"

#include <limits.h>
#include <linux/limits.h>

namespace outboard::fuse::handlers {

Status get_attributes(Dispatcher &dispatcher, Request &request, Reply &reply) {
  reply.put(encode_reply(TRY(dispatcher.filesystem().get_attributes(request.node()))));
  return {};
}

Status extended_stat(Dispatcher &dispatcher, Request &request, Reply &reply) {
  reply.put(encode_statx(TRY(dispatcher.filesystem().get_attributes(request.node()))));
  return {};
}

Status set_attributes(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::SetattrIn>());
  vfs::SetAttributes changes = TRY(decode(in));
  changes.caller = request.caller();
  if (changes.size && *changes.size > static_cast<std::uint64_t>(INT64_MAX)) return fail(Error::user(EFBIG));
  reply.put(encode_reply(TRY(dispatcher.filesystem().set_attributes(request.node(), changes))));
  return {};
}

Status statistics(Dispatcher &dispatcher, Request &, Reply &reply) {
  reply.put(encode(TRY(dispatcher.filesystem().statistics())));
  return {};
}

namespace {

Result<std::string_view> take_xattr_name(Request &request) {
  const std::string_view name = TRY(request.take_text());
  if (name.size() > XATTR_NAME_MAX) return fail(Error::user(ERANGE));
  return name;
}

// The answer to "how long would it be?" when `size` is 0; otherwise the value itself, of at most `size` bytes.
template <class Fetch> Status put_sized(Reply &reply, std::uint32_t size, Fetch fetch) {
  if (size == 0) {
    const std::size_t needed = TRY(fetch(std::span<std::byte>{}));
    reply.put(wire::GetxattrOut{.size = static_cast<std::uint32_t>(needed), .padding = 0});
    return {};
  }
  const std::span<std::byte> into = reply.room().first(std::min<std::size_t>(size, reply.room().size()));
  reply.commit(TRY(fetch(into)));
  return {};
}

}  // namespace

Status get_xattr(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::GetxattrIn>());
  const std::string_view name = TRY(take_xattr_name(request));
  return put_sized(reply, in.size, [&](std::span<std::byte> into) {
    return dispatcher.filesystem().get_xattr(request.node(), name, into);
  });
}

Status list_xattrs(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::GetxattrIn>());
  return put_sized(reply, in.size, [&](std::span<std::byte> into) {
    return dispatcher.filesystem().list_xattrs(request.node(), into);
  });
}

Status set_xattr(Dispatcher &dispatcher, Request &request, Reply &) {
  const auto in = TRY(request.arguments_of_at_least<wire::SetxattrIn>(
      dispatcher.options().short_setxattr ? wire::kSetxattrInShort : sizeof(wire::SetxattrIn)));
  const std::string_view name = TRY(take_xattr_name(request));
  const std::span<const std::byte> value = TRY(request.data(in.size));
  if (value.size() > XATTR_SIZE_MAX) return fail(Error::user(E2BIG));
  return dispatcher.filesystem().set_xattr(request.node(), name, value, static_cast<int>(in.flags),
                                           (in.setxattr_flags & wire::kSetxattrAclKillSgid) != 0);
}

Status remove_xattr(Dispatcher &dispatcher, Request &request, Reply &) {
  return dispatcher.filesystem().remove_xattr(request.node(), TRY(take_xattr_name(request)));
}

}  // namespace outboard::fuse::handlers

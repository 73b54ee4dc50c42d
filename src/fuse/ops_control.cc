// ioctl, whole-mount operations, and messages that need no action.
#include "fuse/dispatcher.h"
#include "fuse/handlers.h"
#include "fuse/shutdown_request.h"
#include "vfs/control.h"

#include <algorithm>
#include <unistd.h>

namespace outboard::fuse::handlers {

namespace {

bool is_control(const Request &request, std::uint32_t command) {
  return request.node() == vfs::kRootNode &&
         (command == vfs::kControlSync || command == vfs::kControlIdentify || command == vfs::kControlRequests);
}

template <class T> Result<std::size_t> give(std::span<std::byte> out, const T &answer) {
  if (out.size() < sizeof answer) return fail(Error::user(EINVAL));
  std::memcpy(out.data(), &answer, sizeof answer);
  return sizeof answer;
}

// Bytes placed into `out`.
Result<std::size_t> control(Dispatcher &dispatcher, const Request &request, std::uint32_t command,
                            std::span<std::byte> out) {
  const std::uint32_t uid = request.header().uid;
  if (uid != 0 && uid != dispatcher.options().owner_uid) return fail(Error::user(EPERM));
  if (command == vfs::kControlSync) {
    if (dispatcher.filesystem().is_shut_down()) return fail(Error::user(ESHUTDOWN));
    TRY(dispatcher.filesystem().sync_all());
    return std::size_t{0};
  }
  if (command == vfs::kControlRequests) {
    static_assert(kOperationCount <= vfs::ControlRequests::kOpcodes);
    vfs::ControlRequests requests{};
    std::ranges::copy(dispatcher.counters().read(), requests.received);
    return give(out, requests);
  }
  vfs::ControlIdentity identity{};
  std::memcpy(identity.program, vfs::kControlProgram, sizeof identity.program);
  identity.version = vfs::kControlVersion;
  identity.server_pid = static_cast<std::uint32_t>(::getpid());
  return give(out, identity);
}

}  // namespace

Status ioctl(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::IoctlIn>());
  if (asks_for_shutdown(request)) {
    reply.put(wire::IoctlOut{});
    return dispatcher.filesystem().shutdown(TRY(shutdown_mode(request, dispatcher.options().owner_uid)));
  }
  const std::span<const std::byte> data = TRY(request.data(in.in_size));
  reply.put(wire::IoctlOut{});
  const std::span<std::byte> out = reply.room().first(std::min<std::size_t>(in.out_size, reply.room().size()));
  const std::size_t size =
      is_control(request, in.command)
          ? TRY(control(dispatcher, request, in.command, out))
          : TRY(dispatcher.filesystem().ioctl(request.node(), in.command, data, out, request.caller()));
  reply.commit(size);
  return {};
}

Status sync_all(Dispatcher &dispatcher, Request &, Reply &) { return dispatcher.filesystem().sync_all(); }

Status destroy(Dispatcher &dispatcher, Request &, Reply &) { return dispatcher.filesystem().unmount(); }

// INTERRUPT: no operation waits for long without being bounded. NOTIFY_REPLY: nothing is ever retrieved.
Status ignore(Dispatcher &, Request &, Reply &) { return {}; }

}  // namespace outboard::fuse::handlers

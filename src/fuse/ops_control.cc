// ioctl, whole-mount operations, and messages that need no action.
#include "fuse/dispatcher.h"
#include "fuse/handlers.h"
#include "fuse/shutdown_request.h"
#include "vfs/control.h"

#include <algorithm>
#include <memory>
#include <unistd.h>

namespace outboard::fuse::handlers {

namespace {

bool is_trace_command(std::uint32_t command) {
  return command == vfs::kControlTraceStart || command == vfs::kControlTraceTake || command == vfs::kControlTraceStop;
}

bool is_control(const Request &request, std::uint32_t command) {
  return request.node() == vfs::kRootNode &&
         (command == vfs::kControlSync || command == vfs::kControlIdentify || command == vfs::kControlRequests ||
          command == vfs::kControlFreeze || command == vfs::kControlThaw || command == vfs::kControlIsFrozen || is_trace_command(command));
}

template <class T> Result<std::size_t> give(std::span<std::byte> out, const T &answer) {
  if (out.size() < sizeof answer) return fail(Error::user(EINVAL));
  std::memcpy(out.data(), &answer, sizeof answer);
  return sizeof answer;
}

Result<std::size_t> trace_control(std::uint32_t command, std::span<const std::byte> in, std::span<std::byte> out) {
  if (command == vfs::kControlTraceStart) {
    std::uint32_t layers = 0;
    if (in.size() < sizeof layers) return fail(Error::user(EINVAL));
    std::memcpy(&layers, in.data(), sizeof layers);
    TRY(outboard::trace::start_recording(layers));
    return std::size_t{0};
  }
  if (command == vfs::kControlTraceStop) {
    outboard::trace::stop_recording();
    return std::size_t{0};
  }
  if (out.size() < sizeof(vfs::ControlTraceBatch)) return fail(Error::user(EINVAL));
  auto batch = std::make_unique<vfs::ControlTraceBatch>();
  batch->now_ns = outboard::trace::now_ns();
  batch->count = static_cast<std::uint32_t>(TRY(outboard::trace::take_records(batch->records, batch->lost)));
  std::memcpy(out.data(), batch.get(), sizeof *batch);
  return sizeof *batch;
}

// Bytes placed into `out`.
Result<std::size_t> control(Dispatcher &dispatcher, const Request &request, std::uint32_t command,
                            std::span<const std::byte> in, std::span<std::byte> out) {
  const std::uint32_t uid = request.header().uid;
  if (uid != 0 && uid != dispatcher.options().owner_uid) return fail(Error::user(EPERM));
  if (is_trace_command(command)) return trace_control(command, in, out);
  if (command == vfs::kControlSync) {
    if (dispatcher.filesystem().is_shut_down()) return fail(Error::user(ESHUTDOWN));
    TRY(dispatcher.filesystem().sync_all());
    return std::size_t{0};
  }
  if (command == vfs::kControlFreeze) return dispatcher.freeze_control().freeze(request, in, out);
  if (command == vfs::kControlIsFrozen) return give(out, std::uint32_t{dispatcher.filesystem().is_frozen()});
  if (command == vfs::kControlThaw) {
    TRY(dispatcher.freeze_control().thaw());
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

bool is_trace_control(const Request &request) {
  if (request.opcode() != wire::Opcode::ioctl || request.node() != vfs::kRootNode) return false;
  const Result<wire::IoctlIn> in = request.arguments<wire::IoctlIn>();
  return in && is_trace_command(in->command);
}

bool is_answered_at_once(const Request &request) {
  if (is_trace_control(request)) return true;
  const Result<wire::IoctlIn> in = request.arguments<wire::IoctlIn>();
  return in && is_control(request, in->command) && in->command != vfs::kControlSync && in->command != vfs::kControlFreeze;
}

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
          ? TRY(control(dispatcher, request, in.command, data, out))
          : TRY(dispatcher.filesystem().ioctl(request.node(), in.command, data, out, request.caller()));
  reply.commit(size);
  return {};
}

Status sync_all(Dispatcher &dispatcher, Request &, Reply &) { return dispatcher.filesystem().sync_all(); }

Status destroy(Dispatcher &dispatcher, Request &, Reply &) { return dispatcher.filesystem().unmount(); }

// INTERRUPT: no operation waits for long without being bounded. NOTIFY_REPLY: nothing is ever retrieved.
Status ignore(Dispatcher &, Request &, Reply &) { return {}; }

}  // namespace outboard::fuse::handlers

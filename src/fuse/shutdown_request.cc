#include "fuse/shutdown_request.h"

#include "vfs/control.h"

#include <optional>
#include <sys/uio.h>

namespace outboard::fuse {

namespace {

std::optional<std::uint32_t> word_of_caller(const Request &request, std::uint64_t address) {
  // 0: the caller is in another pid namespace.
  if (request.header().pid == 0) return std::nullopt;
  std::uint32_t word = 0;
  const iovec local{&word, sizeof word};
  // The address is the caller's; only that process's memory is looked at, and failure is an answer like any other.
  const iovec remote{reinterpret_cast<void *>(static_cast<std::uintptr_t>(address)), sizeof word};
  const ssize_t got = ::process_vm_readv(static_cast<pid_t>(request.header().pid), &local, 1, &remote, 1, 0);
  if (got != static_cast<ssize_t>(sizeof word)) return std::nullopt;
  return word;
}

}  // namespace

bool asks_for_shutdown(const Request &request) {
  if (request.opcode() != wire::Opcode::ioctl) return false;
  const Result<wire::IoctlIn> in = request.arguments<wire::IoctlIn>();
  if (!in) return false;
  return in->command == vfs::kExt4Shutdown || (in->command == vfs::kControlShutdown && request.node() == vfs::kRootNode);
}

Result<vfs::ShutdownMode> shutdown_mode(const Request &request, std::uint32_t owner_uid) {
  const std::uint32_t uid = request.header().uid;
  if (uid != 0 && uid != owner_uid) return fail(Error::user(EPERM));
  const auto in = TRY(request.arguments<wire::IoctlIn>());
  std::uint32_t flags = vfs::kGoingFlush;
  if (in.command == vfs::kExt4Shutdown) {
    flags = word_of_caller(request, in.argument).value_or(vfs::kGoingFlush);
  } else {
    const std::span<const std::byte> data = TRY(request.data(in.in_size));
    if (data.size() < sizeof flags) return fail(Error::user(EINVAL, "shutdown: flags too short"));
    std::memcpy(&flags, data.data(), sizeof flags);
  }
  switch (flags) {
  case vfs::kGoingFlush: return vfs::ShutdownMode::flush;
  case vfs::kGoingLog: return vfs::ShutdownMode::log;
  case vfs::kGoingNow: return vfs::ShutdownMode::now;
  default: return fail(Error::user(EINVAL, "shutdown: unknown flags"));
  }
}

}  // namespace outboard::fuse

#include "service/release.h"

#include "base/unique_fd.h"
#include "fuse/mount.h"
#include "fuse/operation_table.h"
#include "vfs/control.h"

#include <climits>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <map>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

namespace outboard::service {

namespace {

Outcome<fuse::MountTableEntry> outboard_mount_of(const std::string &path) {
  // The path itself is not touched: realpath would ask a server that may be dead about the mount's root only if the path went on below.
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) return failure(kExitSystem, fmt::format("{}: {}", path, std::strerror(errno)));
  // The mount that holds it is on the nearest directory above (or at) it that has one.
  std::filesystem::path at = resolved;
  Result<fuse::MountTableEntry> entry = fuse::find_mount(at);
  while (!entry && entry.error().is(ENOENT) && at.has_relative_path()) {
    at = at.parent_path();
    entry = fuse::find_mount(at);
  }
  if (!entry || (entry->type != "fuse.outboard" && entry->type != "fuseblk.outboard"))
    return failure(kExitSystem, fmt::format("{}: not in a mount of outboard", path));
  return *entry;
}

Outcome<UniqueFd> open_root(const fuse::MountTableEntry &mount) {
  UniqueFd root(::open(mount.target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return failure(kExitSystem, fmt::format("{}: {}", mount.target, std::strerror(errno)));
  return root;
}

// The server's process has ended: it has closed the image, and with it given up its claim.
void wait_for_end(int process) {
  if (process < 0) return;
  pollfd poll_fd{.fd = process, .events = POLLIN, .revents = 0};
  int told = 0;
  // Ends with the server, whose own waits are the device's; a person can interrupt.
  while (::poll(&poll_fd, 1, 5000) == 0)
    if (told++ == 0) std::fputs("outboard: waiting for the server to write everything out\n", stderr);
}

}  // namespace

Outcome<UniqueFd> open_mount_root(const std::string &path) {
  Outcome<fuse::MountTableEntry> mount = outboard_mount_of(path);
  if (!mount) return std::unexpected(mount.error());
  return open_root(*mount);
}

Outcome<void> sync_mount(const std::string &path) {
  Outcome<fuse::MountTableEntry> mount = outboard_mount_of(path);
  if (!mount) return std::unexpected(mount.error());
  Outcome<UniqueFd> root = open_root(*mount);
  if (!root) return std::unexpected(root.error());
  // What clients have written may still be in the kernel's cache: it goes first. (On a plain mount this does not reach the server.)
  if (::syncfs(root->get()) != 0) return failure(kExitSystem, fmt::format("{}: syncfs: {}", mount->target, std::strerror(errno)));
  if (::ioctl(root->get(), vfs::kControlSync) != 0)
    return failure(kExitSystem, fmt::format("{}: sync: {}", mount->target, std::strerror(errno)));
  return {};
}

Outcome<MountReport> describe_mount(const std::string &path) {
  Outcome<fuse::MountTableEntry> mount = outboard_mount_of(path);
  if (!mount) return std::unexpected(mount.error());
  Outcome<UniqueFd> root = open_root(*mount);
  if (!root) return std::unexpected(root.error());
  vfs::ControlIdentity server{};
  vfs::ControlRequests requests{};
  struct statvfs state {};
  if (::ioctl(root->get(), vfs::kControlIdentify, &server) != 0 ||
      ::ioctl(root->get(), vfs::kControlRequests, &requests) != 0 || ::fstatvfs(root->get(), &state) != 0)
    return failure(kExitSystem, fmt::format("{}: {}", mount->target, std::strerror(errno)));
  // Several opcodes may be versions of one operation.
  std::map<std::string, std::uint64_t> by_name;
  for (std::size_t i = 0; i < std::size(requests.received); ++i) {
    if (requests.received[i] == 0) continue;
    const char *name = fuse::operation(static_cast<fuse::wire::Opcode>(i)).name;
    by_name[name != nullptr ? name : "(unknown)"] += requests.received[i];
  }
  MountReport report{.source = mount->source,
                     .target = mount->target,
                     .type = mount->type,
                     .read_only = (state.f_flag & ST_RDONLY) != 0,
                     .server_pid = server.server_pid,
                     .requests = {}};
  for (const auto &[name, received] : by_name) report.requests.push_back({name, received});
  return report;
}

Outcome<void> shut_down_mount(const std::string &path, vfs::ShutdownMode mode) {
  Outcome<fuse::MountTableEntry> mount = outboard_mount_of(path);
  if (!mount) return std::unexpected(mount.error());
  Outcome<UniqueFd> root = open_root(*mount);
  if (!root) return std::unexpected(root.error());
  std::uint32_t flags = vfs::kGoingFlush;
  if (mode == vfs::ShutdownMode::log) flags = vfs::kGoingLog;
  if (mode == vfs::ShutdownMode::now) flags = vfs::kGoingNow;
  if (::ioctl(root->get(), vfs::kControlShutdown, &flags) != 0)
    return failure(kExitSystem, fmt::format("{}: shutdown: {}", mount->target, std::strerror(errno)));
  return {};
}

Outcome<void> unmount_and_wait(const std::string &target) {
  Outcome<fuse::MountTableEntry> mount = outboard_mount_of(target);
  if (!mount) return std::unexpected(mount.error());
  char resolved[PATH_MAX];
  if (::realpath(target.c_str(), resolved) == nullptr || mount->target != resolved)
    return failure(kExitSystem, fmt::format("{}: not a mount point (it is inside {})", target, mount->target));
  UniqueFd process;
  {
    Outcome<UniqueFd> root = open_root(*mount);
    if (!root) return std::unexpected(root.error());
    vfs::ControlIdentity server{};
    if (::ioctl(root->get(), vfs::kControlIdentify, &server) == 0)
      process.reset(static_cast<int>(::syscall(SYS_pidfd_open, server.server_pid, 0)));
    // A frozen mount would keep what the kernel has to write waiting.
    if (::ioctl(root->get(), vfs::kControlThaw) == 0) std::fprintf(stderr, "outboard: %s: was frozen: thawed\n", target.c_str());
    (void)::ioctl(root->get(), vfs::kControlTraceStop);  // a tracer keeps looking at the mount
    // An error here is old news of data that some program wrote and could not keep (a full disk): told, but no reason to
    // stay mounted. What cannot be made durable now is tried again, and reported, by the server as it ends.
    // After a shutdown (ESHUTDOWN) there is nothing to say: what it took is what was asked for.
    const int data_error = ::syncfs(root->get()) != 0 ? errno : 0;
    const int server_error = ::ioctl(root->get(), vfs::kControlSync) != 0 ? errno : 0;
    const bool lost = (data_error != 0 && server_error != ESHUTDOWN) ||
                      (server_error != 0 && server_error != EROFS && server_error != ESHUTDOWN);
    if (lost)
      std::fprintf(stderr, "outboard: %s: some of what was written is lost: %s\n", target.c_str(), std::strerror(data_error != 0 ? data_error : server_error));
  }
  Status unmounted = fuse::unmount(mount->target, false);
  // Somebody who looks in for a moment only, as a tracer does.
  for (int again = 0; again < 10 && !unmounted && unmounted.error().is(EBUSY); ++again) {
    const timespec pause{.tv_sec = 0, .tv_nsec = 30'000'000};
    ::nanosleep(&pause, nullptr);
    unmounted = fuse::unmount(mount->target, false);
  }
  if (!unmounted)
    return failure(kExitMount, fmt::format("{}: {}", target, unmounted.error().message()));
  wait_for_end(process.get());
  return {};
}

}  // namespace outboard::service

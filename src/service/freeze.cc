#include "service/freeze.h"

#include "service/release.h"
#include "vfs/control.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace outboard::service {

namespace {

// syncfs(2), for no longer than `timeout`: an errno, ETIMEDOUT among them. In a process of its own, because nothing gets a thread
// out of it while the device does not answer, not even the end of its process.
int sync_within(int root, std::chrono::milliseconds timeout) {
  const pid_t child = ::fork();
  if (child < 0) return errno;
  if (child == 0) {
    // Whoever reads what we print is not to wait for the child.
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int standard = 0; standard <= 2; ++standard) ::dup2(null, standard);
    ::_exit(::syncfs(root) == 0 ? 0 : errno);
  }
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  pollfd end{.fd = process.get(), .events = POLLIN, .revents = 0};
  if (process && ::poll(&end, 1, static_cast<int>(timeout.count())) == 0) {
    ::kill(child, SIGKILL);
    return ETIMEDOUT;
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

}  // namespace

Outcome<void> freeze_mount(const std::string &path, const FreezeRequest &request) {
  Outcome<UniqueFd> root = open_mount_root(path);
  if (!root) return std::unexpected(root.error());
  const auto failed = [&path](const char *what, int code) {
    return failure(kExitSystem, fmt::format("{}: {}: {}", path, what, std::strerror(code)));
  };
  std::uint32_t frozen = 0;
  if (::ioctl(root->get(), vfs::kControlIsFrozen, &frozen) != 0) return failed("freeze", errno);
  // syncfs would wait for the thaw.
  if (frozen != 0) return failure(kExitSystem, fmt::format("{}: frozen already", path));
  // Data that is lost already (EIO) is lost whether we freeze or not, and its owner is told at fsync; it is said here too.
  if (const int error = sync_within(root->get(), request.timeout); error != 0) return failed("syncfs", error);
  vfs::ControlFreeze control{};
  control.timeout_ms = static_cast<std::uint32_t>(request.timeout.count());
  control.hold = request.hold ? 1 : 0;
  if (::ioctl(root->get(), vfs::kControlFreeze, &control) != 0) return failed("freeze", errno);
  if (control.timed_out != 0) {
    control.held_by[sizeof control.held_by - 1] = '\0';
    return failure(kExitSystem, fmt::format("{}: not frozen: not done in time, twice; held up by {}", path, control.held_by));
  }
  return {};
}

Outcome<void> thaw_mount(const std::string &path) {
  Outcome<UniqueFd> root = open_mount_root(path);
  if (!root) return std::unexpected(root.error());
  if (::ioctl(root->get(), vfs::kControlThaw) == 0) return {};
  if (errno == EINVAL) return failure(kExitSystem, fmt::format("{}: not frozen", path));
  return failure(kExitSystem, fmt::format("{}: thaw: {}", path, std::strerror(errno)));
}

}  // namespace outboard::service

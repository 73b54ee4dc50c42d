#include "service/connection_guard.h"

#include "base/log.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace outboard::service {

namespace {

constexpr int kLookEvery = 500;         // milliseconds
constexpr unsigned kExiting = 0x4;      // PF_EXITING among the flags of /proc/PID/stat
constexpr int kPatience = 3;            // looks at a dying server before the connection is aborted: most die at once

// The server's first thread has begun to exit (it ends by SIGKILL at once; only the others may be held up), though the process
// is still there.
bool is_dying(const char *stat_path) {
  const UniqueFd file(::open(stat_path, O_RDONLY | O_CLOEXEC));
  char text[1024] = {};
  if (!file || ::read(file.get(), text, sizeof text - 1) <= 0) return true;
  // "PID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS ..."; the name may contain anything.
  const char *rest = std::strrchr(text, ')');
  char state = 0;
  unsigned flags = 0;
  if (rest == nullptr || std::sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2) return false;
  return state == 'Z' || state == 'X' || (flags & kExiting) != 0;
}

// Both ways do the same to the connection; the first also works for a mount made through fusermount3, the second also where
// fusectl is not mounted.
void abort_it(const fuse::MountTableEntry &mount, int abort_file) {
  if (abort_file >= 0 && ::write(abort_file, "1", 1) == 1) return;
  ::umount2(mount.target.c_str(), MNT_FORCE);
}

[[noreturn]] void watch(const fuse::MountTableEntry &mount, pid_t server) {
  const std::string abort_path =
      fmt::format("/sys/fs/fuse/connections/{}/abort", (mount.device_major << 20) | mount.device_minor);
  const std::string stat_path = fmt::format("/proc/{}/stat", server);
  ::prctl(PR_SET_NAME, "outboard-guard");
  if (::setsid() < 0 || ::chdir("/") != 0) ::_exit(1);
  // None of the server's descriptors: while one of them is open the connection lives.
  ::close_range(0, ~0u, 0);
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, server, 0));
  if (process < 0 || ::getppid() != server) ::_exit(0);
  const int abort_file = ::open(abort_path.c_str(), O_WRONLY | O_CLOEXEC);
  for (int seen_dying = 0;;) {
    pollfd end = {process, POLLIN, 0};
    if (::poll(&end, 1, kLookEvery) > 0) ::_exit(0);  // all of it has gone, and the kernel has seen to the connection
    seen_dying = is_dying(stat_path.c_str()) ? seen_dying + 1 : 0;
    if (seen_dying == kPatience) abort_it(mount, abort_file);
  }
}

}  // namespace

void start_connection_guard(const fuse::MountTableEntry &mount) {
  const pid_t server = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) watch(mount, server);
  if (child < 0) log(LogLevel::warning, "no guard for the connection: {}", std::strerror(errno));
}

}  // namespace outboard::service

#include "fuse/freeze_control.h"

#include "base/log.h"
#include "fuse/thread_signals.h"
#include "vfs/control.h"

#include <algorithm>
#include <cstring>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace outboard::fuse {

namespace {

void end_watcher(std::thread watcher, const UniqueFd &stop) {
  if (!watcher.joinable()) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(stop.get(), &one, sizeof one);
  watcher.join();
}

}  // namespace

FreezeControl::~FreezeControl() {
  MutexLock lock(mutex_);
  std::thread watcher = std::move(watcher_);
  const UniqueFd stop = std::move(stop_);
  lock.unlock();
  end_watcher(std::move(watcher), stop);
}

Result<std::size_t> FreezeControl::freeze(const Request &request, std::span<const std::byte> in, std::span<std::byte> out) {
  vfs::ControlFreeze control{};
  if (in.size() < sizeof control || out.size() < sizeof control) return fail(Error::user(EINVAL));
  std::memcpy(&control, in.data(), sizeof control);
  UniqueFd holder;
  if (control.hold != 0) {
    // 0: the caller is in another pid namespace.
    if (const std::uint32_t pid = request.header().pid; pid != 0) holder.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!holder) return fail(Error::user(EINVAL, "freeze: its holder cannot be watched"));
  }
  vfs::Filesystem::Frozen frozen;
  const Status status = filesystem_.freeze(std::chrono::milliseconds(control.timeout_ms), frozen);
  if (!status && !status.error().is(ETIMEDOUT)) return fail(status.error());
  control.timed_out = status ? 0 : 1;
  std::memset(control.held_by, 0, sizeof control.held_by);
  frozen.held_by.copy(control.held_by, sizeof control.held_by - 1);
  if (status && holder) {
    if (Status watched = watch(std::move(holder), frozen.ticket); !watched) {
      static_cast<void>(filesystem_.thaw(frozen.ticket));
      return fail(watched.error());
    }
  }
  std::memcpy(out.data(), &control, sizeof control);
  return sizeof control;
}

Status FreezeControl::watch(UniqueFd holder, std::uint64_t ticket) {
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop) return fail(Error::system(errno, "eventfd"));
  std::thread watcher([this, process = std::move(holder), end = stop.get(), ticket] {
    block_all_signals();
    pollfd ends[] = {{.fd = process.get(), .events = POLLIN, .revents = 0}, {.fd = end, .events = POLLIN, .revents = 0}};
    // For the holder's end, or for ours: with the next freeze that has a holder, or with the mount.
    while (::poll(ends, std::size(ends), -1) < 0 && errno == EINTR) {
    }
    if (ends[0].revents == 0) return;
    if (filesystem_.thaw(ticket)) log(LogLevel::warning, "whoever froze the file system has gone: thawed");
  });
  MutexLock lock(mutex_);
  std::swap(watcher, watcher_);
  std::swap(stop, stop_);
  lock.unlock();
  end_watcher(std::move(watcher), stop);  // of an earlier freeze, which has ended
  return {};
}

}  // namespace outboard::fuse

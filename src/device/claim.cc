#include "device/claim.h"

#include "base/log.h"
#include "device/host_mounts.h"
#include "device/loop.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <dirent.h>
#include <fcntl.h>
#include <initializer_list>
#include <limits>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <thread>

namespace outboard::device {

namespace {

std::unexpected<Error> refuse(const ClaimOptions &options, const std::string &sentence, const char *what) {
  log(LogLevel::warning, "{}", sentence);
  if (options.refusal != nullptr) *options.refusal = sentence;
  return fail(Error::system(EBUSY, what));
}

// Who has a block device, as far as the host tells: a mount, or a device built on top of it.
std::string holder_of(dev_t device) {
  if (const std::optional<HostMount> mount = mount_of(device)) return "is mounted on " + mount->target;
  std::string result;
  const std::string holders = fmt::format("/sys/dev/block/{}:{}/holders", major(device), minor(device));
  if (DIR *directory = ::opendir(holders.c_str())) {
    while (const dirent *entry = ::readdir(directory)) {
      if (entry->d_name[0] != '.' && result.empty()) result = std::string("is part of ") + entry->d_name;
    }
    ::closedir(directory);
  }
  return result.empty() ? "is in use by another process" : result;
}

bool overlaps(const ClaimOptions &ours, const LoopInfo &loop) {
  constexpr std::uint64_t kEnd = std::numeric_limits<std::uint64_t>::max();
  const auto end = [](std::uint64_t offset, std::uint64_t length) {
    return length == 0 || length > kEnd - offset ? kEnd : offset + length;
  };
  return loop.offset < end(ours.offset, ours.length) && ours.offset < end(loop.offset, loop.size_limit);
}

Status check_loops(const struct stat &file, const ClaimOptions &options) {
  for (const LoopInfo &loop : loops_over(file)) {
    if (options.own_loop == loop.number || !overlaps(options, loop)) continue;
    if (loop.read_only && options.read_only) continue;
    return refuse(options, fmt::format("the image file is in use as /dev/loop{}", loop.number),
                  "claim: a loop device uses the file");
  }
  return {};
}

// A process that was killed is gone before its last requests are, and as long as the kernel is at those, it keeps the file open.
constexpr std::chrono::seconds kLetGo{2};

// Until `attempt` (0: done, an errno otherwise) is not refused any more as `busy`, but not for long.
template <class Attempt> int patiently(const Attempt &attempt, std::initializer_list<int> busy) {
  const auto deadline = std::chrono::steady_clock::now() + kLetGo;
  for (;;) {
    const int error = attempt();
    if (std::ranges::find(busy, error) == busy.end() || std::chrono::steady_clock::now() >= deadline) return error;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

Status lock_range(int fd, const ClaimOptions &options) {
  struct flock range {};
  range.l_type = options.read_only ? F_RDLCK : F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(options.offset);
  range.l_len = static_cast<off_t>(options.length);
  const int error = patiently([&] { return ::fcntl(fd, F_OFD_SETLK, &range) == 0 ? 0 : errno; }, {EAGAIN, EACCES});
  if (error == 0) return {};
  if (error == EAGAIN || error == EACCES) {
    struct flock holder = range;
    std::string who = "another process";
    // The process is known only when its lock is a traditional one.
    if (::fcntl(fd, F_OFD_GETLK, &holder) == 0 && holder.l_type != F_UNLCK && holder.l_pid > 0)
      who = fmt::format("process {}", holder.l_pid);
    return refuse(options, fmt::format("the image file is in use by {}", who), "claim: the file is locked");
  }
  if (error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL) {
    log(LogLevel::warning, "the host's file system has no locks: a second user of the image would not be noticed");
    return {};
  }
  return fail(Error::system(error, "claim: lock the file"));
}

bool is_usable(mode_t mode) { return S_ISREG(mode) || S_ISBLK(mode); }

}  // namespace

Result<UniqueFd> open_claimed(const std::string &path, const ClaimOptions &options) {
  // Looked at before it is opened: opening a FIFO would wait for somebody at its other end.
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return fail(Error::system(errno, "device: open"));
  if (!is_usable(info.st_mode)) return fail(Error::system(EINVAL, "device: neither a regular file nor a block device"));
  const bool exclusive = S_ISBLK(info.st_mode) && options.mode != ClaimMode::none;
  const int access = (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  UniqueFd fd;
  const auto open = [&] {
    fd.reset(::open(path.c_str(), access | (exclusive ? O_EXCL : 0)));
    return fd ? 0 : errno;
  };
  if (const int error = exclusive ? patiently(open, {EBUSY}) : open(); error != 0) {
    if (exclusive && error == EBUSY)
      return refuse(options, fmt::format("{} {}", path, holder_of(info.st_rdev)), "claim: the block device is in use");
    return fail(Error::system(error, "device: open"));
  }
  if (exclusive && options.mode == ClaimMode::test_then_share) {
    fd.reset(::open(path.c_str(), access));
    if (!fd) return fail(Error::system(errno, "device: open"));
  }
  struct stat opened {};
  if (::fstat(fd.get(), &opened) != 0) return fail(Error::system(errno, "device: open"));
  if ((opened.st_mode & S_IFMT) != (info.st_mode & S_IFMT) || opened.st_rdev != info.st_rdev)
    return fail(Error::system(EINVAL, "device: the path changed while it was opened"));
  TRY(claim(fd.get(), options));
  return fd;
}

Status claim(int fd, const ClaimOptions &options) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return fail(Error::system(errno, "device: status of the file"));
  if (!S_ISREG(info.st_mode) || options.mode == ClaimMode::none) return {};
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  if (options.offset > kMost || options.length > kMost - options.offset)
    return fail(Error::system(EINVAL, "claim: range beyond any file"));
  TRY(check_loops(info, options));
  return lock_range(fd, options);
}

}  // namespace outboard::device

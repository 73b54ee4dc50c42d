#include "device/in_memory.h"

#include "device/host_mounts.h"

#include <linux/loop.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

namespace outboard::device {

namespace {

constexpr unsigned kLoopMajor = 7;

// Of a mounted file system. (What is mounted nowhere we see is not found.)
bool is_tmpfs(dev_t device) {
  const std::optional<HostMount> mount = mount_of(device);
  return mount && (mount->type == "tmpfs" || mount->type == "ramfs");
}

}  // namespace

bool is_in_memory(int fd) {
  struct stat info {};
  struct statfs system {};
  if (::fstat(fd, &info) != 0) return false;
  if (S_ISREG(info.st_mode))
    return ::fstatfs(fd, &system) == 0 && (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC);
  loop_info64 loop{};
  return S_ISBLK(info.st_mode) && major(info.st_rdev) == kLoopMajor && ::ioctl(fd, LOOP_GET_STATUS64, &loop) == 0 &&
         is_tmpfs(static_cast<dev_t>(loop.lo_device));
}

}  // namespace outboard::device

#include "device/in_memory.h"

#include <cstdio>
#include <fstream>
#include <linux/loop.h>
#include <linux/magic.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

namespace outboard::device {

namespace {

constexpr unsigned kLoopMajor = 7;

// A mounted file system by the number of its device. (What is mounted nowhere we see is not found.)
bool is_tmpfs(dev_t device) {
  std::ifstream mounts("/proc/self/mountinfo");
  // "ID PARENT MAJOR:MINOR ROOT TARGET OPTIONS [TAGS...] - TYPE SOURCE OPTIONS"; blanks inside a field are written \040.
  for (std::string line; std::getline(mounts, line);) {
    unsigned major_number = 0, minor_number = 0;
    if (std::sscanf(line.c_str(), "%*u %*u %u:%u ", &major_number, &minor_number) != 2) continue;
    if (makedev(major_number, minor_number) != device) continue;
    const std::size_t type = line.find(" - ");
    return type != std::string::npos && (line.compare(type + 3, 6, "tmpfs ") == 0 || line.compare(type + 3, 6, "ramfs ") == 0);
  }
  return false;
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

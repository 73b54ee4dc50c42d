// Loop devices of the host. An image file mounted as fuseblk needs a block device as the mount's source: this makes
// one that detaches itself when nobody uses it any more. The file system's own I/O never goes through it.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <string>
#include <sys/stat.h>
#include <vector>

namespace outboard::device {

struct LoopInfo {
  unsigned number = 0;
  std::uint64_t offset = 0;      // bytes of the backing file before the device's first
  std::uint64_t size_limit = 0;  // bytes; 0 means up to the end of the file
  bool read_only = false;
};

// The loop devices that this file backs, as far as we may see them: asked of the device itself, or, where that may not
// be opened, by the path in sysfs.
std::vector<LoopInfo> loops_over(const struct stat &file);

struct LoopOptions {
  std::uint64_t offset = 0;
  std::uint64_t size_limit = 0;  // as in LoopInfo
  bool read_only = false;
  std::string shown_path;  // what losetup(8) shows as the file's name; cut to 63 bytes
};

// A loop device that exists while this object, a mount or another opener holds it.
class LoopDevice {
public:
  // Needs the right to use /dev/loop-control (usually root): EACCES or EPERM otherwise. `backing` is duplicated by the
  // kernel and may be closed afterwards.
  static Result<LoopDevice> attach(int backing, const LoopOptions &options);

  unsigned number() const { return number_; }
  std::string path() const { return "/dev/loop" + std::to_string(number_); }
  int fd() const { return fd_.get(); }

private:
  LoopDevice(UniqueFd fd, unsigned number) : fd_(std::move(fd)), number_(number) {}

  UniqueFd fd_;
  unsigned number_;
};

}  // namespace outboard::device

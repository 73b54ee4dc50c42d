// What is mounted on the host, as far as this process sees it (/proc/self/mountinfo).
#pragma once

#include <optional>
#include <string>
#include <sys/types.h>

namespace outboard::device {

struct HostMount {
  std::string target;  // where it is mounted
  std::string type;    // of the file system: "tmpfs"
};

// The first mount of the file system with this device number.
std::optional<HostMount> mount_of(dev_t device);

}  // namespace outboard::device

// Files whose contents have been acknowledged.
#pragma once

#include "base/unique_fd.h"

#include <cerrno>
#include <fcntl.h>
#include <string>
#include <unistd.h>

namespace outboard::tests {

// 0 when all of it is written and fsynced, otherwise the error.
inline int write_and_fsync(const std::string &path, const std::string &text) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!file) return errno;
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t moved = ::write(file.get(), text.data() + done, text.size() - done);
    if (moved < 0) return errno;
    done += static_cast<std::size_t>(moved);
  }
  return ::fsync(file.get()) == 0 ? 0 : errno;
}

}  // namespace outboard::tests

// A file system of the kernel's below the image, which tests freeze.
#pragma once

#include "testing/image_builder.h"

#include <string>
#include <sys/types.h>

namespace outboard::tests {

// A loop mount of the kernel's, which is thawed whatever becomes of the test: a process of its own does it when the test's process
// goes, or when it has heard nothing for long. (A file system left frozen would hang whoever comes by.) If nothing is heard after
// that either, a freeze hangs half-way: it waits for a writer that waits for our server. The end of the test's process is the
// writer's end, and so the freeze's.
class Backing {
public:
  Backing(const std::string &type, const testing::TemporaryDirectory &work);  // "ext4" or "xfs"
  ~Backing();
  Backing(const Backing &) = delete;
  Backing &operator=(const Backing &) = delete;
  bool mounted() const { return mounted_; }
  const std::string &path() const { return path_; }
  std::string file(const std::string &name) const { return path_ + "/" + name; }
  // fsfreeze(8), which has to come back.
  void freeze();
  // False: it was not frozen (any more).
  bool thaw();
  void tell_watchdog();  // that the test goes on

private:
  void watch();
  std::string path_;
  bool mounted_ = false;
  int pipe_[2] = {-1, -1};
  pid_t watchdog_ = -1;
};

}  // namespace outboard::tests

// A file that stops answering on demand: what stands behind it is a file, served over FUSE by a process of the test's own. While
// it is stuck, whoever reads, writes or syncs it is held in the kernel, as by a disk that has died. When the object goes, so do the
// server and the mount, and with them everybody's waiting.
#pragma once

#include <atomic>
#include <string>
#include <sys/types.h>

namespace outboard::tests {

class StickyFile {
public:
  // `directory` is made and mounted on. A failure of the test, and !served(), when that does not succeed.
  StickyFile(const std::string &behind, const std::string &directory);
  ~StickyFile();
  StickyFile(const StickyFile &) = delete;
  StickyFile &operator=(const StickyFile &) = delete;

  bool served() const { return server_ > 0; }
  std::string path() const { return directory_ + "/image"; }

  enum class Stuck : int { nothing, reads, changes, everything };
  // Requests that come from now on wait; those that wait and are allowed now are carried out.
  void stick(Stuck what) { shared_->stuck.store(static_cast<int>(what)); }
  int held() const { return shared_->held.load(); }  // requests that wait
  // Everybody who waits gets an error, now and later.
  void die();

private:
  struct Shared {
    std::atomic<int> stuck, held;
  };
  void start(const std::string &behind);
  [[noreturn]] void serve(int device, int file);

  std::string directory_;
  Shared *shared_ = nullptr;
  pid_t server_ = -1;
};

}  // namespace outboard::tests

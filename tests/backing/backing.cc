#include "backing/backing.h"

#include "base/unique_fd.h"
#include "testing/command.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace outboard::tests {

using namespace std::chrono_literals;
using testing::run_command;

namespace {
// How long the watchdog lets a file system be frozen: far beyond what any round needs, so that hanging until then is a failure.
constexpr long kPatienceSeconds = 120;
}  // namespace

Backing::Backing(const std::string &type, const testing::TemporaryDirectory &work) : path_(work.file("backing")) {
  ::mkdir(path_.c_str(), 0755);
  const std::string image = work.file("backing.img");
  const UniqueFd file(::open(image.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (::ftruncate(file.get(), std::int64_t{640} << 20) != 0) ADD_FAILURE() << "truncate: " << errno;
  const auto made = type == "xfs" ? run_command({"mkfs.xfs", "-q", "-f", image}) : run_command({"mkfs.ext4", "-q", "-F", image});
  if (!made || made->exit != 0) {
    ADD_FAILURE() << "mkfs: " << (made ? made->err : made.error().message());
    return;
  }
  const auto mounted = run_command({"mount", "-t", type, "-o", "loop", image, path_});
  mounted_ = mounted && mounted->exit == 0;
  if (!mounted_) ADD_FAILURE() << "mount: " << (mounted ? mounted->err : mounted.error().message());
  if (mounted_) watch();
}

Backing::~Backing() {
  thaw();
  if (watchdog_ > 0) {
    ::close(pipe_[1]);
    ::waitpid(watchdog_, nullptr, 0);
  }
  if (!mounted_) return;
  const auto gone = run_command({"umount", path_});
  if (!gone || gone->exit != 0) {
    ADD_FAILURE() << "umount: " << (gone ? gone->err : gone.error().message());
    ::umount2(path_.c_str(), MNT_DETACH);
  }
}

void Backing::freeze() {
  tell_watchdog();
  const auto done = run_command({"fsfreeze", "--freeze", path_}, {.input = {}, .environment = {}, .deadline = 100s});
  tell_watchdog();
  ASSERT_TRUE(done.has_value()) << "fsfreeze does not return: " << done.error().message();
  ASSERT_EQ(done->exit, 0) << done->err;
}

bool Backing::thaw() {
  if (!mounted_) return false;
  tell_watchdog();
  const UniqueFd root(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return ::ioctl(root.get(), FITHAW, 0) == 0;
}

void Backing::tell_watchdog() { [[maybe_unused]] const ssize_t told = ::write(pipe_[1], "!", 1); }

void Backing::watch() {
  if (::pipe2(pipe_, O_CLOEXEC) != 0) return;
  const int root = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const pid_t test = ::getpid();
  watchdog_ = ::fork();
  if (watchdog_ != 0) {
    ::close(root);
    ::close(pipe_[0]);
    return;
  }
  // Only system calls from here on. The end of the pipe is the end of the test's process, or of this object.
  ::close(pipe_[1]);
  ::setsid();
  for (int silent = 0;;) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipe_[0], &set);
    timeval patience{.tv_sec = kPatienceSeconds, .tv_usec = 0};
    char byte = 0;
    const int ready = ::select(pipe_[0] + 1, &set, nullptr, nullptr, &patience);
    if (ready > 0 && ::read(pipe_[0], &byte, 1) == 1) {
      silent = 0;
      continue;
    }
    if (ready == 0 && ++silent > 2) ::kill(test, SIGKILL);
    ::ioctl(root, FITHAW, 0);
    if (ready > 0) ::_exit(0);
  }
}

}  // namespace outboard::tests

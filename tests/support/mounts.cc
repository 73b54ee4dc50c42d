#include "support/mounts.h"

#include "base/unique_fd.h"
#include "testing/fsck_oracle.h"
#include "vfs/control.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace outboard::tests {

using testing::run_command;

namespace {
constexpr auto kPatience = std::chrono::seconds(60);

// Waits for the server to end, bounded; kills it when it does not. Empty when it ended by itself and was well.
std::string reap(pid_t server) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    int status = 0;
    if (::waitpid(server, &status, WNOHANG) != 0) {
      return WIFSIGNALED(status) ? fmt::format("the server died of signal {}", WTERMSIG(status)) : "";
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  return "the server did not end after umount";
}
}  // namespace

std::string why_no_mounts() {
  if (::geteuid() != 0) return "not root";
  if (::access("/dev/fuse", R_OK | W_OK) != 0) return "no usable /dev/fuse";
  return {};
}

std::string outboard_program() {
  const char *override_path = std::getenv("OUTBOARD");
  return override_path != nullptr ? override_path : OUTBOARD_PROGRAM;
}

OutboardMount::OutboardMount(const std::string &image, const std::string &directory, std::vector<std::string> options)
    : Mount(image, directory), log_path_(directory + ".log") {
  ::mkdir(directory.c_str(), 0755);
  struct stat before {};
  ::stat(directory.c_str(), &before);
  std::vector<std::string> words = {outboard_program(), "mount", "--foreground"};
  for (const std::string &option : options) {
    words.push_back("-o");
    words.push_back(option);
  }
  words.push_back(image);
  words.push_back(directory);
  std::vector<char *> argv;
  for (std::string &word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  server_ = ::fork();
  if (server_ == 0) {
    const int log = ::open(log_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(log, 1);
    ::dup2(log, 2);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    struct stat now {};
    if (log().find("ready\n") != std::string::npos && ::stat(directory.c_str(), &now) == 0 && now.st_dev != before.st_dev) {
      mounted_ = true;
      return;
    }
    if (::waitpid(server_, nullptr, WNOHANG) == server_) {
      server_ = -1;
      detach();  // a server that died on its way may have left its mount behind
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ADD_FAILURE() << "mount of " << image << " did not come up: " << log();
}

OutboardMount::~OutboardMount() {
  if (!mounted_) {
    if (server_ > 0) kill();
    return;
  }
  if (std::string error = unmount(); !error.empty()) {
    ADD_FAILURE() << error;
    if (server_ > 0) kill();
  }
}

std::string OutboardMount::log() const { return testing::read_file(log_path_).value_or(""); }

std::string OutboardMount::unmount() {
  if (!mounted_) return {};
  auto result = run_command({outboard_program(), "umount", path_});
  if (!result) return "umount: " + result.error().message();
  if (result->exit != 0) return "umount: " + result->err + log();
  mounted_ = false;
  const std::string complaint = reap(std::exchange(server_, -1));
  return complaint.empty() ? "" : complaint + "\n" + log();
}

std::string OutboardMount::wait_for_end() {
  mounted_ = false;
  return reap(std::exchange(server_, -1));
}

void OutboardMount::detach() { ::umount2(path_.c_str(), MNT_DETACH); }

void OutboardMount::kill() {
  ::kill(server_, SIGKILL);
  ::waitpid(server_, nullptr, 0);
  server_ = -1;
  detach();
  mounted_ = false;
}

KernelMount::KernelMount(const std::string &image, const std::string &directory, const std::string &options)
    : Mount(image, directory) {
  ::mkdir(directory.c_str(), 0755);
  auto result = run_command({"mount", "-t", "ext4", "-o", options.empty() ? "loop" : "loop," + options, image, directory});
  mounted_ = result && result->exit == 0;
  if (!mounted_) ADD_FAILURE() << "kernel mount of " << image << ": " << (result ? result->err : result.error().message());
}

KernelMount::~KernelMount() {
  if (std::string error = unmount(); !error.empty()) {
    ADD_FAILURE() << error;
    ::umount2(path_.c_str(), MNT_DETACH);
  }
}

std::string KernelMount::unmount() {
  if (!mounted_) return {};
  auto result = run_command({"umount", path_});
  if (!result || result->exit != 0) return "umount: " + (result ? result->err : result.error().message());
  mounted_ = false;
  return {};
}

std::uint64_t requests_received(const Mount &mount, fuse::wire::Opcode opcode) {
  const UniqueFd root(::open(mount.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  vfs::ControlRequests requests{};
  if (!root || ::ioctl(root.get(), vfs::kControlRequests, &requests) != 0) {
    ADD_FAILURE() << "the server of " << mount.path() << " does not count: " << strerrorname_np(errno);
    return 0;
  }
  return requests.received[static_cast<std::size_t>(opcode)];
}

bool eventually(const std::function<bool()> &condition) {
  for (const auto end = std::chrono::steady_clock::now() + kPatience; std::chrono::steady_clock::now() < end;) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return condition();
}

std::string fsck_complaint(const std::string &image) {
  testing::FsckReport report = testing::fsck(image);
  return report.clean ? "" : report.text;
}

}  // namespace outboard::tests

// A mount of the memory file system, served by a process of its own, for tests that act as its client. Whatever happens
// to the test, the mount and the server are gone afterwards; a server that hangs is killed, which frees its clients.
#pragma once

#include "fuse/memory_filesystem.h"
#include "fuse/mount.h"
#include "fuse/session.h"
#include "testing/image_builder.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace outboard::fuse::testing {

// Why no real mount can be made here; empty when it can.
std::string why_no_mounts();

struct ServedMountOptions {
  MountRequest mount{.source = "memory", .allow_other = true};  // the target is the fixture's
  SessionOptions session;
  bool through_fusermount = false;
  std::chrono::seconds deadline{60};  // of the whole test: then the server is killed
};

class ServedMount {
public:
  static Result<std::unique_ptr<ServedMount>> start(ServedMountOptions options = {});
  ~ServedMount();

  const std::string &path() const { return target_; }
  std::string path(const std::string &name) const { return target_ + "/" + name; }
  Controls &controls() { return *controls_; }
  // How many requests the server has taken, this question included.
  std::uint64_t requests() const;
  unsigned workers() const;

  // Exit status of the server: 0 when serve() and the file system's unmount() succeeded. Empty if it is still there
  // after the time given.
  std::optional<int> wait_for_server(std::chrono::milliseconds time);
  void kill_server();
  pid_t server() const { return server_; }

private:
  ServedMount() = default;
  [[noreturn]] void run_server(UniqueFd descriptor, const SessionOptions &options);
  void watch(std::chrono::seconds deadline);
  std::uint64_t ask() const;

  outboard::testing::TemporaryDirectory directory_;
  std::string target_;
  Controls *controls_ = nullptr;  // shared memory
  pid_t server_ = -1;
  std::mutex mutex_;
  std::condition_variable done_;
  bool over_ = false;
  std::thread watchdog_;
};

}  // namespace outboard::fuse::testing

// `ServedMount` under the name given, or the test is skipped or fails.
#define SERVE_OR_SKIP(name, ...)                                                                                       \
  if (const std::string why = ::outboard::fuse::testing::why_no_mounts(); !why.empty()) GTEST_SKIP() << why;           \
  ASSIGN_OK(const auto name, ::outboard::fuse::testing::ServedMount::start(__VA_ARGS__))

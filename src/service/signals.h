// SIGTERM, SIGINT and SIGHUP as an ordinary call on an ordinary thread.
#pragma once

#include "base/unique_fd.h"

#include <csignal>
#include <functional>
#include <thread>

namespace outboard::service {

class SignalWatcher {
public:
  // Blocks the signals in this thread and those it starts from now on.
  SignalWatcher();
  ~SignalWatcher();
  void start(std::function<void(int)> on_signal);
  void stop();

private:
  sigset_t signals_{};
  UniqueFd signal_fd_, stop_fd_;
  std::thread thread_;
};

}  // namespace outboard::service

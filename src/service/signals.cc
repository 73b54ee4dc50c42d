#include "service/signals.h"

#include <cerrno>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

namespace outboard::service {

SignalWatcher::SignalWatcher() {
  ::sigemptyset(&signals_);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals_, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  signal_fd_.reset(::signalfd(-1, &signals_, SFD_CLOEXEC | SFD_NONBLOCK));
  stop_fd_.reset(::eventfd(0, EFD_CLOEXEC));
}

SignalWatcher::~SignalWatcher() {
  stop();
  ::pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
}

void SignalWatcher::start(std::function<void(int)> on_signal) {
  thread_ = std::thread([this, on_signal = std::move(on_signal)] {
    pollfd waits[2] = {{.fd = signal_fd_.get(), .events = POLLIN, .revents = 0}, {.fd = stop_fd_.get(), .events = POLLIN, .revents = 0}};
    // Ends with stop(), which every way out of serve() calls.
    for (;;) {
      if (::poll(waits, 2, -1) < 0 && errno != EINTR) return;
      if (waits[1].revents != 0) return;
      signalfd_siginfo info{};
      if (::read(signal_fd_.get(), &info, sizeof info) == sizeof info) on_signal(static_cast<int>(info.ssi_signo));
    }
  });
}

void SignalWatcher::stop() {
  if (!thread_.joinable()) return;
  const eventfd_t one = 1;
  ::eventfd_write(stop_fd_.get(), one);
  thread_.join();
}

}  // namespace outboard::service

// Signals and the session's threads: all signals are left to the program's other threads, but for the one that makes a
// worker look up from its read.
#pragma once

#include <csignal>
#include <pthread.h>

namespace outboard::fuse {

// A real-time signal nobody else here uses.
inline int wake_signal() { return SIGRTMIN + 5; }

inline void block_all_signals() {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

inline void block_all_but_wake_signal() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigdelset(&all, wake_signal());
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

// Makes the wake signal interrupt system calls and do nothing else.
inline void install_wake_handler() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  ::sigaction(wake_signal(), &action, nullptr);
}

}  // namespace outboard::fuse

// What the current thread is for. Some threads are waited for by others that hold locks: they must never take part in work
// that can wait for them in turn. Whoever does such work asserts that it does not run on one of them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace outboard {

enum class ThreadRole : std::uint8_t {
  client,           // runs an operation: a worker of the transport, a command, a test
  unmount,          // ends a mount
  flusher,          // writes dirty pages back
  commit,           // commits transactions
  checkpoint,       // writes committed metadata home
  memory_pressure,  // runs shrinkers
  reaper,           // deletes unlinked inodes
};
inline constexpr std::size_t kThreadRoles = 7;

ThreadRole thread_role();
// Operations wait for threads of this kind, some of them with locks or an open handle held: whoever throttles writers,
// commits or frees log space may neither delete an inode nor start a handle on behalf of one that goes.
constexpr bool is_waited_for(ThreadRole role) {
  return role == ThreadRole::flusher || role == ThreadRole::commit || role == ThreadRole::checkpoint ||
         role == ThreadRole::memory_pressure;
}

// The thread's role as long as this lives.
class ThreadRoleScope {
public:
  explicit ThreadRoleScope(ThreadRole role);
  ~ThreadRoleScope();
  ThreadRoleScope(const ThreadRoleScope &) = delete;
  ThreadRoleScope &operator=(const ThreadRoleScope &) = delete;

private:
  const ThreadRole before_;
};

}  // namespace outboard

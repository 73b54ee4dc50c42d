// Finds deadlocks before they strike. Builds with assertions only (kTrackWaits); elsewhere all of it compiles to nothing.
//
// Everything a thread can wait for has a class: a mutex (by its rank and the place in the code where it is made, the constructor
// for members), or an event
// such as the end of a commit (a WaitClass). While a thread holds a mutex, or owes an event (it is the one that will signal it),
// whatever else it waits for is what the mutex or the event depends on. Each such dependency between classes is remembered
// for the life of the process, with the stack that first showed it. When a new one closes a cycle, there is an order of
// the same steps in which nobody gets on: that is reported at once, with the stacks of all its dependencies, and the process aborts.
// It need not have happened, and the steps may have been taken minutes apart by one thread.
//
//   held or owed        is released or signalled only after      awaited
//   inode lock    ----------------------------------------------> commit
//   commit        ----------------------------------------------> open handles
//   open handle   ----------------------------------------------> inode lock        reported
//
// Who signals must say so while it is under way (Owes), or its waits are not seen: every wait in the project names its
// class, and docs/locking.md lists for each class who owes it.
#pragma once

#include <atomic>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

namespace outboard {

#if defined(NDEBUG)
inline constexpr bool kTrackWaits = false;
#else
inline constexpr bool kTrackWaits = true;
#endif

enum class Rank : std::uint16_t;

namespace wait_tracker {

using Id = std::uint16_t;  // of a class, in this process; 0: not known yet

// The class of the mutexes of `rank` that are made at `where`.
Id id_of_mutex(Rank rank, const std::source_location &where);
Id id_of_event(const char *name);

// The thread is about to wait for `what`. `released`: a mutex that it gives up while it waits (0: none).
void about_to_wait(Id what, Id released = 0);
// The thread has taken a mutex of the class, or owes the event from now on; drop() ends the newest such.
void hold(Id what);
void drop(Id what);
// The thread is going to wait for work, for as long as it takes: it may hold and owe nothing but `released`.
void about_to_idle(Id released);

struct Size {
  std::size_t classes, dependencies;
};
Size size();  // of the graph so far

}  // namespace wait_tracker

// An event that somebody waits for, as a class. Constants: `inline constinit WaitClass kCommit{"jbd2: commit"};`.
class WaitClass {
public:
  constexpr explicit WaitClass(const char *name) : name_(name) {}
  WaitClass(const WaitClass &) = delete;
  WaitClass &operator=(const WaitClass &) = delete;

  const char *name() const { return name_; }
  wait_tracker::Id id() {
    if (wait_tracker::Id known = id_.load(std::memory_order_relaxed)) return known;
    const wait_tracker::Id id = wait_tracker::id_of_event(name_);
    id_.store(id, std::memory_order_relaxed);
    return id;
  }

private:
  const char *name_;
  std::atomic<wait_tracker::Id> id_{0};
};

// For waits for work to do: nobody owes it.
inline constinit WaitClass kIdle{"idle"};

// The thread is about to wait for the event by other means than a CondVar (an atomic, a system call).
inline void about_to_wait(WaitClass &what) {
  if constexpr (kTrackWaits) wait_tracker::about_to_wait(what.id());
}

// As long as this lives the thread is on its way to signal the event: what it waits for meanwhile, the event waits for.
class Owes {
public:
  explicit Owes(WaitClass &what) : what_(what) {
    if constexpr (kTrackWaits) wait_tracker::hold(what_.id());
  }
  ~Owes() {
    if constexpr (kTrackWaits) wait_tracker::drop(what_.id());
  }
  Owes(const Owes &) = delete;
  Owes &operator=(const Owes &) = delete;

private:
  WaitClass &what_;
};

}  // namespace outboard

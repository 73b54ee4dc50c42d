// Who is inside the file system right now: entered around every dispatch, closed once by DESTROY, after which nobody
// gets in and the closer knows that nobody is left. Entering costs two stores to memory of one's own.
#pragma once

#include "base/wait_tracker.h"

#include <atomic>

namespace outboard::fuse {

// Owed by whoever is inside. The kernel, too, waits for the first kind when it writes back what it has cached.
inline constinit WaitClass kRequestEnds{"fuse: a request ends"};
inline constinit WaitClass kQueuedRequestEnds{"fuse: a request that needs write-back first ends"};

class Gate {
public:
  // One per thread that enters; lives as long as any closer may look at it.
  struct alignas(64) Slot {
    std::atomic<bool> inside{false};
  };

  // False: closed, stay out.
  bool enter(Slot &slot) {
    // Sequentially consistent on both sides: either we see the gate closed, or the closer sees us inside.
    slot.inside.store(true);
    if (!closed_.load()) return true;
    leave(slot);
    return false;
  }
  void leave(Slot &slot) {
    slot.inside.store(false);
    if (closed_.load()) slot.inside.notify_all();
  }

  // True for the one caller that closed it. Entering fails from then on.
  bool close() { return !closed_.exchange(true); }
  // After close(): waits until `slot` is not inside. Ends when the operation under way there does.
  static void wait_outside(const Slot &slot, WaitClass &operation) {
    about_to_wait(operation);
    slot.inside.wait(true);
  }

  bool closed() const { return closed_.load(); }

private:
  std::atomic<bool> closed_{false};
};

}  // namespace outboard::fuse

// How a thread meets a frozen file system. Usually an operation that changes something waits for the thaw. A transport whose
// threads are few, and needed for reads, has the operation refused instead, and asks again later from a thread that may wait.
#pragma once

namespace outboard::vfs {

// While it lives, operations of this thread that would wait fail with Error::user(EAGAIN) instead, before they have changed
// or held anything. Not nested.
class RefuseWhileFrozen {
public:
  RefuseWhileFrozen() { refuse_ = true, refused_ = false; }
  ~RefuseWhileFrozen() { refuse_ = false; }
  RefuseWhileFrozen(const RefuseWhileFrozen &) = delete;
  RefuseWhileFrozen &operator=(const RefuseWhileFrozen &) = delete;

  static bool refused() { return refused_; }  // has happened since it was made
  static bool applies() { return refuse_; }
  static void note() { refused_ = true; }

private:
  static inline thread_local bool refuse_ = false, refused_ = false;
};

}  // namespace outboard::vfs

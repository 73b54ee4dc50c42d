// Freeze and thaw of a mount: closes the change gate, takes everything to the disk, and marks it clean; and back.
//
// A thread of its own does the work, because any step of it may meet a device that does not answer: whoever asked for the freeze
// leaves at the deadline all the same, and the gate is opened behind him. One thing is not taken back that easily: once the
// superblock is on its way to the disk as clean, nothing may change until it has been marked in use again.
#pragma once

#include "base/mutex.h"
#include "base/result.h"
#include "vfs/change_gate.h"
#include "vfs/filesystem.h"

#include <chrono>
#include <functional>
#include <string>
#include <thread>

namespace outboard::vfs {

class Freezer {
public:
  // All of them may take as long as the device takes.
  struct Work {
    std::function<Status()> write_everything;  // no operation is under way; what the mount does by itself goes on
    std::function<Status()> commit;            // nothing goes on: commit, everything home, log empty
    std::function<Status()> mark_frozen;
    std::function<Status()> mark_in_use;       // failure: the journal has been aborted, and changes are safe since there are none
  };
  explicit Freezer(Work work) : work_(std::move(work)) {}
  ~Freezer() { stop(); }
  Freezer(const Freezer &) = delete;
  Freezer &operator=(const Freezer &) = delete;

  ChangeGate &gate() { return gate_; }
  bool is_frozen() const { return gate_.is_closed(); }  // or about to be

  // As Filesystem::freeze() and thaw().
  Status freeze(std::chrono::milliseconds timeout, Filesystem::Frozen &frozen) EXCLUDES(mutex_);
  Status thaw(std::uint64_t ticket) EXCLUDES(mutex_);
  // After a shutdown: nothing is changed any more, so nobody needs to wait. Nothing is written.
  void give_up() EXCLUDES(mutex_);
  // Thaws, and waits for the thread.
  void stop() EXCLUDES(mutex_);

private:
  using Clock = std::chrono::steady_clock;
  enum class State : std::uint8_t { thawed, frozen, thawing };

  Status attempt(Clock::time_point deadline, std::string &held_by) EXCLUDES(mutex_);
  void run() EXCLUDES(mutex_);
  Status steps() EXCLUDES(mutex_);
  Status drain(ChangeGate::Level level) EXCLUDES(mutex_);
  bool begin(const char *step) EXCLUDES(mutex_);  // false: cancelled
  std::string holders() const REQUIRES(mutex_);

  const Work work_;
  ChangeGate gate_;
  mutable Mutex mutex_{Rank::mount};  // not held while the gate is waited for, nor during work
  CondVar changed_;
  State state_ GUARDED_BY(mutex_) = State::thawed;
  bool busy_ GUARDED_BY(mutex_) = false;       // a freeze() is under way
  bool working_ GUARDED_BY(mutex_) = false;    // the thread is; it may outlast the freeze() that began it
  bool cancelled_ GUARDED_BY(mutex_) = false;  // the thread is to undo what it does
  bool sealing_ GUARDED_BY(mutex_) = false;    // the superblock may say clean on disk: the gate stays closed
  const char *step_ GUARDED_BY(mutex_) = "";
  Status result_ GUARDED_BY(mutex_);
  std::uint64_t ticket_ GUARDED_BY(mutex_) = 0;
  std::thread thread_;  // of whoever is busy
};

}  // namespace outboard::vfs

// Who is about to change the file system: entered before every change, closed by a freeze, which then waits until nobody is
// inside. It knows who is, by name, for the freeze that does not get done.
//
// Two levels, closed one after the other: operations of clients, then what the file system does by itself (write-back, deletion)
// and what only takes to the disk what is there (fsync). An operation may wait for work of the second level, never the other way.
//
// Whoever enters at the first level, or waits at the second, holds nothing: the gate counts as Rank::mount, which comes before all
// of the file system's locks.
#pragma once

#include "base/mutex.h"
#include "base/result.h"
#include "base/units.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace outboard::vfs {

class ChangeGate {
  // One who is inside. Free while `what` is null.
  struct alignas(64) Slot {
    std::atomic<const char *> what{nullptr};
    std::atomic<std::uint32_t> inode{0};  // 0: none in particular
    std::atomic<std::int64_t> since{0};   // steady clock, nanoseconds
  };

public:
  enum class Level : std::uint8_t { operation, background };
  static constexpr std::size_t kLevels = 2;

  // What is waited for here, by level: the gate's opening (owed by the freeze that has closed it), and the end of those inside.
  static WaitClass &opening(Level level);
  static WaitClass &leaving(Level level);

  // Being inside. Belongs to the thread that entered.
  class [[nodiscard]] Pass {
  public:
    Pass(Pass &&other) noexcept : gate_(std::exchange(other.gate_, nullptr)), level_(other.level_), slot_(other.slot_) {}
    Pass &operator=(Pass &&) = delete;
    ~Pass() {
      if (gate_ == nullptr) return;
      if constexpr (kTrackWaits) wait_tracker::drop(leaving(level_).id());
      gate_->leave(level_, slot_);
    }

  private:
    friend class ChangeGate;
    Pass(ChangeGate &gate, Level level, Slot *slot) : gate_(&gate), level_(level), slot_(slot) {
      if constexpr (kTrackWaits) wait_tracker::hold(leaving(level).id());
    }
    ChangeGate *gate_;
    Level level_;
    Slot *slot_;
  };

  // Waits while the gate is closed to this level; EAGAIN instead for a thread with RefuseWhileFrozen. `what` is a literal.
  Result<Pass> enter(Level level, const char *what, InodeNumber inode = {}) EXCLUDES(mutex_);
  // Nothing when closed.
  std::optional<Pass> try_enter(Level level, const char *what, InodeNumber inode = {}) EXCLUDES(mutex_);

  void close(Level level);
  void open() EXCLUDES(mutex_);  // to both
  bool is_closed(Level level = Level::operation) const { return side(level).closed.load(); }
  // After close(): waits until nobody is inside. False when the gate was opened before that.
  bool wait_empty(Level level) EXCLUDES(mutex_);
  // Who is inside, in words: "write of inode 12 (for 3.2 s)". Empty: nobody.
  std::string inside(Level level) const;

private:
  static constexpr std::size_t kSlots = 64;
  struct Side {
    std::atomic<bool> closed{false};
    std::array<Slot, kSlots> slots;
    std::atomic<std::uint32_t> nameless{0};  // inside without a slot, because all were taken
  };
  Side &side(Level level) { return sides_[static_cast<std::size_t>(level)]; }
  const Side &side(Level level) const { return sides_[static_cast<std::size_t>(level)]; }
  static Slot *take_slot(Side &to, const char *what, InodeNumber inode);
  static bool is_empty(const Side &of);
  void leave(Level level, Slot *slot) EXCLUDES(mutex_);

  // Sequentially consistent on both sides: whoever enters sees the gate closed, or the closer sees him inside.
  std::array<Side, kLevels> sides_;
  Mutex mutex_{Rank::leaf};
  CondVar opened_;  // the gate has been opened
  CondVar left_;    // somebody has left a closed side, or the gate has been opened
};

}  // namespace outboard::vfs

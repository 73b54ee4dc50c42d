#include "vfs/change_gate.h"

#include "vfs/refuse_while_frozen.h"

#include <fmt/format.h>
#include <functional>
#include <thread>

namespace outboard::vfs {

namespace {

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// By level. An operation may wait for background work, and so for that gate to open: it is closed only after the last operation has left.
constinit WaitClass kOpens[] = {WaitClass("vfs: operations may begin"), WaitClass("vfs: background work may begin")};
constinit WaitClass kLeave[] = {WaitClass("vfs: operations leave"), WaitClass("vfs: background work ends")};

// A freeze waits for those inside, so whoever may be kept out must not hold what they need.
void assert_nothing_held() {
  if constexpr (outboard::detail::kCheckRanks) {
    outboard::detail::rank_push(Rank::mount, false);
    outboard::detail::rank_pop(Rank::mount);
  }
}

}  // namespace

WaitClass &ChangeGate::opening(Level level) { return kOpens[static_cast<std::size_t>(level)]; }
WaitClass &ChangeGate::leaving(Level level) { return kLeave[static_cast<std::size_t>(level)]; }

// Each thread looks for a place from a point of its own, so that threads do not share cache lines.
ChangeGate::Slot *ChangeGate::take_slot(Side &to, const char *what, InodeNumber inode) {
  static thread_local const std::size_t start = std::hash<std::thread::id>{}(std::this_thread::get_id());
  for (std::size_t i = 0; i < kSlots; ++i) {
    Slot &slot = to.slots[(start + i) % kSlots];
    const char *none = nullptr;
    if (!slot.what.compare_exchange_strong(none, what)) continue;
    slot.inode.store(inode.value(), std::memory_order_relaxed);
    slot.since.store(now_ns(), std::memory_order_relaxed);
    return &slot;
  }
  to.nameless.fetch_add(1);
  return nullptr;
}

void ChangeGate::leave(Level level, Slot *slot) {
  Side &from = side(level);
  if (slot != nullptr) slot->what.store(nullptr);
  else from.nameless.fetch_sub(1);
  if (!from.closed.load()) return;
  MutexLock lock(mutex_);
  left_.notify_all();
}

std::optional<ChangeGate::Pass> ChangeGate::try_enter(Level level, const char *what, InodeNumber inode) {
  Side &to = side(level);
  if (to.closed.load(std::memory_order_relaxed)) return std::nullopt;
  Slot *slot = take_slot(to, what, inode);
  if (!to.closed.load()) return Pass(*this, level, slot);
  leave(level, slot);
  return std::nullopt;
}

Result<ChangeGate::Pass> ChangeGate::enter(Level level, const char *what, InodeNumber inode) {
  if (level == Level::operation) assert_nothing_held();
  for (;;) {
    if (std::optional<Pass> pass = try_enter(level, what, inode)) return std::move(*pass);
    if (RefuseWhileFrozen::applies()) {
      RefuseWhileFrozen::note();
      return fail(Error::user(EAGAIN, "frozen"));
    }
    assert_nothing_held();
    MutexLock lock(mutex_);
    // For the thaw, or for the end of a freeze that does not get done.
    while (side(level).closed.load()) opened_.wait(mutex_, opening(level));
  }
}

void ChangeGate::close(Level level) { side(level).closed.store(true); }

void ChangeGate::open() {
  MutexLock lock(mutex_);
  // Whoever is let in at the first level may need the second.
  side(Level::background).closed.store(false);
  side(Level::operation).closed.store(false);
  opened_.notify_all();
  left_.notify_all();
}

bool ChangeGate::is_empty(const Side &of) {
  if (of.nameless.load() != 0) return false;
  for (const Slot &slot : of.slots)
    if (slot.what.load() != nullptr) return false;
  return true;
}

bool ChangeGate::wait_empty(Level level) {
  MutexLock lock(mutex_);
  // For those inside to leave; open() ends it.
  while (side(level).closed.load()) {
    if (is_empty(side(level))) return true;
    left_.wait(mutex_, leaving(level));
  }
  return false;
}

std::string ChangeGate::inside(Level level) const {
  const Side &of = side(level);
  std::string words;
  const std::int64_t now = now_ns();
  for (const Slot &slot : of.slots) {
    const char *what = slot.what.load();
    if (what == nullptr) continue;
    const std::uint32_t inode = slot.inode.load(std::memory_order_relaxed);
    const double seconds = static_cast<double>(now - slot.since.load(std::memory_order_relaxed)) / 1e9;
    words += words.empty() ? "" : "; ";
    words += inode != 0 ? fmt::format("{} of inode {} (for {:.1f} s)", what, inode, seconds) : fmt::format("{} (for {:.1f} s)", what, seconds);
  }
  if (const std::uint32_t more = of.nameless.load(); more != 0) words += fmt::format("; {} more", more);
  return words;
}

}  // namespace outboard::vfs

#include "vfs/freezer.h"

#include "base/log.h"

#include <algorithm>

namespace outboard::vfs {

namespace {

// Between two tries: whoever was kept waiting may be who the other one waits for.
constexpr std::chrono::milliseconds kPause{100};

constinit WaitClass kAttemptEnds{"vfs: an attempt to freeze ends"};  // owed by its thread

Error cancelled() { return Error::user(ETIMEDOUT, "freeze: not done in time"); }

}  // namespace

// --- asking -----------------------------------------------------------------------------------------------------------

Status Freezer::freeze(std::chrono::milliseconds timeout, Filesystem::Frozen &frozen) {
  {
    MutexLock lock(mutex_);
    if (busy_ || state_ != State::thawed) return fail(Error::user(EBUSY, "freeze: frozen already"));
    busy_ = true;
  }
  constexpr int kTries = 2;
  Status status;
  for (int i = 0; i < kTries; ++i) {
    status = attempt(Clock::now() + timeout, frozen.held_by);
    if (status || !status.error().is(ETIMEDOUT)) break;
    const bool again = i + 1 < kTries;
    log(LogLevel::warning, "freeze: not done in time, {}: {}", again ? "trying again" : "undone", frozen.held_by);
    if (again) std::this_thread::sleep_for(std::min(kPause, timeout));
  }
  if (status) log(LogLevel::info, "frozen");
  MutexLock lock(mutex_);
  busy_ = false;
  if (status) frozen.ticket = ticket_;
  return status;
}

Status Freezer::attempt(Clock::time_point deadline, std::string &held_by) {
  MutexLock lock(mutex_);
  // The try before may still have to get out of a device that does not answer.
  while (working_ && Clock::now() < deadline) changed_.wait_until(mutex_, deadline);
  if (working_) {
    held_by = holders();
    return fail(cancelled());
  }
  if (thread_.joinable()) thread_.join();  // has said that it is done
  cancelled_ = false;
  working_ = true;
  step_ = "";
  thread_ = std::thread([this] { run(); });
  while (working_ && Clock::now() < deadline) changed_.wait_until(mutex_, deadline);
  if (!working_) return result_;
  held_by = holders();
  cancelled_ = true;
  if (!sealing_) gate_.open();
  return fail(cancelled());
}

std::string Freezer::holders() const {
  std::string words = step_;
  for (const auto level : {ChangeGate::Level::operation, ChangeGate::Level::background})
    if (const std::string inside = gate_.inside(level); !inside.empty()) words += (words.empty() ? "" : ": ") + inside;
  return words;
}

Status Freezer::thaw(std::uint64_t ticket) {
  {
    MutexLock lock(mutex_);
    if (state_ != State::frozen || (ticket != 0 && ticket != ticket_)) return fail(Error::user(EINVAL, "thaw: not frozen"));
    state_ = State::thawing;
  }
  Status status = work_.mark_in_use();
  {
    MutexLock lock(mutex_);
    gate_.open();
    state_ = State::thawed;
    changed_.notify_all();
  }
  log(LogLevel::info, "thawed");
  return status;
}

void Freezer::give_up() {
  MutexLock lock(mutex_);
  cancelled_ = true;
  if (state_ == State::frozen) state_ = State::thawed;
  gate_.open();
}

void Freezer::stop() {
  {
    MutexLock lock(mutex_);
    cancelled_ = working_;
    if (working_ && !sealing_) gate_.open();
    // For the thread, which undoes what it has begun; its waits are the device's.
    while (working_) changed_.wait(mutex_, kAttemptEnds);
  }
  if (thread_.joinable()) thread_.join();
  static_cast<void>(thaw(0));
}

// --- the thread -------------------------------------------------------------------------------------------------------

void Freezer::run() {
  const Owes end(kAttemptEnds);
  Status status = steps();
  MutexLock lock(mutex_);
  if (status && cancelled_) status = fail(cancelled());
  if (status) {
    state_ = State::frozen;
    ++ticket_;
  } else {
    if (sealing_) {
      lock.unlock();
      if (Status undone = work_.mark_in_use(); !undone) log(LogLevel::error, "freeze: not undone: {}", undone.error().message());
      lock.lock();
    }
    gate_.open();
  }
  sealing_ = false;
  result_ = std::move(status);
  working_ = false;
  changed_.notify_all();
}

bool Freezer::begin(const char *step) {
  MutexLock lock(mutex_);
  if (!cancelled_) step_ = step;
  return !cancelled_;
}

Status Freezer::drain(ChangeGate::Level level) {
  {
    MutexLock lock(mutex_);
    // Under the mutex: whoever cancels opens the gate after this or we do not close it.
    if (cancelled_) return fail(cancelled());
    gate_.close(level);
  }
  if (!gate_.wait_empty(level)) return fail(cancelled());
  return {};
}

Status Freezer::steps() {
  const Owes operations(ChangeGate::opening(ChangeGate::Level::operation));
  TRY(drain(ChangeGate::Level::operation));
  if (!begin("writing dirty files back")) return fail(cancelled());
  TRY(work_.write_everything());
  if (!begin("waiting for the mount's own work")) return fail(cancelled());
  const Owes background(ChangeGate::opening(ChangeGate::Level::background));
  TRY(drain(ChangeGate::Level::background));
  if (!begin("committing and emptying the journal")) return fail(cancelled());
  TRY(work_.commit());
  {
    MutexLock lock(mutex_);
    if (cancelled_) return fail(cancelled());
    sealing_ = true;
    step_ = "marking the superblock clean";
  }
  // Whoever cancels from here on leaves the gate closed: run() takes the mark back first.
  return work_.mark_frozen();
}

}  // namespace outboard::vfs

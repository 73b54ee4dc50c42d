// Handles: credits, joining buffers, revoking blocks.
#include "base/log.h"
#include "jbd2/journal_impl.h"
#include "jbd2/trace.h"

#include <cassert>
#include <cstring>

namespace outboard::jbd2 {

namespace {
// An open handle counts as a lock of rank `handle` of its thread.
void enter_handle() {
  if constexpr (outboard::detail::kCheckRanks) outboard::detail::rank_push(Rank::handle, false);
}
void leave_handle() {
  if constexpr (outboard::detail::kCheckRanks) outboard::detail::rank_pop(Rank::handle);
}
}  // namespace

// --- the public face ------------------------------------------------------------------------------------------------

Handle::Handle(Journal &journal, Transaction &transaction, std::uint32_t credits)
    : journal_(&journal), transaction_(&transaction), credits_(credits) {}

Handle::Handle(Handle &&other) noexcept
    : DirtyScope(), journal_(other.journal_), transaction_(std::exchange(other.transaction_, nullptr)),
      credits_(std::exchange(other.credits_, 0)), changed_(std::exchange(other.changed_, false)), tracked_(other.tracked_) {}

Handle::~Handle() {
  if (transaction_ == nullptr) return;
  if (changed_ && !journal_->aborted()) {
    log(LogLevel::error, "journal: an operation of transaction {} ended half way", tid());
    journal_->abort(Error::system(EIO, "journal: operation ended half way"));
  }
  finish();
}

void Handle::finish() {
  if (transaction_ == nullptr) return;
  trace::handle_stop(tid(), credits_);
  if (changed_ && !tracked_) transaction_->needs_full.store(true);
  journal_->impl_->end(*std::exchange(transaction_, nullptr), std::exchange(credits_, 0));
  changed_ = false;
}

void Handle::needs_full_commit() {
  if (transaction_ != nullptr) transaction_->needs_full.store(true);
}

bool Handle::tracking() const { return transaction_ != nullptr && !transaction_->needs_full.load(); }

Tid Handle::tid() const { return transaction_ == nullptr ? 0 : static_cast<Tid>(transaction_->sequence); }

std::uint32_t Handle::credits() const { return credits_; }

bool Handle::extend(std::uint32_t credits) {
  if (transaction_ == nullptr || !journal_->impl_->extend(*transaction_, credits)) return false;
  credits_ += credits;
  return true;
}

Status Handle::restart(std::uint32_t credits) {
  finish();
  const outboard::trace::Stopwatch watch;
  transaction_ = TRY(journal_->impl_->begin(credits));
  trace::handle_start(tid(), credits, watch);
  credits_ = credits;
  return {};
}

Result<bool> Handle::ensure(std::uint32_t credits) {
  const bool crowded = transaction_ != nullptr && journal_->impl_->is_crowded(*transaction_);
  if (!crowded && (credits_ >= credits || extend(credits - credits_))) return false;
  TRY(restart(credits));
  return true;
}

Status Handle::revoke(BlockNumber block) {
  if (transaction_ == nullptr) return fail(Error::user(EROFS, "journal: the handle has ended"));
  TRY(journal_->impl_->revoke(*transaction_, block));
  changed_ = true;
  return {};
}

void Handle::after_commit(std::move_only_function<void()> listener) {
  if (transaction_ == nullptr) return;
  {
    MutexLock lock(transaction_->mutex);
    transaction_->listeners.push_back(std::move(listener));
  }
  journal_->impl_->note_change(*transaction_);
}

Status Handle::join(cache::Buffer &buffer) {
  if (transaction_ == nullptr) return fail(Error::user(EROFS, "journal: the handle has ended"));
  TRY(journal_->impl_->join(*transaction_, credits_, buffer));
  changed_ = true;
  return {};
}

// --- beginning and ending -------------------------------------------------------------------------------------------

// A transaction is opened only when the log has room for the largest one, so commit itself never waits for space.
bool Journal::Impl::room_for_transaction() const {
  if (!log_) return true;
  const std::uint64_t taken = std::uint64_t{used_} + (committing_ ? transaction_space_ : 0U);
  return taken + transaction_space_ <= format_.length();
}

bool Journal::Impl::room_after_running() const {
  return !log_ || std::uint64_t{used_} + 2 * std::uint64_t{transaction_space_} <= format_.length();
}

// The commit in progress and the checkpoint thread make it, both in bounded device I/O. Not necessarily enough of it.
void Journal::Impl::wait_for_log_space() {
  ++count_.forced_checkpoints;
  ++space_waiters_;
  checkpoint_wake_.notify_all();
  changed_.wait(lock_, kStartGoesOn);
  --space_waiters_;
}

Result<Transaction *> Journal::Impl::begin(std::uint32_t credits) {
  enter_handle();
  MutexLock lock(lock_);
  for (;;) {
    if (abort_reason_ || closing_ || stop_ || options_.read_only) {
      leave_handle();
      return fail(Error::user(EROFS, "journal: read-only"));
    }
    if (credits > data_limit_ - options_.before_commit_credits) {
      leave_handle();
      return fail(Error::user(E2BIG, "journal: more credits than a transaction can hold"));
    }
    if (barrier_ || (running_ && (running_->locked || running_->paused))) {
      // Waits for checkpoint_all() (ends with its device writes), or for the open handles of the transaction that is
      // being locked (their operations wait for nothing but device reads and each other's short locks), or until a fast
      // commit has been put together (likewise).
      changed_.wait(lock_, kStartGoesOn);
      continue;
    }
    if (!running_ && !room_for_transaction()) {
      wait_for_log_space();
      continue;
    }
    if (!running_) {
      running_ = std::make_unique<Transaction>(next_);
      running_->reserved = options_.before_commit_credits;
    }
    Transaction &transaction = *running_;
    if (credits > data_limit_ - transaction.reserved || is_crowded(transaction)) {
      // Waits for the commit thread to take the full transaction; ends when the commit before it is done and the
      // transaction's handles have ended.
      request_commit(transaction);
      changed_.wait(lock_, kStartGoesOn);
      continue;
    }
    transaction.reserved += credits;
    ++transaction.handles;
    ++count_.handles;
    if constexpr (kTrackWaits) wait_tracker::hold(kHandlesEnd.id());
    return &transaction;
  }
}

// As begin(), but for what ends without device writes: a transaction is locked for a moment only.
void Journal::Impl::wait_until_open() {
  // With an inode's lock or a handle held it would be too late.
  if constexpr (outboard::detail::kCheckRanks) {
    outboard::detail::rank_push(Rank::inode, false);
    outboard::detail::rank_pop(Rank::inode);
  }
  MutexLock lock(lock_);
  while (!(abort_reason_ || closing_ || stop_ || options_.read_only)) {
    if (!barrier_ && !running_ && !room_for_transaction()) {
      wait_for_log_space();
      continue;
    }
    if (!barrier_ && !running_) return;
    if (!barrier_ && !running_->locked && !running_->paused) {
      // What is left is for those who are past this point.
      if (running_->reserved <= data_limit_ / 4 * 3 && !is_crowded(*running_)) return;
      if (!committing_) {
        // It can be taken at once, and if there is room for the next one, nobody will wait for the device.
        if (room_after_running()) return;
        request_commit(*running_);
      }
    }
    // Waits for the commit in progress, for checkpoint_all(), or for open handles, which give back what they did not need.
    ++open_waiters_;
    changed_.wait(lock_, kStartGoesOn);
    --open_waiters_;
  }
}

void Journal::Impl::end(Transaction &transaction, std::uint32_t unused) {
  {
    MutexLock lock(lock_);
    assert(transaction.handles > 0 && transaction.reserved >= unused);
    transaction.reserved -= unused;
    if (open_waiters_ > 0 && unused > 0) changed_.notify_all();
    if (--transaction.handles == 0) {
      if (transaction.locked || transaction.paused) drained_.notify_all();
      if (barrier_) changed_.notify_all();
    }
  }
  if constexpr (kTrackWaits) wait_tracker::drop(kHandlesEnd.id());
  leave_handle();
}

bool Journal::Impl::extend(Transaction &transaction, std::uint32_t credits) {
  MutexLock lock(lock_);
  // A transaction whose commit waits for this handle is not made longer.
  if (transaction.locked || abort_reason_) return false;
  if (credits > data_limit_ - transaction.reserved) return false;
  if (is_crowded(transaction)) return false;
  transaction.reserved += credits;
  return true;
}

// The transaction's first change starts its commit timer.
void Journal::Impl::note_change(Transaction &transaction) {
  if (transaction.changed.exchange(true)) return;
  MutexLock lock(lock_);
  transaction.deadline = std::chrono::steady_clock::now() + options_.commit_interval;
  commit_wake_.notify_all();
}

// --- changing -------------------------------------------------------------------------------------------------------

BufferState &Journal::Impl::state_of(cache::Buffer &buffer) {
  std::unique_ptr<cache::Attachment> &attachment = buffer.attachment();
  if (!attachment || static_cast<BufferState &>(*attachment).journal != instance_) {
    attachment = std::make_unique<BufferState>(instance_);
  }
  return static_cast<BufferState &>(*attachment);
}

Status Journal::Impl::join(Transaction &transaction, std::uint32_t &credits, cache::Buffer &buffer) {
  if (aborted_.load(std::memory_order_relaxed)) return fail(Error::user(EROFS, "journal: aborted"));
  cache::BufferRef replaced;  // unpinned after the locks
  bool is_new = false;
  {
    MutexLock buffer_lock(buffer.journal_lock());
    BufferState &state = state_of(buffer);
    if (state.newest == transaction.sequence && !state.revoked) return {};
    if (state.newest != transaction.sequence) {
      assert(state.newest < transaction.sequence);
      if (state.newest > state.copied) {
        // The commit in progress has not copied the buffer yet: it gets the bytes as they are now.
        state.frozen = std::make_unique_for_overwrite<std::byte[]>(buffer.bytes().size());
        std::memcpy(state.frozen.get(), buffer.bytes().data(), buffer.bytes().size());
        state.frozen_for = state.newest;
      }
      state.newest = transaction.sequence;
    }
    state.revoked = false;

    MutexLock lock(transaction.mutex);
    Transaction::Entry &entry = transaction.blocks[buffer.block().value()];
    is_new = !entry.buffer;
    // A block that was freed and allocated again may come with a new buffer; the old one's contents no longer count.
    if (entry.buffer.get() != &buffer) {
      replaced = std::move(entry.buffer);
      entry.buffer = buffer.ref();
    }
    if (entry.revoked) {
      entry.revoked = false;
      --transaction.revokes;
    }
  }
  if (is_new && credits > 0) {
    --credits;
  } else if (is_new) {
    log(LogLevel::error, "journal: a handle uses more blocks than it reserved (block {}, {})", buffer.block().value(),
        buffer.type().name());
    assert(false && "a handle uses more blocks than it reserved");
    MutexLock lock(lock_);
    ++transaction.reserved;
  }
  note_change(transaction);
  return {};
}

Status Journal::Impl::revoke(Transaction &transaction, BlockNumber block) {
  if (aborted_.load(std::memory_order_relaxed)) return fail(Error::user(EROFS, "journal: aborted"));
  cache::BufferRef buffer;
  {
    MutexLock lock(transaction.mutex);
    if (log_ && transaction.revokes.load() >= revoke_limit_) {
      return fail(Error::user(E2BIG, "journal: more revoked blocks than a transaction can hold").in_block(block.value()));
    }
    Transaction::Entry &entry = transaction.blocks[block.value()];
    if (entry.revoked) return {};
    entry.revoked = true;
    ++transaction.revokes;
    buffer = entry.buffer;
  }
  if (buffer) {
    MutexLock lock(buffer->journal_lock());
    state_of(*buffer).revoked = true;
  }
  ++count_.revokes;
  note_change(transaction);
  return {};
}

}  // namespace outboard::jbd2

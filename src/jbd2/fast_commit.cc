// Fast commits: an fsync without a full commit. The rules are in docs/jbd2.md.
//
// One is made by the commit thread, so it never overlaps a full commit. It holds new handles back until the open ones have
// ended, has the owner put together what the running transaction has changed so far (from memory, no writes), lets handles
// go on, and then writes and flushes. Afterwards the transaction is as it was: still running, still to be committed.
#include "jbd2/journal_impl.h"

#include <algorithm>

namespace outboard::jbd2 {

void Journal::Impl::set_fast_commit_area() {
  if (!format_.fast_commit || !options_.fast_commit || options_.read_only) return;
  // Where the kernel begins it: one block behind the log proper.
  fast_first_ = format_.end + 1;
  fast_room_ = format_.max_length > fast_first_ ? format_.max_length - fast_first_ : 0;
}

bool Journal::Impl::wants_fast_commit() const { return running_ && running_->fast && !abort_reason_; }

// The request of one who wants everything up to `tid` durable. False: nothing is running under that number, or it takes a
// full commit.
Result<bool> Journal::Impl::fast_commit_and_wait(Tid tid) {
  MutexLock lock(lock_);
  if (abort_reason_ || !running_ || running_->needs_full.load() || running_->commit_requested) return false;
  const auto ahead = static_cast<std::int32_t>(tid - static_cast<Tid>(next_));
  const Sequence sequence = next_ + static_cast<Sequence>(static_cast<std::int64_t>(ahead));
  if (running_->sequence > sequence) return false;  // the one before: done, or in progress
  if (!running_->fast) {
    running_->fast = std::make_shared<FastCompletion>();
    commit_wake_.notify_all();
  }
  const std::shared_ptr<FastCompletion> completion = running_->fast;
  // Waits for the commit thread: a full commit in progress, the open handles' ends, then device writes. Abort ends it.
  while (!completion->done) completed_.wait(lock_, kCommitEnds);
  if (completion->error) return fail(*completion->error);
  return !completion->impossible;
}

Status Journal::Impl::fast_commit_one() {
  const Owes commit(kCommitEnds), room(kStartGoesOn);
  std::shared_ptr<FastCompletion> completion;
  Transaction *transaction = nullptr;
  {
    MutexLock lock(lock_);
    transaction = running_.get();
    transaction->paused = true;
    // Waits for the operations that hold its handles; they wait for nothing but device reads and short locks.
    while (transaction->handles > 0 && !stop_ && !abort_reason_) drained_.wait(lock_, kHandlesEnd);
    // Whoever asks from here on wants another one: what he has changed may come too late for this.
    completion = std::exchange(transaction->fast, nullptr);
    if (stop_ || abort_reason_) {
      transaction->paused = false;
      if (completion) completion->done = completion->impossible = true;
      completed_.notify_all();
      return {};
    }
  }
  std::optional<FastCommit> what;
  if (!transaction->needs_full.load()) {
    what = options_.fast_commit(static_cast<Tid>(transaction->sequence), fast_used_ == 0, fast_room_ - fast_used_);
  }
  {
    MutexLock lock(lock_);
    transaction->paused = false;
    changed_.notify_all();
  }
  Status status;
  if (what && what->blocks.empty()) status = flush_all();
  else if (what) status = write_fast_commit(transaction->sequence, *what);
  else transaction->needs_full.store(true);  // what it did not say now it cannot say later either

  MutexLock lock(lock_);
  completion->done = true;
  completion->impossible = !what;
  if (!status) completion->error = status.error().is(EIO) ? status.error() : Error::system(EIO, "journal: fast commit failed");
  completed_.notify_all();
  return status;
}

Status Journal::Impl::write_fast_commit(Sequence sequence, const FastCommit &what) {
  const std::size_t size = format_.block_size;
  const auto count = static_cast<std::uint32_t>(what.blocks.size() / size);
  if (what.blocks.size() % size != 0 || count > fast_room_ - fast_used_) {
    return fail(Error::system(EIO, "journal: fast commit larger than its room"));
  }
  // Recovery looks at the area only when the log is in use, and believes it only when the log ends before this number.
  bool was_empty = false;
  {
    MutexLock lock(superblock_lock_);
    was_empty = marked_empty_;
  }
  const bool apart = &log_->device() != &cache_.device();
  if (was_empty) TRY(write_superblock(head_, sequence));
  if (was_empty || what.after_data) TRY(cache_.device().flush());
  if (was_empty && apart) TRY(log_->device().flush());
  if (aborted_.load()) return fail(Error::user(EROFS, "journal: aborted"));
  cache::AlignedArea area(what.blocks.size(), log_->device().properties().alignment);
  std::ranges::copy(what.blocks, area.span().begin());
  TRY(log_->write(fast_first_ + fast_used_, area.span()));
  TRY(log_->device().flush());
  // Data that was overwritten in place is promised too.
  if (apart && !what.after_data) TRY(cache_.device().flush());
  fast_used_ += count;
  ++count_.fast_commits;
  count_.fast_commit_blocks += count;
  return {};
}

}  // namespace outboard::jbd2

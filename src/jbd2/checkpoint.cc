// Checkpoint: committed buffers are written home, then the log's tail moves over them.
//
// Only the newest committed version of a block may go home, and it is never a version that is not committed: a buffer
// that a later transaction has joined is left alone; it moves along when that transaction has committed. The tail moves
// only after the home device is flushed, and log space is reused only after the superblock that says so is flushed.
// One checkpoint runs at a time, on the checkpoint thread or on the thread of checkpoint_all().
#include "jbd2/journal_impl.h"
#include "jbd2/trace.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace outboard::jbd2 {

namespace {
constexpr std::size_t kBatchBlocks = 256;  // a revoke that has committed waits for at most one batch
}

bool Journal::Impl::wants_checkpoint() const {
  return log_ && !abort_reason_ && used_ > 0 && (used_ > checkpoint_above_ || space_waiters_ > 0);
}

void Journal::Impl::checkpoint_loop() {
  MutexLock lock(lock_);
  std::uint64_t stuck_at = ~std::uint64_t{0};  // generation at which nothing could be freed
  while (!stop_) {
    if (!wants_checkpoint() || generation_ == stuck_at) {
      // Idle: waits for a commit that fills the log, for somebody who needs log space, or for the end.
      checkpoint_wake_.wait(lock_);
      continue;
    }
    const std::uint64_t generation = generation_;
    const std::uint32_t target = space_waiters_ > 0 ? format_.length() / 4 : format_.length() / 8;
    lock.unlock();
    Result<bool> freed = checkpoint(target);
    lock.lock();
    if (!freed) abort_locked(std::move(freed).error());
    else if (!*freed) stuck_at = generation;
  }
}

// Frees log space until at most `target` blocks are in use, as far as the buffers allow.
Result<bool> Journal::Impl::checkpoint(std::uint32_t target) {
  {
    MutexLock lock(lock_);
    // Waits for the other checkpoint, which ends with its device writes.
    while (checkpointing_) completed_.wait(lock_);
    checkpointing_ = true;
  }
  const outboard::trace::Stopwatch watch;
  std::size_t blocks = 0;
  Result<bool> result = [&]() -> Result<bool> {
    std::vector<Candidate> candidates = checkpoint_candidates(target);
    blocks = candidates.size();
    HomeWriter writer(cache_.device(), cache_.block_size());
    for (std::size_t first = 0; first < candidates.size();) {
      const std::size_t count = std::min({kBatchBlocks, writer.capacity(), candidates.size() - first});
      TRY(checkpoint_batch(std::span(candidates).subspan(first, count), writer));
      first += count;
    }
    return advance_tail();
  }();
  trace::checkpoint(blocks, result.value_or(false), result, watch);
  MutexLock lock(lock_);
  checkpointing_ = false;
  completed_.notify_all();
  changed_.notify_all();
  return result;
}

std::vector<Journal::Impl::Candidate> Journal::Impl::checkpoint_candidates(std::uint32_t target) {
  std::uint32_t used = 0;
  {
    MutexLock lock(lock_);
    used = used_;
  }
  std::vector<Candidate> candidates;
  MutexLock lock(list_lock_);
  std::uint32_t freed = 0;
  for (const Logged &logged : backlog_) {
    if (used - std::min(used, freed) <= target) break;
    freed += logged.length;
    for (BlockNumber block : logged.blocks) {
      const auto found = pending_.find(block.value());
      if (found == pending_.end() || found->second.sequence != logged.sequence) continue;
      candidates.push_back({block, logged.sequence, found->second.buffer});
    }
  }
  std::ranges::sort(candidates, {}, &Candidate::block);
  return candidates;
}

Status Journal::Impl::checkpoint_batch(std::span<Candidate> batch, HomeWriter &writer) {
  if (aborted_.load()) return fail(Error::user(EROFS, "journal: aborted"));
  {
    // From here a commit that revokes one of these waits for us.
    MutexLock lock(list_lock_);
    for (Candidate &candidate : batch) {
      const auto found = pending_.find(candidate.block.value());
      candidate.written = found != pending_.end() && found->second.sequence == candidate.sequence;
      if (candidate.written) writing_.insert(candidate.block.value());
    }
  }
  for (Candidate &candidate : batch) {
    if (!candidate.written) continue;
    cache::Buffer &buffer = *candidate.buffer;
    const std::span<std::byte> copy = writer.add(candidate.block);
    {
      MutexLock lock(buffer.journal_lock());
      // Live bytes are the committed ones only while no later transaction has joined.
      candidate.written = state_of(buffer).newest == candidate.sequence;
      if (candidate.written) std::memcpy(copy.data(), buffer.bytes().data(), copy.size());
    }
    if (candidate.written) buffer.type().seal(candidate.block, buffer.seed(), copy);
    else writer.remove_last();
  }
  const Status status = writer.write_out();
  std::vector<cache::BufferRef> dropped;  // unpinned after the lock
  MutexLock lock(list_lock_);
  for (Candidate &candidate : batch) {
    writing_.erase(candidate.block.value());
    if (!candidate.written || !status) continue;
    const auto found = pending_.find(candidate.block.value());
    // A commit may have come by meanwhile with a newer version, or with a revoke.
    if (found == pending_.end() || found->second.sequence != candidate.sequence) continue;
    auto holder = std::ranges::lower_bound(backlog_, candidate.sequence, {}, &Logged::sequence);
    assert(holder != backlog_.end() && holder->remaining > 0);
    --holder->remaining;
    dropped.push_back(std::move(found->second.buffer));
    pending_.erase(found);
    ++count_.checkpointed_blocks;
  }
  written_.notify_all();
  lock.unlock();
  return status;
}

// Only the one checkpoint that runs comes here, so the tail on disk and used_ go forward together.
Result<bool> Journal::Impl::advance_tail() {
  std::uint32_t freed = 0;
  std::uint32_t start = 0;
  Sequence sequence = 0;
  {
    MutexLock lock(list_lock_);
    while (!backlog_.empty() && backlog_.front().remaining == 0) {
      freed += backlog_.front().length;
      backlog_.pop_front();
    }
    // With nothing left the tail is where the next transaction will be: recovery finds none, and no superblock needs to be
    // written when it comes.
    start = backlog_.empty() ? end_block_ : backlog_.front().start;
    sequence = backlog_.empty() ? end_sequence_ : backlog_.front().sequence;
  }
  if (freed == 0) return false;
  if (aborted_.load()) return fail(Error::user(EROFS, "journal: aborted"));
  TRY(cache_.device().flush());
  TRY(write_superblock(start, sequence));
  TRY(log_->device().flush());
  MutexLock lock(lock_);
  assert(used_ >= freed);
  used_ -= freed;
  changed_.notify_all();
  return true;
}

Status Journal::Impl::checkpoint_all() {
  TRY(commit_running());
  if (!log_) return {};
  // The bulk goes while others work; what they change meanwhile is written behind the barrier, where little is left.
  Result<bool> bulk = checkpoint(0);
  Status status;
  if (!bulk) status = fail(bulk.error());
  {
    MutexLock lock(lock_);
    // Waits for another checkpoint_all(), which ends with its device writes.
    while (barrier_) changed_.wait(lock_);
    barrier_ = true;
    // Waits for the handles that were open already (they wait for nothing but device reads and short locks): one that has
    // changed nothing yet could still join a block that is to go home, and the log would be called empty without it.
    while (running_ && running_->handles > 0 && !abort_reason_) changed_.wait(lock_);
  }
  if (status) {
    status = [&]() -> Status {
      TRY(commit_running());
      TRY(checkpoint(0));
      return mark_empty();
    }();
  }
  MutexLock lock(lock_);
  barrier_ = false;
  changed_.notify_all();
  if (!status) abort_locked(status.error());
  return status;
}

}  // namespace outboard::jbd2

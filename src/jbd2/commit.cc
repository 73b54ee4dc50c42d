// Commit: the one thread that turns running transactions into durable ones.
//
// In the log: revoke blocks, then groups of a descriptor block and its data blocks; flush; commit block; flush.
// The first flush makes the file's data (written before the handles that refer to it) and the log blocks durable, so that
// a commit block on disk implies all that it stands for.
#include "base/checksum.h"
#include "base/log.h"
#include "jbd2/journal_impl.h"
#include "jbd2/trace.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace outboard::jbd2 {

namespace {

// Assembles log blocks in an aligned area and writes them in long pieces, around the end of the ring.
class LogWriter {
public:
  LogWriter(const LogArea &log, const LogFormat &format, std::uint32_t position, std::uint32_t area_blocks)
      : log_(log), format_(format), position_(position),
        area_(std::size_t{area_blocks} * format.block_size, log.device().properties().alignment) {}

  std::uint32_t room() const { return static_cast<std::uint32_t>(area_.size() / format_.block_size) - filled_; }
  std::uint32_t position() const { return position_; }  // of the next block that is written out
  std::uint32_t total() const { return total_; }
  std::uint32_t checksum_v1() const { return checksum_v1_; }

  // Memory for the next block; its contents are undefined. The caller has seen room().
  std::span<std::byte> append() { return area_.span(std::size_t{filled_++} * format_.block_size, format_.block_size); }
  std::span<std::byte> append_zeroed() {
    std::span<std::byte> block = append();
    std::ranges::fill(block, std::byte{0});
    return block;
  }

  Status write_out() {
    if (filled_ == 0) return {};
    std::span<const std::byte> bytes = area_.span(0, std::size_t{filled_} * format_.block_size);
    const std::uint32_t before_end = std::min(filled_, format_.end - position_);
    const std::size_t cut = std::size_t{before_end} * format_.block_size;
    TRY(log_.write(position_, bytes.first(cut)));
    if (before_end < filled_) TRY(log_.write(format_.first, bytes.subspan(cut)));
    position_ = format_.advance(position_, filled_);
    total_ += std::exchange(filled_, 0);
    return {};
  }

  // Checksum v1 runs over descriptors and data blocks (not over revoke blocks) in the order of the log.
  void count_into_v1(std::span<const std::byte> block) {
    if (format_.checksum_v1) checksum_v1_ = crc32_be(checksum_v1_, block);
  }

private:
  const LogArea &log_;
  const LogFormat &format_;
  std::uint32_t position_;
  std::uint32_t filled_ = 0;
  std::uint32_t total_ = 0;
  std::uint32_t checksum_v1_ = ~0U;
  cache::AlignedArea area_;
};

// Who waits for a commit with a handle of his own open waits for himself.
void assert_no_handle() {
  if constexpr (outboard::detail::kCheckRanks) {
    outboard::detail::rank_push(Rank::handle, false);
    outboard::detail::rank_pop(Rank::handle);
  }
}

}  // namespace

// --- asking for a commit and waiting --------------------------------------------------------------------------------

void Journal::Impl::request_commit(Transaction &transaction) {
  if (transaction.commit_requested) return;
  transaction.commit_requested = true;
  commit_wake_.notify_all();
}

// Waits for the commit thread: device writes and flushes, and before them the ends of the open handles. Abort ends it.
Status Journal::Impl::wait_for(std::shared_ptr<Completion> completion) {
  while (!completion->done) completed_.wait(lock_, kCommitEnds);
  if (completion->error) return fail(*completion->error);
  return {};
}

Status Journal::Impl::commit_and_wait(Tid tid) {
  assert_no_handle();
  if (fast_room_ != 0 && TRY(fast_commit_and_wait(tid))) return {};
  {
    MutexLock lock(lock_);
    if (abort_reason_) return fail(Error::user(EROFS, "journal: aborted"));
    const auto ahead = static_cast<std::int32_t>(tid - static_cast<Tid>(next_));
    const Sequence sequence = next_ + static_cast<Sequence>(static_cast<std::int64_t>(ahead));
    if (sequence <= committed_) return {};
    if (committing_ && committing_->sequence == sequence) return wait_for(committing_->completion);
    // A number above the running transaction's: running_tid() said so while that one was being locked. Nothing can have
    // changed under it yet, so what is running now is what the caller may mean.
    if (running_ && running_->sequence <= sequence) {
      request_commit(*running_);
      return wait_for(running_->completion);
    }
  }
  return flush_all();  // nothing has changed under this number: what is left to make durable is data
}

Status Journal::Impl::commit_running() {
  assert_no_handle();
  {
    MutexLock lock(lock_);
    if (abort_reason_ || closed_) return fail(Error::user(EROFS, "journal: aborted or closed"));
    if (running_ && (running_->changed.load() || running_->locked)) {
      request_commit(*running_);
      return wait_for(running_->completion);
    }
    if (committing_) {
      const Status status = wait_for(committing_->completion);
      if (!status) return status;
    }
  }
  return flush_all();
}

// --- the thread -----------------------------------------------------------------------------------------------------

void Journal::Impl::commit_loop() {
  MutexLock lock(lock_);
  for (;;) {
    if (abort_reason_ && !abort_told_) {
      abort_told_ = true;
      lock.unlock();
      tell_abort();
      lock.lock();
      continue;
    }
    if (stop_) return;
    const bool may_commit = running_ && !abort_reason_;
    const bool due = may_commit && (running_->commit_requested ||
                                    (running_->deadline && *running_->deadline <= std::chrono::steady_clock::now()));
    if (!due && wants_fast_commit()) {
      lock.unlock();
      Status status = fast_commit_one();
      lock.lock();
      if (!status) abort_locked(std::move(status).error());
      continue;
    }
    if (!due) {
      // Idle: waits for a request, for the interval since the transaction's first change, for abort or the end.
      if (may_commit && running_->deadline) commit_wake_.wait_until(lock_, *running_->deadline);
      else commit_wake_.wait(lock_, kIdle);
      continue;
    }
    lock.unlock();
    Status status = commit_one();
    lock.lock();
    if (!status) abort_locked(std::move(status).error());
  }
}

// Locks the running transaction, waits for its handles, makes it the committing one, commits it.
Status Journal::Impl::commit_one() {
  const outboard::trace::Stopwatch watch;
  const Owes commit(kCommitEnds), room(kStartGoesOn);
  Transaction *transaction = nullptr;
  {
    MutexLock lock(lock_);
    transaction = running_.get();
    transaction->locked = true;
    trace::commit_begin(static_cast<Tid>(transaction->sequence), transaction->handles);
    // Waits for the operations that hold its handles; they wait for nothing but device reads and short locks.
    while (transaction->handles > 0 && !stop_ && !abort_reason_) drained_.wait(lock_, kHandlesEnd);
    if (stop_ || abort_reason_) return {};
  }
  bool is_empty = false;
  {
    MutexLock lock(transaction->mutex);
    is_empty = transaction->blocks.empty();
  }
  if (is_empty) return commit_empty(*transaction);
  if (options_.before_commit) TRY(run_hook(*transaction));
  {
    MutexLock lock(lock_);
    if (abort_reason_) return {};
    committing_ = std::move(running_);
    ++next_;
    if (committing_->fast) {  // they wait for this commit instead
      committing_->fast->done = committing_->fast->impossible = true;
      committing_->fast.reset();
      completed_.notify_all();
    }
    changed_.notify_all();
  }

  const std::vector<Change> changes = changes_of(*transaction);
  const auto tid = static_cast<Tid>(transaction->sequence);
  std::uint32_t length = 0;
  Status written;
  if (log_) {
    if (Result<std::uint32_t> logged = write_log(*transaction, changes)) length = *logged;
    else written = fail(std::move(logged).error());
    MutexLock lock(lock_);
    used_ += length;  // before checkpoint can see, and free, the transaction
  } else {
    trace::commit_phase(tid, trace::CommitPhase::home);
    written = write_homes(*transaction, changes);
  }
  trace::commit_end(tid, changes.size(), length, written, watch);
  TRY(std::move(written));
  trace::commit_phase(tid, trace::CommitPhase::retire);
  fast_used_ = 0;  // what stands in the area belongs to a number that is complete now
  retire(*transaction, changes, length);
  run_listeners(*transaction);

  std::unique_ptr<Transaction> done;  // destroyed without the lock: it unpins buffers
  MutexLock lock(lock_);
  done = std::move(committing_);
  committed_ = done->sequence;
  ++generation_;
  ++count_.commits;
  done->completion->done = true;
  completed_.notify_all();
  changed_.notify_all();
  checkpoint_wake_.notify_all();
  lock.unlock();
  return {};
}

// Nothing has joined: no number is used up. Whoever waits for the commit still gets what was written made durable.
Status Journal::Impl::commit_empty(Transaction &transaction) {
  std::shared_ptr<Completion> completion;
  std::vector<std::move_only_function<void()>> listeners;
  {
    MutexLock lock(lock_);
    MutexLock list(transaction.mutex);
    listeners.swap(transaction.listeners);
    completion = std::exchange(transaction.completion, std::make_shared<Completion>());
    transaction.locked = false;
    transaction.commit_requested = false;
    transaction.deadline.reset();
    transaction.changed = false;
    changed_.notify_all();
  }
  const Status status = flush_all();
  if (status) {
    for (auto &listener : listeners) listener();
  }
  MutexLock lock(lock_);
  completion->done = true;
  if (!status) completion->error = status.error();
  completed_.notify_all();
  return status;
}

// The hook is one more handle of the locked transaction, with the credits that were kept for it.
Status Journal::Impl::run_hook(Transaction &transaction) {
  {
    MutexLock lock(lock_);
    ++transaction.handles;
  }
  if constexpr (outboard::detail::kCheckRanks) outboard::detail::rank_push(Rank::handle, false);
  if constexpr (kTrackWaits) wait_tracker::hold(kHandlesEnd.id());
  Handle handle(self_, transaction, options_.before_commit_credits);
  Status status = options_.before_commit(handle);
  handle.finish();
  return status;
}

std::vector<Journal::Impl::Change> Journal::Impl::changes_of(Transaction &transaction) {
  std::vector<Change> changes;
  MutexLock lock(transaction.mutex);
  changes.reserve(transaction.blocks.size());
  for (auto &[block, entry] : transaction.blocks) {
    changes.push_back({BlockNumber(block), entry.revoked ? nullptr : entry.buffer.get()});
  }
  std::ranges::sort(changes, {}, &Change::block);
  return changes;
}

void Journal::Impl::copy_for_commit(Transaction &transaction, cache::Buffer &buffer, std::span<std::byte> out) {
  std::unique_ptr<std::byte[]> frozen;
  {
    MutexLock lock(buffer.journal_lock());
    BufferState &state = state_of(buffer);
    if (state.frozen && state.frozen_for == transaction.sequence) frozen = std::move(state.frozen);
    else std::memcpy(out.data(), buffer.bytes().data(), out.size());
    assert(frozen || state.newest == transaction.sequence);
    state.copied = transaction.sequence;
  }
  if (frozen) std::memcpy(out.data(), frozen.get(), out.size());
  buffer.type().seal(buffer.block(), buffer.seed(), out);
}

// --- with a log -----------------------------------------------------------------------------------------------------

Result<std::uint32_t> Journal::Impl::write_log(Transaction &transaction, const std::vector<Change> &changes) {
  const auto sequence = static_cast<std::uint32_t>(transaction.sequence);
  const std::uint32_t start = head_;
  std::vector<BlockNumber> revoked;
  std::vector<const Change *> data;
  for (const Change &change : changes) {
    if (change.buffer == nullptr) revoked.push_back(change.block);
    else data.push_back(&change);
  }

  const std::size_t needed = divide_up<std::size_t>(revoked.size(), format_.revokes_per_block()) + data.size() +
                             divide_up<std::size_t>(data.size(), group_blocks_) + 1;
  if (needed > transaction_space_) return fail(Error::system(EIO, "journal: transaction larger than what was reserved"));

  trace::commit_phase(sequence, trace::CommitPhase::log);
  LogWriter writer(*log_, format_, start, group_blocks_ + 1);
  for (std::size_t first = 0; first < revoked.size(); first += format_.revokes_per_block()) {
    if (writer.room() == 0) TRY(writer.write_out());
    const std::size_t count = std::min<std::size_t>(format_.revokes_per_block(), revoked.size() - first);
    write_revoke_block(format_, writer.append_zeroed(), sequence, std::span(revoked).subspan(first, count));
  }
  for (std::size_t first = 0; first < data.size(); first += group_blocks_) {
    if (aborted_.load()) return fail(Error::user(EROFS, "journal: aborted"));
    const std::size_t count = std::min<std::size_t>(group_blocks_, data.size() - first);
    if (writer.room() < count + 1) TRY(writer.write_out());
    const std::span<std::byte> descriptor = writer.append_zeroed();
    TagWriter tags(format_, descriptor, sequence);
    std::vector<std::span<const std::byte>> group;
    for (const Change *change : std::span(data).subspan(first, count)) {
      const std::span<std::byte> block = writer.append();
      copy_for_commit(transaction, *change->buffer, block);
      const bool escaped = has_magic(block);
      if (escaped) edit_as<be32>(block).set(0);
      tags.add(change->block, escaped, block);
      group.push_back(block);
    }
    tags.finish();
    writer.count_into_v1(descriptor);
    for (std::span<const std::byte> block : group) writer.count_into_v1(block);
  }
  if (aborted_.load()) return fail(Error::user(EROFS, "journal: aborted"));
  TRY(writer.write_out());
  assert(writer.total() + 1 == needed);

  // Recovery finds the log through the superblock: after an empty log it must point here before the commit block does.
  bool first_after_empty = false;
  {
    MutexLock lock(superblock_lock_);
    first_after_empty = marked_empty_;
  }
  if (first_after_empty) TRY(write_superblock(start, transaction.sequence));

  trace::commit_phase(sequence, trace::CommitPhase::flush);
  TRY(cache_.device().flush());
  if (&log_->device() != &cache_.device()) TRY(log_->device().flush());
  trace::commit_phase(sequence, trace::CommitPhase::commit_block);
  TRY(write_commit_block(transaction, writer.position(), writer.checksum_v1()));
  head_ = format_.advance(writer.position(), 1);
  count_.logged_blocks += data.size();
  return writer.total() + 1;
}

Status Journal::Impl::write_commit_block(Transaction &transaction, std::uint32_t position, std::uint32_t checksum_v1) {
  if (aborted_.load()) return fail(Error::user(EROFS, "journal: aborted"));
  cache::AlignedArea area(format_.block_size, log_->device().properties().alignment);
  std::ranges::fill(area.span(), std::byte{0});
  put_header(area.span(), LogBlockType::commit, static_cast<std::uint32_t>(transaction.sequence));
  auto &block = edit_as<CommitBlock>(area.span());
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
  last_commit_time_ = std::max(last_commit_time_, static_cast<std::uint64_t>(std::max<std::int64_t>(0, seconds.count())));
  block.seconds.set(last_commit_time_);
  block.nanoseconds.set(static_cast<std::uint32_t>(std::chrono::nanoseconds(now - seconds).count() % 1'000'000'000));
  if (format_.checksum_v1) {
    block.checksum_type = 1;
    block.checksum_size = 4;
    block.checksum[0].set(checksum_v1);
  }
  seal_commit(format_, area.span());
  TRY(log_->write(position, area.span()));
  return log_->device().flush();
}

// --- without a log --------------------------------------------------------------------------------------------------

Status Journal::Impl::write_homes(Transaction &transaction, const std::vector<Change> &changes) {
  HomeWriter writer(cache_.device(), cache_.block_size());
  for (const Change &change : changes) {
    if (change.buffer == nullptr) continue;
    if (writer.full()) {
      if (aborted_.load()) return fail(Error::user(EROFS, "journal: aborted"));
      TRY(writer.write_out());
    }
    copy_for_commit(transaction, *change.buffer, writer.add(change.block));
  }
  if (aborted_.load()) return fail(Error::user(EROFS, "journal: aborted"));
  TRY(writer.write_out());
  return cache_.device().flush();
}

// --- after the commit is durable ------------------------------------------------------------------------------------

// Hands the transaction's blocks to checkpoint, takes them from older transactions, and lets go of what it has revoked:
// when this returns, nothing old is or will be on its way to a revoked block.
void Journal::Impl::retire(Transaction &transaction, const std::vector<Change> &changes, std::uint32_t length) {
  if (log_) {
    std::vector<cache::BufferRef> dropped;  // unpinned after the lock
    std::vector<cache::BufferRef> pins;
    {
      MutexLock lock(transaction.mutex);
      for (const Change &change : changes) {
        pins.push_back(change.buffer == nullptr ? cache::BufferRef() : transaction.blocks[change.block.value()].buffer);
      }
    }
    MutexLock lock(list_lock_);
    Logged logged{transaction.sequence, end_block_, length, {}, 0};
    for (std::size_t i = 0; i < changes.size(); ++i) {
      const Change &change = changes[i];
      auto found = pending_.find(change.block.value());
      if (found != pending_.end()) {
        const Sequence older = found->second.sequence;
        auto holder = std::ranges::lower_bound(backlog_, older, {}, &Logged::sequence);
        assert(holder != backlog_.end() && holder->sequence == older && holder->remaining > 0);
        --holder->remaining;
        dropped.push_back(std::move(found->second.buffer));
        pending_.erase(found);
      }
      if (change.buffer == nullptr) continue;
      pending_.emplace(change.block.value(), Pending{std::move(pins[i]), transaction.sequence});
      logged.blocks.push_back(change.block);
      ++logged.remaining;
    }
    end_block_ = format_.advance(end_block_, length);
    end_sequence_ = transaction.sequence + 1;
    backlog_.push_back(std::move(logged));
    for (const Change &change : changes) {
      // Waits for the checkpoint that is writing an older version of the block home; ends with its device write.
      while (change.buffer == nullptr && writing_.contains(change.block.value())) written_.wait(list_lock_, kCheckpointEnds);
    }
  }
  for (const Change &change : changes) {
    if (change.buffer == nullptr) cache_.forget(change.block);
  }
}

void Journal::Impl::run_listeners(Transaction &transaction) {
  std::vector<std::move_only_function<void()>> listeners;
  {
    MutexLock lock(transaction.mutex);
    listeners.swap(transaction.listeners);
  }
  for (auto &listener : listeners) listener();
}

}  // namespace outboard::jbd2

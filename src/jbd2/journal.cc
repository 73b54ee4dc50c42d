// Life of the journal: opening, limits, abort, close; and the public face.
#include "jbd2/journal.h"

#include "base/log.h"
#include "base/thread_role.h"
#include "jbd2/journal_impl.h"
#include "jbd2/trace.h"

#include <algorithm>
#include <cassert>

namespace outboard::jbd2 {

namespace {
constexpr std::uint32_t kSmallestTransaction = 16;  // log blocks; a log has room for four
constexpr std::size_t kGroupBytes = std::size_t{2} << 20;

std::uint64_t next_instance() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}
}  // namespace

Journal::Impl::Impl(Journal &journal, cache::BufferCache &buffers, std::optional<LogArea> area, JournalOptions settings)
    : self_(journal), cache_(buffers), log_(std::move(area)), options_(std::move(settings)), instance_(next_instance()) {}

Journal::Impl::~Impl() { stop_threads(); }

// --- opening --------------------------------------------------------------------------------------------------------

// Reads the journal superblock and turns on, in memory, what the options ask for; it is written with the first commit.
Status Journal::Impl::load_log() {
  std::uint32_t sequence = 0;
  {
    MutexLock lock(superblock_lock_);
    sequence = TRY(load_superblock());
  }
  // The numbers start above 2^32, so that nothing ever counts below zero.
  MutexLock lock(lock_);
  next_ = (Sequence{1} << 32) + sequence;
  return {};
}

// The area is cut from the end of the log, and the rest must be a log that the kernel takes.
bool Journal::Impl::can_have_fast_commits(const DiskSuperblock &disk) const {
  if (!options_.fast_commit || options_.read_only) return false;
  const std::uint32_t blocks = fast_commit_blocks(disk);
  return disk.max_length.get() >= kSmallestLogWithFastCommits + blocks;
}

Result<std::uint32_t> Journal::Impl::load_superblock() {
  const std::uint32_t size = log_->block_size();
  if (log_->block_count() == 0) return fail(Error::corrupt("journal: no blocks"));
  if (size != cache_.block_size()) return fail(Error::corrupt("journal: block size differs from the file system's"));
  superblock_.emplace(size, log_->device().properties().alignment);
  const std::span<std::byte> bytes = superblock_->span();
  TRY(log_->read(0, bytes));
  format_ = TRY(parse_superblock(bytes, size, log_->block_count()));
  auto &disk = edit_as<DiskSuperblock>(bytes);
  if (disk.start.get() != 0 && !options_.read_only) return fail(Error::user(EINVAL, "journal: needs recovery first"));

  if (!format_.version2) {
    // Version 1 has no features. The fields it does not know are undefined there.
    std::ranges::fill(bytes.subspan(offsetof(DiskSuperblock, compat), sizeof disk - offsetof(DiskSuperblock, compat)), std::byte{0});
    disk.header.type.set(static_cast<std::uint32_t>(LogBlockType::superblock_v2));
    disk.users_count.set(1);
  }
  std::uint32_t incompat = disk.incompat.get() | static_cast<std::uint32_t>(Incompat::revoke);
  const bool wide = options_.wide_blocks || cache_.block_count() > (std::uint64_t{1} << 32);
  if (wide) incompat |= static_cast<std::uint32_t>(Incompat::wide);
  if (options_.checksum_v3 && !format_.checksum_v2) {
    incompat |= static_cast<std::uint32_t>(Incompat::checksum_v3);
    disk.compat.set(disk.compat.get() & ~static_cast<std::uint32_t>(Compat::checksum_v1));
  }
  if (can_have_fast_commits(disk)) incompat |= static_cast<std::uint32_t>(Incompat::fast_commit);
  disk.incompat.set(incompat);
  if ((incompat & (static_cast<std::uint32_t>(Incompat::checksum_v2) | static_cast<std::uint32_t>(Incompat::checksum_v3))) != 0) {
    disk.checksum_type = 4;
  }
  seal_superblock(bytes);
  format_ = TRY(parse_superblock(bytes, size, log_->block_count()));  // once more, with the features as they are now
  return disk.sequence.get();
}

void Journal::Impl::set_limits() {
  MutexLock lock(lock_);
  if (!log_) {
    next_ = (Sequence{1} << 32) + 1;
    data_limit_ = std::max(options_.unlogged_limit, options_.before_commit_credits + 1);
  } else {
    const std::uint32_t size = format_.block_size;
    const auto most = static_cast<std::uint32_t>(std::max<std::size_t>(8, kGroupBytes / size));
    group_blocks_ = std::min(format_.tags_per_descriptor(), most);
    transaction_space_ = format_.length() / 4;
    const std::uint32_t revoke_blocks = std::max(1U, transaction_space_ / 8);
    revoke_limit_ = revoke_blocks * format_.revokes_per_block();
    // What is left after the revoke blocks and the commit block, with a descriptor for every group.
    const std::uint32_t rest = transaction_space_ - revoke_blocks - 1;
    data_limit_ = rest - divide_up(rest, group_blocks_ + 1);
    checkpoint_above_ = format_.length() / 3;
    set_fast_commit_area();
  }
  committed_ = next_ - 1;
  MutexLock list(list_lock_);
  head_ = end_block_ = format_.first;
  end_sequence_ = next_;
}

void Journal::Impl::start_threads() {
  commit_thread_ = std::thread([this] {
    const ThreadRoleScope role(ThreadRole::commit);
    commit_loop();
  });
  if (!log_) return;
  checkpoint_thread_ = std::thread([this] {
    const ThreadRoleScope role(ThreadRole::checkpoint);
    checkpoint_loop();
  });
}

void Journal::Impl::stop_threads() {
  {
    MutexLock lock(lock_);
    stop_ = true;
    commit_wake_.notify_all();
    checkpoint_wake_.notify_all();
    drained_.notify_all();
    changed_.notify_all();
  }
  if (commit_thread_.joinable()) commit_thread_.join();
  if (checkpoint_thread_.joinable()) checkpoint_thread_.join();
}

// --- the journal superblock -----------------------------------------------------------------------------------------

Status Journal::Impl::write_superblock(std::uint32_t start, Sequence sequence) {
  MutexLock lock(superblock_lock_);
  auto &disk = edit_as<DiskSuperblock>(superblock_->span());
  disk.start.set(start);
  disk.sequence.set(static_cast<std::uint32_t>(sequence));
  if (fast_room_ != 0) {
    // Like the kernel: the feature stands there while the log is in use.
    const auto bit = static_cast<std::uint32_t>(Incompat::fast_commit);
    disk.incompat.set(start != 0 ? disk.incompat.get() | bit : disk.incompat.get() & ~bit);
  }
  seal_superblock(superblock_->span());
  TRY(log_->write(0, superblock_->span()));
  marked_empty_ = start == 0;
  return {};
}

// The caller holds the barrier and has written everything home.
Status Journal::Impl::mark_empty() {
  Sequence sequence = 0;
  {
    MutexLock lock(list_lock_);
    assert(backlog_.empty() && pending_.empty());
    sequence = end_sequence_;
  }
  {
    MutexLock lock(superblock_lock_);
    if (marked_empty_) return {};
  }
  TRY(cache_.device().flush());
  TRY(write_superblock(0, sequence));
  return log_->device().flush();
}

Status Journal::Impl::flush_all() {
  Status status = cache_.device().flush();
  if (status && log_ && &log_->device() != &cache_.device()) status = log_->device().flush();
  if (!status) abort(status.error());
  return status;
}

// --- abort and close ------------------------------------------------------------------------------------------------

void Journal::Impl::abort_locked(Error reason) {
  if (abort_reason_ || closed_) return;
  abort_reason_ = std::move(reason);
  aborted_ = true;
  trace::abort(abort_reason_->code());
  if (running_ && running_->fast) {
    running_->fast->done = true;
    running_->fast->error = Error::system(EIO, "journal: aborted before the commit was durable");
    running_->fast.reset();
  }
  for (Transaction *transaction : {running_.get(), committing_.get()}) {
    if (transaction == nullptr || transaction->completion->done) continue;
    transaction->completion->done = true;
    transaction->completion->error =
        abort_reason_->is(EIO) ? *abort_reason_ : Error::system(EIO, "journal: aborted before the commit was durable");
  }
  changed_.notify_all();
  completed_.notify_all();
  drained_.notify_all();
  commit_wake_.notify_all();
  checkpoint_wake_.notify_all();
}

void Journal::Impl::abort(Error reason) {
  MutexLock lock(lock_);
  abort_locked(std::move(reason));
}

// On the commit thread, once: the log remembers the error, the owner is told, the listeners go unheard.
void Journal::Impl::tell_abort() {
  std::optional<Error> reason;
  std::vector<std::move_only_function<void()>> unheard;
  {
    MutexLock lock(lock_);
    reason = abort_reason_;
    for (Transaction *transaction : {running_.get(), committing_.get()}) {
      if (transaction == nullptr) continue;
      MutexLock list(transaction->mutex);
      std::ranges::move(transaction->listeners, std::back_inserter(unheard));
      transaction->listeners.clear();
    }
  }
  unheard.clear();
  log(LogLevel::error, "journal: aborted: {}", reason->message());
  // A shutdown that was asked for is not an error of the file system.
  if (log_ && !options_.read_only && !reason->is(ESHUTDOWN)) {
    MutexLock lock(superblock_lock_);
    edit_as<DiskSuperblock>(superblock_->span()).error.set(static_cast<std::uint32_t>(-reason->code()));
    seal_superblock(superblock_->span());
    // Best effort: the device has most likely failed.
    if (Status status = log_->write(0, superblock_->span()); status) status = log_->device().flush();
  }
  if (options_.on_abort) options_.on_abort(*reason);
}

Status Journal::Impl::check() const {
  if (aborted_.load()) return fail(Error::user(EROFS, "journal: aborted"));
  return {};
}

Status Journal::Impl::close() {
  {
    MutexLock lock(lock_);
    if (closed_) return {};
    closing_ = true;
    changed_.notify_all();
  }
  Status status;
  if (!options_.read_only) status = checkpoint_all();
  {
    MutexLock lock(lock_);
    assert(!running_ || running_->handles == 0);
    closed_ = true;
  }
  stop_threads();
  return status;
}

// --- the public face ------------------------------------------------------------------------------------------------

Journal::Journal() = default;
Journal::~Journal() = default;

Result<std::unique_ptr<Journal>> Journal::open(cache::BufferCache &cache, std::optional<LogArea> log, JournalOptions options) {
  std::unique_ptr<Journal> journal(new Journal());
  journal->impl_ = std::make_unique<Impl>(*journal, cache, std::move(log), std::move(options));
  Impl &impl = *journal->impl_;
  if (impl.log_) {
    TRY(impl.load_log());
    if (impl.format_.length() / 4 < kSmallestTransaction) return fail(Error::unsupported("journal: too small"));
  }
  impl.set_limits();
  if (impl.data_limit_ <= impl.options_.before_commit_credits) return fail(Error::unsupported("journal: too small"));
  impl.start_threads();
  return journal;
}

Result<Handle> Journal::start(std::uint32_t credits) {
  const outboard::trace::Stopwatch watch;
  Transaction *transaction = TRY(impl_->begin(credits));
  trace::handle_start(static_cast<Tid>(transaction->sequence), credits, watch);
  return Handle(*this, *transaction, credits);
}

std::uint32_t Journal::max_credits() const { return impl_->data_limit_ - impl_->options_.before_commit_credits; }

std::uint32_t Journal::revokes_at_once() const {
  constexpr std::uint32_t kHandles = 16;  // half of the limit is kept for those that are open when it is reached
  return impl_->log_ ? std::max<std::uint32_t>(impl_->revoke_limit_ / kHandles, 1) : ~std::uint32_t{0};
}

void Journal::wait_until_open() { impl_->wait_until_open(); }

Tid Journal::running_tid() const {
  MutexLock lock(impl_->lock_);
  const bool locked = impl_->running_ && impl_->running_->locked;
  return static_cast<Tid>(impl_->next_ + (locked ? 1 : 0));
}

Tid Journal::committed_tid() const {
  MutexLock lock(impl_->lock_);
  return static_cast<Tid>(impl_->committed_);
}

Status Journal::commit_and_wait(Tid tid) { return impl_->commit_and_wait(tid); }
Status Journal::commit_running() { return impl_->commit_running(); }
Status Journal::checkpoint_all() { return impl_->checkpoint_all(); }
Status Journal::close() { return impl_->close(); }
void Journal::abort(Error reason) { impl_->abort(std::move(reason)); }
bool Journal::aborted() const { return impl_->aborted_.load(); }
Status Journal::check() const { return impl_->check(); }

Journal::Counters Journal::counters() const {
  const auto &count = impl_->count_;
  return {count.commits.load(),       count.handles.load(),
          count.logged_blocks.load(), count.revokes.load(),
          count.checkpointed_blocks.load(), count.forced_checkpoints.load(),
          count.fast_commits.load(), count.fast_commit_blocks.load()};
}

}  // namespace outboard::jbd2

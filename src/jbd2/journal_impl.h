// Journal-internal: the state behind journal.h. handle.cc, commit.cc, checkpoint.cc and journal.cc each
// hold the part they are named after.
//
// Locks, outermost first: Buffer::journal_lock (buffer) < lock_ (journal) < Transaction::mutex, list_lock_,
// superblock_lock_ (journal_list; one at a time). No buffer is unpinned under any of them (that takes a cache shard's lock,
// which is further out). Device I/O runs with none of them held but superblock_lock_, which start() never takes.
#pragma once

#include "base/mutex.h"
#include "jbd2/format.h"
#include "jbd2/home_writer.h"
#include "jbd2/journal.h"
#include "jbd2/transaction.h"
#include "jbd2/waits.h"

#include <deque>
#include <map>
#include <thread>
#include <unordered_set>

namespace outboard::jbd2 {

struct Journal::Impl {
  Impl(Journal &journal, cache::BufferCache &buffers, std::optional<LogArea> area, JournalOptions settings);
  ~Impl();

  // journal.cc: life
  Status load_log();
  Result<std::uint32_t> load_superblock() REQUIRES(superblock_lock_);  // the next sequence number
  bool can_have_fast_commits(const DiskSuperblock &disk) const;
  void set_limits();
  void start_threads();
  void stop_threads();
  Status close();
  void abort(Error reason);
  void abort_locked(Error reason) REQUIRES(lock_);
  void tell_abort();
  Status check() const;
  Status flush_all();  // both devices; a failure aborts
  Status write_superblock(std::uint32_t start, Sequence sequence);  // not flushed
  Status mark_empty();

  // handle.cc
  Result<Transaction *> begin(std::uint32_t credits);
  void end(Transaction &transaction, std::uint32_t unused);
  bool extend(Transaction &transaction, std::uint32_t credits);
  Status join(Transaction &transaction, std::uint32_t &credits, cache::Buffer &buffer);
  Status revoke(Transaction &transaction, BlockNumber block);
  void note_change(Transaction &transaction);
  // So many revokes that the rest is for the handles that are open.
  bool is_crowded(const Transaction &transaction) const { return log_ && transaction.revokes.load() > revoke_limit_ / 2; }
  bool room_for_transaction() const REQUIRES(lock_);
  bool room_after_running() const REQUIRES(lock_);  // with no commit in progress
  void wait_for_log_space() REQUIRES(lock_);
  void wait_until_open() EXCLUDES(lock_);
  BufferState &state_of(cache::Buffer &buffer) REQUIRES(buffer.journal_lock());

  // commit.cc
  void commit_loop();
  void request_commit(Transaction &transaction) REQUIRES(lock_);
  Status commit_and_wait(Tid tid);
  Status commit_running();
  Status wait_for(std::shared_ptr<Completion> completion) REQUIRES(lock_);
  Status commit_one();
  Status commit_empty(Transaction &transaction);
  Status run_hook(Transaction &transaction);
  // Sorted by block number, so that log, replay and home writes are in order.
  struct Change {
    BlockNumber block;
    cache::Buffer *buffer;  // null: revoked; pinned by the transaction
  };
  std::vector<Change> changes_of(Transaction &transaction);
  Result<std::uint32_t> write_log(Transaction &transaction, const std::vector<Change> &changes);  // blocks written
  Status write_commit_block(Transaction &transaction, std::uint32_t position, std::uint32_t checksum_v1);
  Status write_homes(Transaction &transaction, const std::vector<Change> &changes);
  void copy_for_commit(Transaction &transaction, cache::Buffer &buffer, std::span<std::byte> out);
  void retire(Transaction &transaction, const std::vector<Change> &changes, std::uint32_t length);
  void run_listeners(Transaction &transaction);

  // fast_commit.cc
  void set_fast_commit_area();
  bool wants_fast_commit() const REQUIRES(lock_);
  Result<bool> fast_commit_and_wait(Tid tid);  // false: it takes a full commit
  Status fast_commit_one();
  Status write_fast_commit(Sequence sequence, const FastCommit &what);

  // checkpoint.cc
  void checkpoint_loop();
  bool wants_checkpoint() const REQUIRES(lock_);
  Result<bool> checkpoint(std::uint32_t target);  // true when log space was freed
  Status checkpoint_all();
  struct Candidate {
    BlockNumber block;
    Sequence sequence;
    cache::BufferRef buffer;
    bool written = false;
  };
  std::vector<Candidate> checkpoint_candidates(std::uint32_t target);
  Status checkpoint_batch(std::span<Candidate> batch, HomeWriter &writer);
  Result<bool> advance_tail();

  Journal &self_;
  cache::BufferCache &cache_;
  const std::optional<LogArea> log_;
  const JournalOptions options_;
  const std::uint64_t instance_;  // tells the buffer states of different journals apart

  // Set by open, constant afterwards.
  LogFormat format_;
  std::uint32_t group_blocks_ = 0;      // data blocks a descriptor block
  std::uint32_t transaction_space_ = 0; // log blocks a transaction may take, all included; reserved when it is opened
  std::uint32_t data_limit_ = 0;        // buffers a transaction
  std::uint32_t revoke_limit_ = 0;      // revoke records a transaction
  std::uint32_t checkpoint_above_ = 0;  // log blocks in use that start a background checkpoint

  mutable Mutex lock_{Rank::journal};
  CondVar changed_;          // for start(): the running transaction, log space, barrier, abort
  CondVar drained_;          // for the commit thread: the last handle of a locked transaction has ended
  CondVar completed_;        // a Completion is done, or a checkpoint has ended
  CondVar commit_wake_, checkpoint_wake_;
  std::unique_ptr<Transaction> running_ GUARDED_BY(lock_);
  std::unique_ptr<Transaction> committing_ GUARDED_BY(lock_);
  Sequence next_ GUARDED_BY(lock_) = 0;       // of running_, or of the transaction that start() would open
  Sequence committed_ GUARDED_BY(lock_) = 0;  // newest durable one
  std::uint32_t used_ GUARDED_BY(lock_) = 0;  // log blocks from the tail on disk to the end of committed_
  std::uint32_t space_waiters_ GUARDED_BY(lock_) = 0;
  std::uint32_t open_waiters_ GUARDED_BY(lock_) = 0;  // in wait_until_open(), not for log space
  std::uint64_t generation_ GUARDED_BY(lock_) = 0;  // of commits: what a checkpoint could not write home may have moved on
  bool barrier_ GUARDED_BY(lock_) = false;          // checkpoint_all() holds new handles back
  bool checkpointing_ GUARDED_BY(lock_) = false;    // the one checkpoint that runs
  bool stop_ GUARDED_BY(lock_) = false;
  bool closing_ GUARDED_BY(lock_) = false;          // no new handles
  bool closed_ GUARDED_BY(lock_) = false;
  bool abort_told_ GUARDED_BY(lock_) = false;
  std::optional<Error> abort_reason_ GUARDED_BY(lock_);
  std::atomic<bool> aborted_{false};  // abort_reason_ is set

  // Committed transactions whose log blocks are still needed, oldest first.
  struct Logged {
    Sequence sequence;
    std::uint32_t start;      // journal block
    std::uint32_t length;     // log blocks
    std::vector<BlockNumber> blocks;
    std::size_t remaining;    // of them: newest committed version is this one and is not home yet
  };
  struct Pending {
    cache::BufferRef buffer;
    Sequence sequence;        // the newest committed transaction with this block
  };
  mutable Mutex list_lock_{Rank::journal_list};
  CondVar written_;           // some block has left writing_
  std::deque<Logged> backlog_ GUARDED_BY(list_lock_);
  std::unordered_map<std::uint64_t, Pending> pending_ GUARDED_BY(list_lock_);  // by block number
  std::unordered_set<std::uint64_t> writing_ GUARDED_BY(list_lock_);           // on their way home now
  std::uint32_t end_block_ GUARDED_BY(list_lock_) = 0;  // where the next transaction will start
  Sequence end_sequence_ GUARDED_BY(list_lock_) = 0;    // ... and its number

  std::uint32_t fast_first_ = 0, fast_room_ = 0;  // the fast-commit area: log blocks; no room: none. Constant after open
  std::uint32_t fast_used_ = 0;         // commit thread only: blocks of the area that belong to the running transaction
  std::uint32_t head_ = 0;              // commit thread only: where the next transaction will start
  std::uint64_t last_commit_time_ = 0;  // commit thread only: seconds; never runs backwards within the log

  Mutex superblock_lock_{Rank::journal_list};
  std::optional<cache::AlignedArea> superblock_ GUARDED_BY(superblock_lock_);  // journal block 0 as last written
  bool marked_empty_ GUARDED_BY(superblock_lock_) = true;  // the superblock on disk says that there is no log

  struct {
    std::atomic<std::uint64_t> commits{0}, handles{0}, logged_blocks{0}, revokes{0}, checkpointed_blocks{0}, forced_checkpoints{0};
    std::atomic<std::uint64_t> fast_commits{0}, fast_commit_blocks{0};
  } count_;

  std::thread commit_thread_, checkpoint_thread_;
};

}  // namespace outboard::jbd2

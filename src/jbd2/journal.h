// The running journal: handles, group commit, checkpoint, abort.
//
// Life of a change. A caller start()s a Handle with a worst-case number of blocks (credits), asks buffers for writable
// bytes by showing it, changes them, and finish()es. Handles of all threads share the running transaction. Commit (by the
// timer, by commit_and_wait, or when the transaction is full) waits until its handles have ended, lets new handles into the
// next transaction, copies and seals every buffer into the log, flushes, writes the commit block with flush, and calls
// the transaction's after_commit listeners. Checkpoint later writes the buffers home and moves the tail.
//
// Ordered data needs no hook: data blocks are written to the device *before* the handle that records them is
// started, and commit flushes the device before its commit block.
//
// Without a log (ext2, or no has_journal) the same machine runs with commit = write home, flush: no atomicity, same API.
//
// Errors: a failed write or flush aborts: the journal turns read-only, every later start()/writable()/commit returns EROFS
// (the commit that failed: EIO), on_abort is told once. Nothing reaches the file system's blocks afterwards.
// Lock order: a Handle counts as Rank::handle; start() may wait for a commit, so nothing ranked above `handle` may be
// held when calling start(), extend() or restart().
#pragma once

#include "base/mutex.h"
#include "cache/buffer_cache.h"
#include "jbd2/log.h"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace outboard::jbd2 {

using Tid = std::uint32_t;  // wraps; compare with tid_before
inline bool tid_before(Tid a, Tid b) { return static_cast<std::int32_t>(a - b) < 0; }

class Journal;
class Transaction;  // journal-internal (transaction.h)

// The capability to change metadata. Move-only; belongs to one thread.
class [[nodiscard]] Handle final : public cache::DirtyScope {
public:
  Handle(Handle &&other) noexcept;
  Handle &operator=(Handle &&) = delete;
  // Ends the handle. If it made anything writable and finish() was not called, the operation stopped half way with the
  // file system inconsistent in memory: the journal is aborted, the disk keeps the last commit.
  ~Handle();

  // The buffers changed so far form a consistent state. After an error that was undone, call it too. Ends the handle.
  void finish();

  Tid tid() const;
  std::uint32_t credits() const;  // blocks that may still join
  // More credits without ending the handle, if the transaction has room. False: restart() instead.
  bool extend(std::uint32_t credits);
  // The state is consistent here: let a commit happen if one wants to, go on with `credits` (perhaps in the next transaction).
  Status restart(std::uint32_t credits);
  // Makes sure `credits` are left, and room for revokes: extends or restarts. True when it restarted.
  Result<bool> ensure(std::uint32_t credits);

  // Fast commits (docs/jbd2.md). Whatever this handle changes is known to whoever encodes fast commits; a handle that changes
  // something and has not said so makes the transaction one for a full commit.
  void mark_tracked() { tracked_ = true; }
  // The transaction needs a full commit, whatever its handles say.
  void needs_full_commit();
  bool tracking() const;  // false: it will get one anyway, and nobody need remember anything

  // A metadata block was freed: it must not be replayed over whatever comes to live there (revoke record), nor written
  // home after this transaction has committed. Its buffer is forgotten by the cache then.
  Status revoke(BlockNumber block);
  // Runs once when the transaction is durable (on the commit thread; must not block on the journal), or is dropped
  // when the journal aborts.
  void after_commit(std::move_only_function<void()> listener);

private:
  friend class Journal;
  Handle(Journal &journal, Transaction &transaction, std::uint32_t credits);
  Status join(cache::Buffer &buffer) override;

  Journal *journal_;
  Transaction *transaction_;
  std::uint32_t credits_;
  bool changed_ = false;
  bool tracked_ = false;
};

// What the owner of the journal wants in the fast-commit area: whole blocks, that the log device gets in one write.
struct FastCommit {
  std::vector<std::byte> blocks;  // empty: nothing has changed
  bool after_data = false;        // what was written to the file system's device before must be durable first
};

struct JournalOptions {
  std::chrono::milliseconds commit_interval{5000};
  bool checksum_v3 = false;  // turn checksums v3 on (file systems with metadata_csum); v1/v2 already set are kept
  bool wide_blocks = false;  // 64-bit tags (file systems with 64bit)
  bool read_only = false;    // start() returns EROFS
  // Runs on the commit thread when no other handle is open, with `before_commit_credits`: counters into the superblock.
  std::function<Status(Handle &)> before_commit;
  std::uint32_t before_commit_credits = 4;
  std::function<void(const Error &)> on_abort;
  // Turns fast commits on, if the log has an area for them. Runs on the commit thread while no handle is open: all that the
  // running transaction `tid` has changed since the last call that was written (`first`: since the last full commit), in at
  // most `room` blocks. Nothing: a full commit instead.
  std::function<std::optional<FastCommit>(Tid tid, bool first, std::uint32_t room)> fast_commit;
  std::uint32_t unlogged_limit = 4096;  // buffers in a transaction without a log before a commit is forced
};

class Journal {
public:
  // `log` empty: no journal. The log must have been recovered (needs_recovery false). Cache and devices must outlive it.
  // Marks the log as in use (writes the journal superblock on first commit, not here).
  static Result<std::unique_ptr<Journal>> open(cache::BufferCache &cache, std::optional<LogArea> log, JournalOptions options);
  ~Journal();  // aborts what is not committed if close() was not called (as a crash would)

  // Blocks while the running transaction is being locked or has no room. ENOSPC-free: `credits` beyond what a log can
  // ever hold is Error::user(E2BIG); callers split their work.
  Result<Handle> start(std::uint32_t credits);
  // Waits while start() would soon have to wait for the device to take writes. For whoever is about to start a handle with locks
  // held that readers need: before he takes them. (Nearly always: those on their way at once may still fill what was left.)
  void wait_until_open();
  std::uint32_t max_credits() const;  // the largest start() that can succeed
  // How many blocks an operation may revoke between two ensure() (or before the first): a transaction has room for that
  // from several handles at once.
  std::uint32_t revokes_at_once() const;

  // The transaction a change made now would join, and the newest that is durable.
  Tid running_tid() const;
  Tid committed_tid() const;
  // Durable when this returns success, by a fast commit if that is possible. Does nothing (but check for abort) when `tid` is
  // already committed.
  Status commit_and_wait(Tid tid);
  Status commit_running();  // everything changed so far, also when nothing was (then only a device flush)
  // Every committed buffer at home, the log empty on disk. Commits first.
  Status checkpoint_all();
  // commit_running, checkpoint_all, stop the thread. The journal accepts nothing afterwards.
  Status close();

  void abort(Error reason);
  bool aborted() const;
  // Error::user(EROFS) once aborted, else success.
  Status check() const;

  struct Counters {
    std::uint64_t commits = 0, handles = 0, logged_blocks = 0, revokes = 0, checkpointed_blocks = 0, forced_checkpoints = 0;
    std::uint64_t fast_commits = 0, fast_commit_blocks = 0;
  };
  Counters counters() const;

private:
  friend class Handle;
  Journal();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outboard::jbd2

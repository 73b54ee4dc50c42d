// Locks that clang's thread-safety analysis understands, each with a rank. docs/locking.md holds the one order.
//
// A debug build keeps the ranks a thread holds and aborts when a lock is taken whose rank is not above all of them
// (equal ranks are allowed only where Rank says so: two inodes, ordered by number). It also remembers what was waited for
// while what was held, and reports the cycles that ranks cannot see (base/wait_tracker.h).
#pragma once

#include "base/wait_tracker.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <shared_mutex>

#if defined(__clang__)
#define OB_TSA(x) __attribute__((x))
#else
#define OB_TSA(x)
#endif
#define CAPABILITY(name) OB_TSA(capability(name))
#define SCOPED_CAPABILITY OB_TSA(scoped_lockable)
#define GUARDED_BY(lock) OB_TSA(guarded_by(lock))
#define PT_GUARDED_BY(lock) OB_TSA(pt_guarded_by(lock))
#define REQUIRES(...) OB_TSA(requires_capability(__VA_ARGS__))
#define REQUIRES_SHARED(...) OB_TSA(requires_shared_capability(__VA_ARGS__))
#define EXCLUDES(...) OB_TSA(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) OB_TSA(acquire_capability(__VA_ARGS__))
#define ACQUIRE_SHARED(...) OB_TSA(acquire_shared_capability(__VA_ARGS__))
#define RELEASE(...) OB_TSA(release_capability(__VA_ARGS__))
#define RELEASE_SHARED(...) OB_TSA(release_shared_capability(__VA_ARGS__))
#define RELEASE_GENERIC(...) OB_TSA(release_generic_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) OB_TSA(try_acquire_capability(__VA_ARGS__))
#define RETURN_CAPABILITY(x) OB_TSA(lock_returned(x))
#define NO_THREAD_SAFETY_ANALYSIS OB_TSA(no_thread_safety_analysis)

namespace outboard {

// Outermost first: a thread may only take a lock whose rank is greater than every rank it holds.
enum class Rank : std::uint16_t {
  memory_pressure = 5,  // base: held while shrinkers run
  mount = 10,           // vfs: whole-mount state (freeze, shutdown)
  rename = 20,          // vfs: one cross-directory rename at a time
  file_io = 30,         // vfs: write-back and changes of the map exclude each other, per inode; before the inode's lock
  inode = 40,           // vfs: per-inode reader/writer lock; several at once in order of inode number
  handle = 100,         // jbd2: an open handle counts as this rank (see docs/locking.md)
  orphan_list = 110,    // ext4: the orphan list and file
  inode_alloc = 120,    // ext4: inode bitmap of a group
  block_alloc = 130,    // ext4: block bitmap of a group
  xattr_cache = 140,    // ext4: shared xattr blocks
  superblock = 150,     // ext4: superblock buffer and counters
  cache_shard = 200,    // cache: a shard's table
  buffer = 210,         // cache: one buffer's load or journal state
  journal = 220,        // jbd2: journal state
  journal_list = 230,   // jbd2: buffer lists of transactions
  inode_table = 300,    // vfs: shard of the inode table
  device = 400,         // device: inner state
  flusher = 305,        // vfs: the queue of dirty inodes
  folios = 310,         // pagecache: the folios of one file
  leaf = 1000,          // takes nothing inside
};

namespace detail {
void rank_push(Rank rank, bool same_rank_allowed);
void rank_pop(Rank rank);
#if defined(NDEBUG)
inline constexpr bool kCheckRanks = false;
#else
inline constexpr bool kCheckRanks = true;
#endif

inline void before_lock(Rank rank, wait_tracker::Id id) {
  if constexpr (kTrackWaits) wait_tracker::about_to_wait(id);
  if constexpr (kCheckRanks) rank_push(rank, rank == Rank::inode);
  if constexpr (kTrackWaits) wait_tracker::hold(id);
}
inline void before_unlock(Rank rank, wait_tracker::Id id) {
  if constexpr (kTrackWaits) wait_tracker::drop(id);
  if constexpr (kCheckRanks) rank_pop(rank);
}
}  // namespace detail

class CAPABILITY("mutex") Mutex {
public:
  explicit Mutex(Rank rank, std::source_location where = std::source_location::current()) : rank_(rank) {
    if constexpr (kTrackWaits) class_ = wait_tracker::id_of_mutex(rank, where);
  }
  Mutex(const Mutex &) = delete;
  Mutex &operator=(const Mutex &) = delete;
  void lock() ACQUIRE() {
    detail::before_lock(rank_, class_);
    mutex_.lock();
  }
  void unlock() RELEASE() {
    detail::before_unlock(rank_, class_);  // first: once unlocked, *this may be gone
    mutex_.unlock();
  }
  bool try_lock() TRY_ACQUIRE(true) {
    if (!mutex_.try_lock()) return false;
    if constexpr (detail::kCheckRanks) detail::rank_push(rank_, true);
    if constexpr (kTrackWaits) wait_tracker::hold(class_);  // who only tries does not wait
    return true;
  }

private:
  friend class CondVar;
  std::mutex mutex_;
  Rank rank_;
  wait_tracker::Id class_ = 0;
};

class SCOPED_CAPABILITY MutexLock {
public:
  explicit MutexLock(Mutex &mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() {
    if (held_) mutex_.unlock();
  }
  MutexLock(const MutexLock &) = delete;
  MutexLock &operator=(const MutexLock &) = delete;
  void unlock() RELEASE() {
    held_ = false;
    mutex_.unlock();
  }
  void lock() ACQUIRE() {
    mutex_.lock();
    held_ = true;
  }

private:
  Mutex &mutex_;
  bool held_ = true;
};

// Waits release the mutex they are given, and name what is waited for: an event that others owe, or kIdle. Every wait in the
// project says why in a comment.
class CondVar {
public:
  void wait(Mutex &mutex, WaitClass &what) REQUIRES(mutex) {
    before_wait(mutex, what);
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
  }
  // False on timeout. Ends by itself, so the tracker of waits does not look at it.
  bool wait_until(Mutex &mutex, std::chrono::steady_clock::time_point deadline) REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    bool woken = cv_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return woken;
  }
  void notify_one() { cv_.notify_one(); }
  void notify_all() { cv_.notify_all(); }

private:
  static void before_wait(const Mutex &mutex, WaitClass &what) {
    if constexpr (!kTrackWaits) return;
    if (&what == &kIdle) wait_tracker::about_to_idle(mutex.class_);
    else wait_tracker::about_to_wait(what.id(), mutex.class_);
  }
  std::condition_variable cv_;
};

class CAPABILITY("shared_mutex") SharedMutex {
public:
  explicit SharedMutex(Rank rank, std::source_location where = std::source_location::current()) : rank_(rank) {
    if constexpr (kTrackWaits) class_ = wait_tracker::id_of_mutex(rank, where);
  }
  SharedMutex(const SharedMutex &) = delete;
  SharedMutex &operator=(const SharedMutex &) = delete;
  void lock() ACQUIRE() {
    detail::before_lock(rank_, class_);
    mutex_.lock();
  }
  void unlock() RELEASE() {
    detail::before_unlock(rank_, class_);  // first: once unlocked, *this may be gone
    mutex_.unlock();
  }
  void lock_shared() ACQUIRE_SHARED() {
    detail::before_lock(rank_, class_);
    mutex_.lock_shared();
  }
  void unlock_shared() RELEASE_SHARED() {
    detail::before_unlock(rank_, class_);  // first: once unlocked, *this may be gone
    mutex_.unlock_shared();
  }

private:
  std::shared_mutex mutex_;
  Rank rank_;
  wait_tracker::Id class_ = 0;
};

class SCOPED_CAPABILITY WriteLock {
public:
  explicit WriteLock(SharedMutex &mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~WriteLock() RELEASE() { mutex_.unlock(); }
  WriteLock(const WriteLock &) = delete;
  WriteLock &operator=(const WriteLock &) = delete;

private:
  SharedMutex &mutex_;
};

class SCOPED_CAPABILITY ReadLock {
public:
  explicit ReadLock(SharedMutex &mutex) ACQUIRE_SHARED(mutex) : mutex_(mutex) { mutex_.lock_shared(); }
  ~ReadLock() RELEASE_GENERIC() { mutex_.unlock_shared(); }
  ReadLock(const ReadLock &) = delete;
  ReadLock &operator=(const ReadLock &) = delete;

private:
  SharedMutex &mutex_;
};

}  // namespace outboard

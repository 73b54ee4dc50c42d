// One object per inode number: who uses it, and what becomes of it when nobody does.
//
// Three counts, three meanings. *Lookups* are the transport's (forget() takes them back). *References* are operations
// under way (InodeRef). *Links* are on disk. An inode with neither lookups nor references is idle: with links it
// stays cached, bounded, least recently used out first; without links it goes to the reaper, which alone deletes.
// An idle inode whose times are only in memory cannot just go: when its turn comes, the reaper writes them first.
// Dropping a reference therefore never does I/O and never waits for a transaction.
//
// Thread-safe. Shard mutexes (Rank::inode_table) are taken inside inode locks and never across I/O: a load happens
// outside them while others wait for it on the shard.
#pragma once

#include "base/mutex.h"
#include "base/thread_role.h"
#include "ext4/inode.h"
#include "ext4/volume.h"
#include "iomap/mapping_cache.h"
#include "pagecache/file_cache.h"

#include <array>
#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace outboard::vfs {

class InodeTable;

class Inode {
public:
  Inode(InodeNumber n, pagecache::FolioMemory &memory, std::uint32_t block_size) : number(n), pages(memory, block_size, n.value()) {}

  const InodeNumber number;
  // Write-back, and whatever else changes the map of existing data (truncation, fallocate, allocating direct writes),
  // exclude each other; direct overwrites share it. Taken before `lock`, and held across device writes, which `lock` of
  // a file with dirty pages never is for long.
  SharedMutex io{Rank::file_io};
  SharedMutex lock{Rank::inode};
  // Its size is that of what has been recorded; clients see pages.size().
  ext4::Inode disk GUARDED_BY(lock);
  pagecache::FileCache pages;
  iomap::InodeMappings mappings;  // parts of the map, known without a look at the tree
  // errno of a write-back that lost data: every fsync is told until nobody has the file open any more.
  std::atomic<int> write_error{0};
  // Data went to the device since the last flush that fsync knows of.
  std::atomic<bool> data_unflushed{false};
  // Times changed in memory only (relatime reads); written with the next change of the inode, by fsync, or when it is evicted.
  std::atomic<bool> times_dirty{false};

private:
  friend class InodeTable;
  friend class Flusher;
  enum class Queued : std::uint8_t { no, dirty, lingering };
  std::atomic<Queued> queued_{Queued::no};  // in the flusher; changed under its mutex

  enum class State : std::uint8_t { loading, ready, deleting };
  // Guarded by the shard's mutex.
  State state_ = State::loading;
  std::uint64_t lookups_ = 0;
  std::uint32_t references_ = 0;
  std::uint32_t links_ = 1;  // as last told by note_links(): decides what becomes of an idle inode
  std::list<Inode *>::iterator idle_position_;
  bool idle_ = false;
};

// An operation's hold on an inode.
class InodeRef {
public:
  InodeRef() = default;
  InodeRef(InodeRef &&other) noexcept : table_(other.table_), inode_(std::exchange(other.inode_, nullptr)) {}
  InodeRef &operator=(InodeRef &&other) noexcept {
    std::swap(table_, other.table_);
    std::swap(inode_, other.inode_);
    return *this;
  }
  ~InodeRef();
  Inode *operator->() const { return inode_; }
  Inode &operator*() const { return *inode_; }
  explicit operator bool() const { return inode_ != nullptr; }

private:
  friend class InodeTable;
  InodeRef(InodeTable *table, Inode *inode) : table_(table), inode_(inode) {}
  InodeTable *table_ = nullptr;
  Inode *inode_ = nullptr;
};

class InodeTable {
public:
  // `retire` receives inodes that are idle and have no links, and idle ones beyond the bound whose times are only in memory;
  // it must only queue them and call take_for_deletion() and take_if_dirty() later.
  // `memory` and `volume` must outlive the table.
  InodeTable(ext4::Volume &volume, pagecache::FolioMemory &memory, std::size_t max_idle,
             std::function<void(InodeNumber)> retire);
  ~InodeTable();

  // The inode, loaded if it is not here. ESTALE while it is being deleted, or when it is free or deleted on disk.
  // Does device I/O, but takes no inode lock.
  Result<InodeRef> get(InodeNumber number);
  // An inode just made on disk. What a stale handle may have loaded under its number meanwhile gives way.
  InodeRef add(ext4::Inode made);
  // One more reference to an inode that the caller holds one of.
  InodeRef another(Inode &inode);
  // No name and nobody who could open it: its data is needed by nobody.
  bool is_doomed(const Inode &inode) const;
  // No name, though perhaps somebody has it open: after a crash nobody finds it.
  bool is_nameless(const Inode &inode) const;

  void count_lookup(Inode &inode);
  void forget(InodeNumber number, std::uint64_t count);
  // Tells the table how many links the inode has now. The caller holds a reference.
  void note_links(Inode &inode, std::uint32_t links);

  // The next two are the ways into work that waits; no thread that others wait for may take them (asserted).
  // For the reaper: a sole reference to an idle unlinked inode, or none if it is in use again (a temporary file got a name).
  InodeRef take_for_deletion(InodeNumber number);
  // For the reaper: a reference to an inode whose times are only in memory, or none.
  InodeRef take_if_dirty(InodeNumber number);
  // The inode is gone from disk: its object goes too.
  void drop_deleted(InodeRef inode);

  // Those that the transport has looked up and not forgotten.
  std::vector<InodeNumber> looked_up() const;
  // Idle inodes go, the longest idle first, until about so many bytes are free. Returns the bytes.
  std::size_t shrink(std::size_t bytes);

  // After the transport is gone: all lookups forgotten.
  void forget_everything();
  // Calls `visit` with a reference to each inode whose times are only in memory.
  void for_each_dirty(const std::function<void(InodeRef)> &visit);
  std::size_t size() const;

  // What has become of inodes, by the role of the thread that did it.
  struct Counts {
    std::uint64_t evicted = 0;      // idle and clean: forgotten, memory only
    std::uint64_t retired = 0;      // handed to the reaper; nothing but queued
    std::uint64_t times_taken = 0;  // taken to write its times: a transaction
    std::uint64_t deleted = 0;      // taken to be deleted: device I/O and transactions
  };
  using Counters = std::array<Counts, kThreadRoles>;
  Counters counters() const;
  Counts counts_of(ThreadRole role) const { return counters()[static_cast<std::size_t>(role)]; }

private:
  friend class InodeRef;
  struct Shard {
    mutable Mutex mutex{Rank::inode_table};
    CondVar loaded;  // a load has ended
    std::unordered_map<InodeNumber, std::unique_ptr<Inode>> inodes GUARDED_BY(mutex);
    std::list<Inode *> idle GUARDED_BY(mutex);  // oldest first
    Counters counters GUARDED_BY(mutex);
  };
  static Counts &count(Shard &shard) REQUIRES(shard.mutex) { return shard.counters[static_cast<std::size_t>(thread_role())]; }
  Shard &shard_of(InodeNumber number) { return shards_[number.value() % shards_.size()]; }
  Result<InodeRef> load(Shard &shard, InodeNumber number);
  void release(Inode &inode);
  // Looks whether the inode has become idle, and which idle ones are too many. The number is for the reaper: this inode when
  // it has no links, or the oldest idle one when that must be written before it can go.
  [[nodiscard]] std::optional<InodeNumber> settle(Shard &shard, Inode &inode) REQUIRES(shard.mutex);
  static void unidle(Shard &shard, Inode &inode) REQUIRES(shard.mutex);

  const Shard &shard_of(InodeNumber number) const { return shards_[number.value() % shards_.size()]; }
  std::unique_ptr<Inode> make(InodeNumber number) const;

  ext4::Volume &volume_;
  pagecache::FolioMemory &memory_;
  const std::size_t max_idle_per_shard_;
  const std::function<void(InodeNumber)> retire_;
  std::array<Shard, 64> shards_;
};

}  // namespace outboard::vfs

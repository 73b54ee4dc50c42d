// What is known of the maps of many files: per inode an interval map of mappings, bounded over all inodes of a mount.
//
// Invariants. Every entry of an inode is true for one cookie, the inode's mapping sequence: an answer is given only for
// the cookie it was learned under, and the first entry of a newer cookie throws the older ones away (a bump costs
// nothing, however many entries there are). Entries of an inode are disjoint, in order, and never continue each other:
// neighbours that do are one. Nothing in here is dirty; anything may go at any time.
//
// Kept: hole, mapped and unwritten. Not kept: what may change while the cookie does not (promises, memory of an inode)
// and blocks that are recorded nowhere yet (kFresh).
//
// Thread-safe. A look-up takes one shard's mutex (Rank::leaf) for the length of a binary search and allocates nothing.
// The caller holds the inode's lock, at least shared, as for any use of the cookie.
#pragma once

#include "base/mutex.h"
#include "iomap/mapping.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <optional>
#include <vector>

namespace outboard::iomap {

class MappingCache;

// The entries of one inode: a member of whoever is that inode. Usable with one cache only, which outlives it; its
// destructor takes the entries out (nobody else may be using it then).
class InodeMappings {
public:
  InodeMappings() = default;
  InodeMappings(const InodeMappings &) = delete;
  InodeMappings &operator=(const InodeMappings &) = delete;
  ~InodeMappings();

private:
  friend class MappingCache;
  struct Entry {
    std::uint64_t offset = 0, length = 0, address = 0;  // as in Mapping
    std::uint32_t flags = 0;
    MappingType type = MappingType::hole;
    std::uint64_t end() const { return offset + length; }
    bool has_address() const { return type != MappingType::hole; }
    // Is `next`, which begins at end(), more of the same?
    bool continued_by(const Entry &next) const;
    Entry part(std::uint64_t from, std::uint64_t to) const;
  };
  using Entries = std::vector<Entry>;

  // All but cache_ under the shard's mutex. In its shard's ring while it has memory.
  MappingCache *cache_ = nullptr;  // set with the first entry, under the mutex, and never again
  InodeMappings *next_ = nullptr, *previous_ = nullptr;
  std::uint64_t cookie_ = 0;
  Entries entries_;
  std::size_t victim_ = 0;   // which entry goes next when one inode has too many: a hand that sweeps
  bool referenced_ = false;  // used since the clock's hand was here
};

class MappingCache {
public:
  static constexpr std::size_t kBytesPerEntry = 32;  // charged for the room of an inode's array, used or not
  static constexpr std::size_t kMostEntries = 2048;  // of one inode

  // `budget` in bytes. An insertion that exceeds it pushes others out before it returns.
  explicit MappingCache(std::size_t budget = std::size_t{8} << 20) : budget_(budget) {}
  MappingCache(const MappingCache &) = delete;
  MappingCache &operator=(const MappingCache &) = delete;
  ~MappingCache();  // every InodeMappings that it has entries for is gone

  // The mapping that covers `offset`, if it is known under this cookie. Counts a hit or a miss.
  std::optional<Mapping> lookup(InodeMappings &inode, std::uint64_t offset, std::uint64_t cookie);
  // Remembers what is true under `mapping.cookie`: an answer of begin(), or what the file system tells unasked. Older
  // news than the newest cookie seen, types that are not kept, and mappings that cannot be are passed over.
  void upsert(InodeMappings &inode, const Mapping &mapping);
  // Forgets the inode's entries, and its cookie: when the mapping sequence starts anew (the inode was read again).
  void forget(InodeMappings &inode);
  // Frees at least `bytes` if there are as many, whole inodes at a time, those not looked up lately first. Returns
  // bytes freed. For memory pressure.
  std::size_t shrink(std::size_t bytes);

  struct Counters {
    std::uint64_t hits = 0, misses = 0;
    std::uint64_t inserts = 0;    // entries learned
    std::uint64_t evictions = 0;  // entries dropped for want of room or by shrink(); outdated ones are not counted
  };
  Counters counters() const;
  std::size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  std::size_t budget() const { return budget_; }

private:
  using Entry = InodeMappings::Entry;
  using Entries = InodeMappings::Entries;
  static constexpr std::size_t kShards = 64;
  struct alignas(64) Shard {
    mutable Mutex mutex{Rank::leaf};
    // A ring: the clock's hand looks here next, newcomers stand behind it.
    InodeMappings *hand GUARDED_BY(mutex) = nullptr;
    Counters counters GUARDED_BY(mutex);
  };
  static_assert(sizeof(Entry) == kBytesPerEntry);

  Shard &shard_of(const InodeMappings &inode);
  static void join(Shard &shard, InodeMappings &inode) REQUIRES(shard.mutex);
  static void leave(Shard &shard, InodeMappings &inode) REQUIRES(shard.mutex);
  // Takes the inode's memory away; the caller frees it outside the lock.
  Entries take(Shard &shard, InodeMappings &inode) REQUIRES(shard.mutex);
  void charge(std::size_t before, std::size_t after);
  // Puts the entry among the others: the array grows by two at most.
  static void place(InodeMappings &inode, Entry entry);
  // One inode of the shard, if its hand finds one that was not used since it came by last. Returns bytes freed.
  std::size_t sweep(Shard &shard) EXCLUDES(shard.mutex);

  const std::size_t budget_;
  std::atomic<std::size_t> bytes_{0};
  std::atomic<std::size_t> next_shard_{0};  // where shrink() goes on
  std::array<Shard, kShards> shards_;
};

}  // namespace outboard::iomap

#include "iomap/mapping_cache.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace outboard::iomap {

bool InodeMappings::Entry::continued_by(const Entry &next) const {
  return type == next.type && flags == next.flags && (!has_address() || address + length == next.address);
}

InodeMappings::Entry InodeMappings::Entry::part(std::uint64_t from, std::uint64_t to) const {
  Entry part = *this;
  part.offset = from;
  part.length = to - from;
  if (has_address()) part.address += from - offset;
  return part;
}

InodeMappings::~InodeMappings() {
  if (cache_ != nullptr) cache_->forget(*this);
}

MappingCache::~MappingCache() { assert(bytes() == 0); }

MappingCache::Shard &MappingCache::shard_of(const InodeMappings &inode) {
  // Objects of one size lie at multiples of it: the upper bits of a product are spread where the address's low bits are
  // not.
  const std::uint64_t mixed = reinterpret_cast<std::uintptr_t>(&inode) * std::uint64_t{0x9E3779B97F4A7C15};
  static_assert(kShards == 64);
  return shards_[mixed >> 58];
}

void MappingCache::join(Shard &shard, InodeMappings &inode) {
  if (shard.hand == nullptr) {
    inode.next_ = inode.previous_ = shard.hand = &inode;
    return;
  }
  inode.next_ = shard.hand;
  inode.previous_ = shard.hand->previous_;
  inode.previous_->next_ = inode.next_->previous_ = &inode;
}

void MappingCache::leave(Shard &shard, InodeMappings &inode) {
  if (shard.hand == &inode) shard.hand = inode.next_ == &inode ? nullptr : inode.next_;
  inode.previous_->next_ = inode.next_;
  inode.next_->previous_ = inode.previous_;
  inode.next_ = inode.previous_ = nullptr;
}

void MappingCache::charge(std::size_t before, std::size_t after) {
  if (after != before) bytes_.fetch_add((after - before) * kBytesPerEntry, std::memory_order_relaxed);
}

MappingCache::Entries MappingCache::take(Shard &shard, InodeMappings &inode) {
  if (inode.next_ == nullptr) return {};
  leave(shard, inode);
  charge(inode.entries_.capacity(), 0);
  return std::exchange(inode.entries_, {});
}

std::optional<Mapping> MappingCache::lookup(InodeMappings &inode, std::uint64_t offset, std::uint64_t cookie) {
  Shard &shard = shard_of(inode);
  MutexLock lock(shard.mutex);
  if (inode.cookie_ == cookie) {
    const auto behind = std::ranges::upper_bound(inode.entries_, offset, {}, &Entry::offset);
    if (behind != inode.entries_.begin()) {
      const Entry &entry = *std::prev(behind);
      if (offset - entry.offset < entry.length) {
        if (!inode.referenced_) inode.referenced_ = true;  // often it is: leave the line clean
        ++shard.counters.hits;
        return Mapping{.type = entry.type, .flags = entry.flags, .offset = entry.offset, .length = entry.length,
                       .address = entry.address, .cookie = cookie, .inline_bytes = {}};
      }
    }
  }
  ++shard.counters.misses;
  return std::nullopt;
}

void MappingCache::place(InodeMappings &inode, Entry entry) {
  Entries &entries = inode.entries_;
  // [first, last): whatever overlaps the entry or touches it.
  const auto first = std::ranges::partition_point(entries, [&](const Entry &e) { return e.end() < entry.offset; });
  const auto last = std::partition_point(first, entries.end(), [&](const Entry &e) { return e.offset <= entry.end(); });
  // Under one cookie everything learned is true, so what overlaps agrees with the entry, or it was answered for another
  // purpose; the newest wins. At most the head of the first and the tail of the last are left beside it.
  std::array<Entry, 3> kept;
  std::size_t count = 0, middle = 0;
  if (first != last && first->offset < entry.offset) {
    const Entry head = first->part(first->offset, entry.offset);
    if (head.continued_by(entry))
      entry = {head.offset, head.length + entry.length, head.address, entry.flags, entry.type};
    else kept[count++] = head;
  }
  middle = count++;
  if (first != last && std::prev(last)->end() > entry.end()) {
    const Entry tail = std::prev(last)->part(entry.end(), std::prev(last)->end());
    if (entry.continued_by(tail)) entry.length += tail.length;
    else kept[count++] = tail;
  }
  kept[middle] = entry;
  // Replaces [first, last) by what is kept.
  const auto gap = static_cast<std::size_t>(last - first);
  const auto common = static_cast<std::ptrdiff_t>(std::min(gap, count));
  std::copy_n(kept.begin(), common, first);
  if (gap >= count) {
    entries.erase(first + common, last);
    return;
  }
  const std::ptrdiff_t at = first - entries.begin();
  if (entries.size() + (count - gap) > entries.capacity())
    entries.reserve(std::min(kMostEntries, std::max(entries.size() + (count - gap), entries.capacity() * 2)));
  entries.insert(entries.begin() + at + common, kept.begin() + common,
                 kept.begin() + static_cast<std::ptrdiff_t>(count));
}

void MappingCache::upsert(InodeMappings &inode, const Mapping &mapping) {
  const bool kept = mapping.type == MappingType::hole || mapping.type == MappingType::mapped ||
                    mapping.type == MappingType::unwritten;
  if (!kept || (mapping.flags & kFresh) != 0 || mapping.length == 0 || mapping.length > ~mapping.offset) return;
  const bool has_address = mapping.type != MappingType::hole;
  if (has_address && mapping.length > ~mapping.address) return;
  Shard &shard = shard_of(inode);
  {
    MutexLock lock(shard.mutex);
    if (inode.cookie_ > mapping.cookie) return;
    assert(inode.cache_ == nullptr || inode.cache_ == this);
    inode.cache_ = this;
    const std::size_t room = inode.entries_.capacity();
    if (inode.cookie_ < mapping.cookie) inode.entries_.clear();
    inode.cookie_ = mapping.cookie;
    if (inode.entries_.size() + 2 > kMostEntries) {
      // place() adds two at most. Which ones go matters little: neither age nor use of single entries is known.
      for (int n = 0; n < 2; ++n) {
        inode.victim_ = (inode.victim_ + 1) % inode.entries_.size();
        inode.entries_.erase(inode.entries_.begin() + static_cast<std::ptrdiff_t>(inode.victim_));
        ++shard.counters.evictions;
      }
    }
    place(inode, {mapping.offset, mapping.length, has_address ? mapping.address : 0, mapping.flags, mapping.type});
    ++shard.counters.inserts;
    // A newcomer has a lap of the clock to be looked up in; learning more is a use of what was there.
    inode.referenced_ = inode.next_ != nullptr;
    charge(room, inode.entries_.capacity());
    if (inode.next_ == nullptr) join(shard, inode);
  }
  const std::size_t now = bytes();
  if (now > budget_) shrink(now - budget_);
}

void MappingCache::forget(InodeMappings &inode) {
  Shard &shard = shard_of(inode);
  Entries freed;
  MutexLock lock(shard.mutex);
  freed = take(shard, inode);
  inode.cookie_ = 0;
}

std::size_t MappingCache::sweep(Shard &shard) {
  Entries freed;  // outlives the lock
  MutexLock lock(shard.mutex);
  if (shard.hand == nullptr) return 0;
  InodeMappings *const last = shard.hand->previous_;
  for (InodeMappings *inode = shard.hand;; inode = inode->next_) {
    if (!inode->referenced_) {
      shard.hand = inode;  // take() moves it on to the next
      shard.counters.evictions += inode->entries_.size();
      const std::size_t bytes = inode->entries_.capacity() * kBytesPerEntry;
      freed = take(shard, *inode);
      return bytes;
    }
    inode->referenced_ = false;
    if (inode == last) return 0;
  }
}

std::size_t MappingCache::shrink(std::size_t bytes) {
  std::size_t freed = 0;
  // A lap over all shards that frees nothing has cleared every mark, so the second one finds whoever there is.
  for (std::size_t idle = 0; freed < bytes && idle < 2 * kShards;) {
    const std::size_t got = sweep(shards_[next_shard_.fetch_add(1, std::memory_order_relaxed) % kShards]);
    freed += got;
    idle = got == 0 ? idle + 1 : 0;
  }
  return freed;
}

MappingCache::Counters MappingCache::counters() const {
  Counters sum;
  for (const Shard &shard : shards_) {
    MutexLock lock(shard.mutex);
    sum.hits += shard.counters.hits;
    sum.misses += shard.counters.misses;
    sum.inserts += shard.counters.inserts;
    sum.evictions += shard.counters.evictions;
  }
  return sum;
}

}  // namespace outboard::iomap

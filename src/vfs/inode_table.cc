#include "vfs/inode_table.h"

#include "ext4/inode_alloc.h"
#include "vfs/trace.h"

#include <algorithm>
#include <cassert>
#include <vector>

namespace outboard::vfs {

namespace {
constinit WaitClass kLoaded{"vfs: an inode is loaded"};  // owed by the thread that loads it
}

InodeRef::~InodeRef() {
  if (inode_ != nullptr) table_->release(*inode_);
}

InodeTable::InodeTable(ext4::Volume &volume, pagecache::FolioMemory &memory, std::size_t max_idle,
                       std::function<void(InodeNumber)> retire)
    : volume_(volume), memory_(memory), max_idle_per_shard_(max_idle / 64 + 1), retire_(std::move(retire)) {}

InodeTable::~InodeTable() = default;

std::unique_ptr<Inode> InodeTable::make(InodeNumber number) const {
  return std::make_unique<Inode>(number, memory_, volume_.block_size());
}

InodeRef InodeTable::another(Inode &inode) {
  MutexLock lock(shard_of(inode.number).mutex);
  assert(inode.references_ > 0);
  ++inode.references_;
  return InodeRef(this, &inode);
}

bool InodeTable::is_doomed(const Inode &inode) const {
  MutexLock lock(shard_of(inode.number).mutex);
  return inode.links_ == 0 && inode.lookups_ == 0;
}

bool InodeTable::is_nameless(const Inode &inode) const {
  MutexLock lock(shard_of(inode.number).mutex);
  return inode.links_ == 0;
}

Result<InodeRef> InodeTable::get(InodeNumber number) {
  Shard &shard = shard_of(number);
  {
    MutexLock lock(shard.mutex);
    for (;;) {
      auto found = shard.inodes.find(number);
      if (found == shard.inodes.end()) break;
      Inode &inode = *found->second;
      if (inode.state_ == Inode::State::deleting) return fail(Error::user(ESTALE, "inode is being deleted"));
      if (inode.state_ == Inode::State::ready) {
        unidle(shard, inode);
        ++inode.references_;
        return InodeRef(this, &inode);
      }
      // Waits for the thread that loads this inode; it ends when its device reads do.
      shard.loaded.wait(shard.mutex, kLoaded);
    }
    auto inode = make(number);
    inode->references_ = 1;
    shard.inodes.emplace(number, std::move(inode));
  }
  return load(shard, number);
}

Result<InodeRef> InodeTable::load(Shard &shard, InodeNumber number) {
  const Owes loaded(kLoaded);
  const outboard::trace::Stopwatch watch;
  Result<ext4::Inode> disk = volume_.inodes().load(number);
  // Deleted ones keep their mode.
  if (disk && (disk->fields.mode == 0 || disk->fields.links == 0))
    disk = fail(Error::user(ESTALE, "inode is not in use").of_inode(number.value()));
  trace::inode_load(number, disk, watch);
  MutexLock lock(shard.mutex);
  auto found = shard.inodes.find(number);
  assert(found != shard.inodes.end());
  Inode &inode = *found->second;
  // add() has come in between: the number means a new inode, which is here.
  if (inode.state_ != Inode::State::loading) return InodeRef(this, &inode);
  shard.loaded.notify_all();
  if (!disk) {
    shard.inodes.erase(found);
    return fail(disk.error());
  }
  inode.links_ = disk->fields.links;
  // Nobody else can use the inode before it is ready.
  inode.pages.set_size(disk->fields.size);
  [&]() NO_THREAD_SAFETY_ANALYSIS { inode.disk = std::move(*disk); }();
  inode.state_ = Inode::State::ready;
  return InodeRef(this, &inode);
}

InodeRef InodeTable::add(ext4::Inode made) {
  Shard &shard = shard_of(made.number);
  auto inode = make(made.number);
  inode->references_ = 1;
  inode->links_ = made.fields.links;
  inode->state_ = Inode::State::ready;
  inode->pages.set_size(made.fields.size);
  [&]() NO_THREAD_SAFETY_ANALYSIS { inode->disk = std::move(made); }();
  MutexLock lock(shard.mutex);
  auto [place, inserted] = shard.inodes.emplace(inode->number, nullptr);
  if (inserted) {
    place->second = std::move(inode);
    return InodeRef(this, place->second.get());
  }
  // A number is handed out again only after its old object has gone (InodeAllocator::hold_number), but whoever came with a
  // stale handle may have loaded it, or be loading it, since it reached the disk. What was read may be half of what was
  // made: it gives way, unless somebody uses it, who then found it complete enough.
  Inode &present = *place->second;
  assert(present.state_ != Inode::State::deleting);
  unidle(shard, present);
  if (present.state_ == Inode::State::loading || present.references_ == 0) {
    [&]() NO_THREAD_SAFETY_ANALYSIS {
      // What is remembered of the old map is not true of this one.
      inode->disk.map_sequence = present.disk.map_sequence + 1;
      present.disk = std::move(inode->disk);
    }();
    present.pages.set_size(inode->pages.size());
    present.links_ = inode->links_;
    present.state_ = Inode::State::ready;
    shard.loaded.notify_all();
  }
  ++present.references_;
  return InodeRef(this, &present);
}

void InodeTable::unidle(Shard &shard, Inode &inode) {
  if (!inode.idle_) return;
  shard.idle.erase(inode.idle_position_);
  inode.idle_ = false;
}

std::optional<InodeNumber> InodeTable::settle(Shard &shard, Inode &inode) {
  if (inode.references_ != 0 || inode.lookups_ != 0 || inode.state_ != Inode::State::ready) return std::nullopt;
  if (inode.links_ == 0) {
    ++count(shard).retired;
    return inode.number;
  }
  if (!inode.idle_) {
    inode.idle_position_ = shard.idle.insert(shard.idle.end(), &inode);
    inode.idle_ = true;
    inode.write_error.store(0, std::memory_order_relaxed);  // nobody is left to be told
  }
  while (shard.idle.size() > max_idle_per_shard_) {
    Inode &old = *shard.idle.front();
    unidle(shard, old);
    // Off the list, so that it is told once; idle again when the reaper has written it.
    if (old.times_dirty.load(std::memory_order_relaxed)) {
      ++count(shard).retired;
      return old.number;
    }
    ++count(shard).evicted;
    trace::inode_evict(old.number);
    shard.inodes.erase(old.number);
  }
  return std::nullopt;
}

std::size_t InodeTable::shrink(std::size_t bytes) {
  std::size_t freed = 0;
  for (Shard &shard : shards_) {
    MutexLock lock(shard.mutex);
    for (auto candidate = shard.idle.begin(); candidate != shard.idle.end() && freed < bytes;) {
      Inode &old = **candidate++;
      if (old.times_dirty.load(std::memory_order_relaxed)) continue;
      unidle(shard, old);
      trace::inode_evict(old.number);
      shard.inodes.erase(old.number);
      freed += sizeof(Inode);
    }
  }
  return freed;
}

void InodeTable::release(Inode &inode) {
  Shard &shard = shard_of(inode.number);
  std::optional<InodeNumber> told;
  {
    MutexLock lock(shard.mutex);
    assert(inode.references_ > 0);
    --inode.references_;
    told = settle(shard, inode);
  }
  if (told) retire_(*told);
}

void InodeTable::count_lookup(Inode &inode) {
  MutexLock lock(shard_of(inode.number).mutex);
  ++inode.lookups_;
}

void InodeTable::forget(InodeNumber number, std::uint64_t count) {
  Shard &shard = shard_of(number);
  std::optional<InodeNumber> told;
  {
    MutexLock lock(shard.mutex);
    auto found = shard.inodes.find(number);
    if (found == shard.inodes.end()) return;
    Inode &inode = *found->second;
    inode.lookups_ -= std::min(count, inode.lookups_);
    told = settle(shard, inode);
  }
  if (told) retire_(*told);
}

void InodeTable::note_links(Inode &inode, std::uint32_t links) {
  MutexLock lock(shard_of(inode.number).mutex);
  inode.links_ = links;
}

InodeRef InodeTable::take_for_deletion(InodeNumber number) {
  assert(!is_waited_for(thread_role()));
  Shard &shard = shard_of(number);
  MutexLock lock(shard.mutex);
  auto found = shard.inodes.find(number);
  if (found == shard.inodes.end()) return {};
  Inode &inode = *found->second;
  if (inode.state_ != Inode::State::ready || inode.references_ != 0 || inode.lookups_ != 0 || inode.links_ != 0) return {};
  inode.state_ = Inode::State::deleting;
  ++count(shard).deleted;
  ++inode.references_;
  return InodeRef(this, &inode);
}

InodeRef InodeTable::take_if_dirty(InodeNumber number) {
  assert(!is_waited_for(thread_role()));
  Shard &shard = shard_of(number);
  MutexLock lock(shard.mutex);
  auto found = shard.inodes.find(number);
  if (found == shard.inodes.end()) return {};
  Inode &inode = *found->second;
  if (inode.state_ != Inode::State::ready || !inode.times_dirty.load(std::memory_order_relaxed)) return {};
  unidle(shard, inode);
  ++count(shard).times_taken;
  ++inode.references_;
  return InodeRef(this, &inode);
}

void InodeTable::drop_deleted(InodeRef inode) {
  Shard &shard = shard_of(inode->number);
  MutexLock lock(shard.mutex);
  shard.inodes.erase(inode->number);
  inode.inode_ = nullptr;
  shard.loaded.notify_all();
}

std::vector<InodeNumber> InodeTable::looked_up() const {
  std::vector<InodeNumber> numbers;
  for (const Shard &shard : shards_) {
    MutexLock lock(shard.mutex);
    for (const auto &[number, inode] : shard.inodes)
      if (inode->lookups_ != 0) numbers.push_back(number);
  }
  return numbers;
}

void InodeTable::forget_everything() {
  std::vector<InodeNumber> told;
  for (Shard &shard : shards_) {
    MutexLock lock(shard.mutex);
    std::vector<InodeNumber> looked_up;
    for (auto &[number, inode] : shard.inodes)
      if (inode->lookups_ != 0) looked_up.push_back(number);
    for (InodeNumber number : looked_up) {
      Inode &inode = *shard.inodes.find(number)->second;  // only idle inodes are evicted by settle()
      inode.lookups_ = 0;
      if (const std::optional<InodeNumber> one = settle(shard, inode)) told.push_back(*one);
    }
  }
  for (InodeNumber number : told) retire_(number);
}

void InodeTable::for_each_dirty(const std::function<void(InodeRef)> &visit) {
  for (Shard &shard : shards_) {
    std::vector<InodeRef> dirty;
    {
      MutexLock lock(shard.mutex);
      for (auto &[number, inode] : shard.inodes) {
        if (inode->state_ != Inode::State::ready || !inode->times_dirty.load(std::memory_order_relaxed)) continue;
        unidle(shard, *inode);
        ++inode->references_;
        dirty.push_back(InodeRef(this, inode.get()));
      }
    }
    for (InodeRef &inode : dirty) visit(std::move(inode));
  }
}

InodeTable::Counters InodeTable::counters() const {
  Counters sum{};
  for (const Shard &shard : shards_) {
    MutexLock lock(shard.mutex);
    for (std::size_t role = 0; role < kThreadRoles; ++role) {
      sum[role].evicted += shard.counters[role].evicted;
      sum[role].retired += shard.counters[role].retired;
      sum[role].times_taken += shard.counters[role].times_taken;
      sum[role].deleted += shard.counters[role].deleted;
    }
  }
  return sum;
}

std::size_t InodeTable::size() const {
  std::size_t count = 0;
  for (const Shard &shard : shards_) {
    MutexLock lock(shard.mutex);
    count += shard.inodes.size();
  }
  return count;
}

}  // namespace outboard::vfs

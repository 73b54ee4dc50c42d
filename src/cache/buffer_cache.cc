// The table of metadata buffers, sharded by block number.
//
// A shard's lock guards its table, its idle list and the cache-internal state of its buffers. It is never held during
// device I/O. Pins: a pin count only falls to zero with the shard's lock held, so whoever holds the lock and sees zero
// may destroy the buffer; it rises from zero only with the lock held, too.
#include "cache/buffer_cache.h"

#include "cache/trace.h"

#include "cache/aligned_memory.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <unordered_map>
#include <utility>

namespace outboard::cache {

namespace {
constinit WaitClass kLoaded{"cache: a block is read"};  // owed by the thread that reads it
// Blocks read together by one prefetch request of the device.
constexpr std::size_t kPrefetchBytes = std::size_t{1} << 20;
}  // namespace

struct BufferCache::Impl {
  struct Shard {
    mutable Mutex mutex{Rank::cache_shard};
    CondVar loaded;  // some buffer of the shard has left the state `loading`
    std::unordered_map<std::uint64_t, std::unique_ptr<Buffer>> table GUARDED_BY(mutex);
    // Forgotten buffers that somebody still has pinned.
    std::unordered_map<const Buffer *, std::unique_ptr<Buffer>> leaving GUARDED_BY(mutex);
    std::list<Buffer *> idle GUARDED_BY(mutex);  // unpinned, least recently used first
    Counters counters GUARDED_BY(mutex);
  };

  Impl(device::BlockDevice &backing, std::uint32_t size, std::uint64_t count, const Options &options)
      : device(backing), block_size(size), block_count(count), alignment(backing.properties().alignment),
        shards(std::max(1U, options.shards)),
        idle_limit(std::max<std::size_t>(1, options.max_bytes / size / shards.size())) {}

  Shard &shard_of(std::uint64_t block) {
    // Multiplying spreads both neighbours and the equal strides of group metadata.
    const std::uint64_t mixed = block * 0x9e3779b97f4a7c15ULL;
    return shards[(mixed >> 32) % shards.size()];
  }

  // All of these are called with the shard's lock held.
  Buffer *pin(Shard &shard, Buffer &buffer) REQUIRES(shard.mutex);
  void drop(Shard &shard, std::uint64_t block) REQUIRES(shard.mutex);
  void unpin_last(Shard &shard, Buffer &buffer) REQUIRES(shard.mutex);
  void fail_load(Shard &shard, Buffer &buffer, std::optional<Error> error) REQUIRES(shard.mutex);

  device::BlockDevice &device;
  const std::uint32_t block_size;
  const std::uint64_t block_count;
  const std::uint32_t alignment;
  std::vector<Shard> shards;
  const std::size_t idle_limit;  // buffers a shard
};

// --- buffers and pins ---------------------------------------------------------------------------------------------

Buffer::Buffer(BufferCache &cache, BlockNumber block, std::size_t size)
    : cache_(cache), block_(block), size_(size),
      data_(allocate_aligned(size, cache.device().properties().alignment)) {}

Buffer::~Buffer() { assert(pins_.load() == 0); }

BufferRef Buffer::ref() {
  [[maybe_unused]] const std::uint32_t before = pins_.fetch_add(1, std::memory_order_relaxed);
  assert(before > 0);
  return BufferRef(this);
}

Result<std::span<std::byte>> Buffer::writable(DirtyScope &scope) {
  TRY(scope.join(*this));
  return std::span<std::byte>{data_.get(), size_};
}

BufferRef::BufferRef(const BufferRef &other) : buffer_(other.buffer_) {
  if (buffer_ != nullptr) buffer_->pins_.fetch_add(1, std::memory_order_relaxed);
}

BufferRef::~BufferRef() {
  if (buffer_ == nullptr) return;
  std::uint32_t pins = buffer_->pins_.load(std::memory_order_relaxed);
  while (pins > 1) {
    if (buffer_->pins_.compare_exchange_weak(pins, pins - 1, std::memory_order_release, std::memory_order_relaxed)) return;
  }
  BufferCache::Impl &impl = *buffer_->cache_.impl_;
  BufferCache::Impl::Shard &shard = impl.shard_of(buffer_->block_.value());
  MutexLock lock(shard.mutex);
  if (buffer_->pins_.fetch_sub(1, std::memory_order_acq_rel) == 1) impl.unpin_last(shard, *buffer_);
}

Buffer *BufferCache::Impl::pin(Shard &shard, Buffer &buffer) {
  if (buffer.idle_) {
    shard.idle.erase(buffer.idle_place_);
    buffer.idle_ = false;
  }
  buffer.pins_.fetch_add(1, std::memory_order_relaxed);
  return &buffer;
}

// Takes the block out of the table. Its buffer is destroyed now or with its last pin.
void BufferCache::Impl::drop(Shard &shard, std::uint64_t block) {
  auto found = shard.table.find(block);
  if (found == shard.table.end()) return;
  Buffer &buffer = *found->second;
  if (buffer.idle_) {
    shard.idle.erase(buffer.idle_place_);
    buffer.idle_ = false;
  }
  if (buffer.pins_.load(std::memory_order_acquire) > 0) {
    buffer.forgotten_ = true;
    shard.leaving.emplace(&buffer, std::move(found->second));
  }
  shard.table.erase(found);
}

void BufferCache::Impl::unpin_last(Shard &shard, Buffer &buffer) {
  if (buffer.forgotten_) {
    shard.leaving.erase(&buffer);
    return;
  }
  buffer.idle_place_ = shard.idle.insert(shard.idle.end(), &buffer);
  buffer.idle_ = true;
  while (shard.idle.size() > idle_limit) {
    const std::uint64_t oldest = shard.idle.front()->block_.value();
    trace::evict(oldest);
    drop(shard, oldest);
    ++shard.counters.evictions;
  }
}

// Waiters see `failed` and the error; later readers find nothing and try the device again.
void BufferCache::Impl::fail_load(Shard &shard, Buffer &buffer, std::optional<Error> error) {
  buffer.load_ = Buffer::Load::failed;
  buffer.load_error_ = std::move(error);
  if (!buffer.forgotten_) drop(shard, buffer.block_.value());
  shard.loaded.notify_all();
}

// --- the cache ----------------------------------------------------------------------------------------------------

BufferCache::BufferCache(device::BlockDevice &device, std::uint32_t block_size, std::uint64_t block_count, Options options)
    : impl_(std::make_unique<Impl>(device, block_size, block_count, options)) {}

BufferCache::~BufferCache() = default;

std::uint32_t BufferCache::block_size() const { return impl_->block_size; }
std::uint64_t BufferCache::block_count() const { return impl_->block_count; }
device::BlockDevice &BufferCache::device() const { return impl_->device; }

Result<BufferRef> BufferCache::read(BlockNumber block, const BlockType &type, std::uint32_t seed) {
  if (block.value() >= impl_->block_count) return fail(Error::corrupt("block number: beyond the file system").in_block(block.value()));
  Impl::Shard &shard = impl_->shard_of(block.value());
  BufferRef ref;  // declared before the lock: giving back a pin takes the shard's lock
  MutexLock lock(shard.mutex);
  for (;;) {
    auto found = shard.table.find(block.value());
    if (found == shard.table.end()) break;
    Buffer &buffer = *found->second;
    const bool held = buffer.pins_.load(std::memory_order_acquire) > 0;
    if (buffer.load_ == Buffer::Load::ready && buffer.type_ == &type && buffer.seed_ == seed) {
      ++shard.counters.hits;
      return BufferRef(impl_->pin(shard, buffer));
    }
    if (buffer.load_ == Buffer::Load::ready && !held) {
      // Known bytes in a new role: verified as what they are now said to be.
      lock.unlock();
      return reread(block, type, seed);
    }
    if (buffer.load_ == Buffer::Load::ready) return fail(Error::corrupt("block has two owners").in_block(block.value()));
    // Waits for the thread that reads this block; ends when its device read ends, which the device bounds.
    ref = BufferRef(impl_->pin(shard, buffer));
    while (buffer.load_ == Buffer::Load::loading) shard.loaded.wait(shard.mutex, kLoaded);
    const std::optional<Error> error = buffer.load_ == Buffer::Load::failed ? buffer.load_error_ : std::nullopt;
    lock.unlock();
    ref = BufferRef();
    if (error) return fail(*error);
    lock.lock();
  }

  ++shard.counters.misses;
  auto fresh = std::unique_ptr<Buffer>(new Buffer(*this, block, impl_->block_size));
  Buffer &buffer = *fresh;
  buffer.type_ = &type;
  buffer.seed_ = seed;
  ref = BufferRef(impl_->pin(shard, buffer));
  shard.table.emplace(block.value(), std::move(fresh));
  lock.unlock();

  const Owes loaded(kLoaded);
  const outboard::trace::Stopwatch watch;
  Status status = impl_->device.read(block.value() * impl_->block_size, {buffer.data_.get(), buffer.size_});
  if (status) status = type.verify(block, seed, buffer.bytes());
  trace::read_miss(block, status, watch);

  lock.lock();
  if (!status) {
    impl_->fail_load(shard, buffer, status.error());
    lock.unlock();
    return fail(std::move(status).error());
  }
  buffer.load_ = Buffer::Load::ready;
  shard.loaded.notify_all();
  return ref;
}

// A cached block asked for under another type or seed, which nobody held a moment ago: verified on a copy, so that a
// reader of the old role who comes meanwhile sees nothing half done; then the old buffer is replaced.
Result<BufferRef> BufferCache::reread(BlockNumber block, const BlockType &type, std::uint32_t seed) {
  Impl::Shard &shard = impl_->shard_of(block.value());
  auto fresh = std::unique_ptr<Buffer>(new Buffer(*this, block, impl_->block_size));
  {
    MutexLock lock(shard.mutex);
    auto found = shard.table.find(block.value());
    if (found == shard.table.end() || found->second->load_ != Buffer::Load::ready) {
      lock.unlock();
      return read(block, type, seed);
    }
    if (found->second->pins_.load(std::memory_order_acquire) > 0) {
      return fail(Error::corrupt("block has two owners").in_block(block.value()));
    }
    std::memcpy(fresh->data_.get(), found->second->data_.get(), impl_->block_size);
  }
  // Verified before the table is touched: a failure leaves the old role in place.
  TRY(type.verify(block, seed, fresh->bytes()));
  fresh->type_ = &type;
  fresh->seed_ = seed;
  fresh->load_ = Buffer::Load::ready;
  MutexLock lock(shard.mutex);
  auto found = shard.table.find(block.value());
  if (found != shard.table.end()) {
    const Buffer &now = *found->second;
    const bool same_bytes = now.load_ == Buffer::Load::ready && std::memcmp(now.data_.get(), fresh->data_.get(), impl_->block_size) == 0;
    if (now.pins_.load(std::memory_order_acquire) > 0 || !same_bytes) {
      return fail(Error::corrupt("block has two owners").in_block(block.value()));
    }
    impl_->drop(shard, block.value());
  }
  Buffer &buffer = *fresh;
  BufferRef ref(impl_->pin(shard, buffer));
  shard.table.emplace(block.value(), std::move(fresh));
  ++shard.counters.hits;
  return ref;
}

Result<BufferRef> BufferCache::create(BlockNumber block, const BlockType &type, std::uint32_t seed) {
  if (block.value() >= impl_->block_count) return fail(Error::corrupt("block number: beyond the file system").in_block(block.value()));
  auto fresh = std::unique_ptr<Buffer>(new Buffer(*this, block, impl_->block_size));
  Buffer &buffer = *fresh;
  buffer.type_ = &type;
  buffer.seed_ = seed;
  buffer.load_ = Buffer::Load::ready;
  std::memset(buffer.data_.get(), 0, buffer.size_);
  Impl::Shard &shard = impl_->shard_of(block.value());
  MutexLock lock(shard.mutex);
  impl_->drop(shard, block.value());
  BufferRef ref(impl_->pin(shard, buffer));
  shard.table.emplace(block.value(), std::move(fresh));
  return ref;
}

void BufferCache::prefetch(std::span<const BlockNumber> blocks, const BlockType &type, std::uint32_t seed) {
  // Claim what is not there: readers that come now wait for us instead of reading themselves.
  std::vector<BufferRef> claimed;
  const std::size_t limit = std::max<std::size_t>(1, kPrefetchBytes / impl_->block_size);
  for (BlockNumber block : blocks) {
    if (claimed.size() == limit) break;
    if (block.value() >= impl_->block_count) continue;
    Impl::Shard &shard = impl_->shard_of(block.value());
    MutexLock lock(shard.mutex);
    if (shard.table.contains(block.value())) continue;
    auto fresh = std::unique_ptr<Buffer>(new Buffer(*this, block, impl_->block_size));
    fresh->type_ = &type;
    fresh->seed_ = seed;
    claimed.push_back(BufferRef(impl_->pin(shard, *fresh)));
    shard.table.emplace(block.value(), std::move(fresh));
    ++shard.counters.misses;
  }
  std::ranges::sort(claimed, {}, [](const BufferRef &ref) { return ref->block(); });

  for (std::size_t first = 0; first < claimed.size();) {
    std::size_t end = first + 1;
    while (end < claimed.size() && claimed[end]->block() == claimed[end - 1]->block() + 1) ++end;
    load_run(std::span(claimed).subspan(first, end - first));
    first = end;
  }
}

// Consecutive blocks in one read. A failure is forgotten: read() will meet it again and report it.
void BufferCache::load_run(std::span<BufferRef> run) {
  const std::size_t size = impl_->block_size;
  const std::uint64_t offset = run.front()->block().value() * size;
  Status status;
  if (run.size() == 1) {
    status = impl_->device.read(offset, {run.front()->data_.get(), size});
  } else {
    AlignedArea area(run.size() * size, impl_->alignment);
    status = impl_->device.read(offset, area.span());
    if (status) {
      for (std::size_t i = 0; i < run.size(); ++i) std::memcpy(run[i]->data_.get(), area.span(i * size, size).data(), size);
    }
  }
  for (BufferRef &ref : run) {
    Buffer &buffer = *ref;
    const bool good = status && buffer.type_->verify(buffer.block_, buffer.seed_, buffer.bytes());
    Impl::Shard &shard = impl_->shard_of(buffer.block_.value());
    MutexLock lock(shard.mutex);
    if (!good) {
      impl_->fail_load(shard, buffer, std::nullopt);
      continue;
    }
    buffer.load_ = Buffer::Load::ready;
    shard.loaded.notify_all();
  }
}

void BufferCache::forget(BlockNumber block) {
  Impl::Shard &shard = impl_->shard_of(block.value());
  MutexLock lock(shard.mutex);
  impl_->drop(shard, block.value());
}

BufferCache::Counters BufferCache::counters() const {
  Counters sum;
  for (const Impl::Shard &shard : impl_->shards) {
    MutexLock lock(shard.mutex);
    sum.hits += shard.counters.hits;
    sum.misses += shard.counters.misses;
    sum.evictions += shard.counters.evictions;
    sum.buffers += shard.table.size() + shard.leaving.size();
  }
  return sum;
}

}  // namespace outboard::cache

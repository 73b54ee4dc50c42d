// Metadata blocks by number: read into private memory, verified once, writable only by showing a transaction.
//
// A block is read from the device at most once while it is cached: what was verified is what is used, whatever the
// device would answer later. bytes() never move while a BufferRef lives.
//
// Who may look and change. The cache is thread-safe as a table. The *contents* of a buffer are guarded by whoever owns
// the structure in it (an inode's lock for directory and extent blocks, a group's lock for bitmaps ...); two threads may
// change different bytes of one buffer at the same time (inode tables).
//
// Memory is bounded: clean, unpinned buffers are evicted least recently used; buffers the journal holds are pinned by it.
#pragma once

#include "base/mutex.h"
#include "base/result.h"
#include "base/units.h"
#include "device/block_device.h"

#include <atomic>
#include <cstddef>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace outboard::cache {

class Buffer;
class BufferCache;

// What a block is supposed to be. Instances belong to the file system and outlive the cache's buffers.
// `seed` is what the owner's checksum starts from (an inode's seed for its directory and extent blocks; else 0).
class BlockType {
public:
  virtual ~BlockType() = default;
  virtual const char *name() const = 0;
  // Run once when the block enters the cache under this type: bounds and checksum. Error::corrupt / bad_checksum.
  virtual Status verify(BlockNumber block, std::uint32_t seed, std::span<const std::byte> bytes) const = 0;
  // Stamps the checksum into a *copy* on its way to the log or to its home. Live bytes may carry a stale checksum.
  virtual void seal(BlockNumber block, std::uint32_t seed, std::span<std::byte> bytes) const { (void)block, (void)seed, (void)bytes; }
};

// The permission to change buffers. jbd2::Handle is the only one; cache stays below jbd2 by knowing just this.
class DirtyScope {
public:
  DirtyScope(const DirtyScope &) = delete;
  DirtyScope &operator=(const DirtyScope &) = delete;

protected:
  DirtyScope() = default;
  virtual ~DirtyScope() = default;

private:
  friend class Buffer;
  // The buffer joins the scope's transaction; the state the committing transaction still needs is copied aside first.
  virtual Status join(Buffer &buffer) = 0;
};

// What the journal keeps with a buffer.
class Attachment {
public:
  virtual ~Attachment() = default;
};

// A counted pin. Empty by default.
class BufferRef {
public:
  BufferRef() = default;
  BufferRef(const BufferRef &other);
  BufferRef(BufferRef &&other) noexcept : buffer_(other.buffer_) { other.buffer_ = nullptr; }
  BufferRef &operator=(BufferRef other) noexcept {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  ~BufferRef();
  explicit operator bool() const { return buffer_ != nullptr; }
  Buffer &operator*() const { return *buffer_; }
  Buffer *operator->() const { return buffer_; }
  Buffer *get() const { return buffer_; }

private:
  friend class Buffer;
  friend class BufferCache;
  explicit BufferRef(Buffer *pinned) : buffer_(pinned) {}
  Buffer *buffer_ = nullptr;
};

class Buffer {
public:
  BlockNumber block() const { return block_; }
  const BlockType &type() const { return *type_; }
  std::uint32_t seed() const { return seed_; }
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }
  // One more pin of a buffer that the caller already has pinned. Takes no lock.
  BufferRef ref();

  // Mutable bytes, for the rest of the handle. EROFS when the journal has been aborted.
  Result<std::span<std::byte>> writable(DirtyScope &scope);

  // For the journal only. The lock guards the attachment and orders writers' first touch against commit's copy.
  Mutex &journal_lock() RETURN_CAPABILITY(journal_lock_) { return journal_lock_; }
  std::unique_ptr<Attachment> &attachment() REQUIRES(journal_lock_) { return attachment_; }

private:
  friend class BufferRef;
  friend class BufferCache;
  Buffer(BufferCache &cache, BlockNumber block, std::size_t size);

  BufferCache &cache_;
  const BlockNumber block_;
  const std::size_t size_;
  const BlockType *type_ = nullptr;
  std::uint32_t seed_ = 0;
  std::unique_ptr<std::byte[], void (*)(void *)> data_;  // aligned for direct I/O
  std::atomic<std::uint32_t> pins_{0};
  Mutex journal_lock_{Rank::buffer};
  std::unique_ptr<Attachment> attachment_ GUARDED_BY(journal_lock_);

  // Guarded by the lock of the block's shard.
  enum class Load : std::uint8_t { loading, ready, failed };
  Load load_ = Load::loading;
  bool forgotten_ = false;            // no longer in the table; goes with the last pin
  bool idle_ = false;                 // on the shard's idle list, at idle_place_
  std::list<Buffer *>::iterator idle_place_;
  std::optional<Error> load_error_;   // what the waiters of a failed load are told

public:
  ~Buffer();
};

class BufferCache {
public:
  struct Options {
    std::size_t max_bytes = std::size_t{32} << 20;  // of clean buffers; journaled ones come on top
    unsigned shards = 16;
  };
  // The device must outlive the cache. `block_count`: blocks of the file system; reads beyond are corrupt.
  BufferCache(device::BlockDevice &device, std::uint32_t block_size, std::uint64_t block_count, Options options);
  BufferCache(device::BlockDevice &device, std::uint32_t block_size, std::uint64_t block_count)
      : BufferCache(device, block_size, block_count, Options{}) {}
  ~BufferCache();

  std::uint32_t block_size() const;
  std::uint64_t block_count() const;
  device::BlockDevice &device() const;

  // The block, read and verified if it is not cached. A block cached under another type or seed is verified again when
  // nobody holds it, and corrupt ("block has two owners") when somebody does.
  Result<BufferRef> read(BlockNumber block, const BlockType &type, std::uint32_t seed = 0);
  // A block that has just been allocated: zeros, nothing read. Stale cached contents of the number are dropped.
  Result<BufferRef> create(BlockNumber block, const BlockType &type, std::uint32_t seed = 0);
  // Starts reading blocks that will be asked for (inode tables of a directory ...). Errors are left to read().
  void prefetch(std::span<const BlockNumber> blocks, const BlockType &type, std::uint32_t seed = 0);
  // The block no longer belongs to metadata: its buffer, if any, is dropped when the last pin goes and is never found again.
  void forget(BlockNumber block);

  struct Counters {
    std::uint64_t hits = 0, misses = 0, evictions = 0, buffers = 0;
  };
  Counters counters() const;

private:
  friend class Buffer;
  friend class BufferRef;
  Result<BufferRef> reread(BlockNumber block, const BlockType &type, std::uint32_t seed);
  void load_run(std::span<BufferRef> run);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outboard::cache

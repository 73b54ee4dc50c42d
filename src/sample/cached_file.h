// A file as its users see it: a mapping source, the bytes that are dirty in memory, and the locks. This is what an owner of
// the engine has to add to it, and all of it; the samples and the engine's tests share it.
//
// Thread-safe. Two locks. `lock` (Rank::inode): bytes and size; held by each operation as long as it runs, and by
// write-back only while it asks the source something, so that readers and writers never wait for a device that
// write-back waits for. `io_` (Rank::file_io): one write-back at a time; whatever changes the map in another way
// (truncation, holes, direct writes) excludes write-back with it.
#pragma once

#include "base/mutex.h"
#include "iomap/report.h"
#include "pagecache/file_cache.h"
#include "sample/volume.h"

namespace outboard::sample {

class CachedFile {
public:
  // All of them outlive the file.
  CachedFile(FileSource &source, device::BlockDevice &device, pagecache::FolioMemory &memory, std::uint32_t block_size);

  std::uint64_t size() const { return cache_.size(); }
  std::uint64_t dirty_bytes() const { return cache_.dirty_bytes(); }

  Result<std::size_t> read(std::uint64_t offset, std::span<std::byte> into) EXCLUDES(lock);
  Result<std::size_t> write(std::uint64_t offset, std::span<const std::byte> data) EXCLUDES(lock);
  // Past the page cache, after what is dirty. A write that the source cannot do so (unsupported) goes through the cache,
  // and from there to the device at once. Not durable before flush().
  Result<std::size_t> read_direct(std::uint64_t offset, std::span<std::byte> into) EXCLUDES(lock, io_);
  Result<std::size_t> write_direct(std::uint64_t offset, std::span<const std::byte> data) EXCLUDES(lock, io_);
  // Zeros as far as the file goes; the size stays. punch() makes holes of whole blocks, if the source can.
  Status zero(ByteRange range) EXCLUDES(lock);
  Status punch(ByteRange range) EXCLUDES(lock, io_);
  Status set_size(std::uint64_t size) EXCLUDES(lock, io_);

  // What was written before the call is on the device, and all of it became so in one step if the source can.
  // Bytes that could not be written are lost; the error is kept for the next flush(), too.
  Status write_back() EXCLUDES(lock, io_);
  // The same, durably: fsync. Fails once for each failure of write-back since the last time.
  Status flush() EXCLUDES(lock, io_);
  // Nobody will read the file any more: what is dirty is dropped.
  void discard() EXCLUDES(lock, io_);

  Result<std::uint64_t> seek_data(std::uint64_t offset) EXCLUDES(lock);
  Result<std::uint64_t> seek_hole(std::uint64_t offset) EXCLUDES(lock);
  Result<iomap::Report> report(ByteRange range, std::size_t most) EXCLUDES(lock);

  // For what belongs to the file but not to its bytes.
  SharedMutex lock{Rank::inode};

private:
  class LockedSource;
  Status write_back_locked() REQUIRES(io_) EXCLUDES(lock);
  Result<std::size_t> write_direct_locked(std::uint64_t offset, std::span<const std::byte> data) REQUIRES(io_, lock);
  Status clean_and_lock() REQUIRES(io_) ACQUIRE(lock);

  FileSource &source_;
  device::BlockDevice &device_;
  const std::uint32_t block_size_;
  pagecache::FileCache cache_;
  Mutex io_{Rank::file_io};
  Status unreported_ GUARDED_BY(io_);
};

}  // namespace outboard::sample

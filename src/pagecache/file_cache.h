// The dirty bytes of one file, and its size in memory.
//
// Invariants. A folio is a run of whole file-system blocks, every one of them up to date and dirty; folios do not
// overlap. Bytes of a folio behind size() are zeros. size() is what clients see; what the inode on disk says follows
// when the data is there. The kernel above keeps what is clean, so a folio that has been written back goes.
//
// Locking. Thread-safe as a structure (Rank::folios, nothing inside but memory). The *bytes* belong to the inode's lock:
// whoever changes them (make_writable) holds it exclusively; whoever reads them through pieces() holds it at least
// shared. Write-back reads them with no lock: take() marks the folios, and a writer who meets a marked folio gets a copy
// in place of the blocks it changes, so nobody waits for a device. The other blocks stay marked: they do not become dirty
// again, for nobody has asked for space for that. One write-back at a time (the owner sees to it).
#pragma once

#include "base/mutex.h"
#include "base/units.h"
#include "pagecache/folio_memory.h"

#include <atomic>
#include <map>
#include <memory>
#include <vector>

namespace outboard::pagecache {

struct Folio {
  std::uint64_t offset = 0;  // in the file, on a block boundary
  std::size_t length = 0;    // bytes, whole blocks
  std::shared_ptr<FolioMemory::Buffer> buffer;  // shared by the parts of a folio that was cut
  std::size_t start = 0;                        // of this folio in the buffer; there may be room behind it
  bool in_writeback = false;                    // under FileCache's mutex
  std::uint64_t end() const { return offset + length; }
  std::span<std::byte> bytes() const { return buffer->bytes().subspan(start, length); }
  std::size_t room() const { return buffer.use_count() == 1 ? buffer->bytes().size() - start - length : 0; }
};
using FolioRef = std::shared_ptr<Folio>;

class FileCache {
public:
  // `inode`: for people who trace.
  FileCache(FolioMemory &memory, std::uint32_t block_size, std::uint64_t inode = 0)
      : memory_(memory), block_size_(block_size), inode_(inode) {}
  FileCache(const FileCache &) = delete;
  FileCache &operator=(const FileCache &) = delete;

  std::uint32_t block_size() const { return block_size_; }
  bool empty() const { return dirty_.load(std::memory_order_acquire) == 0; }
  std::uint64_t dirty_bytes() const { return dirty_.load(std::memory_order_relaxed); }

  // Set with the inode held exclusively.
  std::uint64_t size() const { return size_.load(std::memory_order_acquire); }
  void set_size(std::uint64_t size) { size_.store(size, std::memory_order_release); }

  // --- for readers ---
  struct Piece {
    ByteRange range;
    std::span<const std::byte> bytes;  // of the range; empty: not here
    FolioRef hold;
  };
  // The range cut into what is here and what is not, in order.
  std::vector<Piece> pieces(ByteRange range) const EXCLUDES(mutex_);
  // Does the range touch a folio?
  bool touches(ByteRange range) const EXCLUDES(mutex_);
  // The first dirty stretch at or after `offset`, {offset, 0} when there is none: data, for SEEK_DATA.
  ByteRange next_dirty(std::uint64_t offset) const EXCLUDES(mutex_);

  // --- for writers: the inode is held exclusively ---
  struct Writable {
    ByteRange range;
    std::span<std::byte> bytes;
    bool fresh = false;  // was not here: contents undefined, and the whole of it must be filled (or dropped again)
  };
  // Memory for whole blocks. On an error nothing was added.
  Result<std::vector<Writable>> make_writable(ByteRange blocks) EXCLUDES(mutex_);
  // What the range holds is forgotten, unwritten as it is. Whole blocks, but the end may be ~0. No write-back may be
  // under way in it.
  void drop(ByteRange blocks) EXCLUDES(mutex_);
  // Zeros over whatever part of the range is here.
  Status zero(ByteRange range) EXCLUDES(mutex_);

  // --- for write-back ---
  struct Batch {
    ByteRange range;  // ends at size() when that lies inside the last block
    std::vector<FolioRef> folios;  // contiguous
    bool empty() const { return folios.empty(); }
    // Where the next take() goes on: behind the last folio, also where `range` ends inside it.
    std::uint64_t next() const { return folios.empty() ? range.end() : folios.back()->end(); }
  };
  // The next contiguous run of folios that ends behind `from`, about `most` bytes at most, marked as in write-back. The
  // caller holds the inode's lock (shared is enough: no writer is half-way).
  Batch take(std::uint64_t from, std::uint64_t most) EXCLUDES(mutex_);
  // The batch has been dealt with: blocks that nobody has written to since are gone.
  void finish(Batch &batch) EXCLUDES(mutex_);

private:
  using Folios = std::map<std::uint64_t, FolioRef>;  // by offset
  Folios::const_iterator first_touching(std::uint64_t offset) const REQUIRES(mutex_);
  Folios::iterator first_touching(std::uint64_t offset) REQUIRES(mutex_);
  // A copy in place of the part in [start, end) of a folio that write-back is reading. Returns it.
  Result<Folios::iterator> unshare(Folios::iterator folio, std::uint64_t start, std::uint64_t end) REQUIRES(mutex_);
  Status append_room(std::uint64_t offset, std::uint64_t limit, std::size_t wanted, std::vector<Writable> &out) REQUIRES(mutex_);
  void drop_locked(ByteRange blocks) REQUIRES(mutex_);

  FolioMemory &memory_;
  const std::uint32_t block_size_;
  const std::uint64_t inode_;
  mutable Mutex mutex_{Rank::folios};
  Folios folios_ GUARDED_BY(mutex_);
  std::atomic<std::uint64_t> dirty_{0};  // bytes; changed under the mutex
  std::atomic<std::uint64_t> size_{0};
};

}  // namespace outboard::pagecache

// Where a file's bytes are: the types that pass between a file system and the I/O engine, and nothing else.
//
// The engine asks *where* and moves bytes; the file system answers and never touches data (but for what it takes upon
// itself: data in the inode, and journaled data, see kPrepared). A MappingSource speaks for one inode for the length of
// one operation. All quantities are bytes; mappings begin and end on block boundaries of the file system, and begin()
// answers with the largest mapping it knows around `range.offset` (clipped to nothing but its own extent).
//
// One round:  begin() -> the engine moves bytes -> ioend() when bytes of a write are on the device -> end().
#pragma once

#include "base/result.h"
#include "base/units.h"

#include <cstdint>
#include <span>

namespace outboard::iomap {

enum class MappingType : std::uint8_t {
  hole,         // no blocks: reads as zeros
  delalloc,     // no blocks yet, but space is promised; the bytes are in the page cache
  mapped,       // blocks with the file's bytes
  unwritten,    // blocks whose contents must read as zeros until ioend() says they were written
  inline_data,  // the bytes live in the inode: `inline_bytes`
};

enum MappingFlags : std::uint32_t {
  kFresh = 1u << 0,            // write: blocks handed out by begin() and recorded nowhere yet: contents are garbage, whole
                               // blocks must be written (zeros around the data); ioend() records what was written, end() takes back the rest
  kShared = 1u << 1,           // delay, zero: `address` is where the bytes are, but a write will be sent elsewhere
                               // (out-of-place file systems): nothing may be changed in place
  kNoDataIntegrity = 1u << 2,  // a whole-file-system sync may not wait for this inode's data
  kPrepared = 1u << 3,         // bytes pass through the file system's own memory, a folio at a time: prepare() and
                               // commit() for writes, fetch() for reads (journaled data)
};

struct Mapping {
  MappingType type = MappingType::hole;
  std::uint32_t flags = 0;
  std::uint64_t offset = 0;   // in the file
  std::uint64_t length = 0;   // bytes, > 0
  std::uint64_t address = 0;  // device bytes of `offset`; meaningless for hole, delalloc, inline_data
  std::uint64_t cookie = 0;   // the inode's mapping sequence when this was true
  std::span<std::byte> inline_bytes;  // inline_data: memory of `offset`, valid until end(); writes change it in place
  std::uint64_t end() const { return offset + length; }
};

enum class Operation : std::uint8_t {
  read,    // nothing changes
  write,   // the bytes go to the device now: blocks are provided for all of the answer
  delay,   // the bytes go to the page cache now and to the device later (a `write` then): holes get a promise of
           // space and are answered as delalloc; blocks that are there are answered as they are
  zero,    // as delay, but holes and unwritten mappings are answered as they are, nothing is promised
  report,  // nothing changes; delalloc and unwritten are told apart from holes (seek, fiemap)
};

class MappingSource {
public:
  virtual ~MappingSource() = default;
  // Whose mappings these are; for people who trace.
  virtual std::uint64_t inode_number() const { return 0; }
  // The mapping that covers range.offset. For write and delay it may be shorter than the range; the engine comes again.
  // ENOSPC when a write or a promise cannot get even one block.
  virtual Result<Mapping> begin(ByteRange range, Operation operation) = 0;
  // `written`, inside `mapping` of a begin(write), is on the device (not necessarily flushed): fresh and unwritten blocks
  // become the file's, blocks written elsewhere replace the old ones, and the file grows if the range passed its end.
  // The source may put off recording what reads see already, at most until its owner settles it (fsync, timers).
  virtual Status ioend(ByteRange written, const Mapping &mapping) {
    static_cast<void>(written), static_cast<void>(mapping);
    return {};
  }
  // Ends the round that begin() opened for `range`: `moved` bytes from its start were moved and, for a write, recorded by
  // ioend(). What was provided for the rest (fresh blocks, promises) is taken back.
  virtual Status end(ByteRange range, std::uint64_t moved, Operation operation, const Mapping &mapping) = 0;

  // kPrepared only. Memory that holds `block`, which is one block of the file inside `mapping`, for the engine to change:
  // loaded (or zeros), and kept until commit(), which makes the change part of the file system's own writing. Every
  // prepare() that succeeded gets one commit(), also after an error.
  virtual Result<std::span<std::byte>> prepare(ByteRange block, const Mapping &mapping) {
    static_cast<void>(block), static_cast<void>(mapping);
    return fail(Error::unsupported("no folios of its own"));
  }
  virtual Status commit(ByteRange block, const Mapping &mapping) {
    static_cast<void>(block), static_cast<void>(mapping);
    return {};
  }
  // kPrepared only: fills `into` from `offset`, inside one mapping.
  virtual Status fetch(std::uint64_t offset, std::span<std::byte> into, const Mapping &mapping) {
    static_cast<void>(offset), static_cast<void>(into), static_cast<void>(mapping);
    return fail(Error::unsupported("no folios of its own"));
  }
  // Is the mapping still true? Asked by whoever let go of the inode's lock since begin().
  virtual bool is_current(const Mapping &mapping) const {
    static_cast<void>(mapping);
    return true;
  }
};

}  // namespace outboard::iomap

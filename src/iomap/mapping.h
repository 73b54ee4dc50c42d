// Where a file's bytes are: the types that pass between a file system and the I/O engine, and nothing else.
//
// The engine asks *where* and moves bytes; the file system answers and never touches data. A MappingSource speaks for one
// inode for the length of one operation. All quantities are bytes; mappings begin and end on block boundaries of the
// file system, and begin() answers with the largest mapping it knows around `range.offset` (clipped to nothing but its own extent).
#pragma once

#include "base/result.h"
#include "base/units.h"

#include <cstdint>

namespace outboard::iomap {

enum class MappingType : std::uint8_t {
  hole,         // no blocks: reads as zeros
  delalloc,     // no blocks yet, but space is promised; the bytes are in memory
  mapped,       // blocks with the file's bytes
  unwritten,    // blocks whose contents must read as zeros until end()/ioend() says they were written
  inline_data,  // the bytes live in the inode
};

enum MappingFlags : std::uint32_t {
  kFresh = 1u << 0,            // write: blocks handed out by begin() and recorded nowhere yet: contents are garbage, whole
                               // blocks must be written (zeros around the data); end() records what was written and takes back the rest
  kShared = 1u << 1,           // overwriting needs new blocks (out-of-place file systems)
  kNoDataIntegrity = 1u << 2,  // a whole-file-system sync may not wait for this inode's data
};

struct Mapping {
  MappingType type = MappingType::hole;
  std::uint32_t flags = 0;
  std::uint64_t offset = 0;   // in the file
  std::uint64_t length = 0;   // bytes, > 0
  std::uint64_t address = 0;  // device bytes of `offset`; meaningless for hole, delalloc, inline_data
  std::uint64_t cookie = 0;   // the inode's mapping sequence when this was true
  std::uint64_t end() const { return offset + length; }
};

enum class Operation : std::uint8_t {
  read,    // nothing changes
  write,   // blocks are provided for all of the answer
  zero,    // as write, but holes and unwritten mappings may be answered as they are
  report,  // nothing changes; delalloc and unwritten are told apart from holes (seek, fiemap)
};

class MappingSource {
public:
  virtual ~MappingSource() = default;
  // The mapping that covers range.offset. For writes it may be shorter than the range; the engine comes again.
  // ENOSPC when a write cannot get even one block.
  virtual Result<Mapping> begin(ByteRange range, Operation operation) = 0;
  // After `written` bytes from range.offset were moved under `mapping` (0: none; the operation failed). Data is on the device
  // (not necessarily flushed). Fresh and unwritten blocks that were written become the file's; the file grows if the range passed its end.
  virtual Status end(ByteRange range, std::uint64_t written, Operation operation, const Mapping &mapping) = 0;
};

}  // namespace outboard::iomap

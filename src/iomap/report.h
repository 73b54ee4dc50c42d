// The map of a file for people and for ioctls: FIEMAP's extents and FIBMAP's single block.
#pragma once

#include "iomap/mapping.h"

#include <vector>

namespace outboard::iomap {

struct ReportedExtent {
  Mapping mapping;    // never a hole; the whole extent, also where it begins before or ends behind the range asked for
  bool last = false;  // nothing but hole follows in this file, also behind its size
};

struct Report {
  std::vector<ReportedExtent> extents;
  bool complete = true;  // false: `max_extents` were found and more lie in the range
};

// Extents that touch `range`, in order, whole however the source cuts its answers (mappings that continue each other in
// the file and on the device are one), at most `max_extents` of them (which bounds the memory).
Result<Report> report(MappingSource &source, ByteRange range, std::size_t max_extents);

// The device block (in units of block_size) that holds a block of the file; 0 when it has none that holds its bytes.
Result<std::uint64_t> bmap(MappingSource &source, std::uint32_t block_size, std::uint64_t file_block);

}  // namespace outboard::iomap

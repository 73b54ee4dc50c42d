// SEEK_DATA and SEEK_HOLE from the map alone.
#pragma once

#include "iomap/mapping.h"

namespace outboard::iomap {

// Unwritten blocks count as a hole: they read as zeros, and whoever holds dirty data over them has written it back
// first. ENXIO at or beyond the end of the file, and for data when there is none left.
Result<std::uint64_t> seek_data(MappingSource &source, std::uint64_t offset, std::uint64_t file_size);
// The end of the file is a hole, too.
Result<std::uint64_t> seek_hole(MappingSource &source, std::uint64_t offset, std::uint64_t file_size);

}  // namespace outboard::iomap

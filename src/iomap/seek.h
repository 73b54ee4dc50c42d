// SEEK_DATA and SEEK_HOLE: from the map, and from what is dirty over its holes.
#pragma once

#include "iomap/mapping.h"
#include "pagecache/file_cache.h"

namespace outboard::iomap {

// Unwritten blocks read as zeros and count as a hole, except where `dirty` (the file's page cache, if it has one) holds
// bytes over them. ENXIO at or beyond the end of the file, and for data when there is none left. The inode is held at
// least shared.
Result<std::uint64_t> seek_data(MappingSource &source, std::uint64_t offset, std::uint64_t file_size,
                                const pagecache::FileCache *dirty = nullptr);
// The end of the file is a hole, too.
Result<std::uint64_t> seek_hole(MappingSource &source, std::uint64_t offset, std::uint64_t file_size,
                                const pagecache::FileCache *dirty = nullptr);

}  // namespace outboard::iomap

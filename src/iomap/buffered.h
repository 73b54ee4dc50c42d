// Reads and writes through the page cache: dirty bytes in folios, everything else on the device.
//
// For whoever holds the inode's lock: exclusively to write and zero, at least shared to read. Nothing here waits for
// write-back. `cache.size()` is the size of the file and grows with what is written.
#pragma once

#include "device/block_device.h"
#include "iomap/mapping.h"
#include "pagecache/file_cache.h"

#include <span>

namespace outboard::iomap::buffered {

// As direct::read, but bytes that are dirty in memory are seen.
Result<std::size_t> read(MappingSource &source, const pagecache::FileCache &cache, device::BlockDevice &device,
                         std::uint64_t offset, std::span<std::byte> data);

// Copies `data` into folios under `delay` mappings (or into the file system's own memory where the mapping says so). When
// it returns, readers see the bytes; they are on no device yet. Beyond the end of the file the gap in the old last block
// becomes zeros in memory, dirty, so that it reaches the disk before the size does. Short when space ran out half-way.
Result<std::size_t> write(MappingSource &source, pagecache::FileCache &cache, device::BlockDevice &device,
                          std::uint64_t offset, std::span<const std::byte> data);

// The range reads as zeros afterwards, in memory; holes and unwritten blocks stay as they are. The size stays.
Status zero(MappingSource &source, pagecache::FileCache &cache, device::BlockDevice &device, ByteRange range);

}  // namespace outboard::iomap::buffered

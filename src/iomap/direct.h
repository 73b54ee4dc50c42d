// Reads and writes past any cache: between the caller's memory and the device, nothing copied on the way.
#pragma once

#include "device/block_device.h"
#include "iomap/mapping.h"

#include <span>

namespace outboard::iomap::direct {

// Fills `data` with the file's bytes from `offset`, up to `file_size`. Holes and unwritten blocks read as zeros.
// Returns the bytes read: less than asked at the end of the file or when an error came after some bytes. Bytes that are
// in memory (delalloc) or in the inode are for whoever keeps them: unsupported here.
Result<std::size_t> read(MappingSource &source, device::BlockDevice &device, std::uint64_t offset,
                         std::span<std::byte> data, std::uint64_t file_size);

// Writes `data` at `offset`; it is on the device (not flushed) and recorded when this returns. Blocks that are fresh or
// unwritten are written whole, zeros around the data. When the write begins beyond `file_size` the stale rest of the
// old last block is zeroed first (zero_tail). Returns the bytes written: less than asked when an error came after some.
Result<std::size_t> write(MappingSource &source, device::BlockDevice &device, std::uint32_t block_size,
                          std::uint64_t offset, std::span<const std::byte> data, std::uint64_t file_size);

}  // namespace outboard::iomap::direct

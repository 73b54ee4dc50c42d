// Making a range of a file read as zeros, without giving blocks to what has none.
#pragma once

#include "device/block_device.h"
#include "iomap/mapping.h"

namespace outboard::iomap {

// Holes and unwritten blocks read as zeros already and stay as they are; mapped bytes are overwritten on the device.
// Never changes the file's size. Returns the bytes done, as iterate() does.
Result<std::uint64_t> zero(MappingSource &source, device::BlockDevice &device, ByteRange range);

// To be called before a file grows past `file_size`: whatever stands in the old last block behind the end (another
// driver may have left anything there) must not become part of the file. Zeroes from `file_size` to the end of that
// block, at most to `up_to` (where the growing write begins; ~0 for all of it). On the device before the new size is
// recorded, that is enough: a crash in between leaves the old size, and the bytes behind it were nobody's.
Status zero_tail(MappingSource &source, device::BlockDevice &device, std::uint32_t block_size, std::uint64_t file_size,
                 std::uint64_t up_to = ~std::uint64_t{0});

}  // namespace outboard::iomap

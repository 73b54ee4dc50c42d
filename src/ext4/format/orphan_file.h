// Blocks of the orphan file: an array of inode numbers (0: free slot) and an 8-byte tail.
// Documentation/filesystems/ext4/orphan.rst. Checksum (metadata_csum): crc32c(orphan file inode's seed, block number
// le64 of the device, the array).
#pragma once

#include "base/endian.h"
#include "base/result.h"
#include "base/units.h"

#include <cstdint>
#include <span>

namespace outboard::ext4::format {

inline constexpr std::uint32_t kOrphanBlockMagic = 0x0b10ca04;

struct RawOrphanTail {
  le32 ob_magic;
  le32 ob_checksum;
};
LAYOUT_SIZE(RawOrphanTail, 8);
LAYOUT_FIELD(RawOrphanTail, ob_magic, 0x0);
LAYOUT_FIELD(RawOrphanTail, ob_checksum, 0x4);

// Numbers in a block of this many bytes.
constexpr std::uint32_t orphan_slots(std::size_t block_size) {
  return static_cast<std::uint32_t>((block_size - sizeof(RawOrphanTail)) / sizeof(le32));
}
// As stored: not checked against the number of inodes. slot < orphan_slots().
InodeNumber orphan_slot(std::span<const std::byte> block, std::uint32_t slot);
void set_orphan_slot(std::span<std::byte> block, std::uint32_t slot, InodeNumber inode);

// All free.
void init_orphan_block(std::span<std::byte> block);
// The magic number; the checksum when `has_checksum` (the volume's metadata_csum). `seed`: the orphan file inode's.
Status verify_orphan_block(std::span<const std::byte> block, bool has_checksum, BlockNumber number, std::uint32_t seed);
// Stamps the checksum.
void seal_orphan_block(std::span<std::byte> block, BlockNumber number, std::uint32_t seed);

}  // namespace outboard::ext4::format

// The checksums of ext4 and jbd2, all as *continuations*: pass the running value, get the next. No final inversion,
// as the formats store them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace outboard {

// CRC32C (Castagnoli, reflected): metadata_csum, jbd2 v2/v3. Start from ~0u or a file system's seed.
std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> data);
inline std::uint32_t crc32c(std::uint32_t crc, const void *data, std::size_t size) {
  return crc32c(crc, {static_cast<const std::byte *>(data), size});
}
// A value as it stands on disk (le32): the way inode number and generation enter a seed.
std::uint32_t crc32c_le32(std::uint32_t crc, std::uint32_t value);

// CRC32 big-endian (IEEE 802.3 polynomial, not reflected): jbd2 checksum v1 over a transaction. Start from ~0u.
std::uint32_t crc32_be(std::uint32_t crc, std::span<const std::byte> data);

// CRC16 (ANSI, reflected, polynomial 0x8005): group descriptors with uninit_bg. Start from ~0.
std::uint16_t crc16(std::uint16_t crc, std::span<const std::byte> data);

}  // namespace outboard

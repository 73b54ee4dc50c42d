#include "base/checksum.h"

#include "base/endian.h"

#include <array>
#include <isa-l/crc.h>

namespace outboard {

std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> data) {
  // The library takes a mutable pointer but only reads.
  auto *bytes = const_cast<unsigned char *>(reinterpret_cast<const unsigned char *>(data.data()));
  return crc32_iscsi(bytes, static_cast<int>(data.size()), crc);
}

std::uint32_t crc32c_le32(std::uint32_t crc, std::uint32_t value) {
  le32 disk(value);
  return crc32c(crc, &disk, sizeof disk);
}

std::uint32_t crc32_be(std::uint32_t crc, std::span<const std::byte> data) {
  // The library inverts on entry and exit; the formats do neither.
  auto *bytes = const_cast<unsigned char *>(reinterpret_cast<const unsigned char *>(data.data()));
  return ~crc32_ieee(~crc, bytes, data.size());
}

namespace {
constexpr std::array<std::uint16_t, 256> crc16_table() {
  std::array<std::uint16_t, 256> table{};
  for (unsigned i = 0; i < 256; ++i) {
    unsigned crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xA001u : crc >> 1;
    table[i] = static_cast<std::uint16_t>(crc);
  }
  return table;
}
constexpr auto kCrc16Table = crc16_table();
}  // namespace

std::uint16_t crc16(std::uint16_t crc, std::span<const std::byte> data) {
  for (std::byte b : data)
    crc = static_cast<std::uint16_t>((crc >> 8) ^ kCrc16Table[(crc ^ std::to_integer<unsigned>(b)) & 0xff]);
  return crc;
}

}  // namespace outboard

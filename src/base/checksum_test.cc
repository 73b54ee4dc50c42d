#include "base/checksum.h"

#include <gtest/gtest.h>
#include <string_view>

namespace outboard {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte *>(text.data()), text.size()};
}

// Check values of the CRC catalogues for "123456789", with the final inversion applied where the catalogue has one.
TEST(Checksum, MatchesTheCatalogues) {
  EXPECT_EQ(crc32c(~0u, bytes("123456789")), ~0xE3069283u);
  EXPECT_EQ(crc32_be(~0u, bytes("123456789")), ~0xFC891918u);  // CRC-32/BZIP2
  EXPECT_EQ(crc16(0, bytes("123456789")), 0xBB3Du);             // CRC-16/ARC
  EXPECT_EQ(crc16(0xffff, bytes("123456789")), 0x4B37u);        // CRC-16/MODBUS
}

TEST(Checksum, ContinuesAcrossPieces) {
  EXPECT_EQ(crc32c(crc32c(~0u, bytes("1234")), bytes("56789")), crc32c(~0u, bytes("123456789")));
  EXPECT_EQ(crc32_be(crc32_be(~0u, bytes("1234")), bytes("56789")), crc32_be(~0u, bytes("123456789")));
}

}  // namespace
}  // namespace outboard

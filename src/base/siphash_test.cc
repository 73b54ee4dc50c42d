#include "base/siphash.h"

#include <gtest/gtest.h>
#include <vector>

namespace outboard {
namespace {

// The key 00..0f and inputs 00, 00 01, ...: vectors that the authors publish with their paper.
TEST(SipHash, MatchesThePublishedVectors) {
  const SipKey key{0x0706050403020100, 0x0f0e0d0c0b0a0908};
  std::vector<std::byte> input;
  const auto of_length = [&](std::size_t length) {
    input.resize(length);
    for (std::size_t i = 0; i < length; ++i) input[i] = static_cast<std::byte>(i);
    return siphash(key, input);
  };
  EXPECT_EQ(of_length(0), 0x726fdb47dd0e0e31u);
  EXPECT_EQ(of_length(1), 0x74f839c593dc67fdu);
  EXPECT_EQ(of_length(8), 0x93f5f5799a932462u);
  EXPECT_EQ(of_length(15), 0xa129ca6149be45e5u);
}

TEST(SipHash, RandomKeysDiffer) {
  const SipKey one = SipKey::random(), other = SipKey::random();
  EXPECT_NE(siphash(one, "name"), siphash(other, "name"));
  EXPECT_NE(siphash(one, "name"), siphash(one, "nome"));
}

}  // namespace
}  // namespace outboard

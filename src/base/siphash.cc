#include "base/siphash.h"

#include "base/endian.h"

#include <bit>
#include <cstring>
#include <random>

namespace outboard {

namespace {

struct State {
  std::uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void take(std::uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
};

}  // namespace

SipKey SipKey::random() {
  std::random_device source;
  const auto word = [&source] { return (std::uint64_t{source()} << 32) | source(); };
  return {word(), word()};
}

std::uint64_t siphash(const SipKey &key, std::span<const std::byte> data) {
  // The constants spell "somepseudorandomlygeneratedbytes".
  State state{key.first ^ 0x736f6d6570736575, key.second ^ 0x646f72616e646f6d, key.first ^ 0x6c7967656e657261,
              key.second ^ 0x7465646279746573};
  const std::uint64_t last_byte = std::uint64_t{data.size() & 0xff} << 56;
  for (; data.size() >= 8; data = data.subspan(8)) {
    le64 word;
    std::memcpy(&word, data.data(), sizeof word);
    state.take(word.get());
  }
  le64 tail{};
  if (!data.empty()) std::memcpy(&tail, data.data(), data.size());
  state.take(tail.get() | last_byte);
  state.v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) state.round();
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

}  // namespace outboard

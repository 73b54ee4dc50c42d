#include "ext4/format/dirhash.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

namespace outboard::ext4::format {
namespace {

using Words4 = std::array<std::uint32_t, 4>;

// MD4's initial state: what a volume without a seed of its own starts from.
constexpr Words4 kDefaultSeed{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};

// A char's value as the hash sees it.
std::uint32_t char_value(char c, bool is_unsigned) {
  if (is_unsigned) return static_cast<unsigned char>(c);
  return static_cast<std::uint32_t>(std::int32_t{static_cast<signed char>(c)});
}

// The next N words of a name, big-endian, padded with its length (of what is left of the name) in every byte.
// A word that is cut short keeps the padding above the chars it has. Chars are added, so that signed ones borrow from
// their neighbours.
template <std::size_t N> std::array<std::uint32_t, N> take_words(std::string_view rest, bool is_unsigned) {
  auto pad = static_cast<std::uint32_t>(rest.size());
  pad |= pad << 8;
  pad |= pad << 16;
  std::array<std::uint32_t, N> words;
  words.fill(pad);
  const std::size_t length = std::min(rest.size(), N * 4);
  for (std::size_t i = 0; i < length; ++i) {
    std::uint32_t &word = words[i / 4];
    word = char_value(rest[i], is_unsigned) + (word << 8);
  }
  return words;
}

// RFC 1320's compression with each round cut to eight of its sixteen steps.
void half_md4_compress(Words4 &state, const std::array<std::uint32_t, 8> &in) {
  constexpr std::uint32_t kRound2 = 0x5a827999, kRound3 = 0x6ed9eba1;  // square roots of 2 and 3
  constexpr std::array<std::array<int, 4>, 3> kShifts{{{3, 7, 11, 19}, {3, 5, 9, 13}, {3, 9, 11, 15}}};
  constexpr std::array<std::array<std::uint8_t, 8>, 3> kOrder{
      {{0, 1, 2, 3, 4, 5, 6, 7}, {1, 3, 5, 7, 0, 2, 4, 6}, {3, 7, 2, 6, 1, 5, 0, 4}}};
  auto [a, b, c, d] = state;
  for (std::size_t round = 0; round < 3; ++round)
    for (std::size_t step = 0; step < 8; ++step) {
      std::uint32_t mixed = 0;
      if (round == 0) mixed = (b & c) | (~b & d);
      else if (round == 1) mixed = ((b & c) | (b & d) | (c & d)) + kRound2;
      else mixed = (b ^ c ^ d) + kRound3;
      const std::uint32_t turned = std::rotl(a + mixed + in[kOrder[round][step]], kShifts[round][step % 4]);
      // The registers move on by one place.
      a = std::exchange(d, std::exchange(c, std::exchange(b, turned)));
    }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
}

// The Tiny Encryption Algorithm, 16 cycles; the name is the key.
void tea_mix(Words4 &state, const Words4 &key) {
  constexpr std::uint32_t kDelta = 0x9e3779b9;
  std::uint32_t y = state[0], z = state[1], sum = 0;
  for (int cycle = 0; cycle < 16; ++cycle) {
    sum += kDelta;
    y += ((z << 4) + key[0]) ^ (z + sum) ^ ((z >> 5) + key[1]);
    z += ((y << 4) + key[2]) ^ (y + sum) ^ ((y >> 5) + key[3]);
  }
  state[0] += y;
  state[1] += z;
}

std::uint32_t legacy_hash(std::string_view name, bool is_unsigned) {
  std::uint32_t hash = 0x12a3fe2d, before = 0x37abe8f9;
  for (char c : name) {
    std::uint32_t next = before + (hash ^ (char_value(c, is_unsigned) * 7152373u));
    if ((next & 0x80000000) != 0) next -= 0x7fffffff;
    before = hash;
    hash = next;
  }
  return hash << 1;
}

Hash half_md4_hash(Words4 state, std::string_view name, bool is_unsigned) {
  for (; !name.empty(); name.remove_prefix(std::min<std::size_t>(name.size(), 32)))
    half_md4_compress(state, take_words<8>(name, is_unsigned));
  return {state[1], state[2]};
}

Hash tea_hash(Words4 state, std::string_view name, bool is_unsigned) {
  for (; !name.empty(); name.remove_prefix(std::min<std::size_t>(name.size(), 16)))
    tea_mix(state, take_words<4>(name, is_unsigned));
  return {state[0], state[1]};
}

}  // namespace

Result<NameHash> NameHash::of(const Superblock &sb, std::uint8_t stored_version) {
  if (stored_version == static_cast<std::uint8_t>(HashVersion::siphash))
    return fail(Error::unsupported("directory hash: siphash"));
  if (stored_version > static_cast<std::uint8_t>(HashVersion::tea))
    return fail(Error::corrupt("directory hash: version"));
  const auto version = static_cast<std::uint8_t>(stored_version + (sb.unsigned_hash ? 3 : 0));
  return NameHash(static_cast<HashVersion>(version), sb.hash_seed);
}

NameHash::NameHash(HashVersion version, const std::array<std::uint32_t, 4> &seed) : version_(version), seed_(seed) {
  assert(version != HashVersion::siphash);
  if (seed == Words4{}) seed_ = kDefaultSeed;
}

std::uint8_t NameHash::stored_version() const { return static_cast<std::uint8_t>(std::to_underlying(version_) % 3); }

Hash NameHash::operator()(std::string_view name) const {
  const bool is_unsigned = version_ >= HashVersion::legacy_unsigned;
  Hash hash;
  switch (static_cast<HashVersion>(stored_version())) {
  case HashVersion::half_md4: hash = half_md4_hash(seed_, name, is_unsigned); break;
  case HashVersion::tea: hash = tea_hash(seed_, name, is_unsigned); break;
  default: hash = {legacy_hash(name, is_unsigned), 0}; break;
  }
  hash.major &= ~std::uint32_t{1};
  if (hash.major == kHashEnd) hash.major = kHashEnd - 2;
  return hash;
}

}  // namespace outboard::ext4::format

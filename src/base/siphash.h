// SipHash-2-4 (Aumasson, Bernstein 2012): a keyed hash of short inputs. Who does not know the key cannot choose inputs
// that collide.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace outboard {

struct SipKey {
  std::uint64_t first = 0, second = 0;
  // Unpredictable, from the system.
  static SipKey random();
};

std::uint64_t siphash(const SipKey &key, std::span<const std::byte> data);
inline std::uint64_t siphash(const SipKey &key, std::string_view text) {
  return siphash(key, std::as_bytes(std::span(text)));
}

}  // namespace outboard

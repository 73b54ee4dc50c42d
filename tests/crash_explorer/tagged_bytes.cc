#include "crash_explorer/tagged_bytes.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace outboard::crash_explorer {

namespace {

constexpr std::size_t kWord = 8;
constexpr std::uint64_t kMagic = 0xb7c5;

// offset / 8 (20 bits), operation (16), file (12), magic (16), from the low end.
std::uint64_t word_of(unsigned file, std::uint64_t operation, std::uint64_t offset) {
  return (offset / kWord & 0xfffff) | (operation & 0xffff) << 20 | std::uint64_t{file & 0xfff} << 36 | kMagic << 48;
}

}  // namespace

std::string tagged(unsigned file, std::uint64_t operation, std::uint64_t offset, std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t at = 0; at < length;) {
    const std::uint64_t word = word_of(file, operation, offset + at);
    char text[kWord];
    std::memcpy(text, &word, kWord);
    const std::size_t skip = (offset + at) % kWord;
    const std::size_t count = std::min(kWord - skip, length - at);
    std::memcpy(bytes.data() + at, text + skip, count);
    at += count;
  }
  return bytes;
}

std::string origin(std::span<const std::byte> bytes, std::uint64_t offset) {
  const std::size_t skip = (kWord - offset % kWord) % kWord;
  if (bytes.size() < skip + kWord) return "less than a word";
  std::uint64_t word = 0;
  std::memcpy(&word, bytes.data() + skip, kWord);
  if (word == 0) return "zeros";
  if (word >> 48 != kMagic) return fmt::format("{:#018x}, which no file holds", word);
  const unsigned file = word >> 36 & 0xfff;
  const std::uint64_t place = (word & 0xfffff) * kWord;
  if (file == kStale) return fmt::format("bytes that were on the disk before (there {:#x})", place);
  return fmt::format("file {}, operation {}, offset {:#x}", file, word >> 20 & 0xffff, place);
}

bool holds_tagged(std::span<const std::byte> bytes) {
  for (std::size_t at = 0; at + kWord <= bytes.size(); at += kWord) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, kWord);
    if (word >> 48 == kMagic) return true;
  }
  return false;
}

}  // namespace outboard::crash_explorer

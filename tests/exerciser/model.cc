#include "exerciser/model.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fmt/format.h>

namespace outboard::exerciser {

namespace {
using Kind = Operation::Kind;

// 28 bits as four bytes whose top bit is set.
std::uint32_t spread(std::uint64_t value) {
  const std::uint64_t v = value & 0xfffffff;
  return static_cast<std::uint32_t>((v & 0x7f) | (v & 0x3f80) << 1 | (v & 0x1fc000) << 2 | (v & 0xfe00000) << 3) |
         0x80808080u;
}
std::uint64_t gather(std::uint32_t bytes) {
  return (bytes & 0x7fu) | (bytes & 0x7f00u) >> 1 | (bytes & 0x7f0000u) >> 2 | (bytes & 0x7f000000u) >> 3;
}
std::uint64_t word_at(std::uint64_t number, std::uint64_t offset) {
  return std::uint64_t{spread(number)} << 32 | spread(offset / 8);
}

// Who wrote the eight bytes, as far as they tell.
std::string origin(std::span<const std::byte> bytes) {
  if (bytes.size() < 8) return "less than a word";
  std::uint64_t word = 0;
  std::memcpy(&word, bytes.data(), 8);
  if (word == 0) return "zeros";
  if ((word & 0x8080808080808080u) != 0x8080808080808080u) return "of several operations, or of none";
  return fmt::format("written by operation {} at {:#x}", gather(static_cast<std::uint32_t>(word >> 32)),
                     gather(static_cast<std::uint32_t>(word)) * 8);
}

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) text += fmt::format("{:02x} ", std::to_integer<unsigned>(b));
  return text;
}
}  // namespace

void fill(std::span<std::byte> into, std::uint64_t number, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < into.size()) {
    const std::uint64_t word = word_at(number, offset + done);
    if ((offset + done) % 8 == 0 && into.size() - done >= 8) {
      std::memcpy(into.data() + done, &word, 8);
      done += 8;
      continue;
    }
    const std::size_t skip = (offset + done) % 8;
    const std::size_t count = std::min<std::size_t>(8 - skip, into.size() - done);
    std::byte bytes[8];
    std::memcpy(bytes, &word, 8);
    std::memcpy(into.data() + done, bytes + skip, count);
    done += count;
  }
}

std::string difference(std::span<const std::byte> expected, std::span<const std::byte> found, std::uint64_t offset,
                       std::uint32_t block_size) {
  if (expected.size() != found.size())
    return fmt::format("{:#x} bytes at {:#x}, expected {:#x}", found.size(), offset, expected.size());
  if (expected.empty() || std::memcmp(expected.data(), found.data(), expected.size()) == 0) return {};
  std::size_t first = 0, last = 0, wrong = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (expected[i] != found[i]) {
      if (wrong++ == 0) first = i;
      last = i;
    }
  // A whole word around the first difference, where the pieces have one.
  const std::uint64_t at = offset + first;
  const std::size_t back = std::min<std::size_t>(at % 8, first);
  const std::size_t shown = std::min<std::size_t>(32, expected.size() - (first - back));
  const auto ours = expected.subspan(first - back, shown), theirs = found.subspan(first - back, shown);
  return fmt::format("{} of {} bytes differ, from {:#x} (block {}, byte {} in it) to {:#x}\n"
                     "  at {:#x}\n  expected {}({})\n  found    {}({})",
                     wrong, expected.size(), at, at / block_size, at % block_size, offset + last, at - back, hex(ours),
                     origin(ours), hex(theirs), origin(theirs));
}

std::vector<std::uint64_t> Model::sizes() const {
  std::vector<std::uint64_t> sizes;
  for (const auto &file : files_) sizes.push_back(file.size());
  return sizes;
}

std::span<const std::byte> Model::part(unsigned file, std::uint64_t offset, std::uint64_t length) const {
  const std::vector<std::byte> &bytes = files_[file];
  if (offset >= bytes.size()) return {};
  return std::span(bytes).subspan(offset, std::min<std::uint64_t>(length, bytes.size() - offset));
}

std::uint64_t Model::first_nonzero(unsigned file, std::uint64_t offset) const {
  const std::vector<std::byte> &bytes = files_[file];
  // Sparse files are mostly zeros: those go by in large pieces.
  static constexpr std::array<std::byte, 4096> kZeros{};
  while (offset + kZeros.size() <= bytes.size() &&
         std::memcmp(bytes.data() + offset, kZeros.data(), kZeros.size()) == 0)
    offset += kZeros.size();
  if (offset >= bytes.size()) return bytes.size();
  const auto at = std::find_if(bytes.begin() + static_cast<std::ptrdiff_t>(offset), bytes.end(),
                               [](std::byte b) { return b != std::byte{0}; });
  return static_cast<std::uint64_t>(at - bytes.begin());
}

void Model::apply(const Operation &o, std::uint64_t number) {
  std::vector<std::byte> &bytes = files_[o.file];
  const std::uint64_t end = o.offset + o.length;
  const auto grow_to = [](std::vector<std::byte> &file, std::uint64_t size) {
    if (file.size() < size) file.resize(size);
  };
  const auto clear = [&] {
    const std::uint64_t limit = std::min<std::uint64_t>(end, bytes.size());
    if (o.offset < limit) std::memset(bytes.data() + o.offset, 0, limit - o.offset);
  };
  const auto iterator = [&](std::uint64_t at) { return bytes.begin() + static_cast<std::ptrdiff_t>(at); };
  switch (o.kind) {
  case Kind::write:
  case Kind::append:
    grow_to(bytes, end);
    fill(std::span(bytes).subspan(o.offset, o.length), number, o.offset);
    break;
  case Kind::truncate: bytes.resize(o.offset); break;
  case Kind::allocate: grow_to(bytes, end); break;
  case Kind::zero:
    grow_to(bytes, end);
    clear();
    break;
  case Kind::punch:
  case Kind::zero_keep: clear(); break;
  case Kind::collapse: bytes.erase(iterator(o.offset), iterator(end)); break;
  case Kind::insert: bytes.insert(iterator(o.offset), o.length, std::byte{0}); break;
  case Kind::copy: {
    const auto from = part(o.file, o.offset, o.length);
    if (from.empty()) break;
    const std::vector<std::byte> copied(from.begin(), from.end());
    grow_to(files_[o.other], o.target + copied.size());
    std::copy(copied.begin(), copied.end(), files_[o.other].begin() + static_cast<std::ptrdiff_t>(o.target));
    break;
  }
  default: break;
  }
}

}  // namespace outboard::exerciser

#include "ext4/format/bitmap.h"

#include "base/endian.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace outboard::ext4::format {
namespace {

constexpr std::uint64_t kAllOnes = ~std::uint64_t{0};

// Bits [first, first + count) of a word, count 1..64.
constexpr std::uint64_t mask(std::uint32_t first, std::uint32_t count) { return (kAllOnes >> (64 - count)) << first; }

}  // namespace

BitmapView::BitmapView(std::span<const std::byte> bytes, std::uint32_t bits) : bytes_(bytes), bits_(bits) {
  assert(bytes.size() * 8 >= bits);
}

std::uint64_t BitmapView::word(std::uint32_t index) const {
  const std::size_t at = std::size_t{index} * 8;
  if (at + 8 <= bytes_.size()) return view_as<le64>(bytes_, at).get();
  std::uint64_t value = kAllOnes;
  for (std::size_t i = at; i < bytes_.size(); ++i) {
    const auto shift = static_cast<std::uint32_t>((i - at) * 8);
    value = (value & ~(std::uint64_t{0xff} << shift)) | std::to_integer<std::uint64_t>(bytes_[i]) << shift;
  }
  return value;
}

bool BitmapView::test(std::uint32_t bit) const {
  assert(bit < bits_);
  return (std::to_integer<unsigned>(bytes_[bit / 8]) >> (bit % 8) & 1) != 0;
}

bool BitmapView::all_set(std::uint32_t first, std::uint32_t count) const {
  assert(count <= bits_ && first <= bits_ - count);
  return find_zero(first, first + count) == first + count;
}

bool BitmapView::all_clear(std::uint32_t first, std::uint32_t count) const {
  assert(count <= bits_ && first <= bits_ - count);
  return find_one(first, first + count) == first + count;
}

std::uint32_t BitmapView::find_zero(std::uint32_t from, std::uint32_t limit) const {
  assert(limit <= bits_);
  while (from < limit) {
    const std::uint64_t zeros = ~word(from / 64) >> (from % 64);
    if (zeros != 0) return std::min(limit, from + static_cast<std::uint32_t>(std::countr_zero(zeros)));
    from = (from / 64 + 1) * 64;
  }
  return limit;
}

std::uint32_t BitmapView::find_one(std::uint32_t from, std::uint32_t limit) const {
  assert(limit <= bits_);
  while (from < limit) {
    const std::uint64_t ones = word(from / 64) >> (from % 64);
    if (ones != 0) return std::min(limit, from + static_cast<std::uint32_t>(std::countr_zero(ones)));
    from = (from / 64 + 1) * 64;
  }
  return limit;
}

BitRun BitmapView::next_zero_run(std::uint32_t from, std::uint32_t limit, std::uint32_t most) const {
  const std::uint32_t start = find_zero(from, limit);
  if (start >= limit) return {};
  return {start, find_one(start, start + std::min(most, limit - start)) - start};
}

BitRun BitmapView::find_zero_run(std::uint32_t from, std::uint32_t limit, std::uint32_t want) const {
  assert(want != 0);
  BitRun best;
  while (from < limit) {
    const BitRun run = next_zero_run(from, limit, want);
    if (run.count == 0) break;
    if (run.count > best.count) best = run;
    if (run.count >= want) break;
    from = run.end();
  }
  return best;
}

std::uint32_t BitmapView::count_zeros(std::uint32_t first, std::uint32_t count) const {
  assert(count <= bits_ && first <= bits_ - count);
  std::uint32_t zeros = 0;
  while (count != 0) {
    const std::uint32_t bit = first % 64;
    const std::uint32_t here = std::min(count, 64 - bit);
    zeros += static_cast<std::uint32_t>(std::popcount(~word(first / 64) & mask(bit, here)));
    first += here;
    count -= here;
  }
  return zeros;
}

namespace {

// Calls `apply(byte, mask)` for each byte that [first, first + count) touches.
template <class Apply>
void each_byte(std::span<std::byte> bytes, std::uint32_t first, std::uint32_t count, Apply apply) {
  while (count != 0) {
    const std::uint32_t bit = first % 8;
    const std::uint32_t here = std::min(count, 8 - bit);
    apply(bytes[first / 8], std::byte(mask(bit, here)));
    first += here;
    count -= here;
  }
}

}  // namespace

void BitmapEdit::set(std::uint32_t first, std::uint32_t count) {
  assert(count <= size() && first <= size() - count);
  each_byte(bytes_, first, count, [](std::byte &byte, std::byte bits) { byte |= bits; });
}

void BitmapEdit::clear(std::uint32_t first, std::uint32_t count) {
  assert(count <= size() && first <= size() - count);
  each_byte(bytes_, first, count, [](std::byte &byte, std::byte bits) { byte &= ~bits; });
}

}  // namespace outboard::ext4::format

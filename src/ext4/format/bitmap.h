// A bitmap block seen as bits: bit n is bit n % 8 of byte n / 8, set when in use. Searches go by 64-bit words.
// Bits are numbered from 0; all numbers given must be below size() (assertions: they are ours, not the disk's).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace outboard::ext4::format {

struct BitRun {
  std::uint32_t start = 0;
  std::uint32_t count = 0;  // 0: nothing found
  std::uint32_t end() const { return start + count; }
};

class BitmapView {
public:
  // `bits` of them count; the bytes must cover them.
  BitmapView(std::span<const std::byte> bytes, std::uint32_t bits);

  std::uint32_t size() const { return bits_; }
  bool test(std::uint32_t bit) const;
  bool all_set(std::uint32_t first, std::uint32_t count) const;
  bool all_clear(std::uint32_t first, std::uint32_t count) const;
  // First such bit in [from, limit), or `limit`. limit <= size().
  std::uint32_t find_zero(std::uint32_t from, std::uint32_t limit) const;
  std::uint32_t find_one(std::uint32_t from, std::uint32_t limit) const;
  // The first run of at least `want` clear bits in [from, limit), cut to `want`; if there is none, the longest run
  // there is (count 0: none at all).
  BitRun find_zero_run(std::uint32_t from, std::uint32_t limit, std::uint32_t want) const;
  // The first run of clear bits in [from, limit), whole, but no longer than `most`.
  BitRun next_zero_run(std::uint32_t from, std::uint32_t limit, std::uint32_t most = ~std::uint32_t{0}) const;
  std::uint32_t count_zeros() const { return count_zeros(0, bits_); }
  std::uint32_t count_zeros(std::uint32_t first, std::uint32_t count) const;

private:
  std::uint64_t word(std::uint32_t index) const;  // bits beyond the bytes read as set
  std::span<const std::byte> bytes_;
  std::uint32_t bits_;
};

class BitmapEdit : public BitmapView {
public:
  BitmapEdit(std::span<std::byte> bytes, std::uint32_t bits) : BitmapView(bytes, bits), bytes_(bytes) {}

  void set(std::uint32_t bit) { set(bit, 1); }
  void clear(std::uint32_t bit) { clear(bit, 1); }
  void set(std::uint32_t first, std::uint32_t count);
  void clear(std::uint32_t first, std::uint32_t count);

private:
  std::span<std::byte> bytes_;
};

}  // namespace outboard::ext4::format

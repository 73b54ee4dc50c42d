// Integers with a byte order, as they stand on disk or on the wire: alignment 1, no implicit conversion.
// ext4 is little-endian throughout; only jbd2's structures are big-endian.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace outboard {

template <class T, std::endian Order> class Endian {
  static_assert(std::is_unsigned_v<T>);

public:
  Endian() = default;
  explicit Endian(T value) { set(value); }

  T get() const {
    T raw;
    std::memcpy(&raw, bytes_, sizeof raw);
    return swap(raw);
  }
  void set(T value) {
    T raw = swap(value);
    std::memcpy(bytes_, &raw, sizeof raw);
  }
  friend bool operator==(const Endian &, const Endian &) = default;

private:
  static T swap(T value) {
    if constexpr (sizeof(T) == 1 || Order == std::endian::native) return value;
    else if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
    else if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
    else return __builtin_bswap64(value);
  }
  unsigned char bytes_[sizeof(T)];
};

using le16 = Endian<std::uint16_t, std::endian::little>;
using le32 = Endian<std::uint32_t, std::endian::little>;
using le64 = Endian<std::uint64_t, std::endian::little>;
using be16 = Endian<std::uint16_t, std::endian::big>;
using be32 = Endian<std::uint32_t, std::endian::big>;
using be64 = Endian<std::uint64_t, std::endian::big>;

// A 32- or 48-bit number split into two fields.
inline std::uint64_t join(le32 low, le32 high) { return low.get() | (std::uint64_t{high.get()} << 32); }
inline std::uint64_t join(le32 low, le16 high) { return low.get() | (std::uint64_t{high.get()} << 32); }
inline std::uint32_t join(le16 low, le16 high) { return low.get() | (std::uint32_t{high.get()} << 16); }

// An on-disk structure seen in place: every such type has alignment 1 and is trivially copyable, so this is
// defined for any byte position. The caller has checked that `offset + sizeof(T)` is inside `bytes`.
template <class T> const T &view_as(std::span<const std::byte> bytes, std::size_t offset = 0) {
  static_assert(alignof(T) == 1 && std::is_trivially_copyable_v<T>);
  return *reinterpret_cast<const T *>(bytes.data() + offset);
}
template <class T> T &edit_as(std::span<std::byte> bytes, std::size_t offset = 0) {
  static_assert(alignof(T) == 1 && std::is_trivially_copyable_v<T>);
  return *reinterpret_cast<T *>(bytes.data() + offset);
}

}  // namespace outboard

// Layout proof, beside each on-disk structure; offsets are copied from the format's documentation.
#define LAYOUT_SIZE(type, bytes) \
  static_assert(sizeof(type) == (bytes) && alignof(type) == 1 && std::is_trivially_copyable_v<type>)
#define LAYOUT_FIELD(type, field, position) static_assert(offsetof(type, field) == (position))

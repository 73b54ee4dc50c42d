// Numbers that must not be mixed up. Each is explicit to make and to open.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace outboard {

template <class Tag, class T> class Number {
public:
  using Value = T;
  constexpr Number() = default;
  constexpr explicit Number(T value) : value_(value) {}
  constexpr T value() const { return value_; }
  friend constexpr auto operator<=>(Number, Number) = default;
  friend constexpr Number operator+(Number a, T count) { return Number(static_cast<T>(a.value_ + count)); }
  friend constexpr Number operator-(Number a, T count) { return Number(static_cast<T>(a.value_ - count)); }
  friend constexpr T operator-(Number a, Number b) { return static_cast<T>(a.value_ - b.value_); }
  constexpr Number &operator+=(T count) {
    value_ = static_cast<T>(value_ + count);
    return *this;
  }
  constexpr Number &operator++() {
    ++value_;
    return *this;
  }
  constexpr explicit operator bool() const { return value_ != 0; }

private:
  T value_ = 0;
};

// A block of the device, counted in file-system blocks from the start of the file system. 0 means "none" in maps.
using BlockNumber = Number<struct BlockNumberTag, std::uint64_t>;
// A block within a file, counted in file-system blocks.
using FileBlock = Number<struct FileBlockTag, std::uint32_t>;
// An ext4 inode number; 0 means "none".
using InodeNumber = Number<struct InodeNumberTag, std::uint32_t>;
// A block group.
using GroupNumber = Number<struct GroupNumberTag, std::uint32_t>;

// `count` blocks of the device from `start`.
struct BlockRun {
  BlockNumber start;
  std::uint32_t count = 0;
  BlockNumber end() const { return start + count; }
  friend bool operator==(const BlockRun &, const BlockRun &) = default;
};

// A stretch of a file or device in bytes.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t end() const { return offset + length; }
};

template <class T> constexpr T divide_up(T value, T unit) { return static_cast<T>((value + unit - 1) / unit); }
template <class T> constexpr T round_up(T value, T unit) { return static_cast<T>(divide_up(value, unit) * unit); }
template <class T> constexpr T round_down(T value, T unit) { return static_cast<T>(value / unit * unit); }

}  // namespace outboard

template <class Tag, class T> struct std::hash<outboard::Number<Tag, T>> {
  std::size_t operator()(outboard::Number<Tag, T> n) const noexcept { return std::hash<T>()(n.value()); }
};

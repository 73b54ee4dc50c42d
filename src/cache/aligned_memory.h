// Memory that a device can transfer without a bounce copy. One owner; the bytes never move.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

namespace outboard::cache {

using AlignedBytes = std::unique_ptr<std::byte[], void (*)(void *)>;

// `alignment` is a power of two (device::Properties::alignment). One that is larger than the transfer itself is not
// asked for: such a transfer is bounced by the device whatever its address. Contents are undefined.
// Throws std::bad_alloc like operator new: out of memory is not an error value in this project.
inline AlignedBytes allocate_aligned(std::size_t size, std::size_t alignment) {
  std::size_t unit = std::max<std::size_t>(alignment, 64);
  if (unit > size) unit = 64;
  void *memory = std::aligned_alloc(unit, (size + unit - 1) / unit * unit);
  if (memory == nullptr) throw std::bad_alloc();
  return {static_cast<std::byte *>(memory), std::free};
}

// The same with its length, for I/O areas.
class AlignedArea {
public:
  AlignedArea(std::size_t size, std::size_t alignment) : bytes_(allocate_aligned(size, alignment)), size_(size) {}
  std::span<std::byte> span() { return {bytes_.get(), size_}; }
  std::span<std::byte> span(std::size_t offset, std::size_t length) { return span().subspan(offset, length); }
  std::size_t size() const { return size_; }

private:
  AlignedBytes bytes_;
  std::size_t size_;
};

}  // namespace outboard::cache

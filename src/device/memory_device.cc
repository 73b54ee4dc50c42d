#include "device/memory_device.h"

#include "base/unique_fd.h"
#include "device/host_file.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace outboard::device {

MemoryDevice::MemoryDevice(std::uint64_t size, std::uint32_t alignment) {
  properties_.size = size;
  properties_.alignment = alignment;
  properties_.discards = true;
}

Result<std::unique_ptr<MemoryDevice>> MemoryDevice::from_file(const std::string &path) {
  const HostFile file(UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
  if (file.fd() < 0) return fail(Error::system(errno, "memory device: open"));
  const off_t size = ::lseek(file.fd(), 0, SEEK_END);
  if (size < 0) return fail(Error::system(errno, "memory device: size"));
  auto device = std::make_unique<MemoryDevice>(static_cast<std::uint64_t>(size));
  std::vector<std::byte> buffer(kChunk);
  off_t at = 0;
  while (at < size) {
    const off_t data = ::lseek(file.fd(), at, SEEK_DATA);
    if (data < 0) {
      if (errno == ENXIO) break;  // only a hole is left
      return fail(Error::system(errno, "memory device: next data"));
    }
    off_t end = ::lseek(file.fd(), data, SEEK_HOLE);
    if (end < 0) end = size;
    for (at = data; at < end;) {
      const auto in_chunk = static_cast<std::size_t>(at) % kChunk;
      const auto piece = std::min<std::size_t>(kChunk - in_chunk, static_cast<std::size_t>(end - at));
      const std::span<std::byte> bytes = std::span(buffer).first(piece);
      TRY(file.read(static_cast<std::uint64_t>(at), bytes));
      const bool zeros = std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
      if (!zeros) TRY(device->write(static_cast<std::uint64_t>(at), bytes));
      at += static_cast<off_t>(piece);
    }
  }
  return device;
}

Status MemoryDevice::save(const std::string &path) const {
  const HostFile file(UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)));
  if (file.fd() < 0) return fail(Error::system(errno, "memory device: create"));
  if (::ftruncate(file.fd(), static_cast<off_t>(properties_.size)) != 0)
    return fail(Error::system(errno, "memory device: set size"));
  for (const Stripe &stripe : stripes_) {
    ReadLock lock(stripe.mutex);
    for (const auto &[number, slot] : stripe.chunks) {
      const std::uint64_t start = number * kChunk;
      const iovec piece = {slot.chunk->data(), std::min<std::uint64_t>(kChunk, properties_.size - start)};
      TRY(file.write(start, GatherCursor({&piece, 1}), piece.iov_len));
    }
  }
  return {};
}

std::unique_ptr<MemoryDevice> MemoryDevice::clone() const {
  auto copy = std::make_unique<MemoryDevice>(properties_.size, properties_.alignment);
  copy->properties_ = properties_;
  for (std::size_t i = 0; i < kStripes; ++i) {
    std::unordered_map<std::uint64_t, Slot> chunks;
    {
      WriteLock lock(stripes_[i].mutex);
      for (const auto &[number, slot] : stripes_[i].chunks) slot.shared = true;
      chunks = stripes_[i].chunks;
    }
    WriteLock lock(copy->stripes_[i].mutex);
    copy->stripes_[i].chunks = std::move(chunks);
  }
  return copy;
}

std::uint64_t MemoryDevice::bytes_in_use() const {
  std::uint64_t chunks = 0;
  for (const Stripe &stripe : stripes_) {
    ReadLock lock(stripe.mutex);
    chunks += stripe.chunks.size();
  }
  return chunks * kChunk;
}

Status MemoryDevice::check(std::uint64_t offset, std::uint64_t length) const {
  if (offset > properties_.size || length > properties_.size - offset)
    return fail(Error::system(EIO, "memory device: range beyond the end"));
  return {};
}

// The caller holds the slot's stripe exclusively.
MemoryDevice::Chunk &MemoryDevice::writable(Slot &slot) {
  if (!slot.chunk) {
    slot.chunk = std::make_shared<Chunk>();
    slot.chunk->fill(std::byte{0});
  } else if (slot.shared) {
    slot.chunk = std::make_shared<Chunk>(*slot.chunk);
  }
  slot.shared = false;
  return *slot.chunk;
}

void MemoryDevice::read_chunk(std::uint64_t number, std::size_t begin, std::span<std::byte> out) const {
  const Stripe &stripe = stripes_[number % kStripes];
  ReadLock lock(stripe.mutex);
  const auto found = stripe.chunks.find(number);
  if (found == stripe.chunks.end()) std::ranges::fill(out, std::byte{0});
  else std::memcpy(out.data(), found->second.chunk->data() + begin, out.size());
}

void MemoryDevice::write_chunk(std::uint64_t number, std::size_t begin, std::span<const std::byte> data) {
  Stripe &stripe = stripes_[number % kStripes];
  WriteLock lock(stripe.mutex);
  std::memcpy(writable(stripe.chunks[number]).data() + begin, data.data(), data.size());
}

void MemoryDevice::zero_chunk(std::uint64_t number, std::size_t begin, std::size_t length) {
  Stripe &stripe = stripes_[number % kStripes];
  WriteLock lock(stripe.mutex);
  const auto found = stripe.chunks.find(number);
  if (found == stripe.chunks.end()) return;
  if (length == kChunk) stripe.chunks.erase(found);
  else std::memset(writable(found->second).data() + begin, 0, length);
}

Status MemoryDevice::read(std::uint64_t offset, std::span<std::byte> data) {
  TRY(check(offset, data.size()));
  while (!data.empty()) {
    const std::size_t begin = offset % kChunk;
    const std::size_t piece = std::min(data.size(), kChunk - begin);
    read_chunk(offset / kChunk, begin, data.first(piece));
    data = data.subspan(piece);
    offset += piece;
  }
  return {};
}

Status MemoryDevice::write(std::uint64_t offset, std::span<const std::byte> data) {
  if (properties_.read_only) return fail(Error::system(EROFS, "memory device: read-only"));
  TRY(check(offset, data.size()));
  while (!data.empty()) {
    const std::size_t begin = offset % kChunk;
    const std::size_t piece = std::min(data.size(), kChunk - begin);
    write_chunk(offset / kChunk, begin, data.first(piece));
    data = data.subspan(piece);
    offset += piece;
  }
  return {};
}

Status MemoryDevice::discard(std::uint64_t offset, std::uint64_t length) { return zero(offset, length); }

Status MemoryDevice::zero(std::uint64_t offset, std::uint64_t length) {
  if (properties_.read_only) return fail(Error::system(EROFS, "memory device: read-only"));
  TRY(check(offset, length));
  while (length > 0) {
    const std::size_t begin = offset % kChunk;
    const std::size_t piece = std::min<std::uint64_t>(length, kChunk - begin);
    zero_chunk(offset / kChunk, begin, piece);
    offset += piece;
    length -= piece;
  }
  return {};
}

}  // namespace outboard::device

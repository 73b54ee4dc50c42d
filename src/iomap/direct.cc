#include "iomap/direct.h"

#include "iomap/iterate.h"
#include "iomap/zero.h"

#include <array>
#include <cassert>
#include <cstring>
#include <vector>

namespace outboard::iomap::direct {
namespace {

// Ready-made zeros to gather around data; the largest block is 64 KiB.
constexpr std::size_t kMaxBlock = 64 * 1024;
const std::array<std::byte, kMaxBlock> kZeros{};

Step read_piece(MappingSource &source, device::BlockDevice &device, const Mapping &mapping, ByteRange piece,
                std::span<std::byte> destination) {
  if ((mapping.flags & kPrepared) != 0) {
    if (Status status = source.fetch(piece.offset, destination, mapping); !status) return {0, std::move(status)};
    return {piece.length, {}};
  }
  switch (mapping.type) {
  case MappingType::hole:
  case MappingType::unwritten: std::memset(destination.data(), 0, destination.size()); return {piece.length, {}};
  case MappingType::mapped: {
    Status status = device.read(mapping.address + (piece.offset - mapping.offset), destination);
    if (!status) return {0, std::move(status)};
    return {piece.length, {}};
  }
  case MappingType::inline_data:
    if (mapping.inline_bytes.size() < mapping.length) return {0, fail(Error::corrupt("mapping: inline data without memory"))};
    std::memcpy(destination.data(), mapping.inline_bytes.data() + (piece.offset - mapping.offset), piece.length);
    return {piece.length, {}};
  case MappingType::delalloc: return {0, fail(Error::unsupported("direct read: bytes are not on the device"))};
  }
  return {0, fail(Error::corrupt("mapping: unknown type"))};
}

iovec as_piece(std::span<const std::byte> bytes) {
  // iovec serves reads and writes, so its pointer is not const; write_gather only reads through it.
  return {const_cast<std::byte *>(bytes.data()), bytes.size()};
}

// The whole blocks around `data`, in one request: zeros, data, zeros.
Status write_padded(device::BlockDevice &device, std::uint32_t block_size, std::uint64_t address,
                    std::uint64_t file_offset, std::span<const std::byte> data) {
  const std::uint64_t head = file_offset % block_size;
  const std::uint64_t over = (head + data.size()) % block_size;
  const std::uint64_t tail = over == 0 ? 0 : block_size - over;
  if (head == 0 && tail == 0) return device.write(address, data);
  std::array<iovec, 3> pieces;
  std::size_t count = 0;
  if (head > 0) pieces[count++] = as_piece(std::span(kZeros).first(head));
  pieces[count++] = as_piece(data);
  if (tail > 0) pieces[count++] = as_piece(std::span(kZeros).first(tail));
  return device.write_gather(address - head, std::span(pieces).first(count));
}

Step write_piece(MappingSource &source, device::BlockDevice &device, std::uint32_t block_size, const Mapping &mapping, ByteRange piece,
                 std::span<const std::byte> data) {
  const std::uint64_t address = mapping.address + (piece.offset - mapping.offset);
  const bool whole_blocks = mapping.type == MappingType::unwritten || (mapping.flags & kFresh) != 0;
  if (mapping.type != MappingType::mapped && mapping.type != MappingType::unwritten)
    return {0, fail(Error::unsupported("direct write: mapping has no blocks"))};
  if ((mapping.flags & kShared) != 0) return {0, fail(Error::unsupported("direct write: blocks are shared"))};
  // Padding must stay inside the mapping: its ends are on block boundaries, or the source is at fault.
  if (whole_blocks && (mapping.offset % block_size != 0 || mapping.length % block_size != 0))
    return {0, fail(Error::corrupt("mapping: not on block boundaries"))};
  Status status =
      whole_blocks ? write_padded(device, block_size, address, piece.offset, data) : device.write(address, data);
  if (status) status = source.ioend(piece, mapping);
  if (!status) return {0, std::move(status)};
  return {piece.length, {}};
}

}  // namespace

Result<std::size_t> read(MappingSource &source, device::BlockDevice &device, std::uint64_t offset,
                         std::span<std::byte> data, std::uint64_t file_size) {
  if (offset >= file_size || data.empty()) return std::size_t{0};
  const ByteRange range{offset, std::min<std::uint64_t>(data.size(), file_size - offset)};
  const auto body = [&](const Mapping &mapping, ByteRange piece) {
    return read_piece(source, device, mapping, piece, data.subspan(piece.offset - offset, piece.length));
  };
  const outboard::trace::Stopwatch watch;
  Result<std::uint64_t> done = iterate(source, range, Operation::read, body);
  trace::direct_read(source.inode_number(), offset, done.value_or(0), done, watch);
  return TRY(std::move(done));
}

Result<std::size_t> write(MappingSource &source, device::BlockDevice &device, std::uint32_t block_size,
                          std::uint64_t offset, std::span<const std::byte> data, std::uint64_t file_size) {
  assert(block_size > 0 && block_size <= kMaxBlock);
  if (data.empty()) return std::size_t{0};
  if (offset > file_size) TRY(zero_tail(source, device, block_size, file_size, offset));
  const auto body = [&](const Mapping &mapping, ByteRange piece) {
    return write_piece(source, device, block_size, mapping, piece, data.subspan(piece.offset - offset, piece.length));
  };
  const outboard::trace::Stopwatch watch;
  Result<std::uint64_t> done = iterate(source, {offset, data.size()}, Operation::write, body);
  trace::direct_write(source.inode_number(), offset, done.value_or(0), done, watch);
  return TRY(std::move(done));
}

}  // namespace outboard::iomap::direct

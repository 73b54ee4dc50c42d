#include "device/block_device.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace outboard::device {

Status BlockDevice::write_gather(std::uint64_t offset, std::span<const iovec> pieces) {
  for (const iovec &piece : pieces) {
    TRY(write(offset, {static_cast<const std::byte *>(piece.iov_base), piece.iov_len}));
    offset += piece.iov_len;
  }
  return {};
}

Status BlockDevice::zero(std::uint64_t offset, std::uint64_t length) {
  const std::vector<std::byte> zeros(std::min<std::uint64_t>(length, 1 << 20));
  while (length > 0) {
    const std::uint64_t piece = std::min<std::uint64_t>(length, zeros.size());
    TRY(write(offset, std::span(zeros).first(piece)));
    offset += piece;
    length -= piece;
  }
  return {};
}

Status BlockDevice::sign_of_life() {
  std::array<std::byte, 4096> memory;
  return read(0, std::span(memory).first(std::min<std::uint64_t>(memory.size(), properties().size)));
}

Status BlockDevice::run(std::span<Request> batch) {
  std::optional<Error> first_error;
  for (Request &request : batch) {
    Status status;
    switch (request.op) {
    case Request::Op::read: status = read(request.offset, request.data); break;
    case Request::Op::write: status = write(request.offset, request.data); break;
    case Request::Op::discard: status = discard(request.offset, request.length); break;
    case Request::Op::zero: status = zero(request.offset, request.length); break;
    }
    if (!status && !first_error) first_error = status.error();
  }
  if (first_error) return fail(*first_error);
  return {};
}

}  // namespace outboard::device

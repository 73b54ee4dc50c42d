#include "iomap/zero.h"

#include "iomap/iterate.h"

namespace outboard::iomap {

Result<std::uint64_t> zero(MappingSource &source, device::BlockDevice &device, ByteRange range) {
  return iterate(source, range, Operation::zero, [&](const Mapping &mapping, ByteRange piece) -> Step {
    switch (mapping.type) {
    case MappingType::hole:
    case MappingType::unwritten: return {piece.length, {}};
    case MappingType::mapped: break;
    default: return {0, fail(Error::unsupported("zero: bytes are not on the device"))};
    }
    // `zero` never asks for new blocks, and shared ones are not ours to change.
    if ((mapping.flags & (kFresh | kShared | kPrepared)) != 0)
      return {0, fail(Error::unsupported("zero: fresh, shared or prepared blocks"))};
    Status status = device.zero(mapping.address + (piece.offset - mapping.offset), piece.length);
    if (!status) return {0, std::move(status)};
    return {piece.length, {}};
  });
}

Status zero_tail(MappingSource &source, device::BlockDevice &device, std::uint32_t block_size, std::uint64_t file_size,
                 std::uint64_t up_to) {
  if (file_size % block_size == 0 || up_to <= file_size) return {};
  const ByteRange gap{file_size, std::min<std::uint64_t>(block_size - file_size % block_size, up_to - file_size)};
  // The loop reports a short count instead of a late error; half a tail is no good here, so ask on until it is done.
  for (std::uint64_t done = 0; done < gap.length;) {
    const std::uint64_t more = TRY(zero(source, device, {gap.offset + done, gap.length - done}));
    if (more == 0) return fail(Error::corrupt("mapping: no progress while zeroing"));
    done += more;
  }
  return {};
}

}  // namespace outboard::iomap

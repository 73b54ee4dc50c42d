#include "sample/linear.h"

namespace outboard::sample {

using iomap::Mapping;
using iomap::MappingType;
using iomap::Operation;

Result<Mapping> LinearVolume::File::begin(ByteRange range, Operation operation) {
  if (range.offset < size_)
    return Mapping{.type = MappingType::mapped, .offset = 0, .length = size_, .address = 0, .inline_bytes = {}};
  if (operation == Operation::write || operation == Operation::delay)
    return fail(Error::user(ENOSPC, "linear: behind the device"));
  return Mapping{.type = MappingType::hole, .offset = size_, .length = ~size_, .inline_bytes = {}};
}

}  // namespace outboard::sample

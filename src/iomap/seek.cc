#include "iomap/seek.h"

#include "iomap/iterate.h"

namespace outboard::iomap {
namespace {

bool is_data(MappingType type) { return type != MappingType::hole && type != MappingType::unwritten; }

// The first byte at or after `offset` that is data (or is none), file_size when there is no such byte.
Result<std::uint64_t> seek(MappingSource &source, std::uint64_t offset, std::uint64_t file_size, bool data) {
  if (offset >= file_size) return fail(Error::user(ENXIO, "seek: beyond the end"));
  std::uint64_t position = offset;
  while (position < file_size) {
    const ByteRange rest{position, file_size - position};
    const Mapping mapping = TRY(begin_checked(source, rest, Operation::report));
    TRY(source.end(rest, 0, Operation::report, mapping));
    if (is_data(mapping.type) == data) return position;
    position = std::min(mapping.end(), file_size);
  }
  return file_size;
}

}  // namespace

Result<std::uint64_t> seek_data(MappingSource &source, std::uint64_t offset, std::uint64_t file_size) {
  const std::uint64_t found = TRY(seek(source, offset, file_size, true));
  if (found >= file_size) return fail(Error::user(ENXIO, "seek: no data behind this position"));
  return found;
}

Result<std::uint64_t> seek_hole(MappingSource &source, std::uint64_t offset, std::uint64_t file_size) {
  return seek(source, offset, file_size, false);
}

}  // namespace outboard::iomap

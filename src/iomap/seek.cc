#include "iomap/seek.h"

#include "iomap/iterate.h"

namespace outboard::iomap {
namespace {

// From some position on: data or not, and up to where it stays so.
struct Stretch {
  bool data = false;
  std::uint64_t end = 0;
};

Stretch stretch_at(const Mapping &mapping, std::uint64_t position, const pagecache::FileCache *dirty) {
  if (mapping.type != MappingType::hole && mapping.type != MappingType::unwritten) return {true, mapping.end()};
  if (dirty == nullptr) return {false, mapping.end()};
  const ByteRange bytes = dirty->next_dirty(position);
  if (bytes.length == 0 || bytes.offset >= mapping.end()) return {false, mapping.end()};
  if (bytes.offset > position) return {false, bytes.offset};
  return {true, std::min(bytes.end(), mapping.end())};
}

// The first byte at or after `offset` that is data (or is none), file_size when there is no such byte.
Result<std::uint64_t> seek(MappingSource &source, std::uint64_t offset, std::uint64_t file_size,
                           const pagecache::FileCache *dirty, bool data) {
  if (offset >= file_size) return fail(Error::user(ENXIO, "seek: beyond the end"));
  std::uint64_t position = offset;
  while (position < file_size) {
    const ByteRange rest{position, file_size - position};
    const Mapping mapping = TRY(begin_checked(source, rest, Operation::report));
    TRY(source.end(rest, 0, Operation::report, mapping));
    // All there is to know about this mapping, before the source is asked again.
    while (position < std::min(mapping.end(), file_size)) {
      const Stretch stretch = stretch_at(mapping, position, dirty);
      if (stretch.data == data) return position;
      position = stretch.end;
    }
  }
  return file_size;
}

}  // namespace

Result<std::uint64_t> seek_data(MappingSource &source, std::uint64_t offset, std::uint64_t file_size,
                                const pagecache::FileCache *dirty) {
  const std::uint64_t found = TRY(seek(source, offset, file_size, dirty, true));
  if (found >= file_size) return fail(Error::user(ENXIO, "seek: no data behind this position"));
  return found;
}

Result<std::uint64_t> seek_hole(MappingSource &source, std::uint64_t offset, std::uint64_t file_size,
                                const pagecache::FileCache *dirty) {
  return seek(source, offset, file_size, dirty, false);
}

}  // namespace outboard::iomap

#include "iomap/iterate.h"

#include "iomap/trace.h"

namespace outboard::iomap {

static_assert(static_cast<int>(Operation::report) == 4 && static_cast<int>(MappingType::inline_data) == 4, "trace.h names them");

Result<Mapping> begin_checked(MappingSource &source, ByteRange range, Operation operation) {
  Result<Mapping> answer = source.begin(range, operation);
  trace::map_begin(source.inode_number(), range.offset, range.length, operation, answer);
  Mapping mapping = TRY(std::move(answer));
  trace::mapping(source.inode_number(), mapping.offset, mapping.length, mapping.type, mapping.flags);
  const bool covers = mapping.length > 0 && mapping.length <= ~mapping.offset && mapping.offset <= range.offset &&
                      range.offset < mapping.end();
  const bool has_address = mapping.type == MappingType::mapped || mapping.type == MappingType::unwritten;
  if (covers && (!has_address || mapping.length <= ~mapping.address)) return mapping;
  // The source may have set something aside for this answer; it takes it back here.
  Error error = Error::corrupt(covers ? "mapping: device address overflows" : "mapping: does not cover the position");
  (void)source.end(range, 0, operation, mapping);
  return fail(std::move(error));
}

}  // namespace outboard::iomap

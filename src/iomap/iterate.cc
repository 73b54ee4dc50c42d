#include "iomap/iterate.h"

namespace outboard::iomap {

Result<Mapping> begin_checked(MappingSource &source, ByteRange range, Operation operation) {
  Mapping mapping = TRY(source.begin(range, operation));
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

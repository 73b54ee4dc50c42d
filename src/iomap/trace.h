// What the I/O engine says while it is traced. Units: base/trace.h; offsets and lengths are in the file. `inode` is what the
// MappingSource calls itself (0 when it does not).
#pragma once

#include "base/trace.h"

#define OUTBOARD_IOMAP_EVENTS(EVENT)                                                                                   \
  EVENT(iomap, map_begin, "inode offset length operation:operation error", "the source is asked where a range is ...") \
  EVENT(iomap, mapping, "inode offset length type:mapping_type flags:|mapping_flags", "... and this is its answer")    \
  EVENT(iomap, map_end, "inode offset length operation:operation error", "so much of the range was moved, and recorded") \
  EVENT(iomap, direct_read, "inode offset length error duration_ns", "a read past the page cache; length: bytes read") \
  EVENT(iomap, direct_write, "inode offset length error duration_ns", "a write past the page cache; length: bytes written")

OUTBOARD_TRACE_VOCABULARY(iomap, OUTBOARD_IOMAP_EVENTS)

namespace outboard::iomap::trace {
// In the order of the enums in mapping.h, which iterate.cc checks.
inline constexpr ::outboard::trace::Name kOperations[] = {{0, "read"}, {1, "write"}, {2, "delay"}, {3, "zero"}, {4, "report"}};
inline constexpr ::outboard::trace::Name kMappingTypes[] = {
    {0, "hole"}, {1, "delalloc"}, {2, "mapped"}, {3, "unwritten"}, {4, "inline"}};
inline constexpr ::outboard::trace::Name kMappingFlags[] = {
    {1, "fresh"}, {2, "shared"}, {4, "no_data_integrity"}, {8, "prepared"}};
inline constexpr ::outboard::trace::NameSet kNames[] = {
    {"operation", kOperations}, {"mapping_type", kMappingTypes}, {"mapping_flags", kMappingFlags}};
}  // namespace outboard::iomap::trace

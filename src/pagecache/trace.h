// What the page cache says while it is traced. Units: base/trace.h; offsets and lengths are in the file. `inode` is what the
// cache's owner called it (0 when it did not).
#pragma once

#include "base/trace.h"

#define OUTBOARD_PAGECACHE_EVENTS(EVENT)                                                                               \
  EVENT(pagecache, dirtied, "inode offset length", "a writer has got these blocks to fill or to change")               \
  EVENT(pagecache, write_back_begin, "inode offset length folios", "folios in a row are on their way to the device ...") \
  EVENT(pagecache, write_back_end, "inode offset length", "... and gone, but for what was written to meanwhile")       \
  EVENT(pagecache, dropped, "inode offset length", "dirty blocks are forgotten, unwritten")                            \
  EVENT(pagecache, throttled, "length duration_ns", "a writer has waited for memory; length: bytes in use when it could go on")

OUTBOARD_TRACE_VOCABULARY(pagecache, OUTBOARD_PAGECACHE_EVENTS)

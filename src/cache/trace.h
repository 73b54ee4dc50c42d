// What the cache of metadata blocks says while it is traced. Units: base/trace.h.
#pragma once

#include "base/trace.h"

#define OUTBOARD_CACHE_EVENTS(EVENT)                                                                                   \
  EVENT(cache, read_miss, "block error duration_ns", "a metadata block was read and verified")                         \
  EVENT(cache, evict, "block", "a metadata block was dropped for want of room")

OUTBOARD_TRACE_VOCABULARY(cache, OUTBOARD_CACHE_EVENTS)

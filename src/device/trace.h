// What the devices below a volume say while they are traced. Units: base/trace.h; offsets are bytes from the start of the file
// system. Emitted by GatedDevice, through which a volume's synchronous requests pass.
#pragma once

#include "base/trace.h"

#define OUTBOARD_DEVICE_EVENTS(EVENT)                                                                                  \
  EVENT(device, read, "offset length error duration_ns", "a read has ended")                                           \
  EVENT(device, write, "offset length error duration_ns", "a write has ended; durable after the next flush")           \
  EVENT(device, batch, "offset length requests error duration_ns", "several requests have ended; offset: of the first, length: of all") \
  EVENT(device, flush, "error duration_ns", "what was written before it began is durable")                             \
  EVENT(device, discard, "offset length error duration_ns", "a range was given up")                                    \
  EVENT(device, zero, "offset length error duration_ns", "a range was zeroed")

OUTBOARD_TRACE_VOCABULARY(device, OUTBOARD_DEVICE_EVENTS)

// What the transport says while it is traced. Units: base/trace.h. `unique` is the kernel's number of the request;
// `inode` is the protocol's node: the inode number, but 1 for the root.
#pragma once

#include "base/trace.h"

#define OUTBOARD_FUSE_EVENTS(EVENT)                                                                                    \
  EVENT(fuse, request_begin, "unique opcode:opcode inode", "a worker begins to carry out a request")                   \
  EVENT(fuse, request_end, "unique opcode:opcode inode error duration_ns", "it has been carried out; the reply is sent next")

OUTBOARD_TRACE_VOCABULARY(fuse, OUTBOARD_FUSE_EVENTS)

// For a server that has been killed and cannot die: a thread of it is in the kernel, in I/O that nobody can interrupt, and with it
// stay its descriptors, so the kernel goes on waiting for answers. A small process of its own, which does no I/O on the device and
// holds none of the server's descriptors, sees that and aborts the connection, so that clients return.
#pragma once

#include "fuse/mount.h"

namespace outboard::service {

// Starts it for this mount. To be called while the calling process has one thread: it is the one whose end is watched. The process
// ends with the server, whichever way. Failure is logged and otherwise harmless.
void start_connection_guard(const fuse::MountTableEntry &mount);

}  // namespace outboard::service

// Which requests ask for a shutdown, and of which kind.
#pragma once

#include "base/result.h"
#include "fuse/request.h"
#include "vfs/filesystem.h"

#include <cstdint>

namespace outboard::fuse {

// EXT4_IOC_SHUTDOWN on anything, or our own (vfs/control.h) on the root.
bool asks_for_shutdown(const Request &request);

// For such a request. EPERM unless the caller is root or the owner; EINVAL for unknown flags.
//
// EXT4_IOC_SHUTDOWN's number has the wrong direction, so its flags do not travel with the request. They are read
// from the caller's memory (the caller is waiting in its ioctl meanwhile) where the server may; where it may not, the shutdown is the
// default one, which loses nothing.
Result<vfs::ShutdownMode> shutdown_mode(const Request &request, std::uint32_t owner_uid);

}  // namespace outboard::fuse

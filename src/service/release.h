// Talking to a mount's server from outside: sync, and unmounting that waits for the disk.
#pragma once

#include "base/unique_fd.h"
#include "service/source.h"
#include "vfs/filesystem.h"

#include <string>

namespace outboard::service {

// The root of the mount that holds `path`, for the control ioctls of vfs/control.h.
Outcome<UniqueFd> open_mount_root(const std::string &path);

// Everything written to the mount that holds `path` is durable when this succeeds.
Outcome<void> sync_mount(const std::string &path);

// Nothing reaches the disk of the mount that holds `path` when this has succeeded.
Outcome<void> shut_down_mount(const std::string &path, vfs::ShutdownMode mode);

// Syncs, unmounts, and waits until the server has ended and given the image back.
Outcome<void> unmount_and_wait(const std::string &target);

}  // namespace outboard::service

// Talking to a mount's server from outside: sync, unmounting that waits for the disk, and what it has been asked for.
#pragma once

#include "base/unique_fd.h"
#include "service/source.h"
#include "vfs/filesystem.h"

#include <string>
#include <vector>

namespace outboard::service {

// The root of the mount that holds `path`, for the control ioctls of vfs/control.h.
Outcome<UniqueFd> open_mount_root(const std::string &path);

// Everything written to the mount that holds `path` is durable when this succeeds.
Outcome<void> sync_mount(const std::string &path);

struct RequestCount {
  std::string operation;  // as fuse/operation_table.h names it
  std::uint64_t received = 0;
};
struct MountReport {
  std::string source, target, type;
  bool read_only = false;
  std::uint32_t server_pid = 0;
  std::vector<RequestCount> requests;  // since the mount, those that came at all, by name; this question is among them
};
// The mount that holds `path`. Only root and the user who mounted may ask.
Outcome<MountReport> describe_mount(const std::string &path);
// Nothing reaches the disk of the mount that holds `path` when this has succeeded.
Outcome<void> shut_down_mount(const std::string &path, vfs::ShutdownMode mode);

// Syncs, unmounts, and waits until the server has ended and given the image back.
Outcome<void> unmount_and_wait(const std::string &target);

}  // namespace outboard::service

// fusermount3, the set-user-id helper that mounts for people who may not: it gets the options as arguments and hands
// the connection's descriptor back over a socket whose number it finds in the environment.
#pragma once

#include "fuse/mount.h"

namespace outboard::fuse::fusermount {

// `target` is canonical. ENOENT when the helper is not installed, EPERM when it refuses (see `explanation`).
Result<UniqueFd> mount(const MountRequest &request, const std::string &target, std::string *explanation);
Status unmount(const std::string &target, bool lazy, std::string *explanation);

// The -o argument: commas and backslashes inside values are escaped with a backslash.
std::string option_string(const MountRequest &request);

}  // namespace outboard::fuse::fusermount

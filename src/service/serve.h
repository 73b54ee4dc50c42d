// From a source and a directory to a served mount, in the order that is safe: claim, mount, then read and replay, serve;
// at the end everything on disk before the claim goes.
#pragma once

#include "fuse/mount.h"
#include "fuse/session.h"
#include "service/signals.h"
#include "service/source.h"

#include <functional>

namespace outboard::service {

struct MountSpec {
  std::string source;
  std::string target;
  MountOptions options;
};

// Mounts and serves until unmounted. `ready` is called once, when the mount is usable; until then an error is for the
// person who asked, later ones go to the log. Returns the exit status' failure, if any.
Outcome<void> serve(const MountSpec &spec, const std::function<void()> &ready);

// serve() in a background process of its own session: returns when the mount is usable or could not be made.
// From then on its log lines go to syslog.
Outcome<void> serve_in_background(const MountSpec &spec);

// The parts, for another file system. Serves one on a mount that has been made, and unmounts it at the end; `source` names
// it in messages. `signals` was made before any other thread.
Outcome<void> serve_mounted(fuse::Mounted mounted, vfs::Filesystem &filesystem, const fuse::SessionOptions &options,
                            const std::string &source, SignalWatcher &signals, const std::function<void()> &ready);
// Runs a serve() of any kind as serve_in_background() does.
using Server = std::function<Outcome<void>(const std::function<void()> &ready)>;
Outcome<void> in_background(const Server &server);

}  // namespace outboard::service

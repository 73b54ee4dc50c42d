// From a source and a directory to a served mount, in the order that is safe: claim, mount, then read and replay, serve;
// at the end everything on disk before the claim goes.
#pragma once

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

}  // namespace outboard::service

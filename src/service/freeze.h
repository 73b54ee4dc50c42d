// Freezing a mount from outside.
#pragma once

#include "service/source.h"

#include <chrono>
#include <string>

namespace outboard::service {

struct FreezeRequest {
  std::chrono::milliseconds timeout{10'000};  // for what clients have written to arrive, and for each of two tries
  bool hold = false;                          // thaw when this process ends
};

// First what clients have written goes to the server, then the mount that holds `path` is frozen: when this has succeeded its
// image is as after a clean unmount, and stays so. On failure everything is as before. The text says who held it up.
Outcome<void> freeze_mount(const std::string &path, const FreezeRequest &request);

// A failure too when it is not frozen (any more).
Outcome<void> thaw_mount(const std::string &path);

}  // namespace outboard::service

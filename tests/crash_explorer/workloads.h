// What programs do to survive crashes, and what file systems get wrong; and mixes by chance.
#pragma once

#include "crash_explorer/script.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace outboard::crash_explorer {

struct Workload {
  std::string name;
  std::function<void(Script &)> run;
  bool timers = false;  // write-behind and commits by themselves, and often, instead of when the script says so
};

std::vector<Workload> patterns();
// Operations by chance on a few names. The same seed gives the same operations.
Workload random_mix(std::uint64_t seed, unsigned operations, bool timers);

}  // namespace outboard::crash_explorer

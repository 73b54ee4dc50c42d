// For devices of tests that hold requests back.
#pragma once

#include "base/wait_tracker.h"

namespace outboard::testing {

inline constinit WaitClass kTestLetsGo{"test: lets a request go"};

}  // namespace outboard::testing

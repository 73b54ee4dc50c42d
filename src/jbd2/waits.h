// What threads wait for in the journal, for the tracker of waits (base/wait_tracker.h, docs/locking.md).
#pragma once

#include "base/wait_tracker.h"

namespace outboard::jbd2 {

inline constinit WaitClass kHandlesEnd{"jbd2: open handles end"};        // owed by whoever has one open
inline constinit WaitClass kStartGoesOn{"jbd2: start() goes on"};        // a full or locked transaction, log space, the barrier
inline constinit WaitClass kCommitEnds{"jbd2: a commit ends"};           // owed by the commit thread
inline constinit WaitClass kCheckpointEnds{"jbd2: a checkpoint ends"};   // owed by the one that runs

}  // namespace outboard::jbd2

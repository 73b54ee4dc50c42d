// What the journal says while it is traced. Units: base/trace.h; `tid` is the transaction's number as in the log.
#pragma once

#include "base/trace.h"

#define OUTBOARD_JBD2_EVENTS(EVENT)                                                                                    \
  EVENT(jbd2, handle_start, "tid credits duration_ns", "an operation joins a transaction; duration: it waited so long") \
  EVENT(jbd2, handle_stop, "tid unused", "and leaves it; unused: credits given back")                                  \
  EVENT(jbd2, commit_begin, "tid handles", "the commit thread locks the transaction; handles: still open")             \
  EVENT(jbd2, commit_phase, "tid phase:commit_phase", "what the commit does next")                                     \
  EVENT(jbd2, commit_end, "tid blocks log_blocks error duration_ns", "the transaction is durable; blocks: changed and revoked, log_blocks: taken in the log") \
  EVENT(jbd2, checkpoint, "blocks freed error duration_ns", "committed blocks were written home; freed: 1 when log space was")            \
  EVENT(jbd2, replay, "transactions blocks revoked error duration_ns", "recovery; blocks: written home")               \
  EVENT(jbd2, abort, "error", "the journal takes no more changes")

OUTBOARD_TRACE_VOCABULARY(jbd2, OUTBOARD_JBD2_EVENTS)

namespace outboard::jbd2::trace {
enum class CommitPhase : std::uint8_t { log, flush, commit_block, home, retire };
inline constexpr ::outboard::trace::Name kCommitPhases[] = {
    {0, "log"}, {1, "flush"}, {2, "commit_block"}, {3, "home"}, {4, "retire"}};
inline constexpr ::outboard::trace::NameSet kNames[] = {{"commit_phase", kCommitPhases}};
}  // namespace outboard::jbd2::trace

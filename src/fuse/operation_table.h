// Every operation of the protocol: its name, how long its own structure is, and who carries it out.
#pragma once

#include "base/result.h"
#include "fuse/wire.h"

#include <cstddef>
#include <cstdint>

namespace outboard::fuse {

class Dispatcher;
class Request;
class Reply;

// Null handler: ENOSYS, after which the kernel does not ask again (or, for OPEN, OPENDIR, FLUSH, ACCESS and POLL,
// does without us from then on; docs/fuse.md, "Opens").
using Handler = Status (*)(Dispatcher &dispatcher, Request &request, Reply &reply);

struct Operation {
  const char *name = nullptr;  // null: not an operation
  std::uint16_t fixed = 0;     // bytes of its own structure
  bool answered = true;        // false: the kernel waits for no reply, and none may be sent
  Handler handler = nullptr;
};

inline constexpr std::size_t kOperationCount = 54;

// A nameless Operation for numbers that are none.
const Operation &operation(wire::Opcode opcode);
std::size_t fixed_size(wire::Opcode opcode, bool short_setxattr);

}  // namespace outboard::fuse

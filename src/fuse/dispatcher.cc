#include "fuse/dispatcher.h"

#include "fuse/directory_reply.h"
#include "fuse/handlers.h"
#include "fuse/operation_table.h"
#include "fuse/shutdown_request.h"
#include "fuse/trace.h"

#include <cstring>
#include <unistd.h>

namespace outboard::fuse {

void Dispatcher::dispatch(Request &request, Reply &reply) {
  // Whoever watches is not to see himself looking.
  if (!outboard::trace::on() || handlers::is_trace_control(request)) return carry_out(request, reply);
  const outboard::trace::Stopwatch watch;
  trace::request_begin(request.header().unique, request.opcode(), request.node());
  carry_out(request, reply);
  trace::request_end(request.header().unique, request.opcode(), request.node(), reply.error(), watch);
}

void Dispatcher::carry_out(Request &request, Reply &reply) {
  const Operation &op = operation(request.opcode());
  if (!op.answered) reply.suppress();
  if (op.handler == nullptr) {
    reply.fail(ENOSYS);
    return;
  }
  if (Status status = op.handler(*this, request, reply); !status)
    reply.fail(error_number(status.error(), op.name, request.node()));
}

Result<std::size_t> Dispatcher::answer(std::span<const std::byte> message, std::span<std::byte> out) {
  Request request = TRY(split_message(message, options_.short_setxattr));
  count(request);
  Reply reply(out.subspan(sizeof(wire::OutHeader)));
  dispatch(request, reply);
  if (!reply.wanted()) return std::size_t{0};
  const wire::OutHeader header = reply.header(request.header().unique);
  std::memcpy(out.data(), &header, sizeof header);
  return std::size_t{header.length};
}

std::optional<std::uint64_t> Dispatcher::needs_write_back(const Request &request) const {
  if (options_.read_only) return std::nullopt;
  std::uint64_t offset = 0;
  if (request.opcode() == wire::Opcode::bmap) {
    const Result<wire::BmapIn> in = request.arguments<wire::BmapIn>();
    if (!in || __builtin_mul_overflow(in->block, std::uint64_t{in->block_size}, &offset)) return std::nullopt;
  } else if (request.opcode() == wire::Opcode::lseek) {
    const Result<wire::LseekIn> in = request.arguments<wire::LseekIn>();
    if (!in || (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)) return std::nullopt;
    offset = in->offset;
  } else {
    return std::nullopt;
  }
  // A negative offset is an error of its own, and would mean something else in the notification.
  if (offset > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
  return offset;
}

bool Dispatcher::needs_write_back_of_everything(const Request &request) const {
  // A frozen file system refuses it, and would let no page through.
  if (!asks_for_shutdown(request) || filesystem_.is_frozen()) return false;
  const Result<vfs::ShutdownMode> mode = shutdown_mode(request, options_.owner_uid);
  return mode && *mode == vfs::ShutdownMode::flush;
}

bool Dispatcher::may_wait_for_writes(const Request &request) {
  switch (request.opcode()) {
  case wire::Opcode::setattr:
  case wire::Opcode::symlink:
  case wire::Opcode::mknod:
  case wire::Opcode::mkdir:
  case wire::Opcode::unlink:
  case wire::Opcode::rmdir:
  case wire::Opcode::rename:
  case wire::Opcode::rename2:
  case wire::Opcode::link:
  case wire::Opcode::create:
  case wire::Opcode::tmpfile:
  case wire::Opcode::write:
  case wire::Opcode::fsync:
  case wire::Opcode::fsyncdir:
  case wire::Opcode::syncfs:
  case wire::Opcode::setxattr:
  case wire::Opcode::removexattr:
  case wire::Opcode::fallocate:
  case wire::Opcode::copy_file_range:
  case wire::Opcode::copy_file_range_64: return true;
  case wire::Opcode::ioctl: return !handlers::is_answered_at_once(request);
  default: return false;
  }
}

void Dispatcher::undelivered(const Request &request, const Reply &reply) {
  if (reply.error() != 0 || !reply.wanted()) return;
  switch (request.opcode()) {
  case wire::Opcode::lookup:
  case wire::Opcode::mknod:
  case wire::Opcode::mkdir:
  case wire::Opcode::symlink:
  case wire::Opcode::link:
  case wire::Opcode::create:
  case wire::Opcode::tmpfile: {
    wire::EntryOut entry;
    if (reply.payload().size() < sizeof entry) return;
    std::memcpy(&entry, reply.payload().data(), sizeof entry);
    if (entry.node != 0) filesystem_.forget(entry.node, 1);
    return;
  }
  case wire::Opcode::readdirplus:
    for_each_node(reply.payload(), [this](vfs::NodeId node) { filesystem_.forget(node, 1); });
    return;
  default: return;
  }
}

}  // namespace outboard::fuse

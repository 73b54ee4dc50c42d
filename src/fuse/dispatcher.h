// From a request to its reply: one call of the Filesystem each. Knows nothing of how messages travel; thread-safe.
#pragma once

#include "fuse/freeze_control.h"
#include "fuse/reply.h"
#include "fuse/request.h"
#include "fuse/request_counters.h"
#include "vfs/filesystem.h"

#include <cstdint>
#include <optional>
#include <span>

namespace outboard::fuse {

struct DispatchOptions {
  std::uint32_t owner_uid = 0;  // besides root, the one user who may use the control ioctls (vfs/control.h)
  bool read_only = false;
  bool short_setxattr = false;  // setxattr_ext was not negotiated
  bool answer_opens = false;    // for measurements: a request for each open and release
};

class Dispatcher {
public:
  Dispatcher(vfs::Filesystem &filesystem, const DispatchOptions &options)
      : filesystem_(filesystem), options_(options), freeze_control_(filesystem) {}

  // Carries out one request. `reply` then holds the answer, or says that none is wanted.
  // DESTROY calls Filesystem::unmount(): the caller sees to it that no other request is or will be under way.
  void dispatch(Request &request, Reply &reply);

  // The same from message to message. Bytes placed into `out` (at least OutHeader and kLeastReplyRoom), 0 when there is
  // no reply. An error: the message cannot be answered.
  Result<std::size_t> answer(std::span<const std::byte> message, std::span<std::byte> out);

  // A request has come, whatever becomes of it. answer() counts by itself.
  void count(const Request &request) { counters_.count(request.opcode()); }
  const RequestCounters &counters() const { return counters_; }

  // For a request that asks where a file's data is: the kernel sends it while it may still hold data that we have not
  // seen. Before dispatch() it must be made to write that back, from the offset (bytes) returned on.
  std::optional<std::uint64_t> needs_write_back(const Request &request) const;

  // A shutdown that is to take with it what the kernel holds dirty: of every file, before dispatch().
  bool needs_write_back_of_everything(const Request &request) const;

  // It changes something or asks for something to be made durable: it may have to wait for writes to the device, for memory that
  // they give back, or for a thaw. Whatever only reads does not.
  static bool may_wait_for_writes(const Request &request);

  // The kernel did not take this reply (the request is gone): what it was given, lookup counts, is taken back.
  void undelivered(const Request &request, const Reply &reply);

  vfs::Filesystem &filesystem() { return filesystem_; }
  FreezeControl &freeze_control() { return freeze_control_; }
  const DispatchOptions &options() const { return options_; }

private:
  void carry_out(Request &request, Reply &reply);

  vfs::Filesystem &filesystem_;
  const DispatchOptions options_;
  RequestCounters counters_;
  FreezeControl freeze_control_;
};

}  // namespace outboard::fuse

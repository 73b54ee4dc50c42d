// One /dev/fuse descriptor: whole messages in and out. A descriptor has its own queue of requests being worked on, so a
// request is answered on the channel it came from; clones are further queues of the same connection.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "fuse/message_buffer.h"
#include "fuse/reply.h"
#include "vfs/filesystem.h"

#include <span>

namespace outboard::fuse {

enum class Delivery {
  taken,
  gone,  // the request exists no more (aborted): nobody has seen the reply
};

class Channel {
public:
  explicit Channel(UniqueFd descriptor) : descriptor_(std::move(descriptor)) {}

  // A descriptor of /dev/fuse that is not part of a connection yet.
  static Result<UniqueFd> open_device();
  // Another queue of this channel's connection.
  Result<Channel> clone() const;

  // Waits for a request. The message lies in `buffer`; empty when interrupted by a signal (ask again if still wanted).
  // ENODEV: unmounted; ECONNABORTED: the connection was aborted.
  Result<std::span<const std::byte>> receive(RequestBuffer &buffer) const;

  // Sends the reply whose payload is in `buffer`.
  Result<Delivery> send(std::uint64_t unique, const Reply &reply, ReplyBuffer &buffer) const;

  // Makes the kernel write back what it holds dirty of a file from `offset` (bytes) on, and drop what it has cached of
  // that; returns when it is done. The kernel sends WRITEs meanwhile: never called by a thread that others need for
  // serving them. Success too when the kernel does not know the node (ENOENT: nothing cached). Any other error: the
  // kernel could not write it all.
  Status write_back(vfs::NodeId node, std::uint64_t offset) const;

private:
  UniqueFd descriptor_;
};

}  // namespace outboard::fuse

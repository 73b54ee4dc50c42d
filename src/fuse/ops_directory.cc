// Listing directories, without and with each entry looked up on the way.
#include "fuse/directory_reply.h"
#include "fuse/dispatcher.h"
#include "fuse/handlers.h"

namespace outboard::fuse::handlers {

namespace {

Status list(Dispatcher &dispatcher, Request &request, Reply &reply, bool plus) {
  const auto in = TRY(request.arguments<wire::ReadIn>());
  vfs::Filesystem &filesystem = dispatcher.filesystem();
  DirectoryReply sink(reply, in.size, plus);
  Status status = filesystem.read_directory(request.node(), in.offset, plus, sink);
  if (status && sink.met_bad_name())
    status = fail(Error::corrupt("directory entry: a name no directory can hold").of_inode(request.node()));
  if (status || reply.payload().empty()) return status;
  // Entries before the failure are good, and those of a plus listing have been counted: they go out, and the error
  // comes back when the kernel asks for what follows them.
  return {};
}

}  // namespace

Status read_directory(Dispatcher &dispatcher, Request &request, Reply &reply) {
  return list(dispatcher, request, reply, false);
}

Status read_directory_plus(Dispatcher &dispatcher, Request &request, Reply &reply) {
  return list(dispatcher, request, reply, true);
}

}  // namespace outboard::fuse::handlers

// Operations on names: finding, making, moving and removing them.
#include "fuse/dispatcher.h"
#include "fuse/encoding.h"
#include "fuse/handlers.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

namespace outboard::fuse::handlers {

namespace {

void put_entry(Reply &reply, const vfs::Entry &entry) { reply.put(encode(entry)); }

// CREATE and TMPFILE open as well: no handle (docs/fuse.md, "Opens"), and what the kernel has cached of the file stays.
void put_opened(Reply &reply, const vfs::Entry &entry) {
  put_entry(reply, entry);
  reply.put(wire::OpenOut{.handle = 0, .flags = wire::kOpenKeepCache, .backing_id = 0});
}

}  // namespace

Status lookup(Dispatcher &dispatcher, Request &request, Reply &reply) {
  vfs::Filesystem &filesystem = dispatcher.filesystem();
  const std::string_view name = TRY(request.take_name());
  Result<vfs::Entry> entry = filesystem.lookup(request.node(), name);
  if (entry) {
    put_entry(reply, *entry);
    return {};
  }
  if (!entry.error().is(ENOENT) || !filesystem.negative_entries_cacheable(request.node()))
    return fail(std::move(entry).error());
  reply.put(encode_absence());
  return {};
}

Status forget(Dispatcher &dispatcher, Request &request, Reply &) {
  const auto in = TRY(request.arguments<wire::ForgetIn>());
  if (request.node() != 0 && in.lookups != 0) dispatcher.filesystem().forget(request.node(), in.lookups);
  return {};
}

Status batch_forget(Dispatcher &dispatcher, Request &request, Reply &) {
  const auto in = TRY(request.arguments<wire::BatchForgetIn>());
  std::span<const std::byte> records = request.rest();
  for (std::uint32_t i = 0; i < in.count && records.size() >= sizeof(wire::ForgetOne); ++i) {
    wire::ForgetOne one;
    std::memcpy(&one, records.data(), sizeof one);
    records = records.subspan(sizeof one);
    if (one.node != 0 && one.lookups != 0) dispatcher.filesystem().forget(one.node, one.lookups);
  }
  return {};
}

Status make_node(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::MknodIn>());
  const std::string_view name = TRY(request.take_proper_name());
  put_entry(reply, TRY(dispatcher.filesystem().make_node(request.node(), name, in.mode, makedev_from_packed(in.device),
                                                         request.caller(in.umask))));
  return {};
}

Status make_directory(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::MkdirIn>());
  const std::string_view name = TRY(request.take_proper_name());
  const std::uint32_t mode = (in.mode & 07777u) | S_IFDIR;
  put_entry(reply, TRY(dispatcher.filesystem().make_directory(request.node(), name, mode, request.caller(in.umask))));
  return {};
}

Status make_symlink(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const std::string_view name = TRY(request.take_proper_name());
  const std::string_view target = TRY(request.take_text());
  if (target.size() >= PATH_MAX) return fail(Error::user(ENAMETOOLONG));
  put_entry(reply, TRY(dispatcher.filesystem().make_symlink(request.node(), name, target, request.caller())));
  return {};
}

Status create(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::CreateIn>());
  const std::string_view name = TRY(request.take_proper_name());
  vfs::Filesystem &filesystem = dispatcher.filesystem();
  const std::uint32_t mode = (in.mode & 07777u) | S_IFREG;
  Result<vfs::Entry> entry = filesystem.make_node(request.node(), name, mode, 0, request.caller(in.umask));
  // The kernel sends CREATE for names it believes absent. Should it be wrong, open(2) without O_EXCL takes what is
  // there (a truncation, if asked for, follows as SETATTR).
  if (!entry && entry.error().is(EEXIST) && (in.flags & O_EXCL) == 0) entry = filesystem.lookup(request.node(), name);
  put_opened(reply, TRY(std::move(entry)));
  return {};
}

Status make_temporary(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::CreateIn>());  // the name that follows is the kernel's invention
  const std::uint32_t mode = (in.mode & 07777u) | S_IFREG;
  put_opened(reply, TRY(dispatcher.filesystem().make_temporary(request.node(), mode, request.caller(in.umask))));
  return {};
}

Status link(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::LinkIn>());
  const std::string_view name = TRY(request.take_proper_name());
  put_entry(reply, TRY(dispatcher.filesystem().link(in.node, request.node(), name)));
  return {};
}

Status unlink(Dispatcher &dispatcher, Request &request, Reply &) {
  return dispatcher.filesystem().unlink(request.node(), TRY(request.take_proper_name()));
}

Status remove_directory(Dispatcher &dispatcher, Request &request, Reply &) {
  return dispatcher.filesystem().remove_directory(request.node(), TRY(request.take_proper_name()));
}

namespace {

Status move(Dispatcher &dispatcher, Request &request, vfs::NodeId new_parent, std::uint32_t flags) {
  const std::string_view from = TRY(request.take_proper_name());
  const std::string_view to = TRY(request.take_proper_name());
  return dispatcher.filesystem().rename(request.node(), from, new_parent, to, flags, request.caller());
}

}  // namespace

Status rename(Dispatcher &dispatcher, Request &request, Reply &) {
  return move(dispatcher, request, TRY(request.arguments<wire::RenameIn>()).new_parent, 0);
}

Status rename_with_flags(Dispatcher &dispatcher, Request &request, Reply &) {
  const auto in = TRY(request.arguments<wire::Rename2In>());
  return move(dispatcher, request, in.new_parent, in.flags);
}

Status read_link(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const std::string target = TRY(dispatcher.filesystem().read_link(request.node()));
  // The kernel has one page for it, less one byte for its NUL.
  if (target.empty() || target.size() >= PATH_MAX)
    return fail(Error::corrupt("symbolic link: target empty or longer than a path").of_inode(request.node()));
  std::memcpy(reply.room().data(), target.data(), target.size());
  reply.commit(target.size());
  return {};
}

}  // namespace outboard::fuse::handlers

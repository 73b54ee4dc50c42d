// Operations on a file's contents. Opens have no state of their own here (docs/fuse.md, "Opens").
#include "fuse/dispatcher.h"
#include "fuse/handlers.h"

#include <algorithm>
#include <cstdint>
#include <fcntl.h>
#include <unistd.h>

namespace outboard::fuse::handlers {

namespace {

// One COPY_FILE_RANGE keeps its worker for at most this long a copy; a short count makes the caller ask again.
constexpr std::uint64_t kCopyAtOnce = 64u << 20;

constexpr std::uint64_t kOffsetMax = static_cast<std::uint64_t>(INT64_MAX);

// Offsets are off_t on the other side: nothing may reach beyond its range.
Status check_range(std::uint64_t offset, std::uint64_t length) {
  if (offset > kOffsetMax) return fail(Error::user(EINVAL, "request: negative offset"));
  if (length > kOffsetMax - offset) return fail(Error::user(EFBIG));
  return {};
}

}  // namespace

// ENOSYS makes the kernel open files without us from then on.
Status open(Dispatcher &dispatcher, Request &, Reply &reply) {
  if (!dispatcher.options().answer_opens) return fail(Error::user(ENOSYS));
  reply.put(wire::OpenOut{.handle = 0, .flags = wire::kOpenKeepCache, .backing_id = 0});
  return {};
}

Status open_directory(Dispatcher &, Request &, Reply &) { return fail(Error::user(ENOSYS)); }

// Comes for files made by CREATE before the kernel has learned that there are no opens.
Status release(Dispatcher &, Request &, Reply &) { return {}; }

Status read(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::ReadIn>());
  TRY(check_range(in.offset, in.size));
  if (in.size > reply.room().size()) return fail(Error::user(EINVAL, "read: more than was negotiated"));
  reply.commit(TRY(dispatcher.filesystem().read(request.node(), in.offset, reply.room().first(in.size))));
  return {};
}

Status write(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::WriteIn>());
  TRY(check_range(in.offset, in.size));
  const std::span<const std::byte> data = TRY(request.data(in.size));
  const vfs::WriteFlags flags{.kill_privileges = (in.write_flags & wire::kWriteKillSuidgid) != 0,
                              .writer_gid = request.header().gid,
                              .direct = (in.flags & O_DIRECT) != 0,
                              .from_page_cache = (in.write_flags & wire::kWriteCache) != 0};
  std::size_t written = TRY(dispatcher.filesystem().write(request.node(), in.offset, data, flags));
  // A program that is told of a short count comes again for the rest. The kernel's own write-back does not look at the
  // count: for it, whatever was not written must be an error, which the next fsync then hears of.
  while (flags.from_page_cache && written < data.size()) {
    const std::size_t more =
        TRY(dispatcher.filesystem().write(request.node(), in.offset + written, data.subspan(written), flags));
    if (more == 0) return fail(Error::user(EIO, "write-back: no progress"));
    written += more;
  }
  reply.put(wire::WriteOut{.size = static_cast<std::uint32_t>(written), .padding = 0});
  return {};
}

Status allocate(Dispatcher &dispatcher, Request &request, Reply &) {
  const auto in = TRY(request.arguments<wire::FallocateIn>());
  TRY(check_range(in.offset, in.length));
  if (in.length == 0) return fail(Error::user(EINVAL));
  return dispatcher.filesystem().allocate(request.node(), in.offset, in.length, static_cast<int>(in.mode));
}

Status seek(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::LseekIn>());
  TRY(check_range(in.offset, 0));
  if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE) return fail(Error::user(EINVAL));
  const vfs::Seek what = in.whence == SEEK_DATA ? vfs::Seek::data : vfs::Seek::hole;
  reply.put(wire::LseekOut{.offset = TRY(dispatcher.filesystem().seek(request.node(), in.offset, what))});
  return {};
}

namespace {

Result<std::uint64_t> copy(Dispatcher &dispatcher, Request &request) {
  const auto in = TRY(request.arguments<wire::CopyFileRangeIn>());
  TRY(check_range(in.offset_in, in.length));
  TRY(check_range(in.offset_out, in.length));
  if (in.flags != 0) return fail(Error::user(EINVAL));
  const std::size_t length = static_cast<std::size_t>(std::min(in.length, kCopyAtOnce));
  return TRY(
      dispatcher.filesystem().copy_range(request.node(), in.offset_in, in.node_out, in.offset_out, length));
}

}  // namespace

Status copy_range(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const std::uint64_t copied = TRY(copy(dispatcher, request));
  reply.put(wire::WriteOut{.size = static_cast<std::uint32_t>(copied), .padding = 0});
  return {};
}

Status copy_range_64(Dispatcher &dispatcher, Request &request, Reply &reply) {
  reply.put(wire::CopyFileRangeOut{.copied = TRY(copy(dispatcher, request))});
  return {};
}

Status map_block(Dispatcher &dispatcher, Request &request, Reply &reply) {
  const auto in = TRY(request.arguments<wire::BmapIn>());
  if (in.block_size == 0) return fail(Error::user(EINVAL, "bmap: block size of zero"));
  reply.put(wire::BmapOut{
      .block = TRY(dispatcher.filesystem().map_block(request.node(), in.block, in.block_size))});
  return {};
}

Status sync(Dispatcher &dispatcher, Request &request, Reply &) {
  const auto in = TRY(request.arguments<wire::FsyncIn>());
  return dispatcher.filesystem().sync(request.node(), (in.flags & wire::kFsyncDataOnly) != 0);
}

}  // namespace outboard::fuse::handlers

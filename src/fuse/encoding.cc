#include "fuse/encoding.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace outboard::fuse {

namespace {

wire::StatxTime encode(const vfs::Timestamp &time) { return {time.seconds, time.nanoseconds, 0}; }

Result<vfs::Timestamp> decode_time(std::uint64_t seconds, std::uint32_t nanoseconds) {
  if (nanoseconds >= 1'000'000'000u) return fail(Error::user(EINVAL, "setattr: nanoseconds of a second or more"));
  return vfs::Timestamp{static_cast<std::int64_t>(seconds), nanoseconds};
}

}  // namespace

wire::Attr encode(const vfs::Attributes &a) {
  return {.inode = a.inode,
          .size = a.size,
          .blocks = a.sectors,
          .atime = static_cast<std::uint64_t>(a.accessed.seconds),
          .mtime = static_cast<std::uint64_t>(a.modified.seconds),
          .ctime = static_cast<std::uint64_t>(a.changed.seconds),
          .atime_nsec = a.accessed.nanoseconds,
          .mtime_nsec = a.modified.nanoseconds,
          .ctime_nsec = a.changed.nanoseconds,
          .mode = a.mode,
          .links = a.links,
          .uid = a.uid,
          .gid = a.gid,
          .device = pack_device(a.device_major, a.device_minor),
          .block_size = a.block_size,
          .flags = 0};
}

wire::EntryOut encode(const vfs::Entry &entry) {
  return {.node = entry.node,
          .generation = entry.generation,
          .entry_valid = entry.cacheable ? kForever : 0,
          .attr_valid = kForever,
          .entry_valid_nsec = 0,
          .attr_valid_nsec = 0,
          .attr = encode(entry.attributes)};
}

wire::EntryOut encode_absence() {
  wire::EntryOut out{};
  out.entry_valid = kForever;
  return out;
}

wire::AttrOut encode_reply(const vfs::Attributes &attributes) {
  return {.attr_valid = kForever, .attr_valid_nsec = 0, .padding = 0, .attr = encode(attributes)};
}

wire::StatxOut encode_statx(const vfs::Attributes &a) {
  wire::StatxOut out{};
  out.attr_valid = kForever;
  wire::Statx &s = out.stat;
  s.mask = STATX_BASIC_STATS | STATX_BTIME;
  s.block_size = a.block_size;
  s.attributes = a.statx_attributes;
  s.attributes_mask = a.statx_attributes_mask;
  s.links = a.links;
  s.uid = a.uid;
  s.gid = a.gid;
  s.mode = static_cast<std::uint16_t>(a.mode);
  s.inode = a.inode;
  s.size = a.size;
  s.blocks = a.sectors;
  s.atime = encode(a.accessed);
  s.btime = encode(a.born);
  s.ctime = encode(a.changed);
  s.mtime = encode(a.modified);
  s.device_major = a.device_major;
  s.device_minor = a.device_minor;
  return out;
}

wire::StatfsOut encode(const vfs::Statistics &s) {
  wire::StatfsOut out{};
  out.blocks = s.blocks;
  out.free_blocks = s.free_blocks;
  out.available_blocks = s.available_blocks;
  out.files = s.inodes;
  out.free_files = s.free_inodes;
  out.block_size = s.block_size;
  out.name_max = s.name_max;
  out.fragment_size = s.block_size;
  return out;
}

Result<vfs::SetAttributes> decode(const wire::SetattrIn &in) {
  namespace valid = wire::setattr_valid;
  vfs::SetAttributes changes;
  if (in.valid & valid::mode) changes.mode = in.mode;
  if (in.valid & valid::uid) changes.uid = in.uid;
  if (in.valid & valid::gid) changes.gid = in.gid;
  if (in.valid & valid::size) changes.size = in.size;
  if (in.valid & valid::atime) changes.accessed = TRY(decode_time(in.atime, in.atime_nsec));
  if (in.valid & valid::mtime) changes.modified = TRY(decode_time(in.mtime, in.mtime_nsec));
  if (in.valid & valid::ctime) changes.changed = TRY(decode_time(in.ctime, in.ctime_nsec));
  changes.accessed_now = (in.valid & valid::atime_now) != 0;
  changes.modified_now = (in.valid & valid::mtime_now) != 0;
  changes.kill_privileges = (in.valid & valid::kill_suidgid) != 0;
  return changes;
}

std::uint32_t pack_device(std::uint32_t device_major, std::uint32_t device_minor) {
  return (device_minor & 0xffu) | ((device_major & 0xfffu) << 8) | ((device_minor & 0xfff00u) << 12);
}

std::uint64_t makedev_from_packed(std::uint32_t packed) {
  const std::uint32_t device_major = (packed >> 8) & 0xfffu;
  const std::uint32_t device_minor = (packed & 0xffu) | ((packed >> 12) & 0xfff00u);
  return makedev(device_major, device_minor);
}

}  // namespace outboard::fuse

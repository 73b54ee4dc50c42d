// ioctl: inode flags, projects, the label, FITRIM. (The mount's own controls are the transport's: control.h.)
#include "ext4/block_alloc.h"
#include "ext4/inode_flags.h"
#include "vfs/mounted_volume.h"

#include <cstring>
#include <linux/fs.h>

namespace outboard::vfs {

namespace {

// _IOC sizes of the FLAGS and VERSION ioctls say long; what is passed is an int.
constexpr std::uint32_t kGetVersion = _IOR('v', 1, long);
constexpr std::uint32_t kExt4GetVersion = _IOR('f', 3, long);

template <class T> Result<T> take(std::span<const std::byte> in) {
  T value{};
  if (in.size() < sizeof value) return fail(Error::user(EINVAL, "ioctl: argument too short"));
  std::memcpy(&value, in.data(), sizeof value);
  return value;
}

template <class T> Result<std::size_t> give(std::span<std::byte> out, const T &value) {
  if (out.size() < sizeof value) return fail(Error::user(EINVAL, "ioctl: no room for the answer"));
  std::memcpy(out.data(), &value, sizeof value);
  return sizeof value;
}

// Capabilities are not told to a server; user id 0 stands for them.
ext4::inode_flags::Privileges privileges_of(const Caller &caller) {
  return {.may_set_immutable = caller.uid == 0, .may_journal_data = caller.uid == 0};
}

}  // namespace

Result<std::size_t> MountedVolume::inode_ioctl(Inode &inode, std::uint32_t command, std::span<const std::byte> in,
                                               std::span<std::byte> out, const Caller &caller) {
  namespace flags = ext4::inode_flags;
  switch (command) {
  case FS_IOC_GETFLAGS: {
    ReadLock lock(inode.lock);
    return give(out, std::uint32_t{flags::get_flags(inode.disk)});
  }
  case FS_IOC_SETFLAGS: {
    const auto wanted = TRY(take<std::uint32_t>(in));
    const ChangeGate::Pass pass = TRY(begin_change("ioctl", node_of(inode.number)));
    TRY(set_flags(inode, wanted, caller));
    return std::size_t{0};
  }
  case FS_IOC_FSGETXATTR: {
    ReadLock lock(inode.lock);
    const flags::Attributes attributes = flags::get_attributes(inode.disk);
    fsxattr answer{};
    answer.fsx_xflags = attributes.xflags;
    answer.fsx_projid = attributes.project;
    return give(out, answer);
  }
  case FS_IOC_FSSETXATTR: {
    const auto wanted = TRY(take<fsxattr>(in));
    const ChangeGate::Pass pass = TRY(begin_change("ioctl", node_of(inode.number)));
    WriteLock lock(inode.lock);
    if (caller.uid != 0 && caller.uid != inode.disk.fields.uid) return fail(Error::user(EPERM));
    TRY(reported(flags::set_attributes(*volume_, inode.disk, {.xflags = wanted.fsx_xflags, .project = wanted.fsx_projid},
                                       privileges_of(caller))));
    return std::size_t{0};
  }
  case kGetVersion:
  case kExt4GetVersion: {
    ReadLock lock(inode.lock);
    return give(out, std::uint32_t{inode.disk.fields.generation});
  }
  default: return fail(Error::user(ENOTTY));
  }
}

// Whether a file's data is journaled changes with none of it dirty; nobody else changes that while Inode::io is held.
Status MountedVolume::set_flags(Inode &inode, std::uint32_t wanted, const Caller &caller) {
  namespace flags = ext4::inode_flags;
  const auto set = [&]() NO_THREAD_SAFETY_ANALYSIS -> Status {  // the inode is locked
    if (caller.uid != 0 && caller.uid != inode.disk.fields.uid) return fail(Error::user(EPERM));
    return reported(flags::set_flags(*volume_, inode.disk, wanted, privileges_of(caller)));
  };
  WriteLock io(inode.io);
  bool changes_journaling = false;
  {
    ReadLock lock(inode.lock);
    changes_journaling = inode.disk.is_regular() && ((inode.disk.fields.flags ^ wanted) & flags::kJournalData) != 0;
  }
  if (!changes_journaling) {
    WriteLock lock(inode.lock);
    return set();
  }
  CleanLock lock(*this, inode);
  TRY(lock.status());
  return set();
}

Result<std::size_t> MountedVolume::trim(std::span<const std::byte> in, std::span<std::byte> out) {
  const ChangeGate::Pass pass = TRY(begin_change("trim", kRootNode));
  auto range = TRY(take<fstrim_range>(in));
  const std::uint64_t block_size = volume_->block_size();
  const std::uint64_t blocks = volume_->superblock().blocks_count;
  const std::uint64_t start = range.start / block_size;
  if (start >= blocks) return fail(Error::user(EINVAL, "FITRIM: start beyond the file system"));
  if (!volume_->device().properties().discards) return fail(Error::user(EOPNOTSUPP, "FITRIM: the device does not discard"));
  const std::uint64_t length = range.len / block_size;
  const std::uint64_t end = length >= blocks - start ? blocks : start + length;
  const std::uint64_t minimum = std::max<std::uint64_t>(1, divide_up(range.minlen, static_cast<__u64>(block_size)));
  if (minimum > volume_->superblock().blocks_per_group) return fail(Error::user(EINVAL, "FITRIM: minlen beyond a group"));
  // What deleted files held is free only when their transaction is durable.
  reclaim_space();
  const std::uint64_t trimmed = TRY(reported(
      volume_->blocks().trim(BlockNumber(start), BlockNumber(end), static_cast<std::uint32_t>(minimum))));
  range.len = trimmed * block_size;
  return give(out, range);
}

Result<std::size_t> MountedVolume::ioctl(NodeId node, std::uint32_t command, std::span<const std::byte> in,
                                         std::span<std::byte> out, const Caller &caller) {
  InodeRef inode = TRY(find(node));
  switch (command) {
  case FS_IOC_GETFSLABEL: {
    const std::string label = volume_->label();
    char answer[FSLABEL_MAX] = {};
    std::memcpy(answer, label.data(), std::min(label.size(), sizeof answer - 1));
    return give(out, answer);
  }
  case FS_IOC_SETFSLABEL: {
    if (caller.uid != 0) return fail(Error::user(EPERM));
    const ChangeGate::Pass pass = TRY(begin_change("ioctl", node));
    const std::string_view text(reinterpret_cast<const char *>(in.data()), in.size());
    const std::string_view label = text.substr(0, text.find('\0'));
    TRY(reported(ext4::inode_flags::set_label(*volume_, label)));
    return std::size_t{0};
  }
  case FITRIM:
    if (caller.uid != 0) return fail(Error::user(EPERM));
    return trim(in, out);
  default: return inode_ioctl(*inode, command, in, out, caller);
  }
}

}  // namespace outboard::vfs

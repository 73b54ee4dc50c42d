// The four xattr calls.
#include "ext4/xattrs.h"
#include "vfs/mounted_volume.h"

#include <cstring>
#include <sys/stat.h>
#include <sys/xattr.h>

namespace outboard::vfs {

namespace {
// getxattr and listxattr: no buffer asks for the size.
template <class Bytes> Result<std::size_t> hand_out(const Bytes &bytes, std::span<std::byte> into) {
  if (into.empty()) return bytes.size();
  if (bytes.size() > into.size()) return fail(Error::user(ERANGE));
  if (!bytes.empty()) std::memcpy(into.data(), bytes.data(), bytes.size());
  return bytes.size();
}
}  // namespace

Result<std::size_t> MountedVolume::get_xattr(NodeId node, std::string_view name, std::span<std::byte> into) {
  TRY(check_running());
  InodeRef inode = TRY(find(node));
  ReadLock lock(inode->lock);
  const std::vector<std::byte> value = TRY(reported(ext4::xattrs::get(*volume_, inode->disk, name)));
  return hand_out(value, into);
}

Result<std::size_t> MountedVolume::list_xattrs(NodeId node, std::span<std::byte> into) {
  InodeRef inode = TRY(find(node));
  ReadLock lock(inode->lock);
  std::string all;
  for (const std::string &name : TRY(reported(ext4::xattrs::list(*volume_, inode->disk)))) {
    all += name;
    all += '\0';
  }
  return hand_out(all, into);
}

Status MountedVolume::set_xattr(NodeId node, std::string_view name, std::span<const std::byte> value, int flags,
                                bool clear_setgid) {
  const ChangeGate::Pass pass = TRY(begin_change("setxattr", node));
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) return fail(Error::user(EINVAL));
  const auto mode = (flags & XATTR_CREATE) != 0    ? ext4::xattrs::SetMode::create
                    : (flags & XATTR_REPLACE) != 0 ? ext4::xattrs::SetMode::replace
                                                   : ext4::xattrs::SetMode::any;
  InodeRef inode = TRY(find(node));
  WriteLock lock(inode->lock);
  if ((inode->disk.fields.flags & (format::kInodeFlagImmutable | format::kInodeFlagAppend)) != 0) return fail(Error::user(EPERM));
  if (clear_setgid) inode->disk.fields.mode = static_cast<std::uint16_t>(inode->disk.fields.mode & ~S_ISGID);
  return reported(ext4::xattrs::set(*volume_, inode->disk, name, value, mode));
}

Status MountedVolume::remove_xattr(NodeId node, std::string_view name) {
  const ChangeGate::Pass pass = TRY(begin_change("removexattr", node));
  InodeRef inode = TRY(find(node));
  WriteLock lock(inode->lock);
  if ((inode->disk.fields.flags & (format::kInodeFlagImmutable | format::kInodeFlagAppend)) != 0) return fail(Error::user(EPERM));
  return reported(ext4::xattrs::remove(*volume_, inode->disk, name));
}

}  // namespace outboard::vfs

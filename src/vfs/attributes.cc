// stat and its opposite: modes, owners, times.
#include "ext4/credits.h"
#include "ext4/inode_alloc.h"
#include "ext4/truncate.h"
#include "ext4/xattrs.h"
#include "vfs/mounted_volume.h"

#include <linux/stat.h>
#include <sys/stat.h>

namespace outboard::vfs {

namespace {

Timestamp to_vfs(format::Timestamp t) { return {t.sec, t.nsec}; }
format::Timestamp to_disk(Timestamp t) { return {t.seconds, t.nanoseconds}; }

// setgid without group execution is no right to run as somebody; it goes only when its owner could not have set it.
std::uint16_t without_privileges(std::uint32_t mode, bool may_keep_setgid) {
  mode &= ~static_cast<std::uint32_t>(S_ISUID);
  if ((mode & S_ISGID) != 0 && ((mode & S_IXGRP) != 0 || !may_keep_setgid)) mode &= ~static_cast<std::uint32_t>(S_ISGID);
  return static_cast<std::uint16_t>(mode);
}

struct AttributeBit {
  std::uint32_t flag;
  std::uint64_t statx;
};
constexpr AttributeBit kAttributeBits[] = {
    {format::kInodeFlagAppend, STATX_ATTR_APPEND},       {format::kInodeFlagImmutable, STATX_ATTR_IMMUTABLE},
    {format::kInodeFlagCompressed, STATX_ATTR_COMPRESSED}, {format::kInodeFlagEncrypt, STATX_ATTR_ENCRYPTED},
    {format::kInodeFlagNoDump, STATX_ATTR_NODUMP},       {format::kInodeFlagVerity, STATX_ATTR_VERITY},
};

}  // namespace

Attributes MountedVolume::attributes_of(const Inode &inode) const {
  const format::InodeFields &f = inode.disk.fields;
  Attributes a;
  a.inode = inode.number.value();
  a.mode = f.mode;
  a.links = f.links;
  a.uid = f.uid;
  a.gid = f.gid;
  if (S_ISCHR(f.mode) || S_ISBLK(f.mode)) {
    const format::DeviceNumber device = format::decode_device(f);
    a.device_major = device.major;
    a.device_minor = device.minor;
  }
  // What clients see goes ahead of what is on disk: bytes written, and the space they will take.
  a.size = inode.disk.is_regular() ? inode.pages.size() : f.size;
  a.sectors = f.sectors + inode.disk.delayed.promised.count() * (volume_->block_size() / 512);
  a.block_size = volume_->block_size();
  a.accessed = to_vfs(f.atime);
  a.modified = to_vfs(f.mtime);
  a.changed = to_vfs(f.ctime);
  a.born = to_vfs(f.crtime);
  for (const AttributeBit &bit : kAttributeBits) {
    a.statx_attributes_mask |= bit.statx;
    if ((f.flags & bit.flag) != 0) a.statx_attributes |= bit.statx;
  }
  return a;
}

Result<Attributes> MountedVolume::locked_attributes(Inode &inode) {
  ReadLock lock(inode.lock);
  return attributes_of(inode);
}

Result<Attributes> MountedVolume::get_attributes(NodeId node) {
  InodeRef inode = TRY(find(node));
  return locked_attributes(*inode);
}

Result<Attributes> MountedVolume::set_attributes(NodeId node, const SetAttributes &changes) {
  const ChangeGate::Pass pass = TRY(begin_change("setattr", node));
  InodeRef inode = TRY(find(node));
  {
    ReadLock lock(inode->lock);
    const format::InodeFields &f = inode->disk.fields;
    if ((f.flags & format::kInodeFlagImmutable) != 0) return fail(Error::user(EPERM, "file is immutable"));
    const bool appends_only = (f.flags & format::kInodeFlagAppend) != 0;
    if (appends_only && (changes.mode || changes.uid || changes.gid || changes.size || (changes.accessed && !changes.accessed_now)))
      return fail(Error::user(EPERM, "file is append-only"));
    if (changes.size && inode->disk.is_directory()) return fail(Error::user(EISDIR));
    if (changes.size && !inode->disk.is_regular()) return fail(Error::user(EINVAL));
  }
  if (changes.size) TRY(resize(*inode, *changes.size));
  wait_for_journal();
  WriteLock lock(inode->lock);
  TRY(reported(change_ownership_and_mode(*inode, changes)));
  return attributes_of(*inode);
}

Status MountedVolume::change_ownership_and_mode(Inode &inode, const SetAttributes &changes) {
  jbd2::Handle handle = TRY(volume_->journal().start(ext4::credits::kStoreInode + 2 * ext4::xattrs::set_credits(*volume_)));
  format::InodeFields &f = inode.disk.fields;
  const format::Timestamp now = volume_->now();
  if (!inode.disk.is_directory()) handle.mark_tracked();
  // A new owner of anything but a directory does not get what the old one's programs could do, whoever gives it away.
  const bool given_away = (changes.uid || changes.gid) && !inode.disk.is_directory();
  if (changes.kill_privileges || given_away) {
    // The kernel asks for this with every change of owner; with writes and truncation only for those who may not keep them.
    const bool may_keep_setgid = (given_away && changes.caller.uid == 0) || changes.caller.gid == f.gid;
    f.mode = without_privileges(f.mode, may_keep_setgid);
    Status removed = ext4::xattrs::remove(handle, *volume_, inode.disk, "security.capability");
    if (!removed && !removed.error().is(ENODATA)) return removed;
  }
  if (changes.uid) f.uid = *changes.uid;
  if (changes.gid) f.gid = *changes.gid;
  if (changes.mode) {
    const std::uint32_t mode = (f.mode & S_IFMT) | (*changes.mode & 07777u);
    TRY(ext4::xattrs::change_mode_in_acl(handle, *volume_, inode.disk, mode));
    f.mode = static_cast<std::uint16_t>(mode);
  }
  if (changes.accessed_now) f.atime = now;
  else if (changes.accessed) f.atime = to_disk(*changes.accessed);
  if (changes.modified_now) f.mtime = now;
  else if (changes.modified) f.mtime = to_disk(*changes.modified);
  f.ctime = changes.changed ? to_disk(*changes.changed) : now;
  TRY(volume_->inodes().store(handle, inode.disk, false));
  inode.times_dirty = false;
  handle.finish();
  return {};
}

Status MountedVolume::clear_privileges(Inode &inode, std::uint32_t writer_gid) {
  const std::uint32_t mode = inode.disk.fields.mode;
  const bool setid = without_privileges(mode, writer_gid == inode.disk.fields.gid) != mode;
  // A capability hides in an attribute; asking for it costs a look at the inode's attributes only.
  if (!setid && !ext4::xattrs::get(*volume_, inode.disk, "security.capability")) return {};
  SetAttributes changes;
  changes.kill_privileges = true;
  changes.caller.gid = writer_gid;
  return change_ownership_and_mode(inode, changes);
}

// relatime: an access is worth remembering when the file changed since the last one, or that was a day ago.
void MountedVolume::touch_atime(Inode &inode) {
  if (options_.atime == AtimePolicy::never || volume_->read_only()) return;
  // As the kernel: an access to a frozen file system leaves no trace. (Nobody could write it, so such inodes would pile up.)
  if (freezer_->is_frozen()) return;
  const format::Timestamp now = volume_->now();
  {
    ReadLock lock(inode.lock);
    const format::InodeFields &f = inode.disk.fields;
    if ((f.flags & format::kInodeFlagNoAtime) != 0) return;
    constexpr std::int64_t kDay = 24 * 60 * 60;
    const bool stale = f.atime <= f.mtime || f.atime <= f.ctime || now.sec - f.atime.sec >= kDay;
    if (options_.atime == AtimePolicy::relative && !stale) return;
  }
  WriteLock lock(inode.lock);
  inode.disk.fields.atime = now;
  inode.times_dirty = true;
}

Status MountedVolume::store_times(Inode &inode) {
  wait_for_journal();
  WriteLock lock(inode.lock);
  // Whatever becomes of them, they are not tried again: an inode that stays dirty could never be evicted.
  if (!inode.times_dirty.exchange(false) || volume_->read_only()) return {};
  jbd2::Handle handle = TRY(volume_->journal().start(ext4::credits::kStoreInode));
  if (!inode.disk.is_directory()) handle.mark_tracked();
  TRY(volume_->inodes().store(handle, inode.disk, false));
  handle.finish();
  return {};
}

}  // namespace outboard::vfs

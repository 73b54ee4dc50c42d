// New inodes: with a name, or without one until link() gives it one.
#include "ext4/credits.h"
#include "ext4/fast_commit_tracker.h"
#include "ext4/inode_alloc.h"
#include "ext4/inode_flags.h"
#include "ext4/namespace.h"
#include "ext4/namespace_rules.h"
#include "ext4/orphans.h"
#include "ext4/trace.h"
#include "ext4/xattrs.h"

namespace outboard::ext4::names {
namespace {

// A set-group-id directory hands its group on, and the bit itself to its subdirectories.
struct Ownership {
  std::uint32_t mode, gid;
};
Ownership inherit(const Inode &directory, const NewInode &what) {
  if ((directory.fields.mode & kSetGroupId) == 0) return {what.mode, what.gid};
  const bool subdirectory = (what.mode & kTypeMask) == kSubdirectory;
  return {subdirectory ? what.mode | kSetGroupId : what.mode, directory.fields.gid};
}

Status check_type(const Volume &volume, const NewInode &what) {
  switch (what.mode & kTypeMask) {
  case kSymlink: return check_symlink_target(volume, what.symlink_target);
  case kRegular:
  case kSubdirectory:
  case kCharacterDevice:
  case kBlockDevice:
  case kFifo:
  case kSocket: return {};
  default: return fail(Error::user(EINVAL, "a mode without a file type"));
  }
}

// What the type needs beside the inode: a directory its first block, a link its target, a device its number.
Status fill_in(jbd2::Handle &handle, Volume &volume, const Inode &directory, Inode &inode, const NewInode &what) {
  inode.fields.links = 1;
  switch (what.mode & kTypeMask) {
  case kSubdirectory: {
    inode.fields.links = 2;
    TRY(Directory(volume, inode).initialise(handle, directory.number));
    break;
  }
  case kSymlink: return write_symlink(handle, volume, inode, what.symlink_target);  // links have no ACLs and no umask
  case kCharacterDevice:
  case kBlockDevice:
    inode.fields.flags &= ~inode_flags::kExtents;
    format::encode_device(inode.fields, {what.device_major, what.device_minor});
    break;
  case kFifo:
  case kSocket: break;
  default: break;
  }
  return xattrs::inherit_acls(handle, volume, directory, inode, what.umask);
}

std::uint32_t creation_credits(Volume &volume, const NewInode &what) {
  std::uint32_t blocks = credits::kAllocateInode + credits::kStoreInode + 2 * xattrs::set_credits(volume) + discard_credits();
  if ((what.mode & kTypeMask) == kSubdirectory) blocks += Directory::initialise_credits(volume);
  if ((what.mode & kTypeMask) == kSymlink) blocks += symlink_credits(volume);
  return blocks;
}

Status add_name(jbd2::Handle &handle, Volume &volume, Inode &directory, std::string_view name, Inode &inode) {
  Directory parent(volume, directory);
  // The last step that may fail for want of space, and it changes nothing then.
  TRY(parent.insert(handle, name, inode.number, entry_type(volume, inode.fields.mode)));
  if (inode.is_directory()) count_subdirectory(volume, directory);
  touch_directory(volume, directory);
  return {};
}

}  // namespace

Result<Inode> create(Volume &volume, Inode &directory, std::string_view name, const NewInode &what) {
  TRY(volume.check_writable());
  TRY(check_name(name));
  if (is_dots(name)) return fail(Error::user(EEXIST));
  TRY(check_may_add(directory));
  TRY(check_type(volume, what));
  if ((what.mode & kTypeMask) == kSubdirectory) TRY(check_subdirectory_limit(volume, directory));
  TRY(expect_absent(volume, directory, name));

  const std::uint32_t blocks =
      creation_credits(volume, what) + Directory(volume, directory).insert_credits() + credits::kStoreInode;
  jbd2::Handle handle = TRY(volume.journal().start(blocks));
  const Ownership owner = inherit(directory, what);
  Result<Inode> made = volume.inodes().allocate(handle, directory, owner.mode, what.uid, owner.gid);
  if (!made) {
    handle.finish();
    return made;
  }
  Status filled = fill_in(handle, volume, directory, *made, what);
  if (filled) filled = add_name(handle, volume, directory, name, *made);
  if (!filled) {
    TRY(discard(handle, volume, *made));
    return std::unexpected(filled.error());
  }
  TRY(volume.inodes().store(handle, *made));
  TRY(volume.inodes().store(handle, directory));
  trace::create(directory.number, made->number, made->fields.mode, handle.tid());
  if (made->is_regular()) handle.mark_tracked();
  volume.fast_commits().created(handle, directory, name, *made);
  handle.finish();
  return made;
}

Result<Inode> create_temporary(Volume &volume, Inode &directory, const NewInode &what) {
  TRY(volume.check_writable());
  TRY(check_may_add(directory));
  if ((what.mode & kTypeMask) != kRegular) return fail(Error::user(EINVAL, "only regular files come without a name"));

  jbd2::Handle handle = TRY(volume.journal().start(creation_credits(volume, what)));
  const Ownership owner = inherit(directory, what);
  Result<Inode> made = volume.inodes().allocate(handle, directory, owner.mode, what.uid, owner.gid);
  if (!made) {
    handle.finish();
    return made;
  }
  Status filled = xattrs::inherit_acls(handle, volume, directory, *made, what.umask);
  if (!filled) {
    TRY(discard(handle, volume, *made));
    return std::unexpected(filled.error());
  }
  made->fields.links = 0;
  TRY(volume.orphans().add(handle, *made));  // deleted by recovery unless link() comes first
  TRY(volume.inodes().store(handle, *made));
  trace::create(0, made->number, made->fields.mode, handle.tid());
  handle.finish();
  return made;
}

}  // namespace outboard::ext4::names

// A name goes; with the last one the inode goes on the orphan list, to be deleted when nobody uses it any more.
#include "ext4/credits.h"
#include "ext4/fast_commit_tracker.h"
#include "ext4/inode_alloc.h"
#include "ext4/namespace.h"
#include "ext4/namespace_rules.h"
#include "ext4/orphans.h"
#include "ext4/trace.h"

namespace outboard::ext4::names {
namespace {

Result<jbd2::Handle> start(Volume &volume, Inode &directory) {
  return volume.journal().start(Directory(volume, directory).change_credits() + 2 * credits::kStoreInode +
                                Orphans::kCredits);
}

}  // namespace

Status unlink(Volume &volume, Inode &directory, std::string_view name, Inode &target) {
  TRY(volume.check_writable());
  TRY(check_name(name));
  if (target.is_directory()) return fail(Error::user(EISDIR));
  TRY(check_may_remove(directory, target));
  if (target.fields.links == 0) return fail(Error::corrupt("inode: a name but no links").of_inode(target.number.value()));

  jbd2::Handle handle = TRY(start(volume, directory));
  Status removed = Directory(volume, directory).remove(handle, name, target.number);
  if (!removed) {
    handle.finish();  // remove() changes nothing when it fails
    return removed;
  }
  --target.fields.links;
  target.fields.ctime = volume.now();
  touch_directory(volume, directory);
  if (target.fields.links == 0) TRY(volume.orphans().add(handle, target));
  TRY(volume.inodes().store(handle, target));
  TRY(volume.inodes().store(handle, directory));
  trace::unlink(directory.number, target.number, target.fields.links, handle.tid());
  handle.mark_tracked();
  volume.fast_commits().unlinked(handle, directory, name, target);
  handle.finish();
  return {};
}

Status remove_directory(Volume &volume, Inode &directory, std::string_view name, Inode &target) {
  TRY(volume.check_writable());
  if (name == ".") return fail(Error::user(EINVAL));
  if (name == "..") return fail(Error::user(ENOTEMPTY));
  TRY(check_name(name));
  if (!target.is_directory()) return fail(Error::user(ENOTDIR));
  TRY(check_may_remove(directory, target));
  if (target.number == directory.number)
    return fail(Error::corrupt("directory: holds itself").of_inode(directory.number.value()));
  if (!TRY(Directory(volume, target).empty())) return fail(Error::user(ENOTEMPTY));

  jbd2::Handle handle = TRY(start(volume, directory));
  Status removed = Directory(volume, directory).remove(handle, name, target.number);
  if (!removed) {
    handle.finish();
    return removed;
  }
  target.fields.links = 0;
  target.fields.ctime = volume.now();
  uncount_subdirectory(directory);
  touch_directory(volume, directory);
  TRY(volume.orphans().add(handle, target));
  TRY(volume.inodes().store(handle, target));
  TRY(volume.inodes().store(handle, directory));
  trace::rmdir(directory.number, target.number, handle.tid());
  handle.finish();
  return {};
}

}  // namespace outboard::ext4::names

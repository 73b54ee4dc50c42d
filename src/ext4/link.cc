// One more name for an inode.
#include "ext4/credits.h"
#include "ext4/fast_commit_tracker.h"
#include "ext4/inode_alloc.h"
#include "ext4/inode_flags.h"
#include "ext4/namespace.h"
#include "ext4/namespace_rules.h"
#include "ext4/orphans.h"
#include "ext4/trace.h"

namespace outboard::ext4::names {

Status link(Volume &volume, Inode &directory, std::string_view name, Inode &target) {
  TRY(volume.check_writable());
  TRY(check_name(name));
  if (is_dots(name)) return fail(Error::user(EEXIST));
  TRY(check_may_add(directory));
  if (target.is_directory()) return fail(Error::user(EPERM, "a directory has one name"));
  TRY(inode_flags::check_changeable(target));
  // A file that lost its last name stays without; one that never had a name (create_temporary) is on the orphan list too,
  // and which of the two it is, the caller knows.
  if (target.fields.links == 0 && !target.on_orphan_list) return fail(Error::user(ENOENT, "the file has been removed"));
  if (target.fields.links >= kMaxLinks) return fail(Error::user(EMLINK));
  if (inode_flags::project_forbids_entry(volume, directory, target)) return fail(Error::user(EXDEV));
  TRY(expect_absent(volume, directory, name));

  Directory parent(volume, directory);
  jbd2::Handle handle =
      TRY(volume.journal().start(parent.insert_credits() + 2 * credits::kStoreInode + Orphans::kCredits));
  Status inserted = parent.insert(handle, name, target.number, entry_type(volume, target.fields.mode));
  if (!inserted) {
    handle.finish();  // insert() changes nothing when it fails
    return inserted;
  }
  const bool was_nameless = target.fields.links == 0;
  ++target.fields.links;
  target.fields.ctime = volume.now();
  if (was_nameless) TRY(volume.orphans().remove(handle, target));
  touch_directory(volume, directory);
  TRY(volume.inodes().store(handle, target));
  TRY(volume.inodes().store(handle, directory));
  trace::link(directory.number, target.number, target.fields.links, handle.tid());
  // A first name after all is nothing that a record says.
  if (!was_nameless) handle.mark_tracked();
  volume.fast_commits().linked(handle, directory, name, target);
  handle.finish();
  return {};
}

}  // namespace outboard::ext4::names

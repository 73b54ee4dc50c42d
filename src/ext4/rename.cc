// Names move: onto nothing, onto another name, or two change places. One transaction.
//
// Order. Everything that may be refused is checked first, both names are looked up (so that the blocks a change needs have
// been read), then the space-needing steps run (the whiteout's inode, the new name), and only then the steps that cannot be
// refused. A failure among the last ones leaves the handle unfinished: the journal aborts and the disk keeps the last commit.
#include "ext4/xattrs.h"
#include "ext4/credits.h"
#include "ext4/fast_commit_tracker.h"
#include "ext4/inode_alloc.h"
#include "ext4/inode_flags.h"
#include "ext4/namespace.h"
#include "ext4/namespace_rules.h"
#include "ext4/orphans.h"
#include "ext4/trace.h"

namespace outboard::ext4::names {
namespace {

bool across(const Rename &what) { return what.old_directory != what.new_directory; }

// A directory that changes its parent must agree on who the parent is, or the link counts would drift.
Status check_parent(Volume &volume, const Inode &subdirectory, const Inode &parent) {
  const DirectoryMatch up = TRY(Directory::find(volume, subdirectory, ".."));
  if (up.inode != parent.number)
    return fail(Error::corrupt("directory: .. is not the parent").of_inode(subdirectory.number.value()));
  return {};
}

Status check_names(const Rename &what) {
  TRY(check_name(what.old_name));
  TRY(check_name(what.new_name));
  if (is_dots(what.old_name) || is_dots(what.new_name)) return fail(Error::user(EBUSY));
  if (what.exchange && what.whiteout) return fail(Error::user(EINVAL, "exchange leaves nothing to white out"));
  if (what.exchange && what.target == nullptr) return fail(Error::user(ENOENT));
  return {};
}

Status check_permitted(Volume &volume, const Rename &what) {
  for (const Inode *directory : {what.old_directory, what.new_directory}) {
    if (what.source->number == directory->number) return fail(Error::user(EINVAL, "a directory into itself"));
    if (what.target != nullptr && what.target->number == directory->number) return fail(Error::user(ENOTEMPTY));
  }
  TRY(check_may_remove(*what.old_directory, *what.source));
  if (what.target != nullptr) TRY(check_may_remove(*what.new_directory, *what.target));
  else TRY(check_may_add(*what.new_directory));
  if (inode_flags::project_forbids_entry(volume, *what.new_directory, *what.source)) return fail(Error::user(EXDEV));
  if (what.exchange && inode_flags::project_forbids_entry(volume, *what.old_directory, *what.target))
    return fail(Error::user(EXDEV));
  return {};
}

Status check_present(Volume &volume, const Rename &what) {
  TRY(expect_entry(volume, *what.old_directory, what.old_name, *what.source));
  if (what.target != nullptr) return expect_entry(volume, *what.new_directory, what.new_name, *what.target);
  return expect_absent(volume, *what.new_directory, what.new_name);
}

// A target that is to be replaced must be of the same sort, and empty if a directory.
Status check_replaceable(Volume &volume, const Rename &what) {
  if (what.target->is_directory() && !what.source->is_directory()) return fail(Error::user(EISDIR));
  if (!what.target->is_directory() && what.source->is_directory()) return fail(Error::user(ENOTDIR));
  if (what.target->is_directory() && !TRY(Directory(volume, *what.target).empty())) return fail(Error::user(ENOTEMPTY));
  if (what.target->fields.links == 0)
    return fail(Error::corrupt("inode: a name but no links").of_inode(what.target->number.value()));
  return {};
}

// Subdirectories that a directory gains (+1), keeps (0) or loses (-1).
void adjust_subdirectories(const Volume &volume, Inode &directory, int change) {
  if (change > 0) count_subdirectory(volume, directory);
  if (change < 0) uncount_subdirectory(directory);
}

Status set_parent(jbd2::Handle &handle, Volume &volume, Inode &subdirectory, const Inode &parent) {
  return Directory(volume, subdirectory).replace(handle, "..", parent.number, entry_type(volume, kSubdirectory));
}

std::uint32_t rename_credits(Volume &volume, const Rename &what) {
  Directory from(volume, *what.old_directory), to(volume, *what.new_directory);
  std::uint32_t blocks = from.change_credits() + (what.target != nullptr ? to.change_credits() : to.insert_credits());
  blocks += 2 * to.change_credits();        // the ".." of what moves
  blocks += 4 * credits::kStoreInode;       // both directories, source, target
  blocks += Orphans::kCredits;              // the target
  if (what.whiteout) blocks += credits::kAllocateInode + 2 * xattrs::set_credits(volume) + discard_credits();
  return blocks;
}

// Times, and every inode the operation touched. The target's orphan entry is the caller's.
Status store_all(jbd2::Handle &handle, Volume &volume, const Rename &what) {
  what.source->fields.ctime = volume.now();
  if (what.target != nullptr) what.target->fields.ctime = volume.now();
  trace::rename(what.source->number, what.old_directory->number, what.new_directory->number,
                what.target != nullptr ? what.target->number.value() : 0, handle.tid());
  touch_directory(volume, *what.old_directory);
  if (across(what)) touch_directory(volume, *what.new_directory);
  TRY(volume.inodes().store(handle, *what.source));
  if (what.target != nullptr) TRY(volume.inodes().store(handle, *what.target));
  TRY(volume.inodes().store(handle, *what.old_directory));
  if (across(what)) TRY(volume.inodes().store(handle, *what.new_directory));
  return {};
}

Status exchange(Volume &volume, const Rename &what) {
  Inode &source = *what.source, &target = *what.target;
  const bool differ = across(what) && source.is_directory() != target.is_directory();
  if (across(what)) {
    if (source.is_directory()) TRY(check_parent(volume, source, *what.old_directory));
    if (target.is_directory()) TRY(check_parent(volume, target, *what.new_directory));
    if (differ) TRY(check_subdirectory_limit(volume, source.is_directory() ? *what.new_directory : *what.old_directory));
  }
  jbd2::Handle handle = TRY(volume.journal().start(rename_credits(volume, what)));
  Status replaced = Directory(volume, *what.old_directory)
                        .replace(handle, what.old_name, target.number, entry_type(volume, target.fields.mode));
  if (!replaced) {
    handle.finish();  // replace() changes nothing when it fails
    return replaced;
  }
  TRY(Directory(volume, *what.new_directory)
          .replace(handle, what.new_name, source.number, entry_type(volume, source.fields.mode)));
  if (across(what) && source.is_directory()) TRY(set_parent(handle, volume, source, *what.new_directory));
  if (across(what) && target.is_directory()) TRY(set_parent(handle, volume, target, *what.old_directory));
  if (differ) {
    adjust_subdirectories(volume, *what.new_directory, source.is_directory() ? 1 : -1);
    adjust_subdirectories(volume, *what.old_directory, source.is_directory() ? -1 : 1);
  }
  TRY(store_all(handle, volume, what));
  handle.finish();
  return {};
}

Result<Inode> make_whiteout(jbd2::Handle &handle, Volume &volume, const Rename &what) {
  const Inode &directory = *what.old_directory;
  const std::uint32_t gid = (directory.fields.mode & kSetGroupId) != 0 ? directory.fields.gid : what.gid;
  Inode inode = TRY(volume.inodes().allocate(handle, directory, kCharacterDevice, what.uid, gid));
  inode.fields.links = 1;
  inode.fields.flags &= ~inode_flags::kExtents;
  format::encode_device(inode.fields, {0, 0});
  return inode;
}

// The name at its new place. The last step that may fail for want of space.
Status take_new_name(jbd2::Handle &handle, Volume &volume, const Rename &what) {
  Directory to(volume, *what.new_directory);
  const std::uint8_t type = entry_type(volume, what.source->fields.mode);
  if (what.target != nullptr) return to.replace(handle, what.new_name, what.source->number, type);
  return to.insert(handle, what.new_name, what.source->number, type);
}

Status leave_old_name(jbd2::Handle &handle, Volume &volume, const Rename &what, const std::optional<Inode> &whiteout) {
  Directory from(volume, *what.old_directory);
  if (!whiteout) return from.remove(handle, what.old_name, what.source->number);
  return from.replace(handle, what.old_name, whiteout->number, entry_type(volume, whiteout->fields.mode));
}

Status settle(jbd2::Handle &handle, Volume &volume, const Rename &what) {
  const bool directory = what.source->is_directory();
  const bool moves = directory && across(what);
  const bool replaces = what.target != nullptr && what.target->is_directory();
  if (moves) TRY(set_parent(handle, volume, *what.source, *what.new_directory));
  adjust_subdirectories(volume, *what.old_directory, moves ? -1 : 0);
  adjust_subdirectories(volume, *what.new_directory, (moves ? 1 : 0) - (replaces ? 1 : 0));
  if (what.target != nullptr) {
    what.target->fields.links = replaces ? 0 : what.target->fields.links - 1;
    what.target->fields.ctime = volume.now();
    if (what.target->fields.links == 0) TRY(volume.orphans().add(handle, *what.target));
  }
  return store_all(handle, volume, what);
}

Result<std::optional<Inode>> move(Volume &volume, const Rename &what) {
  const bool moves = what.source->is_directory() && across(what);
  if (what.target != nullptr) TRY(check_replaceable(volume, what));
  if (moves) TRY(check_parent(volume, *what.source, *what.old_directory));
  if (moves && what.target == nullptr) TRY(check_subdirectory_limit(volume, *what.new_directory));

  jbd2::Handle handle = TRY(volume.journal().start(rename_credits(volume, what)));
  std::optional<Inode> whiteout;
  if (what.whiteout) {
    Result<Inode> made = make_whiteout(handle, volume, what);
    if (!made) {
      handle.finish();
      return std::unexpected(made.error());
    }
    whiteout = *std::move(made);
    // As any other new inode it gets what the directory's default ACL says.
    if (Status acls = xattrs::inherit_acls(handle, volume, *what.old_directory, *whiteout, 0); !acls) {
      TRY(discard(handle, volume, *whiteout));
      return std::unexpected(acls.error());
    }
  }
  Status taken = take_new_name(handle, volume, what);
  if (!taken) {
    if (whiteout) TRY(discard(handle, volume, *whiteout));
    else handle.finish();
    return std::unexpected(taken.error());
  }
  TRY(leave_old_name(handle, volume, what, whiteout));
  if (whiteout) TRY(volume.inodes().store(handle, *whiteout));
  TRY(settle(handle, volume, what));
  if (!what.source->is_directory() && !whiteout) {
    FastCommits &fast_commits = volume.fast_commits();
    handle.mark_tracked();
    if (what.target != nullptr) fast_commits.unlinked(handle, *what.new_directory, what.new_name, *what.target);
    fast_commits.linked(handle, *what.new_directory, what.new_name, *what.source);
    fast_commits.unlinked(handle, *what.old_directory, what.old_name, *what.source);
  }
  handle.finish();
  return whiteout;
}

}  // namespace

Result<std::optional<Inode>> rename(Volume &volume, const Rename &what) {
  TRY(volume.check_writable());
  TRY(check_names(what));
  // Two names of one inode: nothing to do, as rename(2) says.
  if (what.target != nullptr && what.target->number == what.source->number) return std::nullopt;
  TRY(check_permitted(volume, what));
  TRY(check_present(volume, what));
  if (!what.exchange) return move(volume, what);
  TRY(exchange(volume, what));
  return std::nullopt;
}

}  // namespace outboard::ext4::names

// Operations on names: find the inodes, lock them in order, look again under the locks, call ext4::names.
#include "ext4/directory.h"
#include "ext4/inode_alloc.h"
#include "ext4/namespace.h"
#include "vfs/lock_set.h"
#include "vfs/mounted_volume.h"

#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace outboard::vfs {

Result<InodeRef> MountedVolume::find(NodeId node) { return reported(inodes_->get(number_of(node))); }

Result<InodeRef> MountedVolume::child(Inode &directory, std::string_view name) {
  ReadLock lock(directory.lock);
  if (!directory.disk.is_directory()) return fail(Error::user(ENOTDIR));
  if (directory.disk.fields.links == 0) return fail(Error::user(ENOENT));
  const ext4::DirectoryMatch match = TRY(ext4::Directory(*volume_, directory.disk).lookup(name));
  // Still under the directory's lock: while the name is there its inode is not deleted, nor its number given to another.
  Result<InodeRef> found = inodes_->get(match.inode);
  if (!found && found.error().is(ESTALE))
    return fail(Error::corrupt("directory entry: its inode is not in use").of_inode(match.inode.value()));
  return found;
}

Result<Entry> MountedVolume::entry_of(Inode &inode) {
  Entry entry;
  entry.node = node_of(inode.number);
  {
    ReadLock lock(inode.lock);
    entry.generation = inode.disk.fields.generation;
    entry.attributes = attributes_of(inode);
  }
  inodes_->count_lookup(inode);
  return entry;
}

Result<Entry> MountedVolume::lookup(NodeId parent, std::string_view name) {
  InodeRef directory = TRY(find(parent));
  if (name == ".") return entry_of(*directory);
  InodeRef found = TRY(reported(child(*directory, name)));
  return entry_of(*found);
}

void MountedVolume::forget(NodeId node, std::uint64_t count) { inodes_->forget(number_of(node), count); }

Result<Entry> MountedVolume::make(NodeId parent, std::string_view name, std::uint32_t mode, std::uint64_t device,
                                  std::string_view target, const Caller &caller) {
  const ChangeGate::Pass pass = TRY(begin_change("create", parent));
  InodeRef directory = TRY(find(parent));
  const ext4::names::NewInode what{.mode = mode,
                                   .umask = caller.umask,
                                   .uid = caller.uid,
                                   .gid = caller.gid,
                                   .device_major = gnu_dev_major(device),
                                   .device_minor = gnu_dev_minor(device),
                                   .symlink_target = target};
  for (bool tried = false;; tried = true) {
    InodeRef inode;
    {
      WriteLock lock(directory->lock);
      if (!directory->disk.is_directory()) return fail(Error::user(ENOTDIR));
      if (directory->disk.fields.links == 0) return fail(Error::user(ENOENT));
      Result<ext4::Inode> made = ext4::names::create(*volume_, directory->disk, name, what);
      if (made) {
        inodes_->note_links(*directory, directory->disk.fields.links);
        // Into the table before the directory's lock goes: a lookup that finds the name finds this object.
        inode = inodes_->add(std::move(*made));
      } else if (!made.error().is(ENOSPC) || tried) {
        return fail(reported(std::move(made)).error());
      }
    }
    // The new inode's own lock only now: its number may be below the directory's (docs/locking.md).
    if (inode) return entry_of(*inode);
    reclaim_space();
  }
}

Result<Entry> MountedVolume::make_node(NodeId parent, std::string_view name, std::uint32_t mode, std::uint64_t device,
                                       const Caller &caller) {
  if ((mode & S_IFMT) == 0) mode |= S_IFREG;
  if (S_ISDIR(mode) || S_ISLNK(mode)) return fail(Error::user(EPERM));
  return make(parent, name, mode, device, {}, caller);
}

Result<Entry> MountedVolume::make_directory(NodeId parent, std::string_view name, std::uint32_t mode, const Caller &caller) {
  return make(parent, name, (mode & 07777u) | S_IFDIR, 0, {}, caller);
}

Result<Entry> MountedVolume::make_symlink(NodeId parent, std::string_view name, std::string_view target, const Caller &caller) {
  return make(parent, name, S_IFLNK | 0777u, 0, target, caller);
}

Result<Entry> MountedVolume::make_temporary(NodeId parent, std::uint32_t mode, const Caller &caller) {
  const ChangeGate::Pass pass = TRY(begin_change("tmpfile", parent));
  InodeRef directory = TRY(find(parent));
  const ext4::names::NewInode what{
      .mode = (mode & 07777u) | S_IFREG, .umask = caller.umask, .uid = caller.uid, .gid = caller.gid, .symlink_target = {}};
  InodeRef inode;
  {
    WriteLock lock(directory->lock);
    if (!directory->disk.is_directory()) return fail(Error::user(ENOTDIR));
    ext4::Inode made = TRY(reported(ext4::names::create_temporary(*volume_, directory->disk, what)));
    inode = inodes_->add(std::move(made));
  }
  return entry_of(*inode);
}

Result<Entry> MountedVolume::link(NodeId node, NodeId new_parent, std::string_view new_name) {
  const ChangeGate::Pass pass = TRY(begin_change("link", node));
  InodeRef target = TRY(find(node));
  InodeRef directory = TRY(find(new_parent));
  // Syncs have passed over a file without a name. From the commit that gives it one its data must be found, too.
  if (inodes_->is_nameless(*target)) {
    write_back(*target);
    TRY(record_written(*target));
  }
  {
    LockSet locks{&*target, &*directory};
    Status status = [&]() NO_THREAD_SAFETY_ANALYSIS -> Status {
      if (!directory->disk.is_directory()) return fail(Error::user(ENOTDIR));
      if (directory->disk.fields.links == 0) return fail(Error::user(ENOENT));
      if (target->disk.is_directory()) return fail(Error::user(EPERM));
      TRY(ext4::names::link(*volume_, directory->disk, new_name, target->disk));
      inodes_->note_links(*target, target->disk.fields.links);
      return {};
    }();
    TRY(reported(std::move(status)));
  }
  return entry_of(*target);
}

Status MountedVolume::remove_name(NodeId parent, std::string_view name, bool directory) {
  const ChangeGate::Pass pass = TRY(begin_change("unlink", parent));
  InodeRef parent_inode = TRY(find(parent));
  for (;;) {
    InodeRef target = TRY(reported(child(*parent_inode, name)));
    LockSet locks{&*parent_inode, &*target};
    Result<bool> done = [&]() NO_THREAD_SAFETY_ANALYSIS -> Result<bool> {
      ext4::Inode &dir = parent_inode->disk;
      if (dir.fields.links == 0) return fail(Error::user(ENOENT));
      ext4::DirectoryMatch match = TRY(ext4::Directory(*volume_, dir).lookup(name));
      if (match.inode != target->number) return false;  // renamed meanwhile
      if (directory) {
        TRY(ext4::names::remove_directory(*volume_, dir, name, target->disk));
      } else {
        if (target->disk.is_directory()) return fail(Error::user(EISDIR));
        TRY(ext4::names::unlink(*volume_, dir, name, target->disk));
      }
      inodes_->note_links(*target, target->disk.fields.links);
      inodes_->note_links(*parent_inode, dir.fields.links);
      return true;
    }();
    if (TRY(reported(std::move(done)))) return {};
  }
}

Status MountedVolume::unlink(NodeId parent, std::string_view name) { return remove_name(parent, name, false); }

Status MountedVolume::remove_directory(NodeId parent, std::string_view name) {
  if (name == ".") return fail(Error::user(EINVAL));
  if (name == "..") return fail(Error::user(ENOTEMPTY));
  return remove_name(parent, name, true);
}

Status MountedVolume::check_not_below(InodeNumber directory, InodeNumber source) {
  // A tree is no deeper than it has directories; a loop in ".." is corrupt.
  constexpr unsigned kDeepest = 1u << 20;
  InodeNumber at = directory;
  for (unsigned depth = 0; depth < kDeepest; ++depth) {
    if (at == source) return fail(Error::user(EINVAL, "a directory cannot move below itself"));
    if (at.value() == kRootInode) return {};
    InodeRef inode = TRY(inodes_->get(at));
    ReadLock lock(inode->lock);
    ext4::DirectoryMatch up = TRY(ext4::Directory(*volume_, inode->disk).lookup(".."));
    if (up.inode == at) break;
    at = up.inode;
  }
  return fail(Error::corrupt("directory: \"..\" does not lead to the root").of_inode(directory.value()));
}

Status MountedVolume::rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name,
                             std::uint32_t flags, const Caller &caller) {
  const ChangeGate::Pass pass = TRY(begin_change("rename", parent));
  if ((flags & ~static_cast<std::uint32_t>(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0 ||
      ((flags & RENAME_EXCHANGE) != 0 && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) != 0))
    return fail(Error::user(EINVAL));
  InodeRef old_directory = TRY(find(parent));
  InodeRef new_directory = TRY(find(new_parent));
  // One rename between directories at a time: so that the ancestry checked below stays true until it is done.
  MutexLock one_rename(rename_mutex_);
  for (;;) {
    InodeRef source = TRY(reported(child(*old_directory, name)));
    InodeRef target;
    if (Result<InodeRef> existing = child(*new_directory, new_name)) target = std::move(*existing);
    else if (!existing.error().is(ENOENT)) return fail(reported(std::move(existing)).error());
    Inode *const target_inode = target ? &*target : nullptr;

    if ((flags & RENAME_NOREPLACE) != 0 && target) return fail(Error::user(EEXIST));
    if ((flags & RENAME_EXCHANGE) != 0 && !target) return fail(Error::user(ENOENT));
    if (target && source->number == target->number) return {};  // two names of one file: nothing to do
    if (old_directory->number != new_directory->number) {
      TRY(reported(check_not_below(new_directory->number, source->number)));
      if ((flags & RENAME_EXCHANGE) != 0) TRY(reported(check_not_below(old_directory->number, target->number)));
    } else if (source->number == old_directory->number || (target && target->number == old_directory->number)) {
      return fail(Error::user(EINVAL));
    }

    // Replacing a file by a new one must not leave an empty one after a crash: the new one's data goes first.
    if (target && (flags & RENAME_EXCHANGE) == 0) {
      write_back(*source);
      TRY(record_written(*source));
      wait_for_journal();
    }

    LockSet locks{&*old_directory, &*new_directory, &*source, target_inode};
    Result<bool> done = [&]() NO_THREAD_SAFETY_ANALYSIS -> Result<bool> {
      if (old_directory->disk.fields.links == 0 || new_directory->disk.fields.links == 0) return fail(Error::user(ENOENT));
      ext4::DirectoryMatch from = TRY(ext4::Directory(*volume_, old_directory->disk).lookup(name));
      Result<ext4::DirectoryMatch> to = ext4::Directory(*volume_, new_directory->disk).lookup(new_name);
      if (!to && !to.error().is(ENOENT)) return fail(to.error());
      if (from.inode != source->number || to.has_value() != static_cast<bool>(target) ||
          (to && to->inode != target->number))
        return false;  // something moved meanwhile: look again
      const ext4::names::Rename what{.old_directory = &old_directory->disk,
                                     .old_name = name,
                                     .source = &source->disk,
                                     .new_directory = &new_directory->disk,
                                     .new_name = new_name,
                                     .target = target ? &target->disk : nullptr,
                                     .exchange = (flags & RENAME_EXCHANGE) != 0,
                                     .whiteout = (flags & RENAME_WHITEOUT) != 0,
                                     .uid = caller.uid,
                                     .gid = caller.gid};
      std::optional<ext4::Inode> whiteout = TRY(ext4::names::rename(*volume_, what));
      if (whiteout) InodeRef made = inodes_->add(std::move(*whiteout));
      inodes_->note_links(*old_directory, old_directory->disk.fields.links);
      inodes_->note_links(*new_directory, new_directory->disk.fields.links);
      if (target) inodes_->note_links(*target, target->disk.fields.links);
      return true;
    }();
    if (TRY(reported(std::move(done)))) return {};
  }
}

Result<std::string> MountedVolume::read_link(NodeId node) {
  InodeRef inode = TRY(find(node));
  ReadLock lock(inode->lock);
  if (!inode->disk.is_symlink()) return fail(Error::user(EINVAL));
  return reported(ext4::names::read_link(*volume_, inode->disk));
}

}  // namespace outboard::vfs

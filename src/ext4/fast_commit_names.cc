// Records of names in fast commits.
#include "ext4/credits.h"
#include "ext4/directory.h"
#include "ext4/fast_commit_apply.h"
#include "ext4/inode_alloc.h"
#include "ext4/namespace_rules.h"

#include <algorithm>

namespace outboard::ext4 {

// The directory that the record changes; null when there is none.
Result<FastCommitApply::Subject *> FastCommitApply::parent_of(const Record &record) {
  if (!names::check_name(record.name) || names::is_dots(record.name))
    return fail(Error::corrupt("fast commit: name").of_inode(record.inode.value()));
  Subject *parent = TRY(subject(record.parent));
  if (!parent->exists() || !parent->inode.is_directory() || parent->inode.fields.size == 0) return nullptr;
  return parent;
}

// The name, and what counts it. A name that exists stays what it is.
Status FastCommitApply::insert(Subject &parent, const Record &record, Subject &target) {
  Directory directory(volume_, parent.inode);
  const Result<DirectoryMatch> existing = directory.lookup(record.name);
  if (existing) return {};
  if (!existing.error().is(ENOENT)) return fail(existing.error());
  if (target.inode.fields.links >= names::kMaxLinks)
    return fail(Error::corrupt("fast commit: more names than an inode can have").of_inode(record.inode.value()));
  jbd2::Handle handle = TRY(volume_.journal().start(directory.insert_credits() + 2 * credits::kStoreInode));
  Status done = directory.insert(handle, record.name, record.inode, names::entry_type(volume_, target.inode.fields.mode));
  if (done) {
    if (target.inode.is_directory()) names::count_subdirectory(volume_, parent.inode);
    else ++target.inode.fields.links;
    names::touch_directory(volume_, parent.inode);
    target.life = Life::alive;
    done = volume_.inodes().store(handle, target.inode);
    if (done) done = volume_.inodes().store(handle, parent.inode);
  }
  handle.finish();
  return done;
}

Status FastCommitApply::create(const Record &record) {
  Subject *parent = TRY(parent_of(record));
  Subject &target = *TRY(subject(record.inode));
  if (parent == nullptr || !target.exists()) return {};
  if (target.inode.is_directory()) {
    if (target.life != Life::nameless || &target == parent)
      return fail(Error::corrupt("fast commit: a directory made twice").of_inode(record.inode.value()));
    TRY(names::check_subdirectory_limit(volume_, parent->inode));
    jbd2::Handle handle = TRY(volume_.journal().start(Directory::initialise_credits(volume_) + credits::kStoreInode));
    Status made = Directory(volume_, target.inode).initialise(handle, record.parent);
    target.inode.fields.links = 2;
    handle.finish();
    TRY(std::move(made));
  }
  return insert(*parent, record, target);
}

Status FastCommitApply::link(const Record &record, const std::vector<Record> &commit) {
  Subject *parent = TRY(parent_of(record));
  Subject &target = *TRY(subject(record.inode));
  if (parent == nullptr) return {};
  if (!target.exists()) {
    // A file that was made without a name: the record that makes it comes later in the same fast commit.
    const auto maker = std::ranges::find_if(commit, [&](const Record &other) {
      return other.tag == format::FastCommitTag::inode && other.inode == record.inode;
    });
    if (maker == commit.end()) return {};
    TRY(inode(*maker));
    if (!target.exists()) return {};
  }
  if (target.inode.is_directory()) return fail(Error::corrupt("fast commit: a second name for a directory").of_inode(record.inode.value()));
  return insert(*parent, record, target);
}

Status FastCommitApply::unlink(const Record &record) {
  Subject *parent = TRY(parent_of(record));
  Subject &target = *TRY(subject(record.inode));
  if (parent == nullptr || target.life != Life::alive) return {};
  Directory directory(volume_, parent->inode);
  const Result<DirectoryMatch> found = directory.lookup(record.name);
  if (!found && !found.error().is(ENOENT)) return fail(found.error());
  if (!found || found->inode != record.inode) return {};
  if (target.inode.is_directory() && (&target == parent || !TRY(Directory(volume_, target.inode).empty())))
    return fail(Error::corrupt("fast commit: removes a directory in use").of_inode(record.inode.value()));
  jbd2::Handle handle = TRY(volume_.journal().start(directory.change_credits() + 2 * credits::kStoreInode));
  Status removed = directory.remove(handle, record.name, record.inode);
  if (removed) {
    if (target.inode.is_directory()) {
      target.inode.fields.links = 0;
      names::uncount_subdirectory(parent->inode);
    } else {
      --target.inode.fields.links;
    }
    names::touch_directory(volume_, parent->inode);
    if (target.inode.fields.links == 0) target.life = Life::unlinked;
    removed = volume_.inodes().store(handle, target.inode);
    if (removed) removed = volume_.inodes().store(handle, parent->inode);
  }
  handle.finish();
  return removed;
}

}  // namespace outboard::ext4

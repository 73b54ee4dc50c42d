#include "ext4/inode_flags.h"

#include "ext4/credits.h"
#include "ext4/delayed.h"
#include "ext4/inode_alloc.h"
#include "ext4/journaled_data.h"

#include <array>
#include <cstddef>

namespace outboard::ext4::inode_flags {
namespace {

struct Pair {
  std::uint32_t flag, xflag;
};
constexpr std::array<Pair, 7> kPairs{{{kSync, kXflagSync},
                                      {kImmutable, kXflagImmutable},
                                      {kAppend, kXflagAppend},
                                      {kNoDump, kXflagNoDump},
                                      {kNoAtime, kXflagNoAtime},
                                      {kProjectInherit, kXflagProjectInherit},
                                      {kDax, kXflagDax}}};

std::uint32_t to_xflags(std::uint32_t flags) {
  std::uint32_t xflags = 0;
  for (const Pair &pair : kPairs)
    if ((flags & pair.flag) != 0) xflags |= pair.xflag;
  return xflags;
}

constexpr std::uint32_t kPairedFlags = kSync | kImmutable | kAppend | kNoDump | kNoAtime | kProjectInherit | kDax;
// Every xflag that some Linux file system has; the kernel drops those that this one has not.
constexpr std::uint32_t kKnownXflags = 0x8001FFFB;
// Contents whose bytes on the device are not the file's, or that are written twice, cannot be mapped directly.
constexpr std::uint32_t kNeverDax = kVerity | kEncrypted | kJournalData | kInlineData;

// The rules of FS_IOC_SETFLAGS, in the order in which ext4 and the kernel above it ask them. The result is the new
// word.
Result<std::uint32_t> changed_flags(const Inode &inode, std::uint32_t wanted, const Privileges &privileges) {
  const std::uint32_t old = inode.fields.flags;
  if ((wanted & ~kUserVisible) != 0) return fail(Error::unsupported("flags: not the user's"));
  if (mask_for_mode(inode.fields.mode, wanted) != wanted)
    return fail(Error::unsupported("flags: not for this type of inode"));
  const std::uint32_t flags = wanted;
  const std::uint32_t changes = (flags ^ old) & kUserModifiable;
  if ((changes & (kImmutable | kAppend)) != 0 && !privileges.may_set_immutable) return fail(Error::user(EPERM));
  // Immutable and to stay so: nothing else may change with it.
  if ((old & flags & kImmutable) != 0 && changes != 0) return fail(Error::user(EPERM, "flags: the inode is immutable"));
  if ((changes & kJournalData) != 0 && !privileges.may_journal_data) return fail(Error::user(EPERM));
  if ((changes & kExtents) != 0) return fail(Error::unsupported("flags: conversion between extents and block map"));
  if ((changes & kCaseFold) != 0) return fail(Error::unsupported("flags: casefold cannot be changed"));
  if ((changes & flags & kEofBlocks) != 0) return fail(Error::unsupported("flags: EOFBLOCKS"));
  if ((changes & kDax) != 0 && (old & kNeverDax) != 0) return fail(Error::unsupported("flags: DAX on such contents"));
  if ((changes & flags & kJournalData) != 0 && (flags & kDax) != 0)
    return fail(Error::unsupported("flags: journaled data on a DAX file"));
  return (old & ~kUserModifiable) | (flags & kUserModifiable);
}

// EOPNOTSUPP, EOVERFLOW.
Status check_project(const Volume &volume, const Inode &inode, std::uint32_t project) {
  if (!volume.superblock().has(format::RoCompat::project))
    return project == 0 ? Status{} : fail(Error::unsupported("project: the volume has no projects"));
  if (volume.superblock().inode_size <= format::kGoodOldInodeSize)
    return fail(Error::unsupported("project: inodes of 128 bytes"));
  if (project == ~std::uint32_t{0}) return fail(Error::user(EOVERFLOW, "project: not a number of one"));
  constexpr std::size_t kNeeded = offsetof(format::RawInode, i_projid) + sizeof(le32) - format::kGoodOldInodeSize;
  if (project != inode.fields.projid && inode.fields.extra_isize < kNeeded)
    return fail(Error::user(EOVERFLOW, "project: no room in this inode"));
  return {};
}

// Data that went through the journal will go past it, or the other way: nothing of the old way may be left.
Status change_data_mode(Volume &volume, Inode &inode) {
  TRY(delayed::record_written(volume, inode));
  delayed::give_up(volume, inode);
  if (journals_data(volume, inode)) TRY(journaled_data::leave(volume, inode));
  ++inode.map_sequence;  // mappings say which way
  return {};
}

Status apply(Volume &volume, Inode &inode, std::uint32_t flags, std::uint32_t project) {
  TRY(volume.check_writable());
  format::InodeFields wanted = inode.fields;
  wanted.flags = flags;
  if (journals_data(volume, wanted) != journals_data(volume, inode)) TRY(change_data_mode(volume, inode));
  jbd2::Handle handle = TRY(volume.journal().start(credits::kStoreInode));
  const format::InodeFields before = inode.fields;
  inode.fields.flags = flags;
  inode.fields.projid = project;
  inode.fields.ctime = volume.now();
  Status stored = volume.inodes().store(handle, inode, false);
  if (!stored) {
    inode.fields = before;
    return stored;
  }
  handle.finish();
  return {};
}

}  // namespace

std::uint32_t mask_for_mode(std::uint32_t mode, std::uint32_t flags) {
  const std::uint32_t type = mode & format::kModeTypeMask;
  if (type == format::kModeDirectory) return flags;
  if (type == format::kModeRegular) return flags & ~(kDirSync | kTopDirectory | kCaseFold | kProjectInherit);
  return flags & (kNoDump | kNoAtime);
}

bool project_forbids_entry(const Volume &volume, const Inode &directory, const Inode &inode) {
  return volume.superblock().has(format::RoCompat::project) && (directory.fields.flags & kProjectInherit) != 0 &&
         directory.fields.projid != inode.fields.projid;
}

Status check_changeable(const Inode &inode, bool appends_only) {
  if ((inode.fields.flags & kImmutable) != 0) return fail(Error::user(EPERM, "the inode is immutable"));
  if ((inode.fields.flags & kAppend) != 0 && !appends_only) return fail(Error::user(EPERM, "the inode is append-only"));
  return {};
}

std::uint32_t get_flags(const Inode &inode) {
  const std::uint32_t flags = inode.fields.flags & kUserVisible;
  return inode.is_regular() ? flags & ~kProjectInherit : flags;
}

Attributes get_attributes(const Inode &inode) {
  return {.xflags = to_xflags(get_flags(inode)), .project = inode.fields.projid};
}

Status set_flags(Volume &volume, Inode &inode, std::uint32_t flags, const Privileges &privileges) {
  const std::uint32_t word = TRY(changed_flags(inode, flags, privileges));
  return apply(volume, inode, word, inode.fields.projid);
}

Status set_attributes(Volume &volume, Inode &inode, const Attributes &attributes, const Privileges &privileges) {
  if ((attributes.xflags & ~kKnownXflags) != 0) return fail(Error::unsupported("xflags: nobody's"));
  std::uint32_t flags = get_flags(inode) & ~kPairedFlags;
  for (const Pair &pair : kPairs)
    if ((attributes.xflags & pair.xflag) != 0) flags |= pair.flag;
  const std::uint32_t word = TRY(changed_flags(inode, flags, privileges));
  const Status project = check_project(volume, inode, attributes.project);
  const bool stays_immutable = (inode.fields.flags & word & kImmutable) != 0;
  if (project && stays_immutable && attributes.project != inode.fields.projid)
    return fail(Error::user(EPERM, "the inode is immutable"));
  // A project that cannot be comes after the flags have been set, as in the kernel.
  TRY(apply(volume, inode, word, project ? attributes.project : inode.fields.projid));
  return project;
}

Status set_label(Volume &volume, std::string_view label) {
  if (label.size() > kLabelMax) return fail(Error::user(EINVAL, "label: longer than 16 bytes"));
  if (label.find('\0') != std::string_view::npos) return fail(Error::user(EINVAL, "label: with a zero byte"));
  TRY(volume.check_writable());
  jbd2::Handle handle = TRY(volume.journal().start(credits::kSuperblock));
  const jbd2::Tid tid = handle.tid();
  TRY(volume.edit_superblock(handle, [label](std::span<std::byte> bytes) { format::set_label(bytes, label); }));
  handle.finish();
  return volume.journal().commit_and_wait(tid);
}

}  // namespace outboard::ext4::inode_flags

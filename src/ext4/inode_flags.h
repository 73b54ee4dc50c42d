// What users may see and change of an inode's flags and project, as ext4 answers FS_IOC_GETFLAGS, FS_IOC_SETFLAGS,
// FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR; and the volume's label (FS_IOC_GETFSLABEL, FS_IOC_SETFSLABEL).
// Ioctl numbers and byte layouts are the caller's. Whether the *caller* may (ownership, CAP_LINUX_IMMUTABLE,
// CAP_SYS_RESOURCE) is partly the kernel's business and partly the Privileges argument.
// The inode is held exclusively by the caller for changes, shared otherwise.
#pragma once

#include "ext4/volume.h"

#include <string_view>

namespace outboard::ext4::inode_flags {

// The flags, as they stand in fields.flags and as FS_IOC_GETFLAGS shows them.
inline constexpr std::uint32_t kSecureDelete = format::kInodeFlagSecureDelete;
inline constexpr std::uint32_t kUndelete = format::kInodeFlagUndelete;
inline constexpr std::uint32_t kCompress = format::kInodeFlagCompressed;
inline constexpr std::uint32_t kSync = format::kInodeFlagSync;
inline constexpr std::uint32_t kImmutable = format::kInodeFlagImmutable;
inline constexpr std::uint32_t kAppend = format::kInodeFlagAppend;
inline constexpr std::uint32_t kNoDump = format::kInodeFlagNoDump;
inline constexpr std::uint32_t kNoAtime = format::kInodeFlagNoAtime;
inline constexpr std::uint32_t kDirty = format::kInodeFlagDirty;
inline constexpr std::uint32_t kCompressedBlocks = format::kInodeFlagCompressedBlocks;
inline constexpr std::uint32_t kNoCompress = format::kInodeFlagNoCompress;
inline constexpr std::uint32_t kEncrypted = format::kInodeFlagEncrypt;
inline constexpr std::uint32_t kIndex = format::kInodeFlagIndex;
inline constexpr std::uint32_t kJournalData = format::kInodeFlagJournalData;
inline constexpr std::uint32_t kNoTail = format::kInodeFlagNoTail;
inline constexpr std::uint32_t kDirSync = format::kInodeFlagDirSync;
inline constexpr std::uint32_t kTopDirectory = format::kInodeFlagTopDirectory;
inline constexpr std::uint32_t kHugeFile = format::kInodeFlagHugeFile;
inline constexpr std::uint32_t kExtents = format::kInodeFlagExtents;
inline constexpr std::uint32_t kVerity = format::kInodeFlagVerity;
inline constexpr std::uint32_t kEofBlocks = format::kInodeFlagEofBlocks;  // no longer used, still accepted
inline constexpr std::uint32_t kDax = format::kInodeFlagDax;
inline constexpr std::uint32_t kInlineData = format::kInodeFlagInlineData;
inline constexpr std::uint32_t kProjectInherit = format::kInodeFlagProjectInherit;
inline constexpr std::uint32_t kCaseFold = format::kInodeFlagCaseFold;

inline constexpr std::uint32_t kUserModifiable =
    kSecureDelete | kUndelete | kCompress | kSync | kImmutable | kAppend | kNoDump | kNoAtime | kJournalData | kNoTail |
    kDirSync | kTopDirectory | kExtents | kEofBlocks | kDax | kProjectInherit | kCaseFold;
inline constexpr std::uint32_t kUserVisible =
    kUserModifiable | kDirty | kCompressedBlocks | kNoCompress | kEncrypted | kIndex | kVerity | kInlineData;
// What a new inode takes over from its directory.
inline constexpr std::uint32_t kInherited = kSecureDelete | kUndelete | kCompress | kSync | kNoDump | kNoAtime |
                                            kNoCompress | kJournalData | kNoTail | kDirSync | kProjectInherit |
                                            kCaseFold | kDax;

// fsx_xflags of <linux/fs.h>.
inline constexpr std::uint32_t kXflagImmutable = 0x00000008;
inline constexpr std::uint32_t kXflagAppend = 0x00000010;
inline constexpr std::uint32_t kXflagSync = 0x00000020;
inline constexpr std::uint32_t kXflagNoAtime = 0x00000040;
inline constexpr std::uint32_t kXflagNoDump = 0x00000080;
inline constexpr std::uint32_t kXflagProjectInherit = 0x00000200;
inline constexpr std::uint32_t kXflagDax = 0x00008000;

// Flags that make sense on an inode of this mode: all on directories, fewer on files, two on the rest.
std::uint32_t mask_for_mode(std::uint32_t mode, std::uint32_t flags);
// A new inode's flags from its directory's.
inline std::uint32_t inherited(std::uint32_t directory_flags, std::uint32_t mode) {
  return mask_for_mode(mode, directory_flags & kInherited);
}
// Its project: the directory's when that passes its project on, else 0.
inline std::uint32_t inherited_project(const format::InodeFields &directory) {
  return (directory.flags & kProjectInherit) != 0 ? directory.projid : 0;
}
// True when a name for `inode` may not be made in `directory` (EXDEV): projects would mix.
bool project_forbids_entry(const Volume &volume, const Inode &directory, const Inode &inode);

// EPERM for an immutable inode, and for an append-only one unless the change only appends.
Status check_changeable(const Inode &inode, bool appends_only = false);

struct Privileges {
  bool may_set_immutable = true;  // CAP_LINUX_IMMUTABLE: the immutable and append-only flags
  bool may_journal_data = true;   // CAP_SYS_RESOURCE: the journal-data flag
};

struct Attributes {  // struct fsxattr, less what ext4 does not have
  std::uint32_t xflags = 0;
  std::uint32_t project = 0;
};

std::uint32_t get_flags(const Inode &inode);
Attributes get_attributes(const Inode &inode);

// One transaction; stores the inode with a new ctime. EOPNOTSUPP: flags nobody may show us or that this type of inode
// cannot have, casefold or DAX changes, conversion between extents and block map. EPERM: immutable and not about to
// cease to be, or not privileged. Visible flags that are not modifiable are ignored.
// When the journal-data flag changes the way a file's data takes: no page of it may be dirty; waits for the journal to be
// empty when the flag goes.
Status set_flags(Volume &volume, Inode &inode, std::uint32_t flags, const Privileges &privileges);
// The same through xflags (flags without an xflag are kept), and the project. EOPNOTSUPP: a project other than 0 on a
// volume without the feature or with 128-byte inodes. EOVERFLOW: this inode has no room for one. EOPNOTSUPP: xflags
// that Linux does not have; those of other file systems are ignored.
Status set_attributes(Volume &volume, Inode &inode, const Attributes &attributes, const Privileges &privileges);

inline constexpr std::size_t kLabelMax = 16;
// EINVAL when longer than 16 bytes or with a zero byte in it. Durable when it returns.
Status set_label(Volume &volume, std::string_view label);

}  // namespace outboard::ext4::inode_flags

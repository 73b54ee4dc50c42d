// Operations on names: create, link, unlink, rename; one transaction each, all or nothing. Callers (vfs) hold every
// inode passed here exclusively, and have looked the names up under those locks; what the arguments say is what is there.
// Limits of the format (EMLINK, ENAMETOOLONG, ENOSPC, EDQUOT, immutable and append-only: EPERM) are checked here.
// Times, link counts, ACL inheritance, setgid directories, the orphan list: here.
#pragma once

#include "ext4/volume.h"

#include <optional>
#include <string_view>

namespace outboard::ext4::names {

struct NewInode {
  std::uint32_t mode = 0;  // type and permission bits as asked; umask and default ACL are applied here
  std::uint32_t umask = 0;
  std::uint32_t uid = 0, gid = 0;
  std::uint32_t device_major = 0, device_minor = 0;
  std::string_view symlink_target;
};

// Any type of inode under a name in `directory`. EEXIST is the caller's to have checked (but checked again here).
Result<Inode> create(Volume &volume, Inode &directory, std::string_view name, const NewInode &what);
// Without a name, on the orphan list until link() (O_TMPFILE).
Result<Inode> create_temporary(Volume &volume, Inode &directory, const NewInode &what);
Status link(Volume &volume, Inode &directory, std::string_view name, Inode &target);
// The target goes on the orphan list when this was its last name; deleting it is for whoever drops the last reference.
Status unlink(Volume &volume, Inode &directory, std::string_view name, Inode &target);
// ENOTEMPTY, ENOTDIR.
Status remove_directory(Volume &volume, Inode &directory, std::string_view name, Inode &target);

struct Rename {
  Inode *old_directory = nullptr;
  std::string_view old_name;
  Inode *source = nullptr;
  Inode *new_directory = nullptr;  // may be old_directory
  std::string_view new_name;
  Inode *target = nullptr;         // what new_name is now; null when it does not exist
  bool exchange = false;           // target must exist
  bool whiteout = false;           // leave a 0/0 character device at old_name
  std::uint32_t uid = 0, gid = 0;  // of the whiteout
};
// Cycle checks (a directory into its own child) are the caller's, under its rename lock. RENAME_NOREPLACE likewise.
// Returns the whiteout's inode when one was made.
Result<std::optional<Inode>> rename(Volume &volume, const Rename &what);

Result<std::string> read_link(Volume &volume, const Inode &inode);

}  // namespace outboard::ext4::names

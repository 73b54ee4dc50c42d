// Extended attributes: in the inode, then in one (possibly shared) block. Names are full ("user.x",
// "system.posix_acl_access", "security.capability"). The inode is held exclusively for changes, shared otherwise.
#pragma once

#include "ext4/volume.h"

#include <string>
#include <vector>

namespace outboard::ext4::xattrs {

// ENODATA when absent. POSIX ACLs are returned in the form getxattr(2) shows.
Result<std::vector<std::byte>> get(Volume &volume, const Inode &inode, std::string_view name);
Result<std::vector<std::string>> list(Volume &volume, const Inode &inode);

enum class SetMode : std::uint8_t { any, create, replace };  // EEXIST, ENODATA
// One transaction of its own; stores the inode. ENOSPC when it fits nowhere, ERANGE for over-long names, E2BIG for
// values. Setting an access ACL folds into the mode (equivalent ACLs are dropped). ctime is updated.
Status set(Volume &volume, Inode &inode, std::string_view name, std::span<const std::byte> value, SetMode mode);
Status remove(Volume &volume, Inode &inode, std::string_view name);
// The same inside somebody's transaction (create with inherited ACLs; killing security.capability). Credits:
// set_credits().
Status set(jbd2::Handle &handle, Volume &volume, Inode &inode, std::string_view name, std::span<const std::byte> value,
           SetMode mode);
Status remove(jbd2::Handle &handle, Volume &volume, Inode &inode, std::string_view name);
// Gives the block back (or one reference of it): part of deleting an inode.
Status release_block(jbd2::Handle &handle, Volume &volume, Inode &inode);
std::uint32_t set_credits(const Volume &volume);

// A new inode's ACLs from its directory's default ACL: changes `inode.fields.mode` (umask applies when there is none)
// and stores the ACL attributes in the transaction.
Status inherit_acls(jbd2::Handle &handle, Volume &volume, const Inode &directory, Inode &inode, std::uint32_t umask);
// chmod: rewrites the access ACL, if there is one, to agree with the new mode.
Status change_mode_in_acl(jbd2::Handle &handle, Volume &volume, Inode &inode, std::uint32_t mode);

}  // namespace outboard::ext4::xattrs

// POSIX ACLs as attributes: setting one, and what it does to the mode. The rest of the door is in xattrs.h
// (inherit_acls, change_mode_in_acl). Private to xattrs.cc and acls.cc.
#pragma once

#include "ext4/volume.h"

#include <span>

namespace outboard::ext4::acls {

// setxattr(2) of an ACL; `index` is format::kXattrAclAccess or kXattrAclDefault, `wire` what the caller handed in (no
// entries: the ACL goes; that it was not there is no error). An access ACL sets the mode's permission bits, and is not
// kept when these say it all. EINVAL: malformed. EACCES: a default ACL on what is no directory. ENOSPC: nothing has
// changed.
Status set(jbd2::Handle &handle, Volume &volume, Inode &inode, std::uint8_t index, std::span<const std::byte> wire);

}  // namespace outboard::ext4::acls

// POSIX access control lists: the form that getxattr(2) and setxattr(2) show ("wire": version 2, entries of 8 bytes)
// and the one ext4 keeps (version 1, entries of 4 bytes where there is no id, else 8). fs/ext4/acl.h,
// include/uapi/linux/posix_acl_xattr.h. And the rules: when an ACL says no more than a mode, what chmod does to one,
// what a new file inherits.
#pragma once

#include "base/endian.h"
#include "base/result.h"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace outboard::ext4::format {

inline constexpr std::uint32_t kAclWireVersion = 2;
inline constexpr std::uint32_t kAclDiskVersion = 1;
inline constexpr std::uint32_t kAclNoId = ~std::uint32_t{0};

enum class AclTag : std::uint16_t {
  user_obj = 0x01,
  user = 0x02,
  group_obj = 0x04,
  group = 0x08,
  mask = 0x10,
  other = 0x20
};

struct RawAclHeader {
  le32 version;
};
LAYOUT_SIZE(RawAclHeader, 4);

struct RawAclEntry {  // the short form of the disk stops before `id`
  le16 tag;
  le16 perm;
  le32 id;
};
LAYOUT_SIZE(RawAclEntry, 8);
LAYOUT_FIELD(RawAclEntry, tag, 0x0);
LAYOUT_FIELD(RawAclEntry, perm, 0x2);
LAYOUT_FIELD(RawAclEntry, id, 0x4);

struct AclEntry {
  AclTag tag = AclTag::other;
  std::uint16_t perm = 0;       // rwx, 0..7
  std::uint32_t id = kAclNoId;  // of user and group entries
  friend bool operator==(const AclEntry &, const AclEntry &) = default;
};

// Sorted: owner, users, owning group, groups, mask, other. A valid one has owner, owning group and other, and a mask
// when it names anybody.
struct Acl {
  std::vector<AclEntry> entries;
  bool empty() const { return entries.empty(); }
  friend bool operator==(const Acl &, const Acl &) = default;
};

// Rules above. EINVAL.
Status validate_acl(const Acl &acl);

// From setxattr(2). EOPNOTSUPP: another version. EINVAL: malformed or not valid. No entries at all means "remove":
// empty().
Result<Acl> decode_wire_acl(std::span<const std::byte> bytes);
std::vector<std::byte> encode_wire_acl(const Acl &acl);
// From the disk. Corrupt when malformed or not valid.
Result<Acl> decode_disk_acl(std::span<const std::byte> bytes);
std::vector<std::byte> encode_disk_acl(const Acl &acl);

// A valid ACL's permissions as mode bits, and whether it says nothing more than they do.
struct AclMode {
  std::uint32_t permissions = 0;  // 0..0777; the mask stands for the group when there is one
  bool equivalent = false;
};
AclMode acl_mode(const Acl &acl);
// The ACL that says what these mode bits say.
Acl acl_from_mode(std::uint32_t permissions);
// chmod: owner, mask (or owning group) and other take the mode's bits.
void change_acl_mode(Acl &acl, std::uint32_t mode);

// A new inode in a directory with a default ACL.
struct InheritedAcl {
  std::uint32_t mode = 0;     // the requested mode, less what the ACL does not grant; type and set-id bits kept
  std::optional<Acl> access;  // none: the mode says it all
};
// `default_acl` valid; `mode` as requested, not masked by umask (it does not apply here). A directory also gets the
// default ACL itself.
InheritedAcl inherit_acl(const Acl &default_acl, std::uint32_t mode);

}  // namespace outboard::ext4::format

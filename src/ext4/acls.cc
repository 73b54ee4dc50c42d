#include "ext4/acls.h"

#include "ext4/format/acl.h"
#include "ext4/xattr_sets.h"
#include "ext4/xattrs.h"

namespace outboard::ext4 {
namespace {

constexpr std::uint32_t kPermissions = 0777;
constexpr format::XattrName kAccess{format::kXattrAclAccess, {}};
constexpr format::XattrName kDefault{format::kXattrAclDefault, {}};

void set_permissions(Inode &inode, std::uint32_t permissions) {
  inode.fields.mode = static_cast<std::uint16_t>((inode.fields.mode & ~kPermissions) | (permissions & kPermissions));
}

Result<std::optional<format::Acl>> find_acl(Volume &volume, const Inode &inode, format::XattrName name) {
  const std::optional<std::vector<std::byte>> value = TRY(find_xattr_value(volume, inode, name));
  if (!value) return std::nullopt;
  Result<format::Acl> acl = format::decode_disk_acl(*value);
  if (!acl) return fail(std::move(acl.error()).of_inode(inode.number.value()));
  if (acl->empty()) return std::nullopt;
  return *std::move(acl);
}

}  // namespace

Status acls::set(jbd2::Handle &handle, Volume &volume, Inode &inode, std::uint8_t index,
                 std::span<const std::byte> wire) {
  const bool is_access = index == format::kXattrAclAccess;
  const format::XattrName name = is_access ? kAccess : kDefault;
  Result<format::Acl> decoded = wire.empty() ? format::Acl{} : format::decode_wire_acl(wire);
  if (!is_access && !inode.is_directory()) {
    // The kernel asks this of everything that has the form of an ACL, valid or not.
    const bool has_form = decoded || (decoded.error().is(EINVAL) && wire.size() % sizeof(format::RawAclEntry) == 4);
    if (!has_form) return std::unexpected(decoded.error());
    if (decoded && decoded->empty()) return {};
    return fail(Error::user(EACCES, "acl: a default ACL is for directories"));
  }
  const format::Acl acl = TRY(std::move(decoded));

  XattrSets sets = TRY(XattrSets::load(volume, inode));
  const std::uint16_t old_mode = inode.fields.mode;
  bool kept = !acl.empty();
  if (is_access && !acl.empty()) {
    const format::AclMode mode = format::acl_mode(acl);
    if (mode.equivalent) kept = false;
    set_permissions(inode, mode.permissions);
  }
  Status stored = [&]() -> Status {
    if (kept) TRY(sets.set(name, format::encode_disk_acl(acl)));
    else if (sets.contains(name)) sets.remove(name);
    else if (inode.fields.mode == old_mode) return {};
    return sets.store(handle, volume, inode);
  }();
  if (!stored) inode.fields.mode = old_mode;
  return stored;
}

Status xattrs::inherit_acls(jbd2::Handle &handle, Volume &volume, const Inode &directory, Inode &inode,
                            std::uint32_t umask) {
  if (inode.is_symlink()) return {};
  const std::optional<format::Acl> inherited = TRY(find_acl(volume, directory, kDefault));
  if (!inherited) {
    set_permissions(inode, inode.fields.mode & ~umask);
    return {};
  }
  const format::InheritedAcl made = format::inherit_acl(*inherited, inode.fields.mode);
  const bool passes_on = inode.is_directory();
  const std::uint16_t old_mode = inode.fields.mode;
  inode.fields.mode = static_cast<std::uint16_t>(made.mode);
  if (!passes_on && !made.access) return {};
  Status stored = [&]() -> Status {
    XattrSets sets = TRY(XattrSets::load(volume, inode));
    if (passes_on) TRY(sets.set(kDefault, format::encode_disk_acl(*inherited)));
    if (made.access) TRY(sets.set(kAccess, format::encode_disk_acl(*made.access)));
    return sets.store(handle, volume, inode);
  }();
  if (!stored) inode.fields.mode = old_mode;
  return stored;
}

Status xattrs::change_mode_in_acl(jbd2::Handle &handle, Volume &volume, Inode &inode, std::uint32_t mode) {
  if (inode.is_symlink()) return {};
  std::optional<format::Acl> acl = TRY(find_acl(volume, inode, kAccess));
  if (!acl) return {};
  format::change_acl_mode(*acl, mode);
  XattrSets sets = TRY(XattrSets::load(volume, inode));
  if (format::acl_mode(*acl).equivalent) sets.remove(kAccess);
  else TRY(sets.set(kAccess, format::encode_disk_acl(*acl)));
  return sets.store(handle, volume, inode);
}

}  // namespace outboard::ext4

#include "ext4/xattrs.h"

#include "ext4/acls.h"
#include "ext4/format/acl.h"
#include "ext4/inode_flags.h"
#include "ext4/xattr_block.h"
#include "ext4/xattr_sets.h"

namespace outboard::ext4::xattrs {
namespace {

constexpr std::size_t kNameMax = 255;         // of the full name, as setxattr(2)
constexpr std::size_t kValueMax = 64 * 1024;  // likewise

bool is_acl(format::XattrName name) {
  return name.index == format::kXattrAclAccess || name.index == format::kXattrAclDefault;
}

// Names that users may speak of. What else stands on disk (inline data, encryption contexts) is not theirs.
bool is_public(std::uint8_t index) {
  switch (index) {
  case format::kXattrUser:
  case format::kXattrTrusted:
  case format::kXattrSecurity:
  case format::kXattrAclAccess:
  case format::kXattrAclDefault: return true;
  default: return false;
  }
}

// `name` taken apart. ERANGE: too long. EOPNOTSUPP: no such prefix here, or an ACL on a symbolic link.
Result<format::XattrName> parse(const Inode &inode, std::string_view full) {
  if (full.empty() || full.size() > kNameMax) return fail(Error::user(ERANGE, "xattr: length of the name"));
  if (full.find('\0') != std::string_view::npos) return fail(Error::user(EINVAL, "xattr: zero byte in the name"));
  if (full == "user." || full == "trusted." || full == "security.")
    return fail(Error::user(EINVAL, "xattr: a prefix is not a name"));
  const std::optional<format::XattrName> name = format::split_xattr_name(full);
  if (!name || !is_public(name->index)) return fail(Error::unsupported("xattr: prefix"));
  if (is_acl(*name) && inode.is_symlink()) return fail(Error::unsupported("acl: on a symbolic link"));
  return *name;
}

// user.* belongs to whoever may write the contents: there must be such a thing.
bool takes_user_attributes(const Inode &inode) { return inode.is_regular() || inode.is_directory(); }

Result<format::XattrName> parse_for_change(const Inode &inode, std::string_view full) {
  const format::XattrName name = TRY(parse(inode, full));
  if (name.index == format::kXattrUser && !takes_user_attributes(inode))
    return fail(Error::user(EPERM, "xattr: user attributes are for files and directories"));
  return name;
}

// One transaction around a change that alters nothing when it fails by the caller's fault.
template <class Change> Status in_transaction(Volume &volume, const Inode &inode, Change &&change) {
  TRY(volume.check_writable());
  TRY(inode_flags::check_changeable(inode));
  jbd2::Handle handle = TRY(volume.journal().start(set_credits(volume)));
  Status done = change(handle);
  // EIO, though of kind `user` (a device that does not answer), came in the middle of the change.
  const bool refused = !done && !done.error().is(EIO) && (done.error().kind() == ErrorKind::user || done.error().kind() == ErrorKind::unsupported);
  if (done || refused) handle.finish();
  return done;
}

}  // namespace

Result<std::vector<std::byte>> get(Volume &volume, const Inode &inode, std::string_view full) {
  const format::XattrName name = TRY(parse(inode, full));
  if (name.index == format::kXattrUser && !takes_user_attributes(inode)) return fail(Error::user(ENODATA));
  std::optional<std::vector<std::byte>> value = TRY(find_xattr_value(volume, inode, name));
  if (!value) return fail(Error::user(ENODATA));
  if (is_acl(name)) {
    Result<format::Acl> acl = format::decode_disk_acl(*value);
    if (!acl) return fail(std::move(acl.error()).of_inode(inode.number.value()));
    return format::encode_wire_acl(*acl);
  }
  return *std::move(value);
}

Result<std::vector<std::string>> list(Volume &volume, const Inode &inode) {
  std::vector<std::string> names;
  const auto collect = [&](Result<format::XattrCursor> cursor) -> Status {
    if (!cursor) return std::unexpected(cursor.error());
    while (TRY(cursor->next())) {
      const format::XattrName name = cursor->entry().name;
      if (!is_public(name.index)) continue;
      if (std::optional<std::string> full = format::full_xattr_name(name)) names.push_back(*std::move(full));
    }
    return {};
  };
  const InlineXattrs area = TRY(InlineXattrs::read(volume, inode));
  if (area.exists()) TRY(collect(area.cursor()));
  const std::vector<std::byte> block = TRY(volume.xattr_blocks().read(inode));
  if (!block.empty()) TRY(collect(format::XattrCursor::in_block(block)));
  return names;
}

std::uint32_t set_credits(const Volume &) { return XattrSets::kCredits; }

Status set(jbd2::Handle &handle, Volume &volume, Inode &inode, std::string_view full, std::span<const std::byte> value,
           SetMode mode) {
  const format::XattrName name = TRY(parse_for_change(inode, full));
  if (value.size() > kValueMax) return fail(Error::user(E2BIG, "xattr: value over 64 KiB"));
  if (is_acl(name)) return acls::set(handle, volume, inode, name.index, value);
  XattrSets sets = TRY(XattrSets::load(volume, inode));
  const bool present = sets.contains(name);
  if (present && mode == SetMode::create) return fail(Error::user(EEXIST));
  if (!present && mode == SetMode::replace) return fail(Error::user(ENODATA));
  TRY(sets.set(name, value));
  return sets.store(handle, volume, inode);
}

Status remove(jbd2::Handle &handle, Volume &volume, Inode &inode, std::string_view full) {
  const format::XattrName name = TRY(parse_for_change(inode, full));
  if (is_acl(name)) return acls::set(handle, volume, inode, name.index, {});
  XattrSets sets = TRY(XattrSets::load(volume, inode));
  if (!sets.contains(name)) return fail(Error::user(ENODATA));
  sets.remove(name);
  return sets.store(handle, volume, inode);
}

Status set(Volume &volume, Inode &inode, std::string_view name, std::span<const std::byte> value, SetMode mode) {
  return in_transaction(volume, inode,
                        [&](jbd2::Handle &handle) { return set(handle, volume, inode, name, value, mode); });
}

Status remove(Volume &volume, Inode &inode, std::string_view name) {
  return in_transaction(volume, inode, [&](jbd2::Handle &handle) { return remove(handle, volume, inode, name); });
}

Status release_block(jbd2::Handle &handle, Volume &volume, Inode &inode) {
  return volume.xattr_blocks().release(handle, inode);
}

}  // namespace outboard::ext4::xattrs

#include "ext4/format/acl.h"

#include <algorithm>
#include <cassert>

namespace outboard::ext4::format {
namespace {

constexpr std::uint16_t kAllPermissions = 7;
constexpr std::size_t kShortEntry = offsetof(RawAclEntry, id);

bool names_somebody(AclTag tag) { return tag == AclTag::user || tag == AclTag::group; }

bool is_known(std::uint16_t tag) {
  switch (static_cast<AclTag>(tag)) {
  case AclTag::user_obj:
  case AclTag::user:
  case AclTag::group_obj:
  case AclTag::group:
  case AclTag::mask:
  case AclTag::other: return true;
  }
  return false;
}

std::size_t disk_size(AclTag tag) { return names_somebody(tag) ? sizeof(RawAclEntry) : kShortEntry; }

AclEntry *find(Acl &acl, AclTag tag) {
  const auto found =
      std::find_if(acl.entries.begin(), acl.entries.end(), [tag](const AclEntry &e) { return e.tag == tag; });
  return found == acl.entries.end() ? nullptr : &*found;
}

// Who the mode's group bits stand for: the mask when there is one.
AclEntry *group_class(Acl &acl) {
  AclEntry *mask = find(acl, AclTag::mask);
  return mask != nullptr ? mask : find(acl, AclTag::group_obj);
}

std::uint16_t permissions_at(std::uint32_t mode, unsigned shift) { return mode >> shift & kAllPermissions; }

}  // namespace

Status validate_acl(const Acl &acl) {
  const auto invalid = [](const char *what) { return fail(Error::user(EINVAL, what)); };
  unsigned owners = 0, groups = 0, masks = 0, others = 0;
  bool named = false;
  AclTag before = AclTag::user_obj;
  for (const AclEntry &entry : acl.entries) {
    if (!is_known(static_cast<std::uint16_t>(entry.tag))) return invalid("access control list: tag");
    if ((entry.perm & ~kAllPermissions) != 0) return invalid("access control list: permissions");
    if (entry.tag < before) return invalid("access control list: order");
    before = entry.tag;
    if (names_somebody(entry.tag) && entry.id == kAclNoId) return invalid("access control list: id");
    named = named || names_somebody(entry.tag);
    owners += entry.tag == AclTag::user_obj;
    groups += entry.tag == AclTag::group_obj;
    masks += entry.tag == AclTag::mask;
    others += entry.tag == AclTag::other;
  }
  if (owners != 1 || groups != 1 || others != 1 || masks > 1)
    return invalid("access control list: owner, group and other must be there once");
  if (named && masks == 0) return invalid("access control list: no mask");
  return {};
}

Result<Acl> decode_wire_acl(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(RawAclHeader)) return fail(Error::user(EINVAL, "access control list: too short"));
  if (view_as<RawAclHeader>(bytes).version.get() != kAclWireVersion)
    return fail(Error::user(EOPNOTSUPP, "access control list: version"));
  bytes = bytes.subspan(sizeof(RawAclHeader));
  if (bytes.size() % sizeof(RawAclEntry) != 0) return fail(Error::user(EINVAL, "access control list: size"));
  Acl acl;
  if (bytes.empty()) return acl;
  acl.entries.reserve(bytes.size() / sizeof(RawAclEntry));
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(RawAclEntry)) {
    const auto &raw = view_as<RawAclEntry>(bytes, at);
    const auto tag = static_cast<AclTag>(raw.tag.get());
    acl.entries.push_back({tag, raw.perm.get(), names_somebody(tag) ? raw.id.get() : kAclNoId});
  }
  TRY(validate_acl(acl));
  return acl;
}

std::vector<std::byte> encode_wire_acl(const Acl &acl) {
  std::vector<std::byte> bytes(sizeof(RawAclHeader) + acl.entries.size() * sizeof(RawAclEntry));
  edit_as<RawAclHeader>(bytes).version.set(kAclWireVersion);
  std::size_t at = sizeof(RawAclHeader);
  for (const AclEntry &entry : acl.entries) {
    auto &raw = edit_as<RawAclEntry>(bytes, at);
    raw.tag.set(static_cast<std::uint16_t>(entry.tag));
    raw.perm.set(entry.perm);
    raw.id.set(names_somebody(entry.tag) ? entry.id : kAclNoId);
    at += sizeof(RawAclEntry);
  }
  return bytes;
}

Result<Acl> decode_disk_acl(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(RawAclHeader)) return fail(Error::corrupt("access control list: too short"));
  if (view_as<RawAclHeader>(bytes).version.get() != kAclDiskVersion)
    return fail(Error::corrupt("access control list: version"));
  bytes = bytes.subspan(sizeof(RawAclHeader));
  Acl acl;
  if (bytes.empty()) return acl;
  while (!bytes.empty()) {
    if (bytes.size() < kShortEntry) return fail(Error::corrupt("access control list: size"));
    const std::uint16_t tag = view_as<le16>(bytes, offsetof(RawAclEntry, tag)).get();
    if (!is_known(tag)) return fail(Error::corrupt("access control list: tag"));
    AclEntry entry{static_cast<AclTag>(tag), view_as<le16>(bytes, offsetof(RawAclEntry, perm)).get(), kAclNoId};
    const std::size_t size = disk_size(entry.tag);
    if (bytes.size() < size) return fail(Error::corrupt("access control list: size"));
    if (size == sizeof(RawAclEntry)) entry.id = view_as<RawAclEntry>(bytes).id.get();
    acl.entries.push_back(entry);
    bytes = bytes.subspan(size);
  }
  if (!validate_acl(acl)) return fail(Error::corrupt("access control list: not valid"));
  return acl;
}

std::vector<std::byte> encode_disk_acl(const Acl &acl) {
  std::size_t size = sizeof(RawAclHeader);
  for (const AclEntry &entry : acl.entries) size += disk_size(entry.tag);
  std::vector<std::byte> bytes(size);
  edit_as<RawAclHeader>(bytes).version.set(kAclDiskVersion);
  std::size_t at = sizeof(RawAclHeader);
  for (const AclEntry &entry : acl.entries) {
    edit_as<le16>(bytes, at + offsetof(RawAclEntry, tag)).set(static_cast<std::uint16_t>(entry.tag));
    edit_as<le16>(bytes, at + offsetof(RawAclEntry, perm)).set(entry.perm);
    if (names_somebody(entry.tag)) edit_as<le32>(bytes, at + offsetof(RawAclEntry, id)).set(entry.id);
    at += disk_size(entry.tag);
  }
  return bytes;
}

AclMode acl_mode(const Acl &acl) {
  std::uint32_t owner = 0, group = 0, other = 0;
  bool equivalent = true;
  for (const AclEntry &entry : acl.entries) {
    switch (entry.tag) {
    case AclTag::user_obj: owner = entry.perm; break;
    case AclTag::group_obj: group = entry.perm; break;
    case AclTag::other: other = entry.perm; break;
    case AclTag::mask: group = entry.perm; [[fallthrough]];  // after the owning group: order is part of being valid
    case AclTag::user:
    case AclTag::group: equivalent = false; break;
    }
  }
  return {owner << 6 | group << 3 | other, equivalent};
}

Acl acl_from_mode(std::uint32_t permissions) {
  return {{{AclTag::user_obj, permissions_at(permissions, 6), kAclNoId},
           {AclTag::group_obj, permissions_at(permissions, 3), kAclNoId},
           {AclTag::other, permissions_at(permissions, 0), kAclNoId}}};
}

void change_acl_mode(Acl &acl, std::uint32_t mode) {
  AclEntry *owner = find(acl, AclTag::user_obj), *group = group_class(acl), *other = find(acl, AclTag::other);
  assert(owner != nullptr && group != nullptr && other != nullptr);
  owner->perm = permissions_at(mode, 6);
  group->perm = permissions_at(mode, 3);
  other->perm = permissions_at(mode, 0);
}

InheritedAcl inherit_acl(const Acl &default_acl, std::uint32_t mode) {
  Acl acl = default_acl;
  AclEntry *owner = find(acl, AclTag::user_obj), *group = group_class(acl), *other = find(acl, AclTag::other);
  assert(owner != nullptr && group != nullptr && other != nullptr);
  owner->perm &= permissions_at(mode, 6);
  group->perm &= permissions_at(mode, 3);
  other->perm &= permissions_at(mode, 0);
  const AclMode granted = acl_mode(acl);
  InheritedAcl inherited{(mode & ~std::uint32_t{0777}) | granted.permissions, std::nullopt};
  if (!granted.equivalent) inherited.access = std::move(acl);
  return inherited;
}

}  // namespace outboard::ext4::format

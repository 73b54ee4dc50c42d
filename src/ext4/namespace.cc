#include "ext4/namespace.h"

#include "ext4/credits.h"
#include "ext4/format/dirent.h"
#include "ext4/inode_alloc.h"
#include "ext4/inode_flags.h"
#include "ext4/namespace_rules.h"
#include "ext4/orphans.h"
#include "ext4/truncate.h"

namespace outboard::ext4::names {

Status check_name(std::string_view name) {
  if (name.empty()) return fail(Error::user(EINVAL, "a name is not empty"));
  if (name.size() > 255) return fail(Error::user(ENAMETOOLONG));
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos)
    return fail(Error::user(EINVAL, "a name has no slash and no zero byte"));
  return {};
}

Status check_may_add(const Inode &directory) {
  if (!directory.is_directory()) return fail(Error::user(ENOTDIR));
  if (directory.fields.links == 0) return fail(Error::user(ENOENT, "the directory has been removed"));
  return inode_flags::check_changeable(directory, true);
}

Status check_may_remove(const Inode &directory, const Inode &victim) {
  if (!directory.is_directory()) return fail(Error::user(ENOTDIR));
  if (directory.fields.links == 0) return fail(Error::user(ENOENT, "the directory has been removed"));
  TRY(inode_flags::check_changeable(directory));
  return inode_flags::check_changeable(victim);
}

Status check_subdirectory_limit(const Volume &volume, const Inode &directory) {
  if (directory.fields.links < kMaxLinks) return {};
  const bool stops_counting =
      volume.superblock().has(format::RoCompat::dir_nlink) && (directory.fields.flags & inode_flags::kIndex) != 0;
  if (stops_counting) return {};
  return fail(Error::user(EMLINK));
}

Status expect_absent(Volume &volume, const Inode &directory, std::string_view name) {
  Result<DirectoryMatch> found = Directory::find(volume, directory, name);
  if (found) return fail(Error::user(EEXIST));
  if (found.error().is(ENOENT)) return {};
  return std::unexpected(found.error());
}

Status expect_entry(Volume &volume, const Inode &directory, std::string_view name, const Inode &inode) {
  const DirectoryMatch found = TRY(Directory::find(volume, directory, name));
  if (found.inode != inode.number) return fail(Error::user(ESTALE, "the name means another inode"));
  return {};
}

void count_subdirectory(const Volume &volume, Inode &directory) {
  std::uint32_t &links = directory.fields.links;
  if (links == 1) return;
  const bool stops_counting = volume.superblock().has(format::RoCompat::dir_nlink);
  if (stops_counting && links >= kMaxLinks) links = 1;
  else ++links;
}

void uncount_subdirectory(Inode &directory) {
  if (directory.fields.links > 2) --directory.fields.links;
}

std::uint8_t entry_type(const Volume &volume, std::uint32_t mode) {
  return volume.superblock().has(format::Incompat::filetype) ? format::file_type_of_mode(mode) : format::kFileTypeUnknown;
}

void touch_directory(const Volume &volume, Inode &directory) {
  directory.fields.mtime = directory.fields.ctime = volume.now();
  ++directory.fields.version;
}

std::uint32_t discard_credits() { return credits::kStoreInode + Orphans::kCredits; }

Status discard(jbd2::Handle &handle, Volume &volume, Inode &inode) {
  inode.fields.links = 0;
  TRY(volume.orphans().add(handle, inode));
  handle.finish();
  return truncate::delete_inode(volume, inode);
}

}  // namespace outboard::ext4::names

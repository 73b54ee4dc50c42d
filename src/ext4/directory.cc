#include "ext4/directory.h"

#include "ext4/credits.h"
#include "ext4/directory_htree.h"
#include "ext4/inode_alloc.h"
#include "ext4/inode_flags.h"

namespace outboard::ext4 {
namespace {

Status check_length(std::string_view name) {
  if (name.size() > format::kMaxNameLength) return fail(Error::user(ENAMETOOLONG));
  return {};
}

Result<EntryPlace> locate(DirectoryBlocks &blocks, std::string_view name) {
  TRY(check_length(name));
  if (name.empty()) return fail(Error::user(ENOENT));
  // The dots are not in the index; they stand in the first block, where the linear search starts.
  if (htree::has_index(blocks.volume(), blocks.inode()) && !is_dot_or_dotdot(name)) {
    std::optional<EntryPlace> place = TRY(htree::find(blocks, name));
    if (place) return *std::move(place);
  }
  return linear::find(blocks, name);
}

}  // namespace

Result<DirectoryMatch> Directory::find(Volume &volume, const Inode &inode, std::string_view name) {
  DirectoryBlocks blocks(volume, inode);
  const EntryPlace place = TRY(locate(blocks, name));
  return DirectoryMatch{place.entry.inode, place.entry.file_type};
}

Status Directory::insert(jbd2::Handle &handle, std::string_view name, InodeNumber inode, std::uint8_t file_type) {
  TRY(check_length(name));
  if (name.empty()) return fail(Error::user(EINVAL));
  std::uint32_t &flags = inode_.fields.flags;
  if ((flags & inode_flags::kEncrypted) != 0) return fail(Error::user(ENOKEY, "directory: names are encrypted"));
  if ((flags & inode_flags::kCaseFold) != 0) return fail(Error::unsupported("directory: names without case"));

  const NewName entry{name, inode, file_type};
  if (htree::has_index(volume_, inode_)) {
    if (TRY(htree::insert(handle, volume_, inode_, entry))) return {};
    // With checksums an index block cannot pass for an empty one; without, the index is given up, as ext4 does.
    if (volume_.has_metadata_checksums())
      return fail(Error::corrupt("directory: index not usable").of_inode(inode_.number.value()));
  } else if ((flags & inode_flags::kIndex) == 0) {
    const std::uint32_t count = TRY(DirectoryBlocks(volume_, inode_).count());
    if (htree::in_hash_order(volume_, inode_, count)) return htree::insert_or_convert(handle, volume_, inode_, entry);
    return linear::insert(handle, volume_, inode_, entry);
  }
  // From here on its blocks change as those of a linear directory, and the index would be wrong.
  flags &= ~inode_flags::kIndex;
  Status inserted = linear::insert(handle, volume_, inode_, entry);
  if (!inserted) {
    flags |= inode_flags::kIndex;
    return inserted;
  }
  return volume_.inodes().store(handle, inode_);
}

Status Directory::remove(jbd2::Handle &handle, std::string_view name, InodeNumber expected) {
  DirectoryBlocks blocks(volume_, inode_);
  const EntryPlace place = TRY(locate(blocks, name));
  if (expected && place.entry.inode != expected) return fail(Error::user(ESTALE, "the name means another inode"));
  std::span<std::byte> bytes = TRY(place.buffer->writable(handle));
  TRY(blocks.placed(format::remove_entry(bytes, blocks.format(), place.entry.offset), place.buffer));
  if (place.block < inode_.directory_hint) inode_.directory_hint = place.block;
  return {};
}

Status Directory::replace(jbd2::Handle &handle, std::string_view name, InodeNumber inode, std::uint8_t file_type) {
  DirectoryBlocks blocks(volume_, inode_);
  const EntryPlace place = TRY(locate(blocks, name));
  std::span<std::byte> bytes = TRY(place.buffer->writable(handle));
  format::set_entry_inode(bytes, blocks.format(), place.entry.offset, inode, file_type);
  return {};
}

Status Directory::initialise(jbd2::Handle &handle, InodeNumber parent) {
  const AppendedBlocks added = TRY(append_blocks(handle, volume_, inode_, 1));
  format::init_dot_entries(added.bytes[0], format::DirFormat::of(volume_.superblock()), inode_.number, parent);
  return volume_.inodes().store(handle, inode_);
}

Result<bool> Directory::empty() const {
  DirectoryBlocks blocks(volume_, inode_);
  const std::uint32_t count = TRY(blocks.count());
  for (std::uint32_t b = 0; b < count; ++b) {
    const cache::BufferRef buffer = TRY(blocks.read_in_order(FileBlock(b)));
    format::DirCursor cursor(buffer->bytes(), blocks.format());
    while (TRY(blocks.placed(cursor.next(), buffer)))
      if (cursor.entry().used() && !is_dot_or_dotdot(cursor.entry().name)) return false;
  }
  return true;
}

std::uint32_t Directory::insert_credits() const {
  if (!volume_.superblock().has(format::Compat::dir_index)) return 1 + append_credits(volume_, inode_, 1);
  const bool large = volume_.superblock().has(format::Incompat::large_dir);
  const std::uint32_t appended = large ? 3 : 2;   // a leaf, and a node per level that may be split or added
  const std::uint32_t changed = 1 + (large ? 3 : 2);  // the old leaf and the path to it
  return changed + append_credits(volume_, inode_, appended);
}

std::uint32_t Directory::change_credits() const { return 1; }

std::uint32_t Directory::initialise_credits(const Volume &volume) { return append_credits(volume, Inode{}, 1); }

}  // namespace outboard::ext4

#include "ext4/directory_linear.h"

#include "ext4/inode_alloc.h"

#include <cassert>

namespace outboard::ext4::linear {
namespace {

// Room in blocks [first, end)? Where it was found becomes the hint.
Result<bool> insert_between(jbd2::Handle &handle, DirectoryBlocks &blocks, Inode &inode, std::uint32_t first,
                            std::uint32_t end, const NewName &name) {
  for (std::uint32_t b = first; b < end; ++b) {
    const cache::BufferRef buffer = TRY(blocks.read_in_order(FileBlock(b)));
    if (!TRY(blocks.placed(format::has_room(buffer->bytes(), blocks.format(), name.name.size()), buffer))) continue;
    if (!TRY(insert_into(handle, blocks, buffer, name))) continue;
    inode.directory_hint = FileBlock(b);
    return true;
  }
  return false;
}

}  // namespace

Result<EntryPlace> find(DirectoryBlocks &blocks, std::string_view name) {
  const std::uint32_t count = TRY(blocks.count());
  for (std::uint32_t b = 0; b < count; ++b) {
    cache::BufferRef buffer = TRY(blocks.read_in_order(FileBlock(b)));
    std::optional<format::DirEntryView> entry =
        TRY(blocks.placed(format::find_entry(buffer->bytes(), blocks.format(), name), buffer));
    if (entry) return EntryPlace{std::move(buffer), FileBlock(b), *entry};
  }
  return fail(Error::user(ENOENT));
}

Result<bool> insert_into(jbd2::Handle &handle, const DirectoryBlocks &blocks, const cache::BufferRef &buffer,
                         const NewName &name) {
  std::span<std::byte> bytes = TRY(buffer->writable(handle));
  return blocks.placed(format::insert_entry(bytes, blocks.format(), name.name, name.inode, name.file_type), buffer);
}

Status insert(jbd2::Handle &handle, Volume &volume, Inode &inode, const NewName &name) {
  DirectoryBlocks blocks(volume, inode);
  const std::uint32_t count = TRY(blocks.count());
  const std::uint32_t hint = inode.directory_hint.value() < count ? inode.directory_hint.value() : 0;
  if (TRY(insert_between(handle, blocks, inode, hint, count, name))) return {};

  Result<AppendedBlocks> added = append_blocks(handle, volume, inode, 1);
  if (!added) {
    // Blocks before the hint may have room for this name though an earlier, longer one did not fit.
    if (added.error().is(ENOSPC) && TRY(insert_between(handle, blocks, inode, 0, hint, name))) return {};
    return std::unexpected(added.error());
  }
  format::init_dir_block(added->bytes[0], blocks.format());
  const bool fits =
      TRY(format::insert_entry(added->bytes[0], blocks.format(), name.name, name.inode, name.file_type));
  assert(fits);
  (void)fits;
  inode.directory_hint = added->first;
  return volume.inodes().store(handle, inode);
}

}  // namespace outboard::ext4::linear

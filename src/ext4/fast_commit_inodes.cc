// Inode records of fast commits.
#include "ext4/credits.h"
#include "ext4/fast_commit_apply.h"
#include "ext4/file_map.h"
#include "ext4/inode_alloc.h"
#include "ext4/truncate_pieces.h"
#include "ext4/xattrs.h"

#include <algorithm>

namespace outboard::ext4 {
namespace {

bool has_map(const format::Superblock &superblock, const format::InodeFields &fields) {
  return fields.is_regular() || fields.is_directory() ||
         (fields.is_symlink() && !format::is_fast_symlink(superblock, fields));
}

}  // namespace

// The record's checksum covers attributes that are not part of it, so it cannot be verified: the fast commit's own has been.
Result<format::InodeFields> FastCommitApply::decode(const Record &record) const {
  const format::Superblock &superblock = volume_.superblock();
  std::vector<std::byte> raw(superblock.inode_size);
  std::ranges::copy(record.raw, raw.begin());
  format::seal_inode(superblock, record.inode, raw);
  format::InodeFields fields = TRY(format::parse_inode(superblock, record.inode, raw));
  // Whose map the 60 bytes hold is another question: they are not replayed.
  format::InodeFields without_map = fields;
  without_map.block = {};
  if (fields.uses_extents()) format::ExtentNodeEdit(without_map.block).init(0);
  TRY(check_inode_fields(superblock, record.inode, without_map));
  if (fields.mode == 0) return fail(Error::corrupt("fast commit: inode without a type").of_inode(record.inode.value()));
  return fields;
}

Status FastCommitApply::inode(const Record &record) {
  Subject &target = *TRY(subject(record.inode));
  const format::InodeFields image = TRY(decode(record));
  // Unlinked, but still open when the fast commit was made: what happens to it no longer matters.
  if (image.links == 0) return {};
  return target.exists() ? update(target, image) : make(target, image);
}

// Everything but the map, what is counted here, and what must not have changed.
Status FastCommitApply::update(Subject &target, const format::InodeFields &image) {
  format::InodeFields &fields = target.inode.fields;
  const auto contradiction = [&](const char *what) { return fail(Error::corrupt(what).of_inode(target.inode.number.value())); };
  if (fields.type() != image.type() || fields.uses_extents() != image.uses_extents())
    return contradiction("fast commit: inode of another kind");
  if (fields.generation != image.generation && volume_.has_metadata_checksums())
    return contradiction("fast commit: inode of another generation");
  if (fields.file_acl != image.file_acl) return contradiction("fast commit: attribute block");
  if (fields.extra_isize != image.extra_isize) {
    const std::vector<std::byte> attributes = TRY(volume_.inodes().read_inline_xattrs(target.inode));
    if (std::ranges::any_of(attributes, [](std::byte byte) { return byte != std::byte{0}; }))
      return contradiction("fast commit: attributes in the inode would move");
  }
  format::InodeFields next = image;
  next.block = fields.block;
  next.sectors = fields.sectors;
  next.links = fields.links;
  next.dtime = fields.dtime;
  if (fields.is_directory()) {
    next.size = fields.size;
    next.flags = (image.flags & ~format::kInodeFlagIndex) | (fields.flags & format::kInodeFlagIndex);
  }
  fields = next;
  return {};
}

Status FastCommitApply::make(Subject &target, const format::InodeFields &image) {
  if (target.life == Life::unlinked) TRY(drop_blocks(target));
  if (image.file_acl) return fail(Error::corrupt("fast commit: new inode with attributes").of_inode(target.inode.number.value()));

  Inode &inode = target.inode;
  const bool keep_link = inode.on_orphan_list;
  format::InodeFields fields = image;
  fields.links = 0;
  fields.sectors = 0;
  fields.dtime = 0;
  const bool fast_symlink = image.is_symlink() && !image.uses_extents() && image.size < format::kInodeBlockBytes;
  if (image.is_directory()) {
    fields.size = 0;  // its first block comes with its name
    fields.flags &= ~format::kInodeFlagIndex;
  }
  if (!image.is_device() && !fast_symlink) fields.block = {};
  if (image.uses_extents()) format::ExtentNodeEdit(fields.block).init(0);

  const std::uint32_t adopt_credits = TRY(volume_.inodes().adopt_credits(inode.number));
  jbd2::Handle handle = TRY(volume_.journal().start(adopt_credits + credits::kStoreInode));
  Status adopted = volume_.inodes().adopt(handle, inode.number, image.is_directory(), keep_link);
  const InodeNumber same = inode.number;
  inode = Inode{};
  inode.number = same;
  inode.on_orphan_list = keep_link;
  inode.fields = fields;
  inode.checksum_seed = format::inode_checksum_seed(volume_.superblock(), same, fields.generation);
  if (adopted) adopted = volume_.inodes().store(handle, inode);
  handle.finish();
  target.life = Life::nameless;
  target.pieces.clear();
  return adopted;
}

Status FastCommitApply::drop_blocks(Subject &target) {
  Inode &inode = target.inode;
  target.pieces.clear();
  if (has_map(volume_.superblock(), inode.fields)) {
    const FileBlock end(static_cast<std::uint32_t>(file_map::max_file_blocks(volume_, inode)));
    jbd2::Handle handle = TRY(volume_.journal().start(file_map::remove_credits(volume_, inode) + credits::kStoreInode));
    Status freed = truncate::free_pieces(handle, volume_, inode, FileBlock(0), end);
    handle.finish();
    TRY(std::move(freed));
    inode.fields.size = 0;
  }
  jbd2::Handle handle = TRY(volume_.journal().start(xattrs::set_credits(volume_) + credits::kStoreInode));
  Status status = xattrs::release_block(handle, volume_, inode);
  if (status) status = volume_.inodes().store(handle, inode);
  handle.finish();
  return status;
}

}  // namespace outboard::ext4

#include "ext4/xattr_block.h"

#include "ext4/block_alloc.h"

#include <algorithm>
#include <cassert>

namespace outboard::ext4 {

Result<cache::BufferRef> XattrBlocks::buffer(BlockNumber block) {
  if (!volume_.blocks().may_hold_file_data({block, 1}))
    return fail(Error::corrupt("xattr block: lies in fixed metadata").in_block(block.value()));
  return volume_.cache().read(block, volume_.types().xattr());
}

Result<std::vector<std::byte>> XattrBlocks::read(const Inode &inode) {
  const BlockNumber block = inode.fields.file_acl;
  if (!block) return std::vector<std::byte>{};
  const cache::BufferRef pinned = TRY(buffer(block));
  std::vector<std::byte> copy;
  bool known = false;
  {
    ReadLock guard(lock_);
    copy.assign(pinned->bytes().begin(), pinned->bytes().end());
    known = memory_.contains(block) || format::xattr_block_refcount(copy) >= format::kXattrMaxRefcount;
  }
  if (!known) {
    WriteLock guard(lock_);
    remember(block, pinned->bytes());
  }
  return copy;
}

void XattrBlocks::attach(Inode &inode, BlockNumber block) const {
  inode.fields.sectors -=
      std::min(inode.fields.sectors, format::xattr_block_sectors(volume_.superblock(), inode.fields));
  inode.fields.file_acl = block;
  inode.fields.sectors += format::xattr_block_sectors(volume_.superblock(), inode.fields);
}

Status XattrBlocks::replace(jbd2::Handle &handle, Inode &inode, std::span<const format::XattrItem> items) {
  if (items.empty()) return release(handle, inode);
  std::vector<std::byte> image(volume_.block_size());
  [[maybe_unused]] const bool fitted = format::build_xattr_block(image, items);
  assert(fitted);

  const BlockNumber old = inode.fields.file_acl;
  std::optional<BlockNumber> found = TRY(share(handle, image, old));
  if (!found && old && TRY(rewrite(handle, old, image))) return {};
  const BlockNumber block = found ? *found : TRY(make(handle, inode, image));
  attach(inode, block);
  if (!old) return {};
  Status dropped = drop(handle, old);
  if (!dropped && dropped.error().is_corrupt() && volume_.journal().check()) {
    // The old block was not the inode's to give back; what it has now is right.
    volume_.report_error(dropped.error());
    return {};
  }
  return dropped;
}

Status XattrBlocks::release(jbd2::Handle &handle, Inode &inode) {
  if (!inode.fields.file_acl) return {};
  TRY(drop(handle, inode.fields.file_acl));
  attach(inode, BlockNumber(0));
  return {};
}

Result<std::optional<BlockNumber>> XattrBlocks::share(jbd2::Handle &handle, std::span<const std::byte> image,
                                                      BlockNumber except) {
  const std::uint32_t hash = format::xattr_block_hash(image);
  if (hash == 0) return std::nullopt;
  WriteLock guard(lock_);
  std::vector<BlockNumber> candidates;
  for (auto [it, end] = by_hash_.equal_range(hash); it != end; ++it)
    if (it->second != except) candidates.push_back(it->second);
  for (const BlockNumber candidate : candidates) {
    Result<cache::BufferRef> pinned = buffer(candidate);
    if (!pinned) {
      forget(candidate);
      continue;
    }
    const std::uint32_t users = format::xattr_block_refcount((*pinned)->bytes());
    if (users >= format::kXattrMaxRefcount || !format::same_xattr_block((*pinned)->bytes(), image)) continue;
    const std::span<std::byte> bytes = TRY((*pinned)->writable(handle));
    format::set_xattr_block_refcount(bytes, users + 1);
    if (users + 1 >= format::kXattrMaxRefcount) forget(candidate);
    return candidate;
  }
  return std::nullopt;
}

Result<bool> XattrBlocks::rewrite(jbd2::Handle &handle, BlockNumber block, std::span<const std::byte> image) {
  const cache::BufferRef pinned = TRY(buffer(block));
  WriteLock guard(lock_);
  if (format::xattr_block_refcount(pinned->bytes()) != 1) return false;
  const std::span<std::byte> bytes = TRY(pinned->writable(handle));
  forget(block);
  std::ranges::copy(image, bytes.begin());
  remember(block, bytes);
  return true;
}

Result<BlockNumber> XattrBlocks::make(jbd2::Handle &handle, const Inode &inode, std::span<const std::byte> image) {
  const BlockGoal goal{.near = BlockNumber(0), .group = volume_.geometry().locate(inode.number).group};
  const BlockNumber block = TRY(volume_.blocks().allocate(handle, goal));
  const cache::BufferRef pinned = TRY(volume_.cache().create(block, volume_.types().xattr()));
  const std::span<std::byte> bytes = TRY(pinned->writable(handle));
  std::ranges::copy(image, bytes.begin());
  WriteLock guard(lock_);
  remember(block, bytes);
  return block;
}

Status XattrBlocks::drop(jbd2::Handle &handle, BlockNumber block) {
  const cache::BufferRef pinned = TRY(buffer(block));
  {
    WriteLock guard(lock_);
    const std::uint32_t users = format::xattr_block_refcount(pinned->bytes());
    if (users > 1) {
      const std::span<std::byte> bytes = TRY(pinned->writable(handle));
      format::set_xattr_block_refcount(bytes, users - 1);
      remember(block, bytes);
      return {};
    }
    forget(block);
  }
  return volume_.blocks().free(handle, {block, 1}, true);
}

void XattrBlocks::remember(BlockNumber block, std::span<const std::byte> bytes) {
  const std::uint32_t hash = format::xattr_block_hash(bytes);
  if (hash == 0 || memory_.contains(block) || format::xattr_block_refcount(bytes) >= format::kXattrMaxRefcount) return;
  if (memory_.size() >= kRemembered) forget(ages_.front());
  memory_.emplace(block, Memory{hash, ages_.insert(ages_.end(), block)});
  by_hash_.emplace(hash, block);
}

void XattrBlocks::forget(BlockNumber block) {
  const auto known = memory_.find(block);
  if (known == memory_.end()) return;
  for (auto [it, end] = by_hash_.equal_range(known->second.hash); it != end; ++it) {
    if (it->second != block) continue;
    by_hash_.erase(it);
    break;
  }
  ages_.erase(known->second.age);
  memory_.erase(known);
}

}  // namespace outboard::ext4

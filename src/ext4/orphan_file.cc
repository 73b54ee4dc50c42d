#include "ext4/orphan_file.h"

#include "ext4/block_alloc.h"
#include "ext4/file_map.h"
#include "ext4/inode_alloc.h"

#include <algorithm>
#include <cassert>

namespace outboard::ext4 {
Result<OrphanFile> OrphanFile::open(Volume &volume) {
  const InodeNumber number = volume.superblock().orphan_file_inode;
  const Inode inode = TRY(volume.inodes().load(number));
  OrphanFile file(volume, inode);
  TRY(file.map(inode));
  TRY(file.count());
  return file;
}

Status OrphanFile::map(const Inode &inode) {
  const std::uint64_t number = inode.number.value();
  const std::uint64_t size = inode.fields.size;
  if (!inode.is_regular() || inode.fields.links == 0)
    return fail(Error::corrupt("orphan file: not a file").of_inode(number));
  if (size == 0 || size % volume_->block_size() != 0 || size > kMaxBytes)
    return fail(Error::corrupt("orphan file: size").of_inode(number));
  const auto total = static_cast<std::uint32_t>(size / volume_->block_size());
  blocks_.reserve(total);
  while (blocks_.size() < total) {
    const FileBlock next(static_cast<std::uint32_t>(blocks_.size()));
    const FileMapping mapping = TRY(file_map::find(*volume_, inode, next, total - next.value()));
    if (mapping.state != FileMapping::State::mapped || mapping.count == 0)
      return fail(Error::corrupt("orphan file: hole").of_inode(number));
    const std::uint32_t count = std::min(mapping.count, total - next.value());
    if (!volume_->blocks().may_hold_file_data({mapping.start, count}))
      return fail(Error::corrupt("orphan file: block out of bounds").in_block(mapping.start.value()).of_inode(number));
    for (std::uint32_t i = 0; i < count; ++i) blocks_.push_back({.home = mapping.start + i});
  }
  return {};
}

Status OrphanFile::count() {
  std::vector<BlockNumber> homes;
  homes.reserve(blocks_.size());
  for (const Block &block : blocks_) homes.push_back(block.home);
  volume_->cache().prefetch(homes, volume_->types().orphan_file(), seed_);
  for (std::uint32_t i = 0; i < blocks_.size(); ++i) {
    const cache::BufferRef buffer = TRY(read(i));
    for (std::uint32_t slot = 0; slot < slots_per_block(); ++slot)
      if (!format::orphan_slot(buffer->bytes(), slot)) ++blocks_[i].free;
  }
  return {};
}

std::uint32_t OrphanFile::slots_per_block() const { return format::orphan_slots(volume_->block_size()); }

Result<cache::BufferRef> OrphanFile::read(std::uint32_t block) const {
  return volume_->cache().read(blocks_[block].home, volume_->types().orphan_file(), seed_);
}

Result<bool> OrphanFile::insert(jbd2::Handle &handle, InodeNumber number) {
  assert(!contains(number));
  const auto total = static_cast<std::uint32_t>(blocks_.size());
  std::uint32_t chosen = block_hint_, tried = 0;
  for (; tried < total && blocks_[chosen].free == 0; ++tried) chosen = (chosen + 1) % total;
  if (tried == total) return false;
  block_hint_ = chosen;

  Block &block = blocks_[chosen];
  const cache::BufferRef buffer = TRY(read(chosen));
  const std::span<std::byte> bytes = TRY(buffer->writable(handle));
  std::uint32_t slot = block.hint;
  for (tried = 0; tried < slots_per_block() && format::orphan_slot(bytes, slot); ++tried)
    slot = (slot + 1) % slots_per_block();
  assert(tried < slots_per_block());  // `free` counts what we read and wrote ourselves
  format::set_orphan_slot(bytes, slot, number);
  --block.free;
  block.hint = (slot + 1) % slots_per_block();
  slots_.emplace(number, Slot{chosen, slot});
  return true;
}

Status OrphanFile::remove(jbd2::Handle &handle, InodeNumber number) {
  const auto self = slots_.find(number);
  assert(self != slots_.end());
  TRY(clear(handle, self->second));
  slots_.erase(self);
  return {};
}

Status OrphanFile::clear(jbd2::Handle &handle, Slot slot) {
  assert(slot.block < blocks_.size() && slot.index < slots_per_block());
  Block &block = blocks_[slot.block];
  const cache::BufferRef buffer = TRY(read(slot.block));
  const std::span<std::byte> bytes = TRY(buffer->writable(handle));
  if (!format::orphan_slot(bytes, slot.index)) return {};
  format::set_orphan_slot(bytes, slot.index, InodeNumber(0));
  ++block.free;
  block.hint = slot.index;  // the same few slots serve a steady stream of orphans
  block_hint_ = slot.block;
  return {};
}

Result<std::optional<OrphanFile::Record>> OrphanFile::next_record(Slot from) {
  for (; from.block < blocks_.size(); ++from.block, from.index = 0) {
    if (blocks_[from.block].free == slots_per_block()) continue;
    const cache::BufferRef buffer = TRY(read(from.block));
    for (; from.index < slots_per_block(); ++from.index) {
      const InodeNumber number = format::orphan_slot(buffer->bytes(), from.index);
      if (number) return Record{number, from};
    }
  }
  return std::nullopt;
}

}  // namespace outboard::ext4

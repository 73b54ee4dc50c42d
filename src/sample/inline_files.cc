#include "sample/inline_files.h"

#include "base/checksum.h"

#include <algorithm>

namespace outboard::sample {
namespace {

using iomap::Mapping;
using iomap::MappingType;
using iomap::Operation;
using DiskInode = InlineVolume::DiskInode;

constexpr std::uint32_t kInodeMagic = 0x494E4F44, kVolumeMagic = 0x494E4C56;
constexpr std::uint64_t kMostInodes = 4096;

std::uint32_t checksum_of(const DiskInode &inode) {
  DiskInode copy = inode;
  copy.checksum.set(0);
  return crc32c(~0u, &copy, sizeof copy);
}

std::span<std::byte> bytes_of(DiskInode &inode) { return {reinterpret_cast<std::byte *>(&inode), sizeof inode}; }

// Block 0 is an inode block, too, so that one checksum serves both: its size field counts the inodes.
Status store_block(device::BlockDevice &device, std::uint64_t address, DiskInode &inode) {
  inode.checksum.set(checksum_of(inode));
  return device.write(address, bytes_of(inode));
}

Status load_block(device::BlockDevice &device, std::uint64_t address, std::uint32_t magic, DiskInode &inode) {
  TRY(device.read(address, bytes_of(inode)));
  const std::uint64_t block = address / InlineVolume::kBlock;
  if (inode.magic.get() != magic) return fail(Error::corrupt("inline: magic").in_block(block));
  if (inode.checksum.get() != checksum_of(inode)) return fail(Error::bad_checksum("inline: inode").in_block(block));
  return {};
}

}  // namespace

// --- a file ---------------------------------------------------------------------------------------------------------

Result<Mapping> InlineVolume::File::begin(ByteRange range, Operation operation) {
  if (range.offset < kCapacity)
    return Mapping{.type = MappingType::inline_data, .offset = 0, .length = kCapacity, .inline_bytes = inode_->data};
  if (operation == Operation::write || operation == Operation::delay)
    return fail(Error::user(EFBIG, "inline: the inode is full"));
  return Mapping{.type = MappingType::hole, .offset = kCapacity, .length = ~kCapacity, .inline_bytes = {}};
}

Status InlineVolume::File::end(ByteRange range, std::uint64_t moved, Operation operation, const Mapping &mapping) {
  const bool changes = operation == Operation::delay || operation == Operation::zero;
  if (!changes || moved == 0 || mapping.type != MappingType::inline_data) return {};
  if (operation == Operation::delay)
    inode_->size.set(static_cast<std::uint32_t>(std::max(size(), range.offset + moved)));
  return store();
}

Status InlineVolume::File::shrink(std::uint64_t size) {
  if (size >= this->size()) return {};
  std::fill(inode_->data.begin() + static_cast<std::ptrdiff_t>(size), inode_->data.end(), std::byte{0});
  inode_->size.set(static_cast<std::uint32_t>(size));
  return store();
}

Status InlineVolume::File::grow(std::uint64_t size) {
  if (size > kCapacity) return fail(Error::user(EFBIG, "inline: larger than an inode"));
  inode_->size.set(static_cast<std::uint32_t>(size));
  return store();
}

Status InlineVolume::File::store() { return store_block(device_, address_, *inode_); }

Status InlineVolume::File::load() {
  TRY(load_block(device_, address_, kInodeMagic, *inode_));
  const std::uint64_t block = address_ / kBlock;
  if (inode_->size.get() > kCapacity) return fail(Error::corrupt("inline: size").in_block(block));
  const std::uint32_t length = inode_->name_length.get();
  const bool in_use = inode_->in_use.get() != 0;
  if (length > kNameRoom || (in_use && length == 0)) return fail(Error::corrupt("inline: name").in_block(block));
  // What the volume promises to the engine is made true, not believed: zeros behind the end.
  std::fill(inode_->data.begin() + inode_->size.get(), inode_->data.end(), std::byte{0});
  allocated = in_use;
  return {};
}

// --- the volume -----------------------------------------------------------------------------------------------------

Status InlineVolume::format(device::BlockDevice &device) {
  const std::uint64_t blocks = device.properties().size / kBlock;
  if (blocks < 2) return fail(Error::user(ENOSPC, "inline: the device is too small"));
  const std::uint64_t inodes = std::min(blocks - 1, kMostInodes);
  DiskInode block{};
  block.magic.set(kInodeMagic);
  for (std::uint64_t n = 1; n <= inodes; ++n) TRY(store_block(device, n * kBlock, block));
  block.magic.set(kVolumeMagic);
  block.size.set(static_cast<std::uint32_t>(inodes));
  TRY(store_block(device, 0, block));
  return device.flush();
}

Result<std::unique_ptr<InlineVolume>> InlineVolume::open(device::BlockDevice &device) {
  DiskInode head{};
  if (device.properties().size < 2 * kBlock) return fail(Error::corrupt("inline: the device is too small"));
  TRY(load_block(device, 0, kVolumeMagic, head));
  const std::uint64_t inodes = head.size.get();
  if (inodes > kMostInodes || inodes > device.properties().size / kBlock - 1)
    return fail(Error::corrupt("inline: number of inodes").in_block(0));
  std::unique_ptr<InlineVolume> volume(new InlineVolume(device));
  for (std::uint64_t n = 1; n <= inodes; ++n) TRY(volume->files_.emplace_back(device, n * kBlock).load());
  return volume;
}

std::vector<Volume::Name> InlineVolume::names() {
  std::vector<Name> out;
  MutexLock lock(mutex_);
  for (unsigned n = 0; n < files_.size(); ++n) {
    const DiskInode &inode = files_[n].inode();
    if (inode.in_use.get() != 0) out.push_back({n, {inode.name.data(), inode.name_length.get()}});
  }
  return out;
}

Result<unsigned> InlineVolume::create(std::string_view name) {
  if (name.size() > kNameRoom) return fail(Error::user(ENAMETOOLONG));
  MutexLock lock(mutex_);
  const auto free = std::ranges::find(files_, false, &File::allocated);
  if (free == files_.end()) return fail(Error::user(ENOSPC, "inline: no inode left"));
  DiskInode &inode = free->inode();
  inode = {};
  inode.magic.set(kInodeMagic);
  inode.in_use.set(1);
  inode.name_length.set(static_cast<std::uint32_t>(name.size()));
  std::ranges::copy(name, inode.name.begin());
  if (Status stored = free->store(); !stored) {
    inode.in_use.set(0);
    return fail(std::move(stored).error());
  }
  free->allocated = true;
  return static_cast<unsigned>(free - files_.begin());
}

Status InlineVolume::unlink(unsigned file) {
  MutexLock lock(mutex_);
  files_[file].inode().in_use.set(0);
  return files_[file].store();
}

void InlineVolume::erase(unsigned file) {
  MutexLock lock(mutex_);
  files_[file].allocated = false;
}

Volume::Space InlineVolume::space() {
  MutexLock lock(mutex_);
  const auto free = static_cast<std::uint64_t>(std::ranges::count(files_, false, &File::allocated));
  return {.blocks = files_.size(), .free_blocks = free, .files = files_.size(), .free_files = free};
}

}  // namespace outboard::sample

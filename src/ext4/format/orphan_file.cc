#include "ext4/format/orphan_file.h"

#include "base/checksum.h"

#include <algorithm>
#include <cassert>

namespace outboard::ext4::format {
namespace {

std::size_t tail_offset(std::size_t block_size) { return block_size - sizeof(RawOrphanTail); }

std::uint32_t checksum_of(std::span<const std::byte> block, BlockNumber number, std::uint32_t seed) {
  const le64 place(number.value());
  return crc32c(crc32c(seed, &place, sizeof place), block.first(orphan_slots(block.size()) * sizeof(le32)));
}

}  // namespace

InodeNumber orphan_slot(std::span<const std::byte> block, std::uint32_t slot) {
  assert(slot < orphan_slots(block.size()));
  return InodeNumber(view_as<le32>(block, slot * sizeof(le32)).get());
}

void set_orphan_slot(std::span<std::byte> block, std::uint32_t slot, InodeNumber inode) {
  assert(slot < orphan_slots(block.size()));
  edit_as<le32>(block, slot * sizeof(le32)).set(inode.value());
}

void init_orphan_block(std::span<std::byte> block) {
  std::fill(block.begin(), block.end(), std::byte{0});
  edit_as<RawOrphanTail>(block, tail_offset(block.size())).ob_magic.set(kOrphanBlockMagic);
}

Status verify_orphan_block(std::span<const std::byte> block, bool has_checksum, BlockNumber number,
                           std::uint32_t seed) {
  const auto &tail = view_as<RawOrphanTail>(block, tail_offset(block.size()));
  if (tail.ob_magic.get() != kOrphanBlockMagic)
    return fail(Error::corrupt("orphan file block: magic").in_block(number.value()));
  if (has_checksum && tail.ob_checksum.get() != checksum_of(block, number, seed))
    return fail(Error::bad_checksum("orphan file block: checksum").in_block(number.value()));
  return {};
}

void seal_orphan_block(std::span<std::byte> block, BlockNumber number, std::uint32_t seed) {
  edit_as<RawOrphanTail>(block, tail_offset(block.size())).ob_checksum.set(checksum_of(block, number, seed));
}

}  // namespace outboard::ext4::format

#include "ext4/journal_area.h"

#include "ext4/format/extent.h"
#include "ext4/format/group_desc.h"
#include "ext4/format/inode.h"
#include "jbd2/format.h"

#include <algorithm>
#include <array>

namespace outboard::ext4 {

namespace {

// jbd2 wants at least this many blocks, and numbers them with 32 bits; no journal is made larger than this many bytes.
constexpr std::uint64_t kFewestBlocks = 1024;
constexpr std::uint64_t kMostBytes = std::uint64_t{64} << 30;

class JournalMap {
public:
  JournalMap(device::BlockDevice &device, const format::Superblock &superblock)
      : device_(device), superblock_(superblock), geometry_(superblock) {}

  Result<std::vector<BlockRun>> read() {
    const format::InodeFields inode = TRY(read_inode());
    blocks_ = inode.size / superblock_.block_size;
    if (!inode.is_regular()) return fail(Error::corrupt("journal inode: not a regular file"));
    if (blocks_ < kFewestBlocks || inode.size > kMostBytes || blocks_ > superblock_.blocks_count)
      return fail(Error::corrupt("journal inode: size"));
    if (inode.uses_extents()) {
      seed_ = format::inode_checksum_seed(superblock_, superblock_.journal_inode, inode.generation);
      TRY(walk_extents(inode.block, format::kMaxExtentDepth, true));
    } else {
      TRY(walk_pointers(inode));
    }
    if (found_ != blocks_) return fail(Error::corrupt("journal inode: holes in the journal"));
    std::vector<BlockRun> sorted = runs_;
    std::ranges::sort(sorted, {}, &BlockRun::start);
    for (std::size_t i = 1; i < sorted.size(); ++i)
      if (sorted[i].start < sorted[i - 1].end()) return fail(Error::corrupt("journal inode: a block twice").in_block(sorted[i].start.value()));
    return std::move(runs_);
  }

private:
  Result<std::vector<std::byte>> read_block(BlockNumber block) {
    if (!geometry_.contains(block)) return fail(Error::corrupt("journal map: block beyond the file system").in_block(block.value()));
    std::vector<std::byte> bytes(superblock_.block_size);
    TRY(device_.read(block.value() * superblock_.block_size, bytes));
    return bytes;
  }

  Result<format::InodeFields> read_inode() {
    const InodeNumber number = superblock_.journal_inode;
    if (!geometry_.contains(number)) return fail(Error::corrupt("journal inode number").of_inode(number.value()));
    const format::InodeLocation at = geometry_.locate(number);
    const auto descriptors = TRY(read_block(geometry_.descriptor_block(geometry_.descriptor_index(at.group))));
    const format::GroupDesc group = TRY(format::parse_group_desc(
        superblock_, at.group, std::span(descriptors).subspan(geometry_.descriptor_offset(at.group), superblock_.desc_size)));
    const auto table = TRY(read_block(group.inode_table + at.table_block));
    return format::parse_inode(superblock_, number, std::span(table).subspan(at.offset, superblock_.inode_size));
  }

  // The next blocks of the journal, in file order.
  Status add(BlockNumber start, std::uint32_t count) {
    if (!geometry_.contains(start, count) || geometry_.overlaps_static_metadata(start, count))
      return fail(Error::corrupt("journal map: over fixed metadata or beyond the file system").in_block(start.value()));
    const auto take = static_cast<std::uint32_t>(std::min<std::uint64_t>(count, blocks_ - found_));
    if (take == 0) return {};
    if (!runs_.empty() && runs_.back().end() == start) runs_.back().count += take;
    else runs_.push_back({start, take});
    found_ += take;
    return {};
  }

  Status walk_extents(std::span<const std::byte> node, std::uint16_t deepest, bool is_root) {
    if (++nodes_ > blocks_) return fail(Error::corrupt("journal map: more nodes than blocks"));
    TRY(format::verify_extent_node(node, std::nullopt, is_root, superblock_.blocks_count, superblock_.first_data_block));
    const format::ExtentNodeView view(node);
    if (view.depth() > deepest) return fail(Error::corrupt("journal map: extent tree too deep"));
    for (std::uint16_t i = 0; i < view.entries(); ++i) {
      if (view.depth() == 0) {
        const format::Extent extent = view.get_extent(i);
        if (extent.unwritten || extent.logical.value() != found_) {
          if (found_ >= blocks_) return {};
          return fail(Error::corrupt("journal map: hole or unwritten blocks"));
        }
        TRY(add(extent.start, extent.len));
        continue;
      }
      const BlockNumber child = view.get_index(i).child;
      const auto bytes = TRY(read_block(child));
      TRY(format::verify_extent_node(bytes, static_cast<std::uint16_t>(view.depth() - 1), false, superblock_.blocks_count,
                                     superblock_.first_data_block));
      if (superblock_.has_metadata_checksums() && !format::extent_checksum_matches(bytes, seed_))
        return fail(Error::bad_checksum("journal map: extent node").in_block(child.value()));
      TRY(walk_extents(bytes, static_cast<std::uint16_t>(view.depth() - 1), false));
    }
    return {};
  }

  Status walk_pointers(const format::InodeFields &inode) {
    constexpr unsigned kDirect = 12, kLevels = 3;
    for (unsigned slot = 0; slot < kDirect + kLevels && found_ < blocks_; ++slot)
      TRY(walk_pointer(BlockNumber(view_as<le32>(inode.block, slot * sizeof(le32)).get()), slot < kDirect ? 0 : slot - kDirect + 1));
    return {};
  }

  Status walk_pointer(BlockNumber block, unsigned level) {
    if (!block) return fail(Error::corrupt("journal map: hole"));
    if (level == 0) return add(block, 1);
    if (++nodes_ > blocks_) return fail(Error::corrupt("journal map: more nodes than blocks"));
    const auto bytes = TRY(read_block(block));
    for (std::size_t at = 0; at < bytes.size() && found_ < blocks_; at += sizeof(le32))
      TRY(walk_pointer(BlockNumber(view_as<le32>(bytes, at).get()), level - 1));
    return {};
  }

  device::BlockDevice &device_;
  const format::Superblock &superblock_;
  const format::Geometry geometry_;
  std::uint64_t blocks_ = 0, found_ = 0, nodes_ = 0;
  std::uint32_t seed_ = 0;
  std::vector<BlockRun> runs_;
};

}  // namespace

Result<jbd2::LogArea> internal_journal(device::BlockDevice &device, const format::Superblock &superblock) {
  Result<std::vector<BlockRun>> runs = JournalMap(device, superblock).read();
  if (!runs) return fail(std::move(runs).error().of_inode(superblock.journal_inode.value()));
  return jbd2::LogArea(device, superblock.block_size, std::move(*runs));
}

Result<jbd2::LogArea> external_journal(device::BlockDevice &journal_device, const format::Superblock &superblock) {
  std::array<std::byte, sizeof(format::RawSuperblock)> raw;
  TRY(journal_device.read(format::kSuperblockOffset, raw));
  const format::JournalDevice journal = TRY(format::parse_journal_device(raw));
  if (journal.uuid != superblock.journal_uuid) return fail(Error::user(EINVAL, "external journal: belongs to another file system"));
  if (journal.block_size != superblock.block_size) return fail(Error::corrupt("external journal: block size differs"));
  if (journal.blocks_count > journal_device.properties().size / journal.block_size || journal.blocks_count <= journal.journal_block.value())
    return fail(Error::corrupt("external journal: larger than its device"));
  const std::uint64_t count = journal.blocks_count - journal.journal_block.value();
  if (count < kFewestBlocks || count * journal.block_size > kMostBytes) return fail(Error::corrupt("external journal: size"));
  // The log of such a device counts its blocks from the start of the device, but for block 0, which is its superblock; the log
  // proper must begin behind that.
  std::array<std::byte, sizeof(jbd2::DiskSuperblock)> log_superblock;
  TRY(journal_device.read(journal.journal_block.value() * journal.block_size, log_superblock));
  if (view_as<jbd2::DiskSuperblock>(log_superblock).first.get() <= journal.journal_block.value())
    return fail(Error::corrupt("external journal: the log begins on its superblock"));
  return jbd2::LogArea(journal_device, journal.block_size,
                       {{journal.journal_block, 1}, {BlockNumber(1), static_cast<std::uint32_t>(journal.blocks_count - 1)}});
}

}  // namespace outboard::ext4

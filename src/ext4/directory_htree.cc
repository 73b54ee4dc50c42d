// Walking the index: verified as far as a walk needs (place counts, block numbers, levels, no block twice on a path).
// Changing it (directory_split.cc) verifies the index blocks of the path whole first.
#include "ext4/directory_htree.h"

#include "base/log.h"
#include "ext4/inode_flags.h"

#include <atomic>
#include <cassert>

namespace outboard::ext4 {
namespace {

// One line for an inode, not one for every look-up in it.
void log_unusable(const DirectoryBlocks &blocks, const char *why) {
  static std::atomic<std::uint32_t> last{0};
  const std::uint32_t inode = blocks.inode().number.value();
  if (last.exchange(inode, std::memory_order_relaxed) == inode) return;
  log(LogLevel::error, "directory {}: index not usable ({}), searched block by block; e2fsck is due", inode, why);
}

}  // namespace

HashIndex::HashIndex(DirectoryBlocks &blocks, cache::BufferRef root, std::uint32_t count, const format::NameHash &hash)
    : blocks_(&blocks), count_(count), hash_(hash) {
  levels_[0].buffer = std::move(root);
}

const char *HashIndex::check(const Level &level) const {
  const bool root = level.kind == format::DxKind::root;
  const std::span<const std::byte> bytes = level.buffer->bytes();
  const format::DirFormat &format = blocks_->format();
  if (format::dir_block_kind(bytes, format) != (root ? format::DirBlockKind::dx_root : format::DirBlockKind::dx_node))
    return "not an index block";
  const format::DxView view = level.view();
  if (view.limit() != format::dx_limit(format, level.kind)) return "limit of an index block";
  if (view.count() == 0 || view.count() > view.limit()) return "count of an index block";
  if (!root) return nullptr;
  const auto &info = view_as<format::RawDxRootInfo>(bytes, 24);
  if (info.info_length != sizeof(format::RawDxRootInfo) || (info.unused_flags & 1) != 0) return "root info";
  if (info.indirect_levels > format::dx_max_indirect_levels(format)) return "levels";
  return nullptr;
}

Result<std::optional<HashIndex>> HashIndex::open(DirectoryBlocks &blocks) {
  const std::uint32_t count = TRY(blocks.count());
  cache::BufferRef root = TRY(blocks.read(FileBlock(0)));
  const std::uint8_t version = format::DxView(root->bytes(), format::DxKind::root).hash_version();
  const Result<format::NameHash> hash = format::NameHash::of(blocks.volume().superblock(), version);
  if (!hash) {
    log_unusable(blocks, "hash version");
    return std::nullopt;
  }
  HashIndex index(blocks, std::move(root), count, *hash);
  if (const char *why = index.check(index.levels_[0])) {
    log_unusable(blocks, why);
    return std::nullopt;
  }
  return index;
}

Result<const char *> HashIndex::push() {
  const FileBlock block = leaf();
  if (block.value() == 0 || block.value() >= count_) return "block number in an index";
  for (std::uint32_t i = 0; i < depth_; ++i)
    if (levels_[i].block == block) return "an index block below itself";
  Level &level = levels_[depth_];
  level.buffer = TRY(blocks_->read(block));
  level.block = block;
  level.kind = format::DxKind::node;
  level.at = 0;
  if (const char *why = check(level)) return why;
  ++depth_;
  return nullptr;
}

Result<bool> HashIndex::descend(std::uint32_t major) {
  depth_ = 1;
  steps_ = 0;
  levels_[0].at = levels_[0].view().find(major);
  const std::uint32_t levels = levels_[0].view().indirect_levels();
  for (std::uint32_t i = 0; i < levels; ++i) {
    if (const char *why = TRY(push())) {
      log_unusable(*blocks_, why);
      return false;
    }
    bottom().at = bottom().view().find(major);
  }
  return true;
}

Result<cache::BufferRef> HashIndex::read_leaf() {
  const FileBlock block = leaf();
  if (block.value() == 0 || block.value() >= count_) return fail(blocks_->corrupt("directory index: block number"));
  for (std::uint32_t i = 0; i < depth_; ++i)
    if (levels_[i].block == block) return fail(blocks_->corrupt("directory index: an index block as leaf"));
  cache::BufferRef buffer = TRY(blocks_->read(block));
  // Without checksums an empty leaf and a node look alike.
  if (blocks_->format().has_checksum &&
      format::dir_block_kind(buffer->bytes(), blocks_->format()) != format::DirBlockKind::linear)
    return fail(blocks_->corrupt("directory index: leaf is no directory block", buffer->block().value()));
  return buffer;
}

std::optional<std::uint32_t> HashIndex::next_hash() const {
  for (std::uint32_t i = depth_; i-- > 0;) {
    const format::DxView view = levels_[i].view();
    if (levels_[i].at + 1 < view.count()) return view.get(static_cast<std::uint16_t>(levels_[i].at + 1)).hash;
  }
  return std::nullopt;
}

Status HashIndex::advance() {
  // A sound index leads to every leaf once; one that leads to some many times must not keep us walking.
  if (++steps_ > count_) return fail(blocks_->corrupt("directory index: more leaves than blocks"));
  const std::uint32_t depth = depth_;
  while (bottom().at + 1 >= bottom().view().count()) {
    --depth_;
    assert(depth_ > 0);
  }
  ++bottom().at;
  while (depth_ < depth)
    if (const char *why = TRY(push())) {
      log_unusable(*blocks_, why);
      return fail(blocks_->corrupt("directory index: node not usable"));
    }
  return {};
}

namespace htree {

bool has_index(const Volume &volume, const Inode &inode) {
  return volume.superblock().has(format::Compat::dir_index) && (inode.fields.flags & inode_flags::kIndex) != 0;
}

Result<format::NameHash> default_hash(const Volume &volume) {
  return format::NameHash::of(volume.superblock(), volume.superblock().default_hash_version);
}

bool in_hash_order(const Volume &volume, const Inode &inode, std::uint32_t count) {
  if (!volume.superblock().has(format::Compat::dir_index)) return false;
  if ((inode.fields.flags & inode_flags::kIndex) != 0) return true;
  const bool hashed_otherwise = (inode.fields.flags & inode_flags::kCaseFold) != 0;
  return count == 1 && !hashed_otherwise && default_hash(volume).has_value();
}

Result<std::optional<EntryPlace>> find(DirectoryBlocks &blocks, std::string_view name) {
  std::optional<HashIndex> index = TRY(HashIndex::open(blocks));
  if (!index) return std::nullopt;
  const std::uint32_t major = index->hash()(name).major;
  if (!TRY(index->descend(major))) return std::nullopt;
  for (;;) {
    cache::BufferRef buffer = TRY(index->read_leaf());
    std::optional<format::DirEntryView> entry =
        TRY(blocks.placed(format::find_entry(buffer->bytes(), blocks.format(), name), buffer));
    if (entry) return EntryPlace{std::move(buffer), index->leaf(), *entry};
    const std::optional<std::uint32_t> next = index->next_hash();
    if (!next || (*next & ~1u) != major) return fail(Error::user(ENOENT));
    TRY(index->advance());
  }
}

}  // namespace htree
}  // namespace outboard::ext4

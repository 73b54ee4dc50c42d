// Directories read from a position on.
//
// Linear order: the position is the byte offset of an entry. Entries never move in such a directory, but the one at a
// position may have been merged into its predecessor or have been split: each block is walked from its start, and what
// begins at or after the position is shown.
// Hash order: "." is at 0 and ".." at 1; any other name is at its major hash (31 bits, its unused bit 0 dropped) and a
// 32-bit tag side by side, but not below 2. The tag is a keyed hash of the name, secret and new with each open of the
// volume: names of one major hash stand apart, however many there are and whoever chose them (the legacy hash has no more
// than these 31 bits, and for the others names of one hash can be computed). Names that share a position all the same, a few
// by chance, are shown together. A position from an earlier open still finds its place, but for names of its very hash.
// Leaves that continue each other are gathered, since one major hash may be spread over them in no order.
#include "ext4/directory.h"
#include "ext4/directory_htree.h"

#include <algorithm>
#include <vector>

namespace outboard::ext4 {
namespace {

constexpr std::uint64_t kFirstHashed = 2;
// Blocks held at once for names of one major hash. More come from a hostile disk only.
constexpr std::uint64_t kMaxGathered = std::uint64_t{32} << 20;  // bytes

// Where the names of a major hash begin.
std::uint64_t position_of(std::uint32_t major) { return std::max(kFirstHashed, std::uint64_t{major >> 1} << 32); }
std::uint64_t position_of(std::uint32_t major, std::string_view name, const SipKey &key) {
  return std::max(kFirstHashed, (std::uint64_t{major >> 1} << 32) | static_cast<std::uint32_t>(siphash(key, name)));
}
std::uint32_t major_of(std::uint64_t position) { return static_cast<std::uint32_t>(position >> 32) << 1; }

Directory::Item item_of(const format::DirEntryView &entry) { return {entry.name, entry.inode, entry.file_type}; }

// Names in hash order on their way to the visitor.
class Gathering {
public:
  Gathering(DirectoryBlocks &blocks, std::uint64_t from, const Directory::Visitor &visitor)
      : blocks_(blocks), key_(blocks.volume().listing_key()), from_(std::max(from, kFirstHashed)), visitor_(visitor) {}

  Status add(cache::BufferRef buffer, const format::NameHash &hash) {
    if ((buffers_.size() + 1) * blocks_.format().block_size > kMaxGathered)
      return fail(blocks_.corrupt("directory index: too many blocks for one hash", buffer->block().value()));
    format::DirCursor cursor(buffer->bytes(), blocks_.format());
    while (TRY(blocks_.placed(cursor.next(), buffer))) {
      const format::DirEntryView &entry = cursor.entry();
      if (!entry.used() || is_dot_or_dotdot(entry.name)) continue;
      const std::uint64_t position = position_of(hash(entry.name).major, entry.name, key_);
      if (position >= from_) names_.push_back({position, item_of(entry)});
    }
    buffers_.push_back(std::move(buffer));
    return {};
  }

  // Shows what is gathered below position `end`; the rest waits for more. False when the visitor has had enough.
  bool show(std::uint64_t end) {
    std::ranges::stable_sort(names_, {}, &Named::position);
    std::size_t next = 0;
    std::vector<Directory::Item> group;
    while (next < names_.size() && names_[next].position < end) {
      const std::uint64_t position = names_[next].position;
      group.clear();
      for (; next < names_.size() && names_[next].position == position; ++next) group.push_back(names_[next].item);
      if (!visitor_(group, position + 1)) return false;
      from_ = position + 1;
    }
    names_.erase(names_.begin(), names_.begin() + static_cast<std::ptrdiff_t>(next));
    // Those that wait lie in the block that came last, or in any of those it continues.
    if (names_.empty()) buffers_.clear();
    return true;
  }

private:
  struct Named {
    std::uint64_t position;
    Directory::Item item;
  };
  const DirectoryBlocks &blocks_;
  const SipKey &key_;
  std::uint64_t from_;
  const Directory::Visitor &visitor_;
  std::vector<Named> names_;
  std::vector<cache::BufferRef> buffers_;  // what the names lie in
};

constexpr std::uint64_t kEnd = ~std::uint64_t{0};

// False when the visitor has had enough.
Result<bool> show_dots(DirectoryBlocks &blocks, std::uint64_t from, const Directory::Visitor &visitor) {
  const cache::BufferRef buffer = TRY(blocks.read(FileBlock(0)));
  static constexpr std::string_view kDots[] = {".", ".."};
  for (std::uint64_t position = from; position < kFirstHashed; ++position) {
    const auto entry = TRY(blocks.placed(format::find_entry(buffer->bytes(), blocks.format(), kDots[position]), buffer));
    if (!entry) continue;
    const Directory::Item item = item_of(*entry);
    if (!visitor({&item, 1}, position + 1)) return false;
  }
  return true;
}

// False when the index turned out not to be usable before anything was shown.
Result<bool> iterate_index(DirectoryBlocks &blocks, std::uint64_t from, const Directory::Visitor &visitor) {
  std::optional<HashIndex> index = TRY(HashIndex::open(blocks));
  if (!index || !TRY(index->descend(major_of(from)))) return false;
  if (!TRY(show_dots(blocks, from, visitor))) return true;
  Gathering gathering(blocks, from, visitor);
  for (;;) {
    cache::BufferRef leaf = TRY(index->read_leaf());
    TRY(gathering.add(std::move(leaf), index->hash()));
    const std::optional<std::uint32_t> next = index->next_hash();
    const bool continued = next && (*next & 1) != 0;
    if (!gathering.show(continued ? position_of(*next) : kEnd) || !next) return true;
    TRY(index->advance());
  }
}

Status iterate_block_by_hash(DirectoryBlocks &blocks, std::uint64_t from, const Directory::Visitor &visitor) {
  if (!TRY(show_dots(blocks, from, visitor))) return {};
  Gathering gathering(blocks, from, visitor);
  const format::NameHash hash = TRY(htree::default_hash(blocks.volume()));
  cache::BufferRef block = TRY(blocks.read(FileBlock(0)));
  TRY(gathering.add(std::move(block), hash));
  (void)gathering.show(kEnd);
  return {};
}

Status iterate_linear(DirectoryBlocks &blocks, std::uint64_t from, const Directory::Visitor &visitor) {
  const std::uint32_t count = TRY(blocks.count());
  const std::uint32_t block_size = blocks.format().block_size;
  for (std::uint64_t b = from / block_size; b < count; ++b) {
    const cache::BufferRef buffer = TRY(blocks.read_in_order(FileBlock(static_cast<std::uint32_t>(b))));
    format::DirCursor cursor(buffer->bytes(), blocks.format());
    while (TRY(blocks.placed(cursor.next(), buffer))) {
      const format::DirEntryView &entry = cursor.entry();
      const std::uint64_t position = b * block_size + entry.offset;
      if (!entry.used() || position < from) continue;
      const Directory::Item item = item_of(entry);
      if (!visitor({&item, 1}, position + entry.rec_len)) return {};
    }
  }
  return {};
}

}  // namespace

Status Directory::iterate(std::uint64_t from, const Visitor &visitor) const {
  DirectoryBlocks blocks(volume_, inode_);
  const std::uint32_t count = TRY(blocks.count());
  if (!htree::in_hash_order(volume_, inode_, count)) return iterate_linear(blocks, from, visitor);
  if (!htree::has_index(volume_, inode_)) return iterate_block_by_hash(blocks, from, visitor);
  if (TRY(iterate_index(blocks, from, visitor))) return {};
  return iterate_linear(blocks, from, visitor);
}

}  // namespace outboard::ext4

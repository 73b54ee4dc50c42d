#include "ext4/block_map.h"

#include "base/endian.h"
#include "ext4/block_alloc.h"
#include "ext4/freed_groups.h"
#include "ext4/new_blocks.h"

#include <algorithm>

namespace outboard::ext4 {
namespace {

constexpr std::uint32_t kDirect = 12;
// How many nodes one call looks through before it answers with what it has: holes may be wide.
constexpr unsigned kMaxNodesLooked = 64;
constexpr unsigned kMaxSkips = 4096;

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

std::uint64_t BlockMap::blocks_below(std::uint32_t block_size, unsigned levels) {
  std::uint64_t blocks = 1;
  while (levels-- > 0) blocks *= block_size / 4;
  return blocks;
}

std::uint64_t BlockMap::max_blocks(std::uint32_t block_size) {
  return kDirect + blocks_below(block_size, 1) + blocks_below(block_size, 2) + blocks_below(block_size, 3);
}

Result<BlockMap::Place> BlockMap::locate(std::uint32_t block_size, std::uint64_t block) {
  Place place;
  if (block < kDirect) {
    place.slot[0] = static_cast<std::uint32_t>(block);
    return place;
  }
  block -= kDirect;
  for (unsigned depth = 1; depth <= kDepth; ++depth) {
    const std::uint64_t reach = blocks_below(block_size, depth);
    if (block >= reach) {
      block -= reach;
      continue;
    }
    place.depth = depth;
    place.slot[0] = kDirect + depth - 1;
    for (unsigned level = depth; level > 0; --level) {
      place.slot[level] = static_cast<std::uint32_t>(block % (block_size / 4));
      block /= block_size / 4;
    }
    return place;
  }
  return fail(Error::user(EFBIG, "block map: beyond the triple indirect block"));
}

std::uint32_t BlockMap::max_insert(std::uint32_t block_size, FileBlock first) {
  const Result<Place> place = locate(block_size, first.value());
  if (!place) return 0;
  return (place->depth == 0 ? kDirect : block_size / 4) - place->slot[place->depth];
}

std::span<const std::byte> BlockMap::node_bytes(const Inode &inode, const Walk &walk, unsigned level) {
  return level == 0 ? std::span<const std::byte>(inode.fields.block) : walk.nodes[level]->bytes();
}

std::uint32_t BlockMap::pointer(std::span<const std::byte> node, std::uint32_t slot) {
  return view_as<le32>(node, std::size_t{slot} * 4).get();
}

Result<BlockMap::Walk> BlockMap::walk(Volume &volume, const Inode &inode, std::uint64_t block) {
  Walk walk;
  walk.place = TRY(locate(volume.block_size(), block));
  while (walk.present < walk.place.depth) {
    const BlockNumber child(pointer(node_bytes(inode, walk, walk.present), walk.place.slot[walk.present]));
    if (!child) break;
    if (!volume.blocks().may_hold_file_data({child, 1}))
      return fail(Error::corrupt("block map: indirect block out of bounds")
                      .in_block(child.value())
                      .of_inode(inode.number.value()));
    walk.nodes[walk.present + 1] = TRY(volume.cache().read(child, volume.types().indirect()));
    ++walk.present;
  }
  return walk;
}

Result<FileMapping> BlockMap::stretch(Volume &volume, const Inode &inode, std::uint64_t block, std::uint64_t limit) {
  const Walk walk = TRY(BlockMap::walk(volume, inode, block));
  const unsigned depth = walk.place.depth;
  FileMapping mapping;
  mapping.first = FileBlock(static_cast<std::uint32_t>(block));
  if (walk.present < depth) {
    // All that hangs below the missing pointer is a hole.
    const std::uint64_t below = blocks_below(volume.block_size(), depth - walk.present);
    std::uint64_t into = 0;
    for (unsigned level = walk.present + 1; level <= depth; ++level)
      into = into * (volume.block_size() / 4) + walk.place.slot[level];
    mapping.count = static_cast<std::uint32_t>(std::min(limit, below - into));
    return mapping;
  }
  const std::span<const std::byte> node = node_bytes(inode, walk, depth);
  const std::uint32_t slots = depth == 0 ? kDirect : volume.block_size() / 4;
  const std::uint32_t first_slot = walk.place.slot[depth];
  const std::uint32_t start = pointer(node, first_slot);
  std::uint32_t count = 1;
  while (count < limit && first_slot + count < slots) {
    const std::uint32_t next = pointer(node, first_slot + count);
    if (start == 0 ? next != 0 : next != start + count) break;
    ++count;
  }
  mapping.count = count;
  if (start == 0) return mapping;
  mapping.start = BlockNumber(start);
  mapping.state = FileMapping::State::mapped;
  if (!volume.blocks().may_hold_file_data({mapping.start, count}))
    return fail(Error::corrupt("block map: data block out of bounds").in_block(start).of_inode(inode.number.value()));
  return mapping;
}

Result<FileMapping> BlockMap::find(Volume &volume, const Inode &inode, FileBlock block, std::uint32_t limit) {
  FileMapping found = TRY(stretch(volume, inode, block.value(), limit));
  const std::uint64_t end = max_blocks(volume.block_size());
  for (unsigned looked = 1; found.count < limit && looked < kMaxNodesLooked; ++looked) {
    const std::uint64_t next = std::uint64_t{block.value()} + found.count;
    if (next >= end || next > ~std::uint32_t{0}) break;
    // What lies further on is somebody else's question: an error there is not an answer to this one.
    const Result<FileMapping> more = stretch(volume, inode, next, limit - found.count);
    if (!more || more->state != found.state) break;
    if (found.state == FileMapping::State::mapped && more->start != found.start + found.count) break;
    found.count += more->count;
  }
  return found;
}

Result<std::span<std::byte>> BlockMap::writable(jbd2::Handle &handle, Walk &walk, unsigned level) {
  if (level == 0) return std::span<std::byte>(inode_.fields.block);
  return walk.nodes[level]->writable(handle);
}

Status BlockMap::insert(jbd2::Handle &handle, FileBlock first, BlockRun run) {
  if (run.count == 0 || run.count > max_insert(volume_.block_size(), first))
    return fail(Error::user(E2BIG, "block map: run does not fit one block of pointers"));
  if (run.end().value() > std::uint64_t{1} << 32)
    return fail(Error::user(EFBIG, "block map: block number needs more than 32 bits"));
  Walk walk = TRY(BlockMap::walk(volume_, inode_, first.value()));
  const unsigned depth = walk.place.depth;
  if (walk.present == depth) {
    for (std::uint32_t n = 0; n < run.count; ++n)
      if (pointer(node_bytes(inode_, walk, depth), walk.place.slot[depth] + n) != 0)
        return fail(Error::corrupt("block map: insert over a mapped block").of_inode(inode_.number.value()));
  }
  const BlockNumber near = walk.present > 0 ? walk.nodes[walk.present]->block() : run.start;
  NewBlocks fresh = TRY(NewBlocks::claim(handle, volume_, near, inode_, depth - walk.present));
  while (walk.present < depth) {
    const BlockNumber block = fresh.take();
    if (block.value() > ~std::uint32_t{0})
      return fail(Error::corrupt("block map: allocator gave a block beyond 32 bits"));
    cache::BufferRef node = TRY(volume_.cache().create(block, volume_.types().indirect()));
    TRY(node->writable(handle));
    const std::span<std::byte> parent = TRY(writable(handle, walk, walk.present));
    edit_as<le32>(parent, std::size_t{walk.place.slot[walk.present]} * 4)
        .set(static_cast<std::uint32_t>(block.value()));
    inode_.fields.sectors += sectors(1);
    walk.nodes[++walk.present] = std::move(node);
  }
  const std::span<std::byte> leaf = TRY(writable(handle, walk, depth));
  for (std::uint32_t n = 0; n < run.count; ++n)
    edit_as<le32>(leaf, std::size_t{walk.place.slot[depth] + n} * 4)
        .set(static_cast<std::uint32_t>(run.start.value() + n));
  inode_.fields.sectors += sectors(run.count);
  ++inode_.map_sequence;
  return {};
}

Status BlockMap::free_empty_nodes(jbd2::Handle &handle, Walk &walk) {
  for (unsigned level = walk.present; level > 0 && all_zero(node_bytes(inode_, walk, level)); --level) {
    const BlockNumber block = walk.nodes[level]->block();
    const std::span<std::byte> parent = TRY(writable(handle, walk, level - 1));
    edit_as<le32>(parent, std::size_t{walk.place.slot[level - 1]} * 4).set(0);
    walk.nodes[level] = {};
    walk.present = level - 1;
    inode_.fields.sectors -= std::min<std::uint64_t>(inode_.fields.sectors, sectors(1));
    ++inode_.map_sequence;
    TRY(volume_.blocks().free(handle, {block, 1}, true));
  }
  return {};
}

// `block` lies in a subtree that does not exist. The first block of the stretch of such subtrees that ends here.
Result<std::uint64_t> BlockMap::skip_missing(jbd2::Handle &handle, Walk &walk, std::uint64_t block) {
  const unsigned level = walk.present;
  const std::uint32_t per_node = volume_.block_size() / 4;
  std::uint64_t into = 0;
  for (unsigned below = level + 1; below <= walk.place.depth; ++below) into = into * per_node + walk.place.slot[below];
  std::uint64_t start = block - into;
  if (level == 0) return start;  // the inode's three indirect slots differ in size: one at a time
  const std::span<const std::byte> node = node_bytes(inode_, walk, level);
  for (std::uint32_t slot = walk.place.slot[level]; slot > 0 && pointer(node, slot - 1) == 0; --slot)
    start -= blocks_below(volume_.block_size(), walk.place.depth - level);
  TRY(free_empty_nodes(handle, walk));  // a node without any pointer has no business here
  return start;
}

// The pointers of one node that are to be cleared, and the blocks they give back.
struct BlockMap::Clearing {
  std::uint64_t from = 0;  // file block: pointers from here to the upper end can go
  std::vector<BlockRun> runs;
};

// Looks at [low, high] from its end; `high` is the place of the walk, both lie in its last node. Nothing is changed.
Result<BlockMap::Clearing> BlockMap::plan_clearing(const Walk &walk, std::uint64_t low, std::uint64_t high,
                                                   bool metadata) const {
  const unsigned depth = walk.place.depth;
  const std::span<const std::byte> node = node_bytes(inode_, walk, depth);
  FreedGroups groups(volume_, metadata);
  Clearing plan;
  plan.from = high + 1;
  while (plan.from > low) {
    const std::uint32_t slot = walk.place.slot[depth] - static_cast<std::uint32_t>(high - (plan.from - 1));
    const BlockNumber block(pointer(node, slot));
    if (block) {
      if (!volume_.blocks().may_hold_file_data({block, 1}))
        return fail(Error::corrupt("block map: data block out of bounds")
                        .in_block(block.value())
                        .of_inode(inode_.number.value()));
      if (groups.admit_tail({block, 1}) == 0) break;
      if (!plan.runs.empty() && block + 1 == plan.runs.back().start) {
        plan.runs.back().start = block;
        ++plan.runs.back().count;
      } else {
        plan.runs.push_back({block, 1});
      }
    }
    --plan.from;
  }
  return plan;
}

Result<FileBlock> BlockMap::remove_piece(jbd2::Handle &handle, FileBlock first, FileBlock end, bool metadata) {
  std::uint64_t position = std::min<std::uint64_t>(end.value(), max_blocks(volume_.block_size()));
  const std::uint64_t floor = first.value();
  const auto at = [](std::uint64_t block) { return FileBlock(static_cast<std::uint32_t>(block)); };
  for (unsigned skips = 0; position > floor; ++skips) {
    if (skips == kMaxSkips) return at(position);
    const std::uint64_t last = position - 1;
    Walk walk = TRY(BlockMap::walk(volume_, inode_, last));
    const unsigned depth = walk.place.depth;
    if (walk.present < depth) {
      const unsigned had = walk.present;
      position = TRY(skip_missing(handle, walk, last));
      if (walk.present < had) break;  // nodes were freed: their credits are spent
      continue;
    }
    const std::uint64_t node_start = last - walk.place.slot[depth];
    const Clearing plan = TRY(plan_clearing(walk, std::max(floor, node_start), last, metadata));
    const bool clears = !plan.runs.empty();
    if (clears) {
      const std::span<std::byte> node = TRY(writable(handle, walk, depth));
      const std::size_t slot = plan.from - node_start;
      std::ranges::fill(node.subspan(slot * 4, (position - plan.from) * 4), std::byte{0});
      ++inode_.map_sequence;
    }
    position = plan.from;
    for (const BlockRun &run : plan.runs) {
      inode_.fields.sectors -= std::min<std::uint64_t>(inode_.fields.sectors, sectors(run.count));
      TRY(volume_.blocks().free(handle, run, metadata));
    }
    const unsigned had = walk.present;
    TRY(free_empty_nodes(handle, walk));
    if (clears || walk.present < had) break;
  }
  return at(std::max(position, floor));
}

}  // namespace outboard::ext4

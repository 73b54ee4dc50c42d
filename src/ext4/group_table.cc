#include "ext4/group_table.h"

#include "base/log.h"
#include "ext4/volume.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace outboard::ext4 {
namespace {

constexpr std::uint32_t kPrefetchBlocks = 64;  // descriptor blocks asked for together

Error in_group(Error error, BlockNumber block) {
  return error.block() == Error::kNowhere ? Error(std::move(error).in_block(block.value())) : error;
}

}  // namespace

GroupTable::GroupTable(Volume &volume, std::span<const BlockRun> log)
    : volume_(volume), count_(volume.superblock().group_count), log_(log.begin(), log.end()),
      chunks_((std::size_t{count_} >> kChunkBits) + 1) {
  free_blocks_ = static_cast<std::int64_t>(volume.superblock().free_blocks);
  free_inodes_ = volume.superblock().free_inodes;
}

GroupTable::~GroupTable() = default;

Group &GroupTable::at(GroupNumber number) {
  assert(number.value() < count_);
  std::atomic<Chunk *> &slot = chunks_[number.value() >> kChunkBits];
  Chunk *chunk = slot.load(std::memory_order_acquire);
  if (chunk == nullptr) {
    MutexLock lock(grow_);
    chunk = slot.load(std::memory_order_relaxed);
    if (chunk == nullptr) {
      owned_.push_back(std::make_unique<Chunk>());
      chunk = owned_.back().get();
      slot.store(chunk, std::memory_order_release);
    }
  }
  return (*chunk)[number.value() & ((1u << kChunkBits) - 1)];
}

// --- loading ------------------------------------------------------------------------------------------------------------

Status GroupTable::describe(GroupNumber number, Group &group) {
  if (group.described) return {};
  if (group.bad_descriptor) return fail(*group.bad_descriptor);
  Status status = read_descriptor(number, group);
  if (status) return status;
  if (status.error().is_corrupt()) {
    group.bad_descriptor = std::make_unique<const Error>(status.error());
    group.free_blocks_hint = group.free_inodes_hint = group.directories_hint = 0;
    volume_.report_error(status.error());
  }
  return status;
}

Status GroupTable::read_descriptor(GroupNumber number, Group &group) {
  const format::Geometry &geometry = volume_.geometry();
  const BlockNumber block = geometry.descriptor_block(geometry.descriptor_index(number));
  cache::BufferRef buffer = TRY(volume_.cache().read(block, volume_.types().descriptors()));
  auto desc = format::parse_group_desc(volume_.superblock(), number,
                                       buffer->bytes().subspan(geometry.descriptor_offset(number), volume_.superblock().desc_size));
  if (!desc) return fail(in_group(std::move(desc).error(), block));
  group.desc = *desc;
  group.descriptor = std::move(buffer);
  group.described = true;
  publish(group);
  return {};
}

void GroupTable::publish(Group &group) {
  group.free_blocks_hint.store(group.in_use ? group.available : group.desc.free_blocks, std::memory_order_relaxed);
  group.free_inodes_hint.store(group.desc.free_inodes, std::memory_order_relaxed);
  group.directories_hint.store(group.desc.used_dirs, std::memory_order_relaxed);
}

Status GroupTable::load_blocks(GroupNumber number, Group &group) {
  if (group.in_use) return {};
  if (group.bad_blocks) return fail(*group.bad_blocks);
  TRY(describe(number, group));
  Status status = read_blocks(number, group);
  if (status) return status;
  group.in_use.reset();
  group.block_bitmap = {};
  if (status.error().is_corrupt()) {
    group.bad_blocks = std::make_unique<const Error>(status.error());
    group.free_blocks_hint = 0;
    volume_.report_error(status.error());
  }
  return status;
}

Status GroupTable::read_blocks(GroupNumber number, Group &group) {
  const format::Superblock &sb = volume_.superblock();
  const std::uint32_t bits = volume_.geometry().clusters_in_group(number);
  group.in_use = std::make_unique_for_overwrite<std::byte[]>(sb.block_size);
  const std::span<std::byte> bytes(group.in_use.get(), sb.block_size);
  if (group.desc.block_uninit) {
    format::initial_block_bitmap(volume_.geometry(), number, group.desc, bytes);
  } else {
    // The group's number as seed: two groups that name one block as their bitmap are found out by the cache.
    group.block_bitmap = TRY(volume_.cache().read(group.desc.block_bitmap, volume_.types().block_bitmap(), number.value()));
    std::ranges::copy(group.block_bitmap->bytes(), bytes.begin());
    if (!format::bitmap_checksum_matches(sb, group.desc.block_bitmap_csum, format::block_bitmap_checksum(sb, bytes)))
      return fail(Error::bad_checksum("block bitmap: checksum").in_block(group.desc.block_bitmap.value()));
    TRY(check_own_metadata(number, group));
    // Bits that stand for no block are never free, whatever the disk says.
    const std::uint32_t all = sb.block_size * 8;
    if (bits < all) format::BitmapEdit(bytes, all).set(bits, all - bits);
  }
  const std::uint32_t free = format::BitmapView(bytes, bits).count_zeros();
  if (free != group.desc.free_blocks)
    return fail(Error::corrupt("block bitmap: free blocks differ from the descriptor's").in_block(group.desc.block_bitmap.value()));
  group.available = free;
  group.busy = 0;
  group.longest = Group::kUnknown;
  loaded_.fetch_add(1, std::memory_order_relaxed);
  publish(group);
  return {};
}

// The parts of the group's own fixed metadata that lie in the group itself.
Status GroupTable::check_own_metadata(GroupNumber number, const Group &group) const {
  const format::Geometry &geometry = volume_.geometry();
  const format::BitmapView bitmap(group.block_bitmap->bytes(), geometry.clusters_in_group(number));
  const BlockNumber first = geometry.group_first_block(number);
  const BlockNumber end = first + geometry.blocks_in_group(number);
  const auto in_use = [&](BlockNumber start, std::uint32_t blocks) {
    const BlockNumber low = std::max(start, first), high = std::min(start + blocks, end);
    if (low >= high) return true;
    const std::uint32_t bit = geometry.locate(low).bit, last = geometry.locate(high - 1).bit;
    return bitmap.all_set(bit, last - bit + 1);
  };
  if (!in_use(first, geometry.base_metadata_blocks(number)) || !in_use(group.desc.block_bitmap, 1) ||
      !in_use(group.desc.inode_bitmap, 1) || !in_use(group.desc.inode_table, geometry.inode_table_blocks()))
    return fail(Error::corrupt("block bitmap: the group's own metadata is free").in_block(group.desc.block_bitmap.value()));
  return {};
}

Status GroupTable::load_inodes(GroupNumber number, Group &group) {
  if (group.inode_bitmap) return {};
  if (group.bad_inodes) return fail(*group.bad_inodes);
  TRY(describe(number, group));
  if (group.desc.inode_uninit) return {};
  Status status = read_inodes(number, group);
  if (status) return status;
  group.inode_bitmap = {};
  if (status.error().is_corrupt()) {
    group.bad_inodes = std::make_unique<const Error>(status.error());
    group.free_inodes_hint = 0;
    volume_.report_error(status.error());
  }
  return status;
}

Status GroupTable::read_inodes(GroupNumber number, Group &group) {
  const format::Superblock &sb = volume_.superblock();
  group.inode_bitmap = TRY(volume_.cache().read(group.desc.inode_bitmap, volume_.types().inode_bitmap(), number.value()));
  if (!format::bitmap_checksum_matches(sb, group.desc.inode_bitmap_csum,
                                       format::inode_bitmap_checksum(sb, group.inode_bitmap->bytes())))
    return fail(Error::bad_checksum("inode bitmap: checksum").in_block(group.desc.inode_bitmap.value()));
  const format::BitmapView bits(group.inode_bitmap->bytes(), sb.inodes_per_group);
  if (!bits.all_clear(sb.inodes_per_group - group.desc.itable_unused, group.desc.itable_unused))
    return fail(Error::corrupt("inode bitmap: an inode in use that was never initialised").in_block(group.desc.inode_bitmap.value()));
  if (bits.count_zeros() != group.desc.free_inodes)
    return fail(Error::corrupt("inode bitmap: free inodes differ from the descriptor's").in_block(group.desc.inode_bitmap.value()));
  loaded_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

format::BitmapEdit GroupTable::in_use(GroupNumber number, Group &group) const {
  assert(group.in_use);
  return {std::span(group.in_use.get(), volume_.block_size()), volume_.geometry().clusters_in_group(number)};
}

bool GroupTable::inode_in_use(const Group &group, std::uint32_t index) const {
  if (group.desc.inode_uninit) return false;
  return format::BitmapView(group.inode_bitmap->bytes(), volume_.superblock().inodes_per_group).test(index);
}

bool GroupTable::block_in_use(const Group &group, std::uint32_t bit) const {
  // Nothing but fixed metadata is in use in a group that was never written to.
  if (!group.block_bitmap) return false;
  return format::BitmapView(group.block_bitmap->bytes(), volume_.superblock().clusters_per_group).test(bit);
}

// --- changing -----------------------------------------------------------------------------------------------------------

Result<GroupTable::Change> GroupTable::begin_blocks(jbd2::Handle &handle, GroupNumber number, Group &group) {
  assert(group.in_use);
  const bool fresh = group.desc.block_uninit;
  if (fresh && !group.block_bitmap)
    group.block_bitmap = TRY(volume_.cache().create(group.desc.block_bitmap, volume_.types().block_bitmap(), number.value()));
  Change change;
  change.bitmap = TRY(group.block_bitmap->writable(handle));
  change.descriptor = TRY(group.descriptor->writable(handle));
  if (fresh) {
    format::initial_block_bitmap(volume_.geometry(), number, group.desc, change.bitmap);
    group.desc.block_uninit = false;
  }
  return change;
}

Result<GroupTable::Change> GroupTable::begin_inodes(jbd2::Handle &handle, GroupNumber number, Group &group) {
  const bool fresh = group.desc.inode_uninit;
  if (fresh && !group.inode_bitmap) {
    group.inode_bitmap = TRY(volume_.cache().create(group.desc.inode_bitmap, volume_.types().inode_bitmap(), number.value()));
    loaded_.fetch_add(1, std::memory_order_relaxed);
  }
  assert(group.inode_bitmap);
  Change change;
  change.bitmap = TRY(group.inode_bitmap->writable(handle));
  change.descriptor = TRY(group.descriptor->writable(handle));
  if (fresh) {
    format::initial_inode_bitmap(volume_.geometry(), change.bitmap);
    group.desc.inode_uninit = false;
  }
  return change;
}

void GroupTable::encode(GroupNumber number, Group &group, const Change &change) {
  const format::Superblock &sb = volume_.superblock();
  const std::uint32_t offset = volume_.geometry().descriptor_offset(number);
  format::encode_group_desc(sb, number, group.desc, change.descriptor.subspan(offset, sb.desc_size));
  publish(group);
}

void GroupTable::finish_blocks(GroupNumber number, Group &group, const Change &change) {
  group.desc.block_bitmap_csum = format::block_bitmap_checksum(volume_.superblock(), change.bitmap);
  encode(number, group, change);
}

void GroupTable::finish_inodes(GroupNumber number, Group &group, const Change &change) {
  group.desc.inode_bitmap_csum = format::inode_bitmap_checksum(volume_.superblock(), change.bitmap);
  encode(number, group, change);
}

// --- totals, zones, memory ----------------------------------------------------------------------------------------------

std::uint64_t GroupTable::free_blocks() const {
  const std::int64_t count = free_blocks_.load(std::memory_order_relaxed);
  return std::min(static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0)), volume_.superblock().blocks_count);
}

std::uint64_t GroupTable::free_inodes() const {
  const std::int64_t count = free_inodes_.load(std::memory_order_relaxed);
  return std::min(static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0)), std::uint64_t{volume_.superblock().inodes_count});
}

void GroupTable::prefetch_descriptors(std::uint32_t first_block) {
  const format::Geometry &geometry = volume_.geometry();
  std::vector<BlockNumber> blocks;
  const std::uint32_t end = std::min(geometry.descriptor_blocks(), first_block + kPrefetchBlocks);
  for (std::uint32_t i = first_block; i < end; ++i) blocks.push_back(geometry.descriptor_block(i));
  volume_.cache().prefetch(blocks, volume_.types().descriptors());
}

void GroupTable::sum_descriptors() {
  const std::uint32_t step = kPrefetchBlocks * (volume_.block_size() / volume_.superblock().desc_size);
  std::int64_t blocks = 0, inodes = 0;
  for (std::uint32_t g = 0; g < count_; ++g) {
    const GroupNumber number(g);
    if (g % step == 0) prefetch_descriptors(volume_.geometry().descriptor_index(number));
    Group &group = at(number);
    MutexLock lock(group.mutex);
    if (!describe(number, group)) continue;
    blocks += std::int64_t{group.desc.free_blocks} << volume_.superblock().cluster_bits;
    inodes += group.desc.free_inodes;
  }
  free_blocks_ = blocks;
  free_inodes_ = inodes;
}

const FixedZones &GroupTable::zones() {
  if (const FixedZones *zones = zones_.load(std::memory_order_acquire); zones != nullptr) return *zones;
  std::optional<BlockNumber> conflict;
  const FixedZones *built = nullptr;
  {
    MutexLock building(zones_lock_);
    if (const FixedZones *zones = zones_.load(std::memory_order_relaxed); zones != nullptr) return *zones;
    const std::uint32_t step = kPrefetchBlocks * (volume_.block_size() / volume_.superblock().desc_size);
    std::vector<BlockRun> runs = log_;
    for (std::uint32_t g = 0; g < count_; ++g) {
      const GroupNumber number(g);
      if (g % step == 0) prefetch_descriptors(volume_.geometry().descriptor_index(number));
      Group &group = at(number);
      MutexLock lock(group.mutex);
      if (!describe(number, group)) continue;
      runs.push_back({group.desc.block_bitmap, 1});
      runs.push_back({group.desc.inode_bitmap, 1});
      runs.push_back({group.desc.inode_table, volume_.geometry().inode_table_blocks()});
    }
    zones_owner_ = std::make_unique<const FixedZones>(volume_.geometry(), std::move(runs));
    built = zones_owner_.get();
    conflict = built->conflict();
    zones_.store(built, std::memory_order_release);
  }
  if (conflict) volume_.report_error(Error::corrupt("group descriptors: bitmaps, tables or journal overlap").in_block(conflict->value()));
  return *built;
}

void GroupTable::shed() {
  if (loaded_.load(std::memory_order_relaxed) <= kLoadedMax) return;
  // A clock over all groups; more steps than would do if every group met were idle.
  for (std::uint32_t steps = 0; steps < 4 * kLoadedMax && loaded_.load(std::memory_order_relaxed) > kLoadedMax * 3 / 4; ++steps) {
    const std::uint32_t g = shed_cursor_.fetch_add(1, std::memory_order_relaxed) % count_;
    Chunk *chunk = chunks_[g >> kChunkBits].load(std::memory_order_acquire);
    if (chunk == nullptr) continue;
    Group &group = (*chunk)[g & ((1u << kChunkBits) - 1)];
    if (!group.mutex.try_lock()) continue;
    if (!group.in_use || group.busy == 0) {
      loaded_.fetch_sub((group.in_use ? 1u : 0u) + (group.inode_bitmap ? 1u : 0u), std::memory_order_relaxed);
      group.in_use.reset();
      group.block_bitmap = {};
      group.inode_bitmap = {};
    }
    group.mutex.unlock();
  }
}

}  // namespace outboard::ext4

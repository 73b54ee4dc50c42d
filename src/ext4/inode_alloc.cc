// Inodes in their tables: load, store, and the bits that say which are in use. Where new ones go: inode_placement.h.
#include "ext4/inode_alloc.h"

#include "base/log.h"
#include "ext4/credits.h"
#include "ext4/fast_commit_tracker.h"
#include "ext4/format/extent.h"
#include "ext4/inode_flags.h"
#include "ext4/inode_placement.h"
#include "ext4/orphans.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cstddef>
#include <random>
#include <unordered_map>

namespace outboard::ext4 {
namespace {

constexpr std::uint32_t kReadAheadBlocks = 32;  // inode table blocks read together, as ext4's inode_readahead_blks
constexpr std::size_t kExtraSizeWithBirth = offsetof(format::RawInode, i_crtime_extra) + sizeof(le32) - format::kGoodOldInodeSize;
constexpr std::uint64_t kSmallFile = 0x7fffffff;  // bytes; larger files need the large_file feature

// Features whose inodes this program would misread; volumes that have one were refused.
constexpr std::uint32_t kForeignFlags = format::kInodeFlagInlineData | format::kInodeFlagEncrypt | format::kInodeFlagCaseFold |
                                        format::kInodeFlagEaInode;

bool known_type(std::uint16_t type) {
  switch (type) {
  case format::kModeFifo:
  case format::kModeCharDevice:
  case format::kModeDirectory:
  case format::kModeBlockDevice:
  case format::kModeRegular:
  case format::kModeSymlink:
  case format::kModeSocket: return true;
  default: return false;
  }
}

bool has_map(const format::Superblock &sb, const format::InodeFields &fields) {
  return fields.is_regular() || fields.is_directory() || (fields.is_symlink() && !format::is_fast_symlink(sb, fields));
}

}  // namespace

Status check_inode_fields(const format::Superblock &sb, InodeNumber number, const format::InodeFields &fields) {
  const std::uint64_t inode = number.value();
  if (fields.mode == 0 && fields.links == 0) return {};
  if (!known_type(fields.type())) {
    if (number < sb.first_ino && number != format::kRootInode) return {};  // reserved ones need no type
    return fail(Error::corrupt("inode: file type").of_inode(inode));
  }
  if ((fields.flags & kForeignFlags) != 0)
    return fail(Error::corrupt("inode: flag of a feature that the volume does not have").of_inode(inode));
  if (fields.uses_extents() && !sb.has(format::Incompat::extents))
    return fail(Error::corrupt("inode: extents in a volume without them").of_inode(inode));
  if (!has_map(sb, fields)) return {};
  if (fields.uses_extents()) {
    Status root = format::verify_extent_node(fields.block, std::nullopt, true, sb.blocks_count, sb.first_data_block);
    if (!root) return fail(std::move(root).error().of_inode(inode));
    return {};
  }
  for (std::size_t at = 0; at < fields.block.size(); at += sizeof(le32)) {
    const BlockNumber block(view_as<le32>(fields.block, at).get());
    if (block && !sb.contains(block))
      return fail(Error::corrupt("inode: block map points outside the file system").in_block(block.value()).of_inode(inode));
  }
  return {};
}

struct InodeAllocator::Impl {
  explicit Impl(Volume &v)
      : volume(v), groups(v.groups()), superblock(v.superblock()), geometry(v.geometry()), placement(groups, geometry),
        random_state((std::uint64_t{std::random_device{}()} << 32) | std::random_device{}()) {}

  // A record of the inode table. `bytes` live as long as the buffer.
  struct Slot {
    cache::BufferRef buffer;
    std::uint32_t offset = 0;
  };
  Result<Slot> slot(InodeNumber number);
  Result<std::span<std::byte>> writable(jbd2::Handle &handle, Slot &slot) const {
    return TRY(slot.buffer->writable(handle)).subspan(slot.offset, superblock.inode_size);
  }
  std::span<const std::byte> bytes(const Slot &slot) const {
    return slot.buffer->bytes().subspan(slot.offset, superblock.inode_size);
  }
  void read_ahead(BlockNumber table, std::uint32_t block, std::uint32_t used_inodes);

  Result<Slot> take(jbd2::Handle &handle, GroupNumber number, bool directory, InodeNumber &taken);
  std::uint32_t find_free(GroupNumber number, Group &group) REQUIRES(group.mutex);
  Status start_tables(jbd2::Handle &handle, Group &group, std::uint32_t index) REQUIRES(group.mutex);
  Result<Slot> prepare_slot(jbd2::Handle &handle, Group &group, std::uint32_t index) REQUIRES(group.mutex);
  Status use_blocks_of_fresh_group(jbd2::Handle &handle, GroupNumber number, Group &group) REQUIRES(group.mutex);
  Inode make(InodeNumber number, const Inode &parent, std::uint32_t mode, std::uint32_t uid, std::uint32_t gid);
  Status check_free(InodeNumber number);
  Status give_back(jbd2::Handle &handle, InodeNumber number, bool directory);

  bool is_held(InodeNumber number);
  std::uint64_t random();
  Mutex &record_lock(InodeNumber number) { return record_locks[number.value() % record_locks.size()]; }

  Volume &volume;
  GroupTable &groups;
  const format::Superblock &superblock;
  const format::Geometry &geometry;
  const InodePlacement placement;
  std::atomic<std::uint64_t> random_state;
  std::atomic<std::uint64_t> read_ahead_window{~std::uint64_t{0}};

  // Serialises changes of one record by store(), write_inline_xattrs() and set_orphan_link(), which may come from different
  // owners, and reads of a whole record with them. By inode number; nothing ranked lower is taken inside.
  struct RecordMutex : Mutex {
    RecordMutex() : Mutex(Rank::inode_alloc) {}
  };
  std::array<RecordMutex, 64> record_locks;

  Mutex held_lock{Rank::leaf};
  std::unordered_map<std::uint32_t, std::uint32_t> held GUARDED_BY(held_lock);  // counts by number
  std::atomic<std::size_t> held_count{0};
};

InodeAllocator::InodeAllocator(Volume &volume) : impl_(std::make_unique<Impl>(volume)) {}
InodeAllocator::~InodeAllocator() = default;

// --- records --------------------------------------------------------------------------------------------------------------

Result<InodeAllocator::Impl::Slot> InodeAllocator::Impl::slot(InodeNumber number) {
  if (!geometry.contains(number)) return fail(Error::corrupt("inode number: out of range").of_inode(number.value()));
  const format::InodeLocation at = geometry.locate(number);
  Group &group = groups.at(at.group);
  BlockNumber table;
  {
    MutexLock guard(group.mutex);
    TRY(groups.describe(at.group, group));
    table = group.desc.inode_table;
  }
  return Slot{TRY(volume.cache().read(table + at.table_block, volume.types().inode_table())), at.offset};
}

// The aligned window of table blocks around `block`, as far as inodes were ever used.
void InodeAllocator::Impl::read_ahead(BlockNumber table, std::uint32_t block, std::uint32_t used_inodes) {
  const std::uint32_t first = round_down(block, kReadAheadBlocks);
  const std::uint64_t window = table.value() + first;
  if (read_ahead_window.exchange(window, std::memory_order_relaxed) == window) return;
  const std::uint32_t used = divide_up(used_inodes, geometry.inodes_per_block());
  std::array<BlockNumber, kReadAheadBlocks> blocks;
  std::size_t count = 0;
  for (std::uint32_t b = first; b < std::min(first + kReadAheadBlocks, used); ++b) blocks[count++] = table + b;
  if (count > 1) volume.cache().prefetch(std::span(blocks).first(count), volume.types().inode_table());
}

Result<Inode> InodeAllocator::load(InodeNumber number) {
  if (!impl_->geometry.contains(number)) return fail(Error::corrupt("inode number: out of range").of_inode(number.value()));
  impl_->groups.shed();
  const format::InodeLocation at = impl_->geometry.locate(number);
  Group &group = impl_->groups.at(at.group);
  Inode inode;
  inode.number = number;
  BlockNumber table;
  std::uint32_t used_inodes = 0;
  {
    MutexLock guard(group.mutex);
    Status loaded = impl_->groups.load_inodes(at.group, group);
    // Without a bitmap that can be believed the record alone has to do: what can be read stays readable.
    if (!loaded && (!loaded.error().is_corrupt() || !group.described)) return std::unexpected(std::move(loaded).error());
    if (loaded && !impl_->groups.inode_in_use(group, at.index)) return inode;  // free: no links, no mode
    table = group.desc.inode_table;
    used_inodes = impl_->superblock.inodes_per_group - group.desc.itable_unused;
  }
  impl_->read_ahead(table, at.table_block, used_inodes);
  Impl::Slot slot{TRY(impl_->volume.cache().read(table + at.table_block, impl_->volume.types().inode_table())), at.offset};
  {
    MutexLock guard(impl_->record_lock(number));
    inode.fields = TRY(format::parse_inode(impl_->superblock, number, impl_->bytes(slot)));
  }
  TRY(check_inode_fields(impl_->superblock, number, inode.fields));
  inode.checksum_seed = format::inode_checksum_seed(impl_->superblock, number, inode.fields.generation);
  inode.on_orphan_list = impl_->volume.orphans().contains(number);
  return inode;
}

Status InodeAllocator::store(jbd2::Handle &handle, Inode &inode, bool data_reachable) {
  Impl::Slot slot = TRY(impl_->slot(inode.number));
  {
    MutexLock guard(impl_->record_lock(inode.number));
    const std::span<std::byte> raw = TRY(impl_->writable(handle, slot));
    if (inode.on_orphan_list) inode.fields.dtime = format::raw_inode_dtime(raw);
    TRY(format::encode_inode(impl_->superblock, inode.number, inode.fields, raw));
  }
  if (inode.is_regular() && inode.fields.size > kSmallFile) {
    if (!impl_->superblock.has(format::RoCompat::large_file)) handle.needs_full_commit();
    impl_->volume.need_large_file();
  }
  impl_->volume.fast_commits().stored(handle, inode);
  inode.sync_tid = handle.tid();
  if (data_reachable) inode.datasync_tid = inode.sync_tid;
  return {};
}

Status InodeAllocator::set_orphan_link(jbd2::Handle &handle, InodeNumber number, std::uint32_t link) {
  Impl::Slot slot = TRY(impl_->slot(number));
  MutexLock guard(impl_->record_lock(number));
  const std::span<std::byte> raw = TRY(impl_->writable(handle, slot));
  format::set_raw_inode_dtime(raw, link);
  format::seal_inode(impl_->superblock, number, raw);
  return {};
}

Result<std::vector<std::byte>> InodeAllocator::record(InodeNumber number) {
  const Impl::Slot slot = TRY(impl_->slot(number));
  MutexLock guard(impl_->record_lock(number));
  const std::span<const std::byte> bytes = impl_->bytes(slot);
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

Result<std::vector<std::byte>> InodeAllocator::read_inline_xattrs(const Inode &inode) {
  const Impl::Slot slot = TRY(impl_->slot(inode.number));
  MutexLock guard(impl_->record_lock(inode.number));
  const auto area = format::inline_xattr_area(impl_->bytes(slot), inode.fields.extra_isize);
  return std::vector<std::byte>(area.begin(), area.end());
}

Status InodeAllocator::write_inline_xattrs(jbd2::Handle &handle, const Inode &inode, std::span<const std::byte> area) {
  Impl::Slot slot = TRY(impl_->slot(inode.number));
  MutexLock guard(impl_->record_lock(inode.number));
  handle.needs_full_commit();
  const std::span<std::byte> raw = TRY(impl_->writable(handle, slot));
  const auto room = format::inline_xattr_area(raw, inode.fields.extra_isize);
  assert(room.size() == area.size());
  std::ranges::copy(area, room.begin());
  format::seal_inode(impl_->superblock, inode.number, raw);
  return {};
}

// --- allocate -------------------------------------------------------------------------------------------------------------

Result<Inode> InodeAllocator::allocate(jbd2::Handle &handle, const Inode &parent, std::uint32_t mode, std::uint32_t uid,
                                       std::uint32_t gid) {
  if (impl_->groups.free_inodes() == 0) return fail(Error::user(ENOSPC, "no free inodes"));
  impl_->groups.shed();
  const bool directory = (mode & format::kModeTypeMask) == format::kModeDirectory;
  GroupNumber first = impl_->geometry.locate(parent.number).group;
  if (directory) {
    const bool top = parent.number == format::kRootInode || parent.fields.has_flag(format::kInodeFlagTopDirectory);
    first = impl_->placement.for_directory(first, top, impl_->random());
  }
  std::optional<Error> broken;
  for (std::uint64_t i = 0; i < impl_->placement.attempts(); ++i) {
    const GroupNumber group = impl_->placement.attempt(first, parent.number, i);
    InodeNumber number;
    Result<Impl::Slot> slot = impl_->take(handle, group, directory, number);
    if (!slot) {
      // A group that cannot be trusted is passed over; a dead journal or device is the end.
      if (!slot.error().is_corrupt()) return std::unexpected(std::move(slot).error());
      if (!broken) broken = slot.error();
      continue;
    }
    if (!number) continue;
    Inode inode = impl_->make(number, parent, mode, uid, gid);
    const std::span<std::byte> raw = TRY(impl_->writable(handle, *slot));
    std::ranges::fill(raw, std::byte{0});
    TRY(format::encode_inode(impl_->superblock, number, inode.fields, raw));
    inode.sync_tid = inode.datasync_tid = handle.tid();
    return inode;
  }
  if (broken) return fail(*broken);
  return fail(Error::user(ENOSPC, "no free inodes"));
}

// A bit below inodes_per_group, or inodes_per_group when the group has nothing to give.
std::uint32_t InodeAllocator::Impl::find_free(GroupNumber number, Group &group) {
  const std::uint32_t limit = superblock.inodes_per_group;
  // Never a reserved inode, whatever the bitmap says.
  const std::uint64_t before = std::uint64_t{number.value()} * limit;
  const std::uint64_t reserved = superblock.first_ino.value() - 1;
  std::uint32_t index = before >= reserved ? 0 : static_cast<std::uint32_t>(std::min<std::uint64_t>(reserved - before, limit));
  if (group.desc.inode_uninit) return index < limit && is_held(geometry.inode_at(number, index)) ? limit : index;
  const format::BitmapView bits(group.inode_bitmap->bytes(), limit);
  while ((index = bits.find_zero(index, limit)) < limit && is_held(geometry.inode_at(number, index))) ++index;
  return index;
}

// The record's block, joined to the transaction. Blocks in which no inode was ever used hold garbage: they start as zeros.
Result<InodeAllocator::Impl::Slot> InodeAllocator::Impl::prepare_slot(jbd2::Handle &handle, Group &group, std::uint32_t index) {
  const std::uint32_t block = index / geometry.inodes_per_block();
  const std::uint32_t used = superblock.inodes_per_group - group.desc.itable_unused;
  const bool never_used = block * geometry.inodes_per_block() >= used;
  const BlockNumber home = group.desc.inode_table + block;
  cache::BufferRef buffer = never_used ? TRY(volume.cache().create(home, volume.types().inode_table()))
                                       : TRY(volume.cache().read(home, volume.types().inode_table()));
  TRY(buffer->writable(handle));
  return Slot{std::move(buffer), index % geometry.inodes_per_block() * superblock.inode_size};
}

// As ext4: the first inode of a group also makes its block bitmap real.
Status InodeAllocator::Impl::use_blocks_of_fresh_group(jbd2::Handle &handle, GroupNumber number, Group &group) {
  if (!group.desc.block_uninit) return {};
  TRY(groups.load_blocks(number, group));
  const GroupTable::Change change = TRY(groups.begin_blocks(handle, number, group));
  groups.finish_blocks(number, group, change);
  return {};
}

// `taken` 0: the group has no inode to give; nothing has changed.
Result<InodeAllocator::Impl::Slot> InodeAllocator::Impl::take(jbd2::Handle &handle, GroupNumber number, bool directory,
                                                             InodeNumber &taken) {
  Group &group = groups.at(number);
  if (group.free_inodes_hint.load(std::memory_order_relaxed) == 0) return Slot{};
  MutexLock guard(group.mutex);
  TRY(groups.load_inodes(number, group));
  if (group.desc.free_inodes == 0) return Slot{};
  const std::uint32_t index = find_free(number, group);
  if (index >= superblock.inodes_per_group) return Slot{};
  if (group.desc.block_uninit) TRY(groups.load_blocks(number, group));
  Slot slot = TRY(prepare_slot(handle, group, index));
  const GroupTable::Change change = TRY(groups.begin_inodes(handle, number, group));
  format::BitmapEdit(change.bitmap, superblock.inodes_per_group).set(index);
  --group.desc.free_inodes;
  if (directory) ++group.desc.used_dirs;
  const std::uint32_t unused_now = superblock.inodes_per_group - (index + 1);
  group.desc.itable_unused = std::min(group.desc.itable_unused, unused_now);
  groups.finish_inodes(number, group, change);
  groups.add_free_inodes(-1);
  TRY(use_blocks_of_fresh_group(handle, number, group));
  taken = geometry.inode_at(number, index);
  return slot;
}

// --- adopt ----------------------------------------------------------------------------------------------------------------

// Table blocks in front of `index` in which no inode was ever used hold garbage, and are about to count as used.
Status InodeAllocator::Impl::start_tables(jbd2::Handle &handle, Group &group, std::uint32_t index) {
  const std::uint32_t used = superblock.inodes_per_group - group.desc.itable_unused;
  for (std::uint32_t block = divide_up(used, geometry.inodes_per_block()); block < index / geometry.inodes_per_block(); ++block) {
    const cache::BufferRef buffer = TRY(volume.cache().create(group.desc.inode_table + block, volume.types().inode_table()));
    TRY(buffer->writable(handle));
  }
  return {};
}

Result<std::uint32_t> InodeAllocator::adopt_credits(InodeNumber number) {
  const format::InodeLocation at = impl_->geometry.locate(number);
  Group &group = impl_->groups.at(at.group);
  MutexLock guard(group.mutex);
  TRY(impl_->groups.describe(at.group, group));
  const std::uint32_t used = impl_->superblock.inodes_per_group - group.desc.itable_unused;
  const std::uint32_t fresh = at.table_block - std::min(at.table_block, used / impl_->geometry.inodes_per_block());
  return credits::kAllocateInode + fresh;
}

Status InodeAllocator::adopt(jbd2::Handle &handle, InodeNumber number, bool directory, bool keep_orphan_link) {
  const format::InodeLocation at = impl_->geometry.locate(number);
  Group &group = impl_->groups.at(at.group);
  MutexLock guard(group.mutex);
  TRY(impl_->groups.load_inodes(at.group, group));
  if (group.desc.block_uninit) TRY(impl_->groups.load_blocks(at.group, group));
  const bool was_used = impl_->groups.inode_in_use(group, at.index);
  if (!was_used && group.desc.free_inodes == 0) return fail(Error::corrupt("inode adopted in a full group").of_inode(number.value()));
  TRY(impl_->start_tables(handle, group, at.index));
  Impl::Slot slot = TRY(impl_->prepare_slot(handle, group, at.index));
  const std::span<std::byte> raw = TRY(impl_->writable(handle, slot));
  const auto old_mode = view_as<le16>(raw, offsetof(format::RawInode, i_mode)).get();
  const bool was_directory = was_used && (old_mode & format::kModeTypeMask) == format::kModeDirectory;

  const GroupTable::Change change = TRY(impl_->groups.begin_inodes(handle, at.group, group));
  if (!was_used) {
    format::BitmapEdit(change.bitmap, impl_->superblock.inodes_per_group).set(at.index);
    --group.desc.free_inodes;
    impl_->groups.add_free_inodes(-1);
    group.desc.itable_unused = std::min(group.desc.itable_unused, impl_->superblock.inodes_per_group - (at.index + 1));
  }
  if (directory && !was_directory) ++group.desc.used_dirs;
  if (!directory && was_directory && group.desc.used_dirs > 0) --group.desc.used_dirs;
  impl_->groups.finish_inodes(at.group, group, change);
  TRY(impl_->use_blocks_of_fresh_group(handle, at.group, group));

  const std::uint32_t link = keep_orphan_link ? format::raw_inode_dtime(raw) : 0;
  std::ranges::fill(raw, std::byte{0});
  format::set_raw_inode_dtime(raw, link);
  return {};
}

Inode InodeAllocator::Impl::make(InodeNumber number, const Inode &parent, std::uint32_t mode, std::uint32_t uid,
                                 std::uint32_t gid) {
  Inode inode;
  inode.number = number;
  format::InodeFields &fields = inode.fields;
  fields.mode = static_cast<std::uint16_t>(mode);
  fields.uid = uid;
  fields.gid = gid;
  fields.extra_isize = superblock.want_extra_isize;
  fields.atime = fields.mtime = fields.ctime = volume.now();
  if (fields.extra_isize >= kExtraSizeWithBirth) fields.crtime = fields.ctime;
  fields.generation = static_cast<std::uint32_t>(random());
  fields.version = 1;
  fields.flags = inode_flags::inherited(parent.fields.flags, mode);
  if (superblock.has(format::RoCompat::project)) fields.projid = inode_flags::inherited_project(parent.fields);
  if (superblock.has(format::Incompat::extents) && (inode.is_regular() || inode.is_directory() || inode.is_symlink())) {
    fields.flags |= format::kInodeFlagExtents;
    format::ExtentNodeEdit(fields.block).init(0);
  }
  inode.checksum_seed = format::inode_checksum_seed(superblock, number, fields.generation);
  return inode;
}

// --- free -----------------------------------------------------------------------------------------------------------------

Status InodeAllocator::Impl::check_free(InodeNumber number) {
  if (!geometry.contains(number) || number < superblock.first_ino)
    return fail(Error::corrupt("inode freed that is reserved").of_inode(number.value()));
  const format::InodeLocation at = geometry.locate(number);
  Group &group = groups.at(at.group);
  MutexLock guard(group.mutex);
  TRY(groups.load_inodes(at.group, group));
  if (!groups.inode_in_use(group, at.index)) return fail(Error::corrupt("inode freed that is free already").of_inode(number.value()));
  return {};
}

Status InodeAllocator::Impl::give_back(jbd2::Handle &handle, InodeNumber number, bool directory) {
  const format::InodeLocation at = geometry.locate(number);
  Group &group = groups.at(at.group);
  MutexLock guard(group.mutex);
  TRY(groups.load_inodes(at.group, group));
  const GroupTable::Change change = TRY(groups.begin_inodes(handle, at.group, group));
  format::BitmapEdit(change.bitmap, superblock.inodes_per_group).clear(at.index);
  ++group.desc.free_inodes;
  if (directory && group.desc.used_dirs > 0) --group.desc.used_dirs;
  groups.finish_inodes(at.group, group, change);
  groups.add_free_inodes(1);
  return {};
}

Status InodeAllocator::free(jbd2::Handle &handle, Inode &inode) {
  TRY(impl_->check_free(inode.number));
  const bool directory = inode.is_directory();
  format::InodeFields &fields = inode.fields;
  fields.dtime = static_cast<std::uint32_t>(std::max<std::int64_t>(impl_->volume.now().sec, 1));
  fields.links = 0;
  fields.mode = 0;
  fields.size = 0;
  // The record first: once the bit is clear the number may be somebody else's.
  TRY(store(handle, inode));
  impl_->volume.fast_commits().freed(handle, inode.number);
  return impl_->give_back(handle, inode.number, directory);
}

// --- numbers --------------------------------------------------------------------------------------------------------------

void InodeAllocator::hold_number(InodeNumber number) {
  MutexLock guard(impl_->held_lock);
  ++impl_->held[number.value()];
  impl_->held_count.store(impl_->held.size(), std::memory_order_release);
}

void InodeAllocator::release_number(InodeNumber number) {
  MutexLock guard(impl_->held_lock);
  auto found = impl_->held.find(number.value());
  assert(found != impl_->held.end());
  if (found != impl_->held.end() && --found->second == 0) impl_->held.erase(found);
  impl_->held_count.store(impl_->held.size(), std::memory_order_release);
}

bool InodeAllocator::Impl::is_held(InodeNumber number) {
  if (held_count.load(std::memory_order_acquire) == 0) return false;
  MutexLock guard(held_lock);
  return held.contains(number.value());
}

// splitmix64: generations must differ, not be secret.
std::uint64_t InodeAllocator::Impl::random() {
  std::uint64_t z = random_state.fetch_add(0x9e3779b97f4a7c15ULL, std::memory_order_relaxed) + 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

std::uint64_t InodeAllocator::free_inodes() const { return impl_->groups.free_inodes(); }

}  // namespace outboard::ext4

// Block groups in memory: descriptors and bitmaps, loaded when first needed, verified once, and changed together.
//
// One lock per group (Rank::block_alloc) guards everything of it, blocks and inodes alike: they share the descriptor and its
// checksum. Loading reads from the device with the lock held, so only users of the same group wait.
//
// Nothing at mount is proportional to the number of groups: Group objects come in chunks, descriptors are decoded one by one.
// Memory of loaded groups is bounded: shed() drops the bitmaps of groups that hold nothing in flight.
//
// in_use, the bitmap that allocation searches, is
//     the on-disk bitmap as it runs  |  reserved, not yet claimed  |  freed, the freeing not yet durable.
// The on-disk bitmap (`block_bitmap`) alone is what the journal sees; `busy` counts the bits by which the two differ.
//
// Groups that were never used (block_uninit, inode_uninit; only with group checksums): the bitmap block on disk is garbage.
// in_use is then computed, `block_bitmap` stays empty until the first change, which creates the block in its transaction and
// clears the flag. Inodes beyond inodes_per_group - itable_unused were never used: nothing in their table blocks is trusted.
#pragma once

#include "base/mutex.h"
#include "cache/buffer_cache.h"
#include "ext4/fixed_zones.h"
#include "ext4/format/bitmap.h"
#include "ext4/format/group_desc.h"
#include "jbd2/journal.h"

#include <array>
#include <atomic>
#include <memory>
#include <vector>

namespace outboard::ext4 {

class Volume;

struct Group {
  static constexpr std::uint32_t kUnknown = ~std::uint32_t{0};

  Mutex mutex{Rank::block_alloc};
  bool described GUARDED_BY(mutex) = false;  // `desc` and `descriptor` are there
  format::GroupDesc desc GUARDED_BY(mutex);
  cache::BufferRef descriptor GUARDED_BY(mutex);    // the block with this group's and others' descriptors
  cache::BufferRef block_bitmap GUARDED_BY(mutex);  // empty: not loaded, or block_uninit
  cache::BufferRef inode_bitmap GUARDED_BY(mutex);  // empty: not loaded, or inode_uninit
  // Remembered so that a broken structure is read, and told, once. Device errors are not remembered.
  std::unique_ptr<const Error> bad_descriptor GUARDED_BY(mutex), bad_blocks GUARDED_BY(mutex), bad_inodes GUARDED_BY(mutex);

  std::unique_ptr<std::byte[]> in_use GUARDED_BY(mutex);  // one block's worth of bits; empty: not loaded
  std::uint32_t available GUARDED_BY(mutex) = 0;          // clear bits of in_use
  std::uint32_t busy GUARDED_BY(mutex) = 0;               // set in in_use, clear on disk
  std::uint32_t longest GUARDED_BY(mutex) = kUnknown;     // no clear run of in_use is longer

  // What a search may know without the lock. kUnknown: not described yet.
  std::atomic<std::uint32_t> free_blocks_hint{kUnknown};
  std::atomic<std::uint32_t> free_inodes_hint{kUnknown};
  std::atomic<std::uint32_t> directories_hint{kUnknown};
};

class GroupTable {
public:
  // `log`: the blocks of an internal journal, no place for anything else.
  GroupTable(Volume &volume, std::span<const BlockRun> log);
  ~GroupTable();

  std::uint32_t count() const { return count_; }
  Group &at(GroupNumber number);

  // Each makes sure that its part is loaded and trusted; corrupt otherwise, and reported the first time.
  Status describe(GroupNumber number, Group &group) REQUIRES(group.mutex);
  Status load_blocks(GroupNumber number, Group &group) REQUIRES(group.mutex);
  Status load_inodes(GroupNumber number, Group &group) REQUIRES(group.mutex);
  // The searchable bits and the inode bits of a loaded group. Inode bits: empty span while inode_uninit.
  format::BitmapEdit in_use(GroupNumber number, Group &group) const REQUIRES(group.mutex);
  bool inode_in_use(const Group &group, std::uint32_t index) const REQUIRES(group.mutex);
  bool block_in_use(const Group &group, std::uint32_t bit) const REQUIRES(group.mutex);  // as the disk's bitmap runs

  // A change of a loaded group's bitmap and descriptor. begin_* takes every buffer that the change needs, initialising what
  // was never used; the caller changes bits and group.desc; finish_* stamps checksums and writes the descriptor back.
  // Credits: kGroup each. After begin_* nothing can fail.
  struct Change {
    std::span<std::byte> bitmap, descriptor;
  };
  Result<Change> begin_blocks(jbd2::Handle &handle, GroupNumber number, Group &group) REQUIRES(group.mutex);
  Result<Change> begin_inodes(jbd2::Handle &handle, GroupNumber number, Group &group) REQUIRES(group.mutex);
  void finish_blocks(GroupNumber number, Group &group, const Change &change) REQUIRES(group.mutex);
  void finish_inodes(GroupNumber number, Group &group, const Change &change) REQUIRES(group.mutex);
  // Hints for searches, after `available` has changed.
  static void publish(Group &group) REQUIRES(group.mutex);

  // Totals of all descriptors: exact whenever no handle is open. Blocks (not clusters).
  std::uint64_t free_blocks() const;
  std::uint64_t free_inodes() const;
  void add_free_blocks(std::int64_t count) { free_blocks_.fetch_add(count, std::memory_order_relaxed); }
  void add_free_inodes(std::int64_t count) { free_inodes_.fetch_add(count, std::memory_order_relaxed); }
  // Reads every descriptor; groups that cannot be trusted count as full. For mounts that cannot trust the superblock.
  void sum_descriptors();

  // What no file may use; built at the first question. Takes group locks: hold none.
  const FixedZones &zones();

  // Bounds the memory of loaded groups. Takes group locks one by one: hold none.
  void shed();

private:
  static constexpr std::uint32_t kChunkBits = 8;
  static constexpr std::uint32_t kLoadedMax = 4096;  // bitmaps in memory before those of idle groups are dropped
  using Chunk = std::array<Group, std::size_t{1} << kChunkBits>;

  Status read_descriptor(GroupNumber number, Group &group) REQUIRES(group.mutex);
  Status read_blocks(GroupNumber number, Group &group) REQUIRES(group.mutex);
  Status read_inodes(GroupNumber number, Group &group) REQUIRES(group.mutex);
  Status check_own_metadata(GroupNumber number, const Group &group) const REQUIRES(group.mutex);
  void encode(GroupNumber number, Group &group, const Change &change) REQUIRES(group.mutex);
  void prefetch_descriptors(std::uint32_t first_block);

  Volume &volume_;
  const std::uint32_t count_;
  const std::vector<BlockRun> log_;
  Mutex grow_{Rank::leaf};  // making chunks
  std::vector<std::atomic<Chunk *>> chunks_;
  std::vector<std::unique_ptr<Chunk>> owned_ GUARDED_BY(grow_);

  std::atomic<std::int64_t> free_blocks_{0}, free_inodes_{0};
  std::atomic<std::uint32_t> loaded_{0};  // bitmaps of either kind
  std::atomic<std::uint32_t> shed_cursor_{0};

  Mutex zones_lock_{Rank::inode_alloc};  // building the zones, once
  std::unique_ptr<const FixedZones> zones_owner_ GUARDED_BY(zones_lock_);
  std::atomic<const FixedZones *> zones_{nullptr};
};

}  // namespace outboard::ext4

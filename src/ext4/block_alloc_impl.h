// The allocator's state: what block_alloc.cc (reserve, claim, free) and block_search.cc (where) share.
#pragma once

#include "ext4/block_alloc.h"
#include "ext4/group_table.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <vector>

namespace outboard::ext4 {

// Which part of the free blocks a request must leave.
enum class Kept : std::uint8_t { data_promises, nothing, for_metadata, for_root };

struct BlockAllocator::Impl {
  static constexpr std::uint64_t kMetadataBlocks = 4096;
  static constexpr std::uint64_t kIndirectBlocks = 16;
  // A stretch right at the goal is taken although it is shorter than wanted when it has this many blocks.
  static constexpr std::uint32_t kGoodAtGoal = 64;
  // Groups searched in vain for a stretch as long as wanted before the longest seen will do.
  static constexpr std::uint32_t kMaxScanned = 12;
  // ... and groups known to have none, looked at on the way.
  static constexpr std::uint32_t kMaxVisited = 1024;

  explicit Impl(Volume &v);

  std::uint64_t room(Kept kept) const REQUIRES(counters);
  std::uint32_t admit(std::uint32_t want, Kept kept);  // moves up to `want` blocks into `reserved`; 0: no room
  void unreserve(std::uint32_t count);
  Result<BlockRun> reserve(const BlockGoal &goal, std::uint32_t want, Kept kept);
  void give_back(BlockRun run);

  // block_search.cc. The run's bits are set in in_use; `reserved` already counts `want`.
  Result<BlockRun> search(const BlockGoal &goal, std::uint32_t want);
  struct Attempt {
    std::optional<BlockRun> taken;
    std::uint32_t longest = 0;  // of the group's clear runs, when nothing was taken (a bound)
    std::optional<Error> error;
    bool scanned = false;
  };
  // Takes a stretch of at least `least` and at most `want` blocks of the group, looking from `bit` on first.
  Attempt take(GroupNumber number, std::uint32_t bit, std::uint32_t want, std::uint32_t least);

  // At most `want` free blocks from exactly this bit on, or none.
  BlockRun take_at(GroupNumber number, std::uint32_t bit, std::uint32_t want);

  // Calls `part(group number, first bit, count)` for each group that the run touches.
  template <class Part> Status each_group(BlockRun run, Part part) {
    const format::Geometry &geometry = volume.geometry();
    while (run.count != 0) {
      const format::BlockLocation at = geometry.locate(run.start);
      const std::uint32_t count = std::min(run.count, geometry.clusters_in_group(at.group) - at.bit);
      TRY(part(at.group, at.bit, count));
      run.start += count;
      run.count -= count;
    }
    return {};
  }
  Status check_allocated(GroupNumber number, std::uint32_t bit, std::uint32_t count);
  Status free_part(jbd2::Handle &handle, GroupNumber number, std::uint32_t bit, std::uint32_t count);
  void remember_freed(jbd2::Handle &handle, BlockRun run);
  void settle_freed(jbd2::Tid tid);
  // block_exact.cc
  Status set_aside_part(GroupNumber number, std::uint32_t bit, std::uint32_t count);
  Status claim_part(jbd2::Handle &handle, GroupNumber number, std::uint32_t bit, std::uint32_t count);
  std::uint32_t take_back_freed(BlockRun run);  // blocks of the run that waited for their freeing to become durable
  bool discard(BlockRun run);
  Result<std::uint64_t> trim_group(GroupNumber number, std::uint32_t from, std::uint32_t limit, std::uint32_t minimum);

  Volume &volume;
  GroupTable &groups;
  const std::uint64_t root_blocks;
  std::uint64_t metadata_blocks = 0;

  mutable Mutex counters{Rank::leaf};
  std::uint64_t reserved GUARDED_BY(counters) = 0;  // in in_use, not yet in the bitmap
  std::uint64_t ahead GUARDED_BY(counters) = 0;     // of `reserved`: for files that may go on, and for anybody if need be
  std::uint64_t promised GUARDED_BY(counters) = 0;      // for data
  std::uint64_t promised_map GUARDED_BY(counters) = 0;  // for the maps over it

  Mutex freed_lock{Rank::leaf};
  std::map<jbd2::Tid, std::vector<BlockRun>> freed GUARDED_BY(freed_lock);  // by the transaction that must become durable
  std::atomic<bool> discard_failed{false};
};

}  // namespace outboard::ext4

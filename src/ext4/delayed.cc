#include "ext4/delayed.h"

#include "ext4/block_alloc.h"
#include "ext4/file_growth.h"

#include <algorithm>

namespace outboard::ext4::delayed {
namespace {

constexpr std::uint64_t kExtentBytes = 12;  // an entry of a tree node, and the node's header
constexpr std::uint64_t kPointerBytes = 4;  // an entry of an indirect block
constexpr std::uint64_t kInRoot = 4;        // extents that fit the inode

// The most blocks that the map may need for these promises: each run an extent of its own in nodes that are half full,
// and a node on every level; or the indirect blocks over every run.
std::uint64_t map_blocks_for(const Volume &volume, const Inode &inode) {
  const IntervalSet &promised = inode.delayed.promised;
  if (promised.empty()) return 0;
  const std::uint64_t block_size = volume.block_size();
  if (!inode.fields.uses_extents()) return promised.count() / (block_size / kPointerBytes) + 2 * promised.runs() + 2;
  // A short file in one piece stays in the inode.
  if (promised.runs() == 1 && inode.fields.sectors == 0) return 0;
  const std::uint64_t entries = (block_size - kExtentBytes) / kExtentBytes;
  return divide_up(promised.runs() * 2 + kInRoot, entries) + 2;
}

// Brings the promise for the map in line. Less is always possible; more may meet ENOSPC.
Status adjust_map_promise(Volume &volume, Inode &inode, bool may_use_reserved) {
  const std::uint64_t needed = map_blocks_for(volume, inode);
  DelayedState &state = inode.delayed;
  constexpr auto kMap = BlockAllocator::Use::map;
  if (needed > state.map_blocks) TRY(volume.blocks().promise(needed - state.map_blocks, kMap, !may_use_reserved));
  else if (needed < state.map_blocks) volume.blocks().withdraw(state.map_blocks - needed, kMap);
  state.map_blocks = needed;
  return {};
}

// What is left may need more than there was (a run cut in two): then less is promised than may be needed, and the pool
// for metadata has to do.
void adjust_after_removal(Volume &volume, Inode &inode) { static_cast<void>(adjust_map_promise(volume, inode, true)); }

}  // namespace

Status promise(Volume &volume, Inode &inode, std::uint64_t first, std::uint64_t end, bool may_use_reserved) {
  IntervalSet &promised = inode.delayed.promised;
  const std::uint64_t more = end - first - promised.overlap(first, end);
  if (more == 0) return {};
  TRY(volume.blocks().promise(more, BlockAllocator::Use::data, !may_use_reserved));
  // To be undone exactly: the parts that were not promised before.
  IntervalSet added;
  added.add(first, end);
  for (IntervalSet::Run run = promised.at_or_after(first); !run.empty() && run.first < end; run = promised.at_or_after(run.end))
    added.remove(run.first, run.end);
  promised.add(first, end);
  Status status = adjust_map_promise(volume, inode, may_use_reserved);
  if (status) return status;
  for (IntervalSet::Run run = added.at_or_after(0); !run.empty(); run = added.at_or_after(run.end)) promised.remove(run.first, run.end);
  volume.blocks().withdraw(more, BlockAllocator::Use::data);
  return status;
}

void withdraw(Volume &volume, Inode &inode, std::uint64_t first, std::uint64_t end) {
  const std::uint64_t removed = inode.delayed.promised.remove(first, end);
  if (removed == 0) return;
  volume.blocks().withdraw(removed, BlockAllocator::Use::data);
  adjust_after_removal(volume, inode);
}

Result<BlockRun> reserve(Volume &volume, Inode &inode, const BlockGoal &goal, std::uint64_t first, std::uint32_t want) {
  Result<BlockRun> run = volume.blocks().reserve_promised(goal, want);
  if (!run && run.error().is(ENOSPC)) {
    // Some of what was promised may have been freed by the running transaction.
    TRY(volume.journal().commit_running());
    run = volume.blocks().reserve_promised(goal, want);
  }
  if (run) inode.delayed.promised.remove(first, first + run->count);
  return run;
}

void recorded(Volume &volume, Inode &inode) { adjust_after_removal(volume, inode); }

Status record_written(Volume &volume, Inode &inode) {
  IntervalSet &written = inode.delayed.written;
  while (!written.empty()) {
    const IntervalSet::Run run = written.at_or_after(0);
    const FileBlock first(static_cast<std::uint32_t>(run.first));
    const auto count = static_cast<std::uint32_t>(run.length());
    const FileMapping found = TRY(file_map::find(volume, inode, first, count));
    if (found.state == FileMapping::State::unwritten) {
      growth::Change change;
      change.kind = growth::Kind::written;
      change.first = first;
      change.run = {found.start, found.count};
      change.size = inode.fields.size;
      TRY(growth::record(volume, inode, change));
    }
    written.remove(run.first, run.first + found.count);
  }
  return {};
}

void release_ahead(Volume &volume, Inode &inode) {
  const BlockRun ahead = std::exchange(inode.delayed.ahead, {});
  volume.blocks().use_ahead(ahead);
  volume.blocks().release(ahead);
}

void give_up(Volume &volume, Inode &inode) {
  withdraw(volume, inode, 0, ~std::uint64_t{0});
  inode.delayed.written.clear();
  release_ahead(volume, inode);
}

}  // namespace outboard::ext4::delayed

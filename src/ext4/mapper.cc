#include "ext4/mapper.h"

#include "ext4/block_alloc.h"
#include "ext4/delayed.h"
#include "ext4/file_growth.h"
#include "ext4/inode_alloc.h"

#include <algorithm>
#include <cassert>

namespace outboard::ext4 {
namespace {

using iomap::Mapping;
using iomap::MappingType;
using iomap::Operation;

constexpr std::uint64_t kNoFileReaches = std::uint64_t{1} << 63;  // bytes
// Reserved in memory behind a growing file, bytes.
constexpr std::uint64_t kAheadSmall = std::uint64_t{64} << 10, kAheadLarge = std::uint64_t{8} << 20;
// A file with less than this is taken for a small one.
constexpr std::uint64_t kLarge = std::uint64_t{64} << 10;

Mapping as_mapping(const FileMapping &found, std::uint32_t block_size, std::uint64_t cookie) {
  Mapping mapping;
  switch (found.state) {
  case FileMapping::State::hole: mapping.type = MappingType::hole; break;
  case FileMapping::State::mapped: mapping.type = MappingType::mapped; break;
  case FileMapping::State::unwritten: mapping.type = MappingType::unwritten; break;
  }
  mapping.offset = std::uint64_t{found.first.value()} * block_size;
  mapping.length = std::uint64_t{found.count} * block_size;
  mapping.address = found.start.value() * block_size;
  mapping.cookie = cookie;
  return mapping;
}

}  // namespace

// Only what a range asks for is answered to operations that provide blocks. In a block map, looking further costs an
// indirect block read for each stretch; in an extent tree the whole extent is one entry.
std::uint32_t Mapper::most_blocks(ByteRange range, Operation operation, std::uint64_t left) const {
  const bool provides = operation == Operation::write || operation == Operation::delay;
  if (!provides && (operation != Operation::read || inode_.fields.uses_extents())) return static_cast<std::uint32_t>(left);
  const std::uint32_t block_size = volume_.block_size();
  const std::uint64_t length = std::min(range.length, kNoFileReaches);
  const std::uint64_t asked = divide_up<std::uint64_t>(range.offset % block_size + length, block_size);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(left, std::max<std::uint64_t>(asked, 1)));
}

Result<Mapping> Mapper::begin(ByteRange range, Operation operation) {
  const std::uint32_t block_size = volume_.block_size();
  const std::uint64_t limit = file_map::max_file_blocks(volume_, inode_);
  const std::uint64_t block = range.offset / block_size;
  const bool provides = operation == Operation::write || operation == Operation::delay;
  if (provides) TRY(volume_.check_writable());
  if (block >= limit) {
    if (provides) return fail(Error::user(EFBIG, "write: beyond the largest file"));
    Mapping nothing;
    nothing.offset = block * block_size;
    nothing.length = range.offset < kNoFileReaches ? kNoFileReaches - nothing.offset : block_size;
    nothing.cookie = inode_.map_sequence;
    return nothing;
  }
  const FileBlock first(static_cast<std::uint32_t>(block));
  FileMapping found = TRY(file_map::find(volume_, inode_, first, most_blocks(range, operation, limit - block)));
  if (journals_data(volume_, inode_)) return journaled(found, operation);
  if (found.state == FileMapping::State::unwritten) clip_to_written(found);
  if (found.state == FileMapping::State::hole) {
    if (operation == Operation::write) return allocate(found);
    if (operation != Operation::read) return delayed_or_hole(found, operation);
  } else if (operation == Operation::write) {
    // Promised when it was a hole, and given a block meanwhile.
    delayed::withdraw(volume_, inode_, block, block + found.count);
  }
  return as_mapping(found, block_size, inode_.map_sequence);
}

// Unwritten blocks whose data is on the device already read as mapped (delayed::record_written comes later).
void Mapper::clip_to_written(FileMapping &found) const {
  if (inode_.delayed.written.empty()) return;
  const std::uint64_t first = found.first.value();
  const IntervalSet::Run run = inode_.delayed.written.at_or_after(first);
  if (run.empty()) return;
  const bool inside = run.first == first;
  if (inside) found.state = FileMapping::State::mapped;
  found.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(found.count, (inside ? run.end : run.first) - first));
}

// A hole, the part of it that has a promise, or one that gets it now.
Result<Mapping> Mapper::delayed_or_hole(FileMapping found, Operation operation) {
  const std::uint64_t first = found.first.value();
  if (operation == Operation::delay) {
    // Less and less, down to a block: what there is is given.
    Status promised = delayed::promise(volume_, inode_, first, first + found.count, may_use_reserved_);
    while (!promised && promised.error().is(ENOSPC) && found.count > 1) {
      found.count /= 2;
      promised = delayed::promise(volume_, inode_, first, first + found.count, may_use_reserved_);
    }
    TRY(std::move(promised));
  }
  const IntervalSet::Run run = inode_.delayed.promised.at_or_after(first);
  const bool inside = !run.empty() && run.first == first;
  if (!run.empty())
    found.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(found.count, (inside ? run.end : run.first) - first));
  Mapping mapping = as_mapping(found, volume_.block_size(), inode_.map_sequence);
  if (inside) mapping.type = MappingType::delalloc;
  return mapping;
}

// Blocks for a hole: those set aside behind the last ones, else the best that the allocator finds. Reserved in memory.
Result<Mapping> Mapper::allocate(const FileMapping &hole) {
  const std::uint64_t first = hole.first.value();
  std::uint32_t want = std::min(hole.count, file_map::max_insert(volume_, inode_, hole.first));
  // As far as the answer is the same: promised all along, or not at all.
  const IntervalSet::Run promised = inode_.delayed.promised.at_or_after(first);
  const bool is_promised = !promised.empty() && promised.first == first;
  if (!promised.empty())
    want = static_cast<std::uint32_t>(std::min<std::uint64_t>(want, (is_promised ? promised.end : promised.first) - first));

  FileMapping fresh;
  fresh.state = FileMapping::State::mapped;
  fresh.first = hole.first;
  const BlockGoal goal = TRY(growth::goal_for(volume_, inode_, hole.first));
  BlockRun run;
  BlockRun &ahead = inode_.delayed.ahead;
  if (ahead.count > 0 && ahead.start == goal.near) {
    run = {ahead.start, std::min(want, ahead.count)};
    ahead = {ahead.start + run.count, ahead.count - run.count};
    volume_.blocks().use_ahead(run);
    // Those blocks are paid for; the promise is not needed.
    if (is_promised) delayed::withdraw(volume_, inode_, first, first + run.count);
  } else if (is_promised) {
    delayed::release_ahead(volume_, inode_);
    run = TRY(delayed::reserve(volume_, inode_, goal, first, want));
  } else {
    delayed::release_ahead(volume_, inode_);
    run = TRY(growth::reserve(volume_, goal, want, !may_use_reserved_));
  }
  if (ahead.count == 0 && run.count == want) look_ahead(hole.first, run);
  fresh.count = run.count;
  fresh.start = run.start;
  Mapping mapping = as_mapping(fresh, volume_.block_size(), inode_.map_sequence);
  mapping.flags |= iomap::kFresh;
  return mapping;
}

// A file that grows at its end, or begins large, will go on. A large one is given room for much more at once, so that files
// whose pieces come in turn have few extents; nothing of it is on disk, and it is given back when the file rests.
void Mapper::look_ahead(FileBlock first, BlockRun run) {
  const std::uint32_t block_size = volume_.block_size();
  const std::uint64_t size = inode_.fields.size;
  const bool is_large = size + std::uint64_t{run.count} * block_size >= kLarge;
  if (size == 0 ? !is_large : std::uint64_t{first.value()} + 1 < size / block_size) return;
  const std::uint64_t bytes = is_large ? kAheadLarge : kAheadSmall;
  inode_.delayed.ahead = volume_.blocks().reserve_ahead(run, static_cast<std::uint32_t>(bytes / block_size));
}

// Every answer with the file's bytes says that they are not to be had from the device: a cache may keep it.
Result<Mapping> Mapper::journaled(FileMapping found, Operation operation) {
  if (operation == Operation::write) return fail(Error::unsupported("write: the file's data is journaled"));
  const bool changes = operation == Operation::delay || (operation == Operation::zero && found.state == FileMapping::State::mapped);
  if (changes) TRY(journaled_.open(found));
  Mapping mapping = as_mapping(found, volume_.block_size(), inode_.map_sequence);
  if (mapping.type == MappingType::mapped) mapping.flags |= iomap::kPrepared;
  return mapping;
}

Result<std::span<std::byte>> Mapper::prepare(ByteRange block, const Mapping &mapping) {
  return journaled_.prepare(block, BlockNumber((mapping.address + (block.offset - mapping.offset)) / volume_.block_size()));
}

Status Mapper::fetch(std::uint64_t offset, std::span<std::byte> into, const Mapping &mapping) {
  const std::uint32_t block_size = volume_.block_size();
  const std::uint64_t address = mapping.address + (offset - mapping.offset);
  return journaled_.fetch(BlockNumber(address / block_size), address % block_size, into);
}

Status Mapper::ioend(ByteRange written, const Mapping &mapping) {
  const std::uint32_t block_size = volume_.block_size();
  assert(written.length > 0 && written.offset >= mapping.offset && written.end() <= mapping.end());
  const auto from = static_cast<std::uint32_t>((written.offset - mapping.offset) / block_size);
  const auto to = static_cast<std::uint32_t>(divide_up<std::uint64_t>(written.end() - mapping.offset, block_size));
  growth::Change change;
  change.first = FileBlock(static_cast<std::uint32_t>(mapping.offset / block_size)) + from;
  change.run = {BlockNumber(mapping.address / block_size) + from, to - from};
  change.size = std::max(inode_.fields.size, written.end());
  const std::uint64_t first = change.first.value();
  if ((mapping.flags & iomap::kFresh) != 0) {
    change.kind = growth::Kind::fresh;
  } else if (mapping.type == MappingType::unwritten) {
    // Many small writes into preallocated space become one change of the map: recorded by fsync or a timer.
    if (change.size == inode_.fields.size) {
      inode_.delayed.written.add(first, first + change.run.count);
      ++inode_.map_sequence;
      return {};
    }
    change.kind = growth::Kind::written;
  } else if (change.size == inode_.fields.size) {
    // An overwrite inside the file leaves nothing to record, and the inode as it is: it may be held shared.
    return {};
  }
  inode_.allocation_goal = change.run.end();
  TRY(growth::record(volume_, inode_, change));
  // Only where this was recorded: blocks that read as mapped because they got their data earlier still wait.
  if (change.kind != growth::Kind::size_only) inode_.delayed.written.remove(first, first + change.run.count);
  return {};
}

Status Mapper::end(ByteRange range, std::uint64_t moved, Operation operation, const Mapping &mapping) {
  if ((mapping.flags & iomap::kPrepared) != 0) return journaled_.close(operation == Operation::delay && moved > 0 ? range.offset + moved : 0);
  if (operation != Operation::write || (mapping.flags & iomap::kFresh) == 0) return {};
  const std::uint32_t block_size = volume_.block_size();
  const BlockRun run{BlockNumber(mapping.address / block_size),
                     static_cast<std::uint32_t>(mapping.length / block_size)};
  // The blocks that ioend() recorded: [from, to), counted from the mapping's start.
  std::uint32_t from = 0, to = 0;
  if (moved > 0) {
    from = static_cast<std::uint32_t>((range.offset - mapping.offset) / block_size);
    to = static_cast<std::uint32_t>(divide_up<std::uint64_t>(range.offset + moved - mapping.offset, block_size));
  }
  if (from > 0) volume_.blocks().release({run.start, from});
  if (to < run.count) volume_.blocks().release({run.start + to, run.count - to});
  delayed::recorded(volume_, inode_);
  return {};
}

}  // namespace outboard::ext4

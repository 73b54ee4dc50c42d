#include "ext4/mapper.h"

#include "ext4/block_alloc.h"
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

Result<Mapping> Mapper::begin(ByteRange range, Operation operation) {
  const std::uint32_t block_size = volume_.block_size();
  const std::uint64_t limit = file_map::max_file_blocks(volume_, inode_);
  const std::uint64_t block = range.offset / block_size;
  if (operation == Operation::write) TRY(volume_.check_writable());
  if (block >= limit) {
    if (operation == Operation::write) return fail(Error::user(EFBIG, "write: beyond the largest file"));
    Mapping nothing;
    nothing.offset = block * block_size;
    nothing.length = range.offset < kNoFileReaches ? kNoFileReaches - nothing.offset : block_size;
    nothing.cookie = inode_.map_sequence;
    return nothing;
  }
  const FileBlock first(static_cast<std::uint32_t>(block));
  auto most = static_cast<std::uint32_t>(limit - block);
  // Writes take no more than they fill. In a block map, looking on costs an indirect block read for each stretch; in an
  // extent tree the whole extent is one entry.
  if (operation == Operation::write || (operation == Operation::read && !inode_.fields.uses_extents())) {
    const std::uint64_t length = std::min(range.length, kNoFileReaches);
    const std::uint64_t asked = divide_up<std::uint64_t>(range.offset % block_size + length, block_size);
    most = static_cast<std::uint32_t>(std::min<std::uint64_t>(most, std::max<std::uint64_t>(asked, 1)));
  }
  const FileMapping found = TRY(file_map::find(volume_, inode_, first, most));
  if (operation == Operation::write && found.state == FileMapping::State::hole) return reserve(found);
  return as_mapping(found, block_size, inode_.map_sequence);
}

Result<Mapping> Mapper::reserve(const FileMapping &hole) {
  const BlockGoal goal = TRY(growth::goal_for(volume_, inode_, hole.first));
  const std::uint32_t want = std::min(hole.count, file_map::max_insert(volume_, inode_, hole.first));
  const BlockRun run = TRY(growth::reserve(volume_, goal, want, !may_use_reserved_));
  FileMapping fresh;
  fresh.state = FileMapping::State::mapped;
  fresh.first = hole.first;
  fresh.count = run.count;
  fresh.start = run.start;
  Mapping mapping = as_mapping(fresh, volume_.block_size(), inode_.map_sequence);
  mapping.flags |= iomap::kFresh;
  return mapping;
}

Status Mapper::end(ByteRange range, std::uint64_t written, Operation operation, const Mapping &mapping) {
  if (operation != Operation::write) return {};
  const std::uint32_t block_size = volume_.block_size();
  const bool fresh = (mapping.flags & iomap::kFresh) != 0;
  const BlockRun run{BlockNumber(mapping.address / block_size),
                     static_cast<std::uint32_t>(mapping.length / block_size)};
  // The blocks of the mapping that hold what was written: [from, to), counted from the mapping's start.
  std::uint32_t from = 0, to = 0;
  if (written > 0) {
    assert(range.offset >= mapping.offset && range.offset + written <= mapping.end());
    from = static_cast<std::uint32_t>((range.offset - mapping.offset) / block_size);
    to = static_cast<std::uint32_t>(divide_up<std::uint64_t>(range.offset + written - mapping.offset, block_size));
  }
  if (fresh) {
    if (from > 0) volume_.blocks().release({run.start, from});
    if (to < run.count) volume_.blocks().release({run.start + to, run.count - to});
  }
  if (written == 0) return {};

  growth::Change change;
  change.first = FileBlock(static_cast<std::uint32_t>(mapping.offset / block_size)) + from;
  change.run = {run.start + from, to - from};
  if (fresh) change.kind = growth::Kind::fresh;
  else if (mapping.type == MappingType::unwritten) change.kind = growth::Kind::written;
  change.size = std::max(inode_.fields.size, range.offset + written);
  // An overwrite inside the file leaves nothing to record, and the inode as it is: it may be held shared.
  if (change.kind == growth::Kind::size_only && change.size == inode_.fields.size) return {};
  inode_.allocation_goal = change.run.end();
  Status status = growth::record(volume_, inode_, change);
  if (!status && fresh) volume_.blocks().release(change.run);
  return status;
}

}  // namespace outboard::ext4

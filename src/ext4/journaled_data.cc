#include "ext4/journaled_data.h"

#include "ext4/credits.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

namespace outboard::ext4 {
namespace {

// Blocks in one handle: enough to make handles cheap, few enough for the transactions of a small log.
constexpr std::uint32_t kMostBlocks = 32;

}  // namespace

bool journals_data(const Volume &volume, const format::InodeFields &fields) {
  if ((fields.mode & format::kModeTypeMask) != format::kModeRegular || fields.has_flag(format::kInodeFlagEncrypt)) return false;
  if (!volume.options().journal_data && !fields.has_flag(format::kInodeFlagJournalData)) return false;
  return volume.superblock().has(format::Compat::has_journal);
}

// --- rounds -----------------------------------------------------------------------------------------------------------

std::uint32_t JournaledData::most_blocks() const {
  return std::clamp<std::uint32_t>(volume_.journal().max_credits() / 4, 1, kMostBlocks);
}

Status JournaledData::open(FileMapping &found) {
  assert(!round_);
  FileMapping blocks = found;
  blocks.count = std::min(blocks.count, most_blocks());
  growth::Change change;
  change.first = blocks.first;
  if (blocks.state == FileMapping::State::hole) {
    change.kind = growth::Kind::fresh;
    const BlockGoal goal = TRY(growth::goal_for(volume_, inode_, blocks.first));
    const std::uint32_t want = std::min(blocks.count, file_map::max_insert(volume_, inode_, blocks.first));
    const BlockRun run = TRY(growth::reserve(volume_, goal, want, !may_use_reserved_));
    blocks.start = run.start;
    blocks.count = run.count;
  } else if (blocks.state == FileMapping::State::unwritten) {
    change.kind = growth::Kind::written;
  }
  change.run = {blocks.start, blocks.count};
  Status started = start(change, blocks.count);
  if (!started && started.error().is(ENOSPC)) {
    started = volume_.journal().commit_running();
    if (started) started = start(change, blocks.count);
  }
  if (!started) {
    if (change.kind == growth::Kind::fresh) volume_.blocks().release(change.run);
    return started;
  }
  blocks.state = FileMapping::State::mapped;
  found = blocks;
  return {};
}

Status JournaledData::start(const growth::Change &change, std::uint32_t blocks) {
  jbd2::Handle handle = TRY(volume_.journal().start(growth::credits_for(volume_, inode_, change) + blocks));
  // Unwritten blocks change only when their bytes are there: close().
  if (change.kind == growth::Kind::fresh) {
    if (Status mapped = growth::change_map(handle, volume_, inode_, change); !mapped) {
      // An extent may have been split before its other half failed.
      static_cast<void>(growth::store_or_abort(handle, volume_, inode_));
      handle.finish();
      return mapped;
    }
    inode_.allocation_goal = change.run.end();
  }
  round_.emplace(std::move(handle), change);
  return {};
}

Result<std::span<std::byte>> JournaledData::prepare(ByteRange block, BlockNumber number) {
  assert(round_ && number == round_->change.run.start + round_->prepared);
  cache::BufferCache &cache = volume_.cache();
  const cache::BlockType &type = volume_.types().symlink();
  const bool fresh = round_->change.kind == growth::Kind::fresh;
  const cache::BufferRef buffer = TRY(fresh ? cache.create(number, type) : cache.read(number, type));
  // Joined: the transaction keeps the buffer from now on.
  const std::span<std::byte> bytes = TRY(buffer->writable(round_->handle));
  std::uint64_t valid = 0;
  if (round_->change.kind == growth::Kind::size_only && inode_.fields.size > block.offset)
    valid = std::min(inode_.fields.size - block.offset, block.length);
  std::ranges::fill(bytes.subspan(valid), std::byte{0});
  ++round_->prepared;
  return bytes;
}

Status JournaledData::close(std::uint64_t size) {
  if (!round_) return {};
  Round round = std::move(*round_);
  round_.reset();
  growth::Change &change = round.change;
  Status status;
  if (change.kind == growth::Kind::fresh && round.prepared < change.run.count) {
    // The map has blocks with whatever they held before. Nothing but a journal that has stopped leads here.
    volume_.journal().abort(Error::system(EIO, "journaled data: blocks without their bytes"));
    status = fail(Error::system(EIO, "journaled data: the journal has stopped"));
  } else if (change.kind == growth::Kind::written && round.prepared > 0) {
    // The buffers of unwritten blocks may say anything: if this fails they still read as zeros.
    change.run.count = round.prepared;
    status = growth::change_map(round.handle, volume_, inode_, change);
  }
  if (status) inode_.fields.size = std::max(inode_.fields.size, size);
  Status stored = growth::store_or_abort(round.handle, volume_, inode_);
  round.handle.finish();
  return status ? std::move(stored) : std::move(status);
}

Status JournaledData::fetch(BlockNumber first, std::uint64_t into, std::span<std::byte> bytes) {
  constexpr std::size_t kAtOnce = 64;
  std::array<BlockNumber, kAtOnce> numbers;
  const std::uint32_t block_size = volume_.block_size();
  while (!bytes.empty()) {
    const std::size_t count = std::min<std::size_t>(kAtOnce, divide_up<std::size_t>(into + bytes.size(), block_size));
    for (std::size_t n = 0; n < count; ++n) numbers[n] = first + n;
    if (count > 1) volume_.cache().prefetch(std::span(numbers).first(count), volume_.types().symlink());
    for (std::size_t n = 0; n < count; ++n) {
      const cache::BufferRef buffer = TRY(journaled_data::read_block(volume_, numbers[n]));
      const std::size_t part = std::min<std::size_t>(block_size - into, bytes.size());
      std::memcpy(bytes.data(), buffer->bytes().data() + into, part);
      bytes = bytes.subspan(part);
      into = 0;
    }
    first = first + count;
  }
  return {};
}

// --- the rest ---------------------------------------------------------------------------------------------------------

namespace journaled_data {

Result<cache::BufferRef> read_block(Volume &volume, BlockNumber block) {
  return volume.cache().read(block, volume.types().symlink());
}

Status zero(jbd2::Handle &handle, cache::Buffer &buffer, std::uint64_t into, std::uint64_t length) {
  const std::span<std::byte> bytes = TRY(buffer.writable(handle));
  std::ranges::fill(bytes.subspan(into, length), std::byte{0});
  return {};
}

Status zero_mapped(Volume &volume, Inode &inode, BlockNumber first, std::uint64_t into, std::uint64_t length) {
  while (length > 0) {
    const std::uint64_t part = std::min<std::uint64_t>(volume.block_size() - into, length);
    const cache::BufferRef buffer = TRY(read_block(volume, first));
    jbd2::Handle handle = TRY(volume.journal().start(1 + credits::kStoreInode));
    Status status = zero(handle, *buffer, into, part);
    if (status) status = growth::store_or_abort(handle, volume, inode);
    handle.finish();
    TRY(std::move(status));
    length -= part;
    into = 0;
    first = first + 1;
  }
  return {};
}

Status leave(Volume &volume, const Inode &inode) {
  TRY(volume.journal().checkpoint_all());
  const auto end = static_cast<std::uint32_t>(file_map::max_file_blocks(volume, inode));
  for (std::uint32_t at = 0; at < end;) {
    const FileMapping found = TRY(file_map::find(volume, inode, FileBlock(at), end - at));
    if (found.state != FileMapping::State::hole)
      for (std::uint32_t n = 0; n < found.count; ++n) volume.cache().forget(found.start + n);
    at += found.count;
  }
  return {};
}

}  // namespace journaled_data
}  // namespace outboard::ext4

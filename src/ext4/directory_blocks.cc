#include "ext4/directory_blocks.h"

#include "ext4/block_alloc.h"
#include "ext4/credits.h"
#include "ext4/inode_flags.h"

#include <algorithm>
#include <cassert>

namespace outboard::ext4 {
namespace {

constexpr std::uint32_t kReadAhead = 32;  // blocks

// Directories of volumes without large_dir have 32 bits of size, of which old programs take one as a sign.
std::uint64_t max_directory_blocks(const Volume &volume, const Inode &inode) {
  const std::uint64_t in_map = file_map::max_file_blocks(volume, inode);
  const bool large = volume.superblock().has(format::Incompat::large_dir);
  const std::uint64_t by_format =
      large ? std::uint64_t{1} << 28 : (std::uint64_t{1} << 31) / volume.block_size() - 1;  // dx entries: 28 bits
  return std::min(in_map, by_format);
}

}  // namespace

Result<std::uint32_t> DirectoryBlocks::count() const {
  if ((inode_.fields.flags & inode_flags::kInlineData) != 0)
    return fail(Error::unsupported("directory: entries as inline data").of_inode(inode_.number.value()));
  const std::uint64_t size = inode_.fields.size, blocks = size / format_.block_size;
  if (size == 0 || size % format_.block_size != 0) return fail(corrupt("directory: size is not whole blocks"));
  if (blocks > volume_.geometry().blocks_count() || blocks > 0xffffffff)
    return fail(corrupt("directory: more blocks than the volume has"));
  return static_cast<std::uint32_t>(blocks);
}

Result<BlockNumber> DirectoryBlocks::locate(FileBlock block) {
  if (run_.count == 0 || block < run_.first || block - run_.first >= run_.count)
    run_ = TRY(file_map::find(volume_, inode_, block, std::uint32_t{1} << 15));
  if (run_.state != FileMapping::State::mapped || run_.count == 0 || block < run_.first || block - run_.first >= run_.count)
    return fail(corrupt("directory: a block is missing"));
  return run_.start + (block - run_.first);
}

Result<cache::BufferRef> DirectoryBlocks::read(FileBlock block) {
  const BlockNumber where = TRY(locate(block));
  return volume_.cache().read(where, volume_.types().directory(), inode_.checksum_seed);
}

Result<cache::BufferRef> DirectoryBlocks::read_in_order(FileBlock block) {
  const BlockNumber where = TRY(locate(block));
  const std::uint32_t in_run = block - run_.first;
  if (in_run % kReadAhead == 0) {
    std::array<BlockNumber, kReadAhead> ahead;
    const std::uint32_t many = std::min(kReadAhead, run_.count - in_run);
    for (std::uint32_t i = 0; i < many; ++i) ahead[i] = where + i;
    if (many > 1) volume_.cache().prefetch({ahead.data(), many}, volume_.types().directory(), inode_.checksum_seed);
  }
  return volume_.cache().read(where, volume_.types().directory(), inode_.checksum_seed);
}

namespace {

// An append that may still be taken back: reserved, then claimed and mapped piece by piece.
class Append {
public:
  Append(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first)
      : handle_(handle), volume_(volume), inode_(inode), first_(first) {}

  Status reserve(BlockGoal goal, std::uint32_t count) {
    while (count_ < count) {
      const BlockRun run = TRY(volume_.blocks().reserve(goal, count - count_));
      assert(run.count >= 1 && run.count <= count - count_);
      for (std::uint32_t i = 0; i < run.count; ++i) blocks_[count_++] = run.start + i;
      goal.near = run.end();
    }
    return {};
  }

  Status map() {
    while (mapped_ < count_) {
      const std::uint32_t most = file_map::max_insert(volume_, inode_, first_ + mapped_);
      if (most == 0) return fail(Error::user(ENOSPC, "the directory's map is full"));
      BlockRun piece{blocks_[mapped_], 1};
      while (piece.count < most && mapped_ + piece.count < count_ && blocks_[mapped_ + piece.count] == piece.end())
        ++piece.count;
      TRY(volume_.blocks().claim(handle_, piece));
      claimed_ = piece.count;
      TRY(file_map::insert(handle_, volume_, inode_, first_ + mapped_, piece, false));
      mapped_ += claimed_;
      claimed_ = 0;
    }
    return {};
  }

  // Puts everything back as it was before reserve().
  Status undo() {
    if (claimed_ > 0) TRY(volume_.blocks().free(handle_, {blocks_[mapped_], claimed_}, true));
    for (std::uint32_t i = mapped_ + claimed_; i < count_; ++i) volume_.blocks().release({blocks_[i], 1});
    FileBlock end = first_ + mapped_;
    while (end > first_) {
      const FileBlock left = TRY(file_map::remove_piece(handle_, volume_, inode_, first_, end, true));
      assert(left < end);
      end = left;
    }
    return {};
  }

  BlockNumber block(std::uint32_t index) const { return blocks_[index]; }
  BlockNumber end() const { return blocks_[count_ - 1] + 1; }

private:
  jbd2::Handle &handle_;
  Volume &volume_;
  Inode &inode_;
  FileBlock first_;
  std::array<BlockNumber, kMaxAppended> blocks_;
  std::uint32_t count_ = 0;    // reserved, of which
  std::uint32_t mapped_ = 0;   // ... these are in the map, and
  std::uint32_t claimed_ = 0;  // ... these after them in the bitmap only
};

BlockGoal goal_for(Volume &volume, const Inode &inode, std::uint32_t blocks) {
  BlockGoal goal{.near = inode.allocation_goal, .group = volume.geometry().locate(inode.number).group};
  if (!goal.near && blocks > 0) {
    const Result<FileMapping> last = file_map::find(volume, inode, FileBlock(blocks - 1), 1);
    if (last && last->state == FileMapping::State::mapped) goal.near = last->start + 1;
  }
  return goal;
}

Result<AppendedBlocks> open_blocks(jbd2::Handle &handle, Volume &volume, const Inode &inode, const Append &append,
                                   FileBlock first, std::uint32_t count) {
  AppendedBlocks blocks{.first = first, .bytes = {}, .buffers = {}};
  for (std::uint32_t i = 0; i < count; ++i) {
    blocks.buffers[i] = TRY(volume.cache().create(append.block(i), volume.types().directory(), inode.checksum_seed));
    blocks.bytes[i] = TRY(blocks.buffers[i]->writable(handle));
  }
  return blocks;
}

}  // namespace

Result<AppendedBlocks> append_blocks(jbd2::Handle &handle, Volume &volume, Inode &inode, std::uint32_t count) {
  assert(count >= 1 && count <= kMaxAppended);
  const std::uint64_t old_blocks = inode.fields.size / volume.block_size();
  if (old_blocks + count > max_directory_blocks(volume, inode)) return fail(Error::user(ENOSPC, "the directory is full"));
  const FileBlock first(static_cast<std::uint32_t>(old_blocks));
  Append append(handle, volume, inode, first);
  Status done = append.reserve(goal_for(volume, inode, first.value()), count);
  if (done) done = append.map();
  if (done) {
    Result<AppendedBlocks> blocks = open_blocks(handle, volume, inode, append, first, count);
    if (blocks) {
      inode.fields.size += std::uint64_t{count} * volume.block_size();
      inode.allocation_goal = append.end();
      return blocks;
    }
    done = std::unexpected(blocks.error());
  }
  TRY(append.undo());
  return std::unexpected(done.error());
}

std::uint32_t append_credits(const Volume &volume, const Inode &inode, std::uint32_t count) {
  // Each block may lie in a group of its own and need a place of its own in the map, which may grow by a level
  // meanwhile; giving up takes it back.
  constexpr std::uint32_t kLevel = 2 + credits::kAllocateBlock;
  return count * (1 + credits::kAllocateBlock + file_map::insert_credits(volume, inode) + kLevel) +
         file_map::remove_credits(volume, inode) + credits::kStoreInode;
}

}  // namespace outboard::ext4

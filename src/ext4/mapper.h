// ext4's answer to the I/O engine: the MappingSource of one inode for one operation.
//
// Writes into holes are reserved in memory by begin(write), written by the engine, and recorded by ioend() in one
// transaction: bitmap, extent and size together, data first (design.md 3.2). begin(delay) promises space instead
// (delayed.h). Unwritten blocks that got their data inside the file are remembered, and recorded in batches.
// Files whose data is journaled are answered with prepared mappings instead, for delay and zero; a write past the
// journal is refused (journaled_data.h).
// The caller holds the inode exclusively, except for read and report (shared suffices), and for writes that lie wholly in
// mapped blocks inside the file (shared suffices too).
#pragma once

#include "ext4/file_map.h"
#include "ext4/journaled_data.h"
#include "iomap/mapping.h"

namespace outboard::ext4 {

class Mapper final : public iomap::MappingSource {
public:
  // `may_use_reserved`: the blocks kept for root count as free (root, or the superblock's reserved user).
  Mapper(Volume &volume, Inode &inode, bool may_use_reserved = false)
      : volume_(volume), inode_(inode), may_use_reserved_(may_use_reserved), journaled_(volume, inode, may_use_reserved) {}
  std::uint64_t inode_number() const override { return inode_.number.value(); }
  // EFBIG for writes behind the last block such a file can have; to everybody else that is a hole.
  // With no room left, begin(write) without a promise, and ioend(), may wait for a commit: no handle may be open.
  Result<iomap::Mapping> begin(ByteRange range, iomap::Operation operation) override;
  // Stores the inode when blocks or size changed. Nothing here shrinks a file.
  Status ioend(ByteRange written, const iomap::Mapping &mapping) override;
  // A promise that was not used after all stays until the file is clean (delayed::give_up).
  Status end(ByteRange range, std::uint64_t moved, iomap::Operation operation, const iomap::Mapping &mapping) override;
  Result<std::span<std::byte>> prepare(ByteRange block, const iomap::Mapping &mapping) override;
  Status fetch(std::uint64_t offset, std::span<std::byte> into, const iomap::Mapping &mapping) override;
  bool is_current(const iomap::Mapping &mapping) const override { return mapping.cookie == inode_.map_sequence; }

private:
  std::uint32_t most_blocks(ByteRange range, iomap::Operation operation, std::uint64_t left) const;
  void clip_to_written(FileMapping &found) const;
  Result<iomap::Mapping> delayed_or_hole(FileMapping found, iomap::Operation operation);
  Result<iomap::Mapping> allocate(const FileMapping &hole);
  void look_ahead(FileBlock first, BlockRun run);
  Result<iomap::Mapping> journaled(FileMapping found, iomap::Operation operation);

  Volume &volume_;
  Inode &inode_;
  const bool may_use_reserved_;
  JournaledData journaled_;
};

}  // namespace outboard::ext4

// ext4's answer to the I/O engine: the MappingSource of one inode for one operation.
//
// Writes into holes are reserved in memory by begin(), written by the engine, and recorded by end() in one transaction:
// bitmap, extent and size together, data first (design.md 3.2). The caller holds the inode exclusively, except for read
// and report (shared suffices), and for writes that lie wholly in mapped blocks inside the file (shared suffices too).
#pragma once

#include "ext4/file_map.h"
#include "iomap/mapping.h"

namespace outboard::ext4 {

class Mapper final : public iomap::MappingSource {
public:
  // `may_use_reserved`: the blocks kept for root count as free (root, or the superblock's reserved user).
  Mapper(Volume &volume, Inode &inode, bool may_use_reserved = false)
      : volume_(volume), inode_(inode), may_use_reserved_(may_use_reserved) {}
  std::uint64_t inode_number() const override { return inode_.number.value(); }
  // EFBIG for writes behind the last block such a file can have; to everybody else that is a hole.
  // With no room left, begin(write) and end(write) may wait for a commit: no handle may be open.
  Result<iomap::Mapping> begin(ByteRange range, iomap::Operation operation) override;
  // Stores the inode when blocks or size changed. Only `write` makes the file grow, and nothing here shrinks it.
  Status end(ByteRange range, std::uint64_t written, iomap::Operation operation,
             const iomap::Mapping &mapping) override;

private:
  Result<iomap::Mapping> reserve(const FileMapping &hole);

  Volume &volume_;
  Inode &inode_;
  const bool may_use_reserved_;
};

}  // namespace outboard::ext4

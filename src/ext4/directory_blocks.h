// The blocks of one directory: by number, verified; and new ones at its end. Private to directory*.cc.
#pragma once

#include "ext4/file_map.h"
#include "ext4/format/dirent.h"
#include "ext4/volume.h"

#include <array>

namespace outboard::ext4 {

// Reads a directory's blocks. A value for the length of one operation; the directory is held by the caller.
// A block that is missing, or more blocks than the volume has, is corrupt: so no walk over a directory is longer than the disk.
class DirectoryBlocks {
public:
  DirectoryBlocks(Volume &volume, const Inode &inode)
      : volume_(volume), inode_(inode), format_(format::DirFormat::of(volume.superblock())) {}

  Volume &volume() const { return volume_; }
  const Inode &inode() const { return inode_; }
  const format::DirFormat &format() const { return format_; }

  // How many, at least 1.
  Result<std::uint32_t> count() const;
  Result<cache::BufferRef> read(FileBlock block);
  // The same when the blocks are read in order: those that follow in the same extent are asked for ahead.
  Result<cache::BufferRef> read_in_order(FileBlock block);

  Error corrupt(const char *what, std::uint64_t block = Error::kNowhere,
                std::source_location at = std::source_location::current()) const {
    return Error::corrupt(what, at).in_block(block).of_inode(inode_.number.value());
  }
  // Adds the place to an error that a look at bytes alone gave.
  template <class T> Result<T> placed(Result<T> result, const cache::BufferRef &buffer) const {
    if (result) return result;
    return std::unexpected(std::move(result.error()).in_block(buffer->block().value()).of_inode(inode_.number.value()));
  }

private:
  Result<BlockNumber> locate(FileBlock block);
  Volume &volume_;
  const Inode &inode_;
  format::DirFormat format_;
  FileMapping run_;  // the extent that was looked at last
};

// Blocks that one insertion may need at most: a leaf and a node for each level of the largest index.
inline constexpr std::uint32_t kMaxAppended = 3;

struct AppendedBlocks {
  FileBlock first;
  std::array<std::span<std::byte>, kMaxAppended> bytes;  // zeros, writable for the handle
  std::array<cache::BufferRef, kMaxAppended> buffers;
};

// `count` new blocks at the directory's end: allocated, mapped, in the size; the caller stores the inode. All or none:
// after an error (ENOSPC; EFBIG past the format's limit) nothing has changed. Credits: append_credits().
Result<AppendedBlocks> append_blocks(jbd2::Handle &handle, Volume &volume, Inode &inode, std::uint32_t count);
std::uint32_t append_credits(const Volume &volume, const Inode &inode, std::uint32_t count);

}  // namespace outboard::ext4

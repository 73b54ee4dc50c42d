// Changes of a file's size and map that may need many transactions. Each is safe against a crash at any moment: work that
// spans transactions is protected by the orphan list. The inode is held exclusively by the caller.
#pragma once

#include "ext4/volume.h"

namespace outboard::ext4::truncate {

// New size. Growing leaves a hole and zeroes the stale rest of the old last block *before* the size grows; shrinking frees the
// blocks beyond and zeroes the rest of the new last block. EFBIG beyond the format's limit.
Status set_size(Volume &volume, Inode &inode, std::uint64_t size);
// fallocate(2) modes. Allocation makes unwritten extents (extent files only: EOPNOTSUPP for block-mapped ones).
Status preallocate(Volume &volume, Inode &inode, ByteRange range, bool keep_size);
Status punch_hole(Volume &volume, Inode &inode, ByteRange range);
Status zero_range(Volume &volume, Inode &inode, ByteRange range, bool keep_size);
Status collapse_range(Volume &volume, Inode &inode, ByteRange range);  // block-aligned, extent files
Status insert_range(Volume &volume, Inode &inode, ByteRange range);
// All blocks, the xattr block, and the inode itself: the end of an inode whose last link and last use are gone.
Status delete_inode(Volume &volume, Inode &inode);

}  // namespace outboard::ext4::truncate

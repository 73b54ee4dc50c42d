// What truncation and fallocate share.
#pragma once

#include "ext4/file_map.h"

namespace outboard::ext4::truncate {

// Unmaps and frees [first, end) in as many pieces as it takes; the handle is extended or restarted between them, the
// inode stored with each. Blocks that went through the journal (directories, symlinks, journaled data) are revoked. Holds
// file_map::remove_credits() + credits::kStoreInode at the start, and leaves the caller to finish().
Status free_pieces(jbd2::Handle &handle, Volume &volume, Inode &inode, FileBlock first, FileBlock end);
bool blocks_are_journaled(const Volume &volume, const Inode &inode);

// EROFS, EISDIR, EINVAL: whether this is an inode whose map these operations change at all.
Status check_changeable_map(const Volume &volume, const Inode &inode);
// Bytes.
std::uint64_t max_size(const Volume &volume, const Inode &inode);

}  // namespace outboard::ext4::truncate

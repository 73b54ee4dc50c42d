// Worst-case log blocks, one name per operation, itemised. A debug build of the journal asserts that a handle stays within.
#pragma once

#include "base/units.h"

#include <cstdint>

namespace outboard::ext4::credits {

inline constexpr std::uint32_t kStoreInode = 1;     // its inode table block
inline constexpr std::uint32_t kGroup = 2;          // a bitmap and its descriptor block
inline constexpr std::uint32_t kSuperblock = 1;
// inode bitmap + descriptor, table block, first-use initialisation of the group's block bitmap + descriptor
inline constexpr std::uint32_t kAllocateInode = kGroup + kStoreInode + kGroup;
inline constexpr std::uint32_t kFreeInode = kGroup + kStoreInode;
inline constexpr std::uint32_t kAllocateBlock = kGroup;

// A reserved run lies inside one group.
constexpr std::uint32_t claim(BlockRun) { return kGroup; }
// Freeing blocks of this many groups.
constexpr std::uint32_t free_blocks(std::uint32_t groups) { return groups * kGroup; }

}  // namespace outboard::ext4::credits

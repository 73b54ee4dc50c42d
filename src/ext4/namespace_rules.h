// What every operation on names has in common: which names and which changes are allowed, how link counts move, what a
// directory entry must say. Private to create.cc, link.cc, unlink.cc, rename.cc and symlink.cc.
#pragma once

#include "ext4/directory.h"
#include "ext4/volume.h"

#include <string_view>

namespace outboard::ext4::names {

// Names a file may have at most; a directory as well, unless the volume stops counting (dir_nlink).
inline constexpr std::uint32_t kMaxLinks = 65000;

inline constexpr std::uint32_t kTypeMask = 0170000, kRegular = 0100000, kSubdirectory = 0040000, kSymlink = 0120000,
                               kCharacterDevice = 0020000, kBlockDevice = 0060000, kFifo = 0010000, kSocket = 0140000;
inline constexpr std::uint32_t kSetGroupId = 02000;

// A name that can be in a directory at all. EINVAL: empty, with a slash or a zero byte. ENAMETOOLONG: over 255 bytes.
Status check_name(std::string_view name);
inline bool is_dots(std::string_view name) { return name == "." || name == ".."; }

// The directory exists still (ENOENT) and takes new names (EPERM when immutable).
Status check_may_add(const Inode &directory);
// ... and lets go of this one: EPERM when either is immutable or append-only.
Status check_may_remove(const Inode &directory, const Inode &victim);
// One subdirectory more: EMLINK when the count has nowhere to go.
Status check_subdirectory_limit(const Volume &volume, const Inode &directory);

// EEXIST when there is one.
Status expect_absent(Volume &volume, const Inode &directory, std::string_view name);
// The name is there and means this inode: ENOENT, or ESTALE when it means another.
Status expect_entry(Volume &volume, const Inode &directory, std::string_view name, const Inode &inode);

// Link counts of directories: 1 says "too many to count" and stays.
void count_subdirectory(const Volume &volume, Inode &directory);
void uncount_subdirectory(Inode &directory);

// The entry's file-type byte; 0 when the volume keeps none.
std::uint8_t entry_type(const Volume &volume, std::uint32_t mode);

// A change of a directory's contents: mtime and ctime.
void touch_directory(const Volume &volume, Inode &directory);

// Credits to put something half made on the orphan list, as the undoing of a failed creation does.
std::uint32_t discard_credits();
// An inode that got no name after all: links 0, on the orphan list, handle finished, then deleted as any nameless inode is.
Status discard(jbd2::Handle &handle, Volume &volume, Inode &inode);

// symlink.cc: the target into the inode (under 60 bytes) or a block of its own. ENOENT when empty, ENAMETOOLONG.
Status check_symlink_target(const Volume &volume, std::string_view target);
Status write_symlink(jbd2::Handle &handle, Volume &volume, Inode &inode, std::string_view target);
std::uint32_t symlink_credits(const Volume &volume);

}  // namespace outboard::ext4::names

// Entries found and added without an index: block after block. Also what indexed and linear directories share: how an
// entry is named and where it was found. Private to directory*.cc.
#pragma once

#include "ext4/directory_blocks.h"
#include "ext4/format/dirent.h"

#include <string_view>
#include <vector>

namespace outboard::ext4 {

struct NewName {
  std::string_view name;
  InodeNumber inode;
  std::uint8_t file_type = 0;
};

// An entry and the block that holds it. The entry's name lives as long as the buffer is held and not changed.
struct EntryPlace {
  cache::BufferRef buffer;
  FileBlock block;
  format::DirEntryView entry;
};

inline bool is_dot_or_dotdot(std::string_view name) { return name == "." || name == ".."; }

namespace linear {

// ENOENT when no block has it.
Result<EntryPlace> find(DirectoryBlocks &blocks, std::string_view name);
// Into the first room from inode.directory_hint on, else into a new block, else (no space for one) into any room before.
Status insert(jbd2::Handle &handle, Volume &volume, Inode &inode, const NewName &name);
// Into this block where it has room. False when not.
Result<bool> insert_into(jbd2::Handle &handle, const DirectoryBlocks &blocks, const cache::BufferRef &buffer,
                         const NewName &name);

}  // namespace linear
}  // namespace outboard::ext4

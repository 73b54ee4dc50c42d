// Blocks for the map itself (tree nodes, indirect blocks): all that a change needs is found and claimed before it
// begins.
#pragma once

#include "ext4/block_alloc.h"

#include <vector>

namespace outboard::ext4 {

class NewBlocks {
public:
  // `count` blocks, allocated in the handle's transaction. ENOSPC: nothing has changed. The owner takes every one of
  // them.
  static Result<NewBlocks> claim(jbd2::Handle &handle, Volume &volume, BlockNumber near, const Inode &inode,
                                 unsigned count);
  BlockNumber take() {
    const BlockNumber block = blocks_.back();
    blocks_.pop_back();
    return block;
  }

private:
  std::vector<BlockNumber> blocks_;
};

}  // namespace outboard::ext4

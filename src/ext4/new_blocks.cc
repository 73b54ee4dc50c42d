#include "ext4/new_blocks.h"

namespace outboard::ext4 {

Result<NewBlocks> NewBlocks::claim(jbd2::Handle &handle, Volume &volume, BlockNumber near, const Inode &inode,
                                   unsigned count) {
  NewBlocks result;
  BlockGoal goal{near, volume.geometry().locate(inode.number).group};
  while (result.blocks_.size() < count) {
    const Result<BlockNumber> block = volume.blocks().allocate(handle, goal, inode.delayed.map_blocks > 0);
    if (!block) {
      // Taken back in the same transaction; an error on top of the error adds nothing.
      for (const BlockNumber taken : result.blocks_) (void)volume.blocks().free(handle, {taken, 1}, true);
      return fail(block.error());
    }
    result.blocks_.push_back(*block);
    goal.near = *block + 1;
  }
  return result;
}

}  // namespace outboard::ext4

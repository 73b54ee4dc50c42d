// Several inodes held exclusively, taken in order of inode number whatever order they are named in; each once.
#pragma once

#include "vfs/inode_table.h"

#include <algorithm>
#include <array>

namespace outboard::vfs {

class LockSet {
public:
  // Null pointers are passed over.
  LockSet(std::initializer_list<Inode *> inodes) NO_THREAD_SAFETY_ANALYSIS {
    for (Inode *inode : inodes)
      if (inode != nullptr && std::find(held_.begin(), held_.begin() + count_, inode) == held_.begin() + count_)
        held_[count_++] = inode;
    std::sort(held_.begin(), held_.begin() + count_, [](Inode *a, Inode *b) { return a->number < b->number; });
    for (std::size_t i = 0; i < count_; ++i) held_[i]->lock.lock();
  }
  ~LockSet() NO_THREAD_SAFETY_ANALYSIS {
    for (std::size_t i = count_; i-- > 0;) held_[i]->lock.unlock();
  }
  LockSet(const LockSet &) = delete;
  LockSet &operator=(const LockSet &) = delete;

private:
  std::array<Inode *, 5> held_{};
  std::size_t count_ = 0;
};

}  // namespace outboard::vfs

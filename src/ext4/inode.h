// An inode in memory: its decoded fields and what the mount remembers about it. A value with no lock of its own:
// whoever owns it (vfs) holds its lock shared to look and exclusively to change, for every function that takes an Inode.
#pragma once

#include "base/interval_set.h"
#include "base/units.h"
#include "ext4/format/inode.h"
#include "jbd2/journal.h"

#include <cstdint>

namespace outboard::ext4 {

// What is true of a file's data in memory only (delayed.h). It must be settled or given up before the inode goes.
struct DelayedState {
  IntervalSet promised;          // file blocks in holes that have been promised space: their bytes are in the page cache
  std::uint64_t map_blocks = 0;  // promised besides, for the tree nodes or indirect blocks they may need
  IntervalSet written;           // file blocks that are unwritten on disk and have got their data: they read as mapped
  BlockRun ahead;                // reserved behind the last block of a growing file: it will go on there
};

struct Inode {
  InodeNumber number;
  std::uint32_t checksum_seed = 0;  // of the blocks that belong to it
  format::InodeFields fields;

  // The newest transactions that hold a change of this inode: what fsync and fdatasync wait for.
  jbd2::Tid sync_tid = 0;
  jbd2::Tid datasync_tid = 0;
  // Bumped by every change of the map from file blocks to device blocks (the validity cookie of mappings).
  std::uint64_t map_sequence = 1;
  // Where the next data blocks had best lie: one past the last block written. 0: the inode's group.
  BlockNumber allocation_goal;
  // Directories: where the last free slot was found, so that filling a linear directory is not quadratic.
  FileBlock directory_hint;
  bool on_orphan_list = false;
  DelayedState delayed;

  bool is_directory() const { return (fields.mode & 0170000) == 0040000; }
  bool is_regular() const { return (fields.mode & 0170000) == 0100000; }
  bool is_symlink() const { return (fields.mode & 0170000) == 0120000; }
};

}  // namespace outboard::ext4

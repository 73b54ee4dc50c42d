// What the life of inodes and of the mount says while it is traced. Units: base/trace.h.
#pragma once

#include "base/trace.h"

#define OUTBOARD_VFS_EVENTS(EVENT)                                                                                     \
  EVENT(vfs, inode_load, "inode error duration_ns", "an inode was read into the table")                                \
  EVENT(vfs, inode_evict, "inode", "an idle inode leaves the table")                                                   \
  EVENT(vfs, inode_reap, "inode error duration_ns", "the reaper has deleted an unlinked inode")                        \
  EVENT(vfs, sync_begin, "inode data_only tid", "fsync or fdatasync waits for this transaction")                       \
  EVENT(vfs, sync_end, "inode data_only tid error duration_ns", "and is answered")                                     \
  EVENT(vfs, sync_all, "error duration_ns", "everything was made durable")                                             \
  EVENT(vfs, shutdown, "mode:shutdown_mode", "the mount is shut down")

OUTBOARD_TRACE_VOCABULARY(vfs, OUTBOARD_VFS_EVENTS)

namespace outboard::vfs::trace {
inline constexpr ::outboard::trace::Name kShutdownModes[] = {{0, "flush"}, {1, "log"}, {2, "now"}};
inline constexpr ::outboard::trace::NameSet kNames[] = {{"shutdown_mode", kShutdownModes}};
}  // namespace outboard::vfs::trace

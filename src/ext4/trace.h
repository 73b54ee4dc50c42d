// What the file system says while it is traced. Units: base/trace.h; `first` is a block of the file, `start` one of the device.
#pragma once

#include "base/trace.h"

#define OUTBOARD_EXT4_EVENTS(EVENT)                                                                                    \
  EVENT(ext4, blocks_reserve, "start count want error", "blocks were set aside in memory for data to come")            \
  EVENT(ext4, blocks_release, "start count", "and given back unused")                                                  \
  EVENT(ext4, blocks_claim, "start count tid", "reserved blocks become allocated in this transaction")           \
  EVENT(ext4, blocks_free, "start count tid metadata", "blocks are freed; usable when the transaction is durable") \
  EVENT(ext4, map_insert, "inode first start count unwritten", "blocks of a file get their place: extent or block map") \
  EVENT(ext4, map_remove, "inode first end", "blocks of a file are taken away, from `first` to before `end`, a piece at a time") \
  EVENT(ext4, map_written, "inode first count", "unwritten blocks become written")                                     \
  EVENT(ext4, create, "parent inode mode:x tid", "an inode and its name were made; parent 0: without a name")                                     \
  EVENT(ext4, link, "parent inode links tid", "an inode got one more name")                                            \
  EVENT(ext4, unlink, "parent inode links tid", "a name of a file was removed; links: those left")                     \
  EVENT(ext4, rmdir, "parent inode tid", "a directory was removed")                                                    \
  EVENT(ext4, rename, "inode old_parent new_parent target tid", "a name moved; target: the inode it replaced or was exchanged for, or 0")

OUTBOARD_TRACE_VOCABULARY(ext4, OUTBOARD_EXT4_EVENTS)

// Recovery: scan, revoke, replay. The only writer of metadata blocks that shows no transaction.
// Source of the format: Documentation/filesystems/ext4/journal.rst.
#pragma once

#include "jbd2/log.h"

namespace outboard::jbd2 {

struct RecoveryReport {
  bool was_needed = false;
  std::uint32_t transactions = 0;  // complete ones found
  std::uint64_t blocks_written = 0;
  std::uint64_t blocks_revoked = 0;
  std::uint32_t next_sequence = 0;
  std::uint32_t errno_recorded = 0;  // s_errno: the file system was aborted with this error
};

// True when the log holds transactions that are not home (s_start != 0). Verifies the journal superblock.
Result<bool> needs_recovery(const LogArea &log);

// Writes every block of every complete transaction home to `filesystem`, marks the log empty and flushes.
// Blocks outside [first_block, block_count) or inside the log itself: corrupt, and nothing at all is written.
// A torn or checksum-failing tail ends the log there, as the kernel does. A log with fast-commit blocks to replay:
// Error::unsupported. Journal features we do not know: Error::unsupported.
// `mark_empty` false leaves the log device untouched (read-only mounts replay into an overlay of the file system).
Result<RecoveryReport> recover(const LogArea &log, device::BlockDevice &filesystem, std::uint64_t block_count,
                               bool mark_empty = true);

}  // namespace outboard::jbd2

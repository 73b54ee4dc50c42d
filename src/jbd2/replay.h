// Recovery: scan, revoke, replay. The only writer of metadata blocks that shows no transaction.
// Source of the format: Documentation/filesystems/ext4/journal.rst.
#pragma once

#include "jbd2/log.h"

#include <vector>

namespace outboard::jbd2 {

struct RecoveryReport {
  bool was_needed = false;
  std::uint32_t transactions = 0;  // complete ones found
  std::uint64_t blocks_written = 0;
  std::uint64_t blocks_revoked = 0;
  std::uint64_t fast_commit_blocks = 0;  // changed by replaying fast commits
  std::uint32_t next_sequence = 0;
  std::uint32_t errno_recorded = 0;  // s_errno: the file system was aborted with this error
};

// True when the log holds transactions that are not home (s_start != 0). Verifies the journal superblock.
Result<bool> needs_recovery(const LogArea &log);

struct ChangedBlock {
  BlockNumber block;
  std::vector<std::byte> bytes;
};

// What stands in the fast-commit area is the file system's; the journal only knows where it is and which transaction it
// continues. Implemented by ext4/fast_commit_replay.h.
class FastCommitReplay {
public:
  FastCommitReplay() = default;
  FastCommitReplay(const FastCommitReplay &) = delete;
  FastCommitReplay &operator=(const FastCommitReplay &) = delete;
  virtual ~FastCommitReplay() = default;
  // The blocks of the area in order, as long as the answer is true. `tid`: the transaction they continue.
  virtual Result<bool> scan(std::uint32_t tid, std::span<const std::byte> block) = 0;
  // All complete transactions are home on the file system's device. The blocks that the scanned fast commits change, in
  // ascending order; nothing is written by it. Empty when there was nothing that counts.
  virtual Result<std::vector<ChangedBlock>> replay() = 0;
};

// Writes every block of every complete transaction home to `filesystem`, marks the log empty and flushes.
// Blocks outside [first_block, block_count) or inside the log itself: corrupt, and nothing at all is written.
// A torn or checksum-failing tail ends the log there, as the kernel does. Journal features we do not know:
// Error::unsupported; so are fast commits when nobody is given to replay them.
// `mark_empty` false leaves the log device untouched (read-only mounts replay into an overlay of the file system).
//
// Fast commits are replayed all or nothing: what they change becomes an ordinary transaction of the log, under the number
// that they carry, and goes home like any other. Before its commit block is durable they still count, after it no longer.
// (Changes larger than the whole log are written home at once; a crash in the middle of that may leave a part.)
Result<RecoveryReport> recover(const LogArea &log, device::BlockDevice &filesystem, std::uint64_t block_count,
                               bool mark_empty = true, FastCommitReplay *fast_commits = nullptr);

}  // namespace outboard::jbd2

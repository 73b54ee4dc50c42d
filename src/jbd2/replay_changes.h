// What recovery itself has changed, i.e. by replaying fast commits, and how that becomes durable. Private to replay.cc.
#pragma once

#include "jbd2/format.h"
#include "jbd2/replay.h"

namespace outboard::jbd2 {

// Whether so many blocks can be one transaction of an otherwise empty log.
bool fits_log(const LogFormat &format, std::size_t blocks);

// Everything in the log is home and durable. Makes `changes` the log's only transaction, durable when this returns; until
// its commit block is, the log ends before `sequence`. `superblock`: journal block 0, changed and written.
Status write_as_transaction(const LogArea &log, const LogFormat &format, std::span<std::byte> superblock,
                            std::uint32_t sequence, std::span<const ChangedBlock> changes);

// Straight home, and flushed.
Status write_home(device::BlockDevice &filesystem, std::uint32_t block_size, std::span<const ChangedBlock> changes);

}  // namespace outboard::jbd2

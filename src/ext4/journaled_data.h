// Files whose data goes through the journal, as metadata does: chattr +j, and every file of a mount with data=journal.
//
// A write is one jbd2 handle after another, each over a bounded stretch: blocks, bytes and size in one transaction, so
// that what a crash leaves of a stretch is all of it or nothing. The bytes live in the buffer cache and nowhere else:
// no page of such a file is ever dirty, nothing is delayed, and the device is written by commit and checkpoint alone.
// So its blocks are revoked when they are freed, and nobody may write them past the journal before leave().
#pragma once

#include "ext4/file_growth.h"
#include "iomap/mapping.h"

#include <optional>

namespace outboard::ext4 {

// Regular files with the flag, or all of them, on a volume with a journal; without one the flag means nothing.
bool journals_data(const Volume &volume, const format::InodeFields &fields);
inline bool journals_data(const Volume &volume, const Inode &inode) { return journals_data(volume, inode.fields); }

// The rounds of a Mapper over such a file. The inode is held exclusively for all but fetch() (shared suffices).
class JournaledData {
public:
  JournaledData(Volume &volume, Inode &inode, bool may_use_reserved)
      : volume_(volume), inode_(inode), may_use_reserved_(may_use_reserved) {}

  // Begins a round of changes over the first blocks of `found`, as many as one handle takes: `found` becomes them,
  // mapped. A hole gets its blocks here. ENOSPC: nothing has changed. May wait for a commit: no handle may be open.
  Status open(FileMapping &found);
  // The bytes of the round's next block (they come in order), at this place of the device: zeros where nothing was
  // written before, and behind the end of the file. Good until close().
  Result<std::span<std::byte>> prepare(ByteRange block, BlockNumber number);
  // Ends the round, if there is one. The file reaches `size` at least.
  Status close(std::uint64_t size);

  // Bytes of mapped blocks, from `into` bytes behind the start of block `first` on.
  Status fetch(BlockNumber first, std::uint64_t into, std::span<std::byte> bytes);

private:
  struct Round {
    jbd2::Handle handle;
    growth::Change change;
    std::uint32_t prepared = 0;  // blocks
  };
  std::uint32_t most_blocks() const;
  Status start(const growth::Change &change, std::uint32_t blocks);

  Volume &volume_;
  Inode &inode_;
  const bool may_use_reserved_;
  std::optional<Round> round_;
};

namespace journaled_data {

// Zeros for part of a mapped block, in this handle: one credit. The buffer is read before the handle starts.
Result<cache::BufferRef> read_block(Volume &volume, BlockNumber block);
Status zero(jbd2::Handle &handle, cache::Buffer &buffer, std::uint64_t into, std::uint64_t length);
// The same for the mapped blocks from `first` on, block by block in handles of its own; the inode is stored with each.
Status zero_mapped(Volume &volume, Inode &inode, BlockNumber first, std::uint64_t into, std::uint64_t length);

// The file's data is about to be written past the journal: every copy in the log is at home and cannot be replayed any
// more, no buffer holds a block. No handle may be open; the inode is held exclusively until it has lost its flag.
Status leave(Volume &volume, const Inode &inode);

}  // namespace journaled_data
}  // namespace outboard::ext4

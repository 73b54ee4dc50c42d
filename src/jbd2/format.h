// What stands in a log: jbd2's structures, big-endian, and how they are read, checked and written. Bytes only.
// Source of the format: Documentation/filesystems/ext4/journal.rst.
//
// A transaction in the log: revoke blocks, groups of a descriptor block and the data blocks its tags name in order,
// and a commit block. Every block but the data blocks starts with a Header carrying the transaction's sequence number.
// A data block that happens to start with the magic has it zeroed in the log and an `escaped` flag in its tag.
#pragma once

#include "base/endian.h"
#include "base/result.h"
#include "base/units.h"

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace outboard::jbd2 {

inline constexpr std::uint32_t kMagic = 0xC03B3998;

enum class LogBlockType : std::uint32_t { descriptor = 1, commit = 2, superblock_v1 = 3, superblock_v2 = 4, revoke = 5 };

struct Header {
  be32 magic;
  be32 type;
  be32 sequence;
};
LAYOUT_SIZE(Header, 12);
LAYOUT_FIELD(Header, type, 0x4);
LAYOUT_FIELD(Header, sequence, 0x8);

struct DiskSuperblock {
  Header header;
  be32 block_size;
  be32 max_length;  // blocks of the log, the superblock's included
  be32 first;       // first journal block that may hold a transaction
  be32 sequence;    // of the transaction at `start`; with an empty log: the next that may be used
  be32 start;       // journal block of the oldest transaction, 0 when the log is empty
  be32 error;       // a negated errno
  // From here on version 2 only.
  be32 compat;
  be32 incompat;
  be32 ro_compat;
  std::array<std::byte, 16> uuid;
  be32 users_count;
  be32 dynamic_super;
  be32 max_transaction;
  be32 max_transaction_data;
  std::uint8_t checksum_type;
  std::array<std::byte, 3> padding2;
  be32 fast_commit_blocks;
  be32 head;  // written by kernels from 6.3 on when the log is clean; never needed
  std::array<std::byte, 160> padding;
  be32 checksum;
  std::array<std::byte, 768> users;
};
LAYOUT_SIZE(DiskSuperblock, 1024);
LAYOUT_FIELD(DiskSuperblock, block_size, 0x0C);
LAYOUT_FIELD(DiskSuperblock, max_length, 0x10);
LAYOUT_FIELD(DiskSuperblock, first, 0x14);
LAYOUT_FIELD(DiskSuperblock, sequence, 0x18);
LAYOUT_FIELD(DiskSuperblock, start, 0x1C);
LAYOUT_FIELD(DiskSuperblock, error, 0x20);
LAYOUT_FIELD(DiskSuperblock, compat, 0x24);
LAYOUT_FIELD(DiskSuperblock, incompat, 0x28);
LAYOUT_FIELD(DiskSuperblock, ro_compat, 0x2C);
LAYOUT_FIELD(DiskSuperblock, uuid, 0x30);
LAYOUT_FIELD(DiskSuperblock, users_count, 0x40);
LAYOUT_FIELD(DiskSuperblock, dynamic_super, 0x44);
LAYOUT_FIELD(DiskSuperblock, max_transaction, 0x48);
LAYOUT_FIELD(DiskSuperblock, max_transaction_data, 0x4C);
LAYOUT_FIELD(DiskSuperblock, checksum_type, 0x50);
LAYOUT_FIELD(DiskSuperblock, fast_commit_blocks, 0x54);
LAYOUT_FIELD(DiskSuperblock, head, 0x58);
LAYOUT_FIELD(DiskSuperblock, padding, 0x5C);
LAYOUT_FIELD(DiskSuperblock, checksum, 0xFC);
LAYOUT_FIELD(DiskSuperblock, users, 0x100);

// Tag without checksum v3. `block_high` is there only with 64-bit tags; with checksum v2 two unused bytes follow.
struct ClassicTag {
  be32 block;
  be16 checksum;  // v2: lower half of the checksum
  be16 flags;
  be32 block_high;
};
LAYOUT_SIZE(ClassicTag, 12);
LAYOUT_FIELD(ClassicTag, checksum, 0x4);
LAYOUT_FIELD(ClassicTag, flags, 0x6);
LAYOUT_FIELD(ClassicTag, block_high, 0x8);

// Tag with checksum v3: always this long.
struct Tag3 {
  be32 block;
  be32 flags;
  be32 block_high;
  be32 checksum;
};
LAYOUT_SIZE(Tag3, 16);
LAYOUT_FIELD(Tag3, flags, 0x4);
LAYOUT_FIELD(Tag3, block_high, 0x8);
LAYOUT_FIELD(Tag3, checksum, 0xC);

struct RevokeHeader {
  Header header;
  be32 used;  // bytes of the block that are in use, this header included
};
LAYOUT_SIZE(RevokeHeader, 16);
LAYOUT_FIELD(RevokeHeader, used, 0xC);

struct CommitBlock {
  Header header;
  std::uint8_t checksum_type;
  std::uint8_t checksum_size;
  std::array<std::byte, 2> padding;
  std::array<be32, 8> checksum;
  be64 seconds;
  be32 nanoseconds;
};
LAYOUT_SIZE(CommitBlock, 60);
LAYOUT_FIELD(CommitBlock, checksum_type, 0xC);
LAYOUT_FIELD(CommitBlock, checksum, 0x10);
LAYOUT_FIELD(CommitBlock, seconds, 0x30);
LAYOUT_FIELD(CommitBlock, nanoseconds, 0x38);

// Last bytes of descriptor and revoke blocks with checksums v2 and v3.
struct BlockTail {
  be32 checksum;
};
LAYOUT_SIZE(BlockTail, 4);

enum class Compat : std::uint32_t { checksum_v1 = 1 };
enum class Incompat : std::uint32_t { revoke = 1, wide = 2, async_commit = 4, checksum_v2 = 8, checksum_v3 = 0x10, fast_commit = 0x20 };

// The superblock decoded: where the log is and how its blocks look. Decoded once, features are flags from here on.
struct LogFormat {
  std::uint32_t block_size = 0;
  std::uint32_t first = 0;     // [first, end) is the log proper, a ring
  std::uint32_t end = 0;
  std::uint32_t max_length = 0;  // [end, max_length) is the fast-commit area, if there is one
  bool version2 = false;
  bool checksum_v1 = false, checksum_v2 = false, checksum_v3 = false;
  bool wide = false, revoke = false, async_commit = false, fast_commit = false;
  std::uint32_t seed = 0;  // CRC32C of the journal's UUID
  std::array<std::byte, 16> uuid{};

  bool block_checksums() const { return checksum_v2 || checksum_v3; }
  std::uint32_t length() const { return end - first; }
  std::uint32_t advance(std::uint32_t position, std::uint32_t count) const;  // around the ring; count <= length()
  std::uint32_t distance(std::uint32_t from, std::uint32_t to) const { return to >= from ? to - from : to + length() - from; }
  std::uint32_t tag_bytes() const;
  std::uint32_t tail_bytes() const { return block_checksums() ? 4 : 0; }
  std::uint32_t revoke_bytes() const { return wide ? 8 : 4; }
  std::uint32_t tags_per_descriptor() const;  // with the UUID after the first
  std::uint32_t revokes_per_block() const { return (block_size - 16 - tail_bytes()) / revoke_bytes(); }
};

// Checks every field that recovery and the running log use against the area's size. unsupported: a feature or a sharing
// of the log that we do not know; corrupt or bad_checksum otherwise. `bytes` is the whole of journal block 0.
Result<LogFormat> parse_superblock(std::span<const std::byte> bytes, std::uint32_t block_size, std::uint32_t area_blocks);
// Blocks of the fast-commit area, if the log has one; and blocks that the log proper keeps at least.
std::uint32_t fast_commit_blocks(const DiskSuperblock &disk);
inline constexpr std::uint32_t kSmallestLogWithFastCommits = 1024;
// After any change of the superblock: its own checksum, if the features ask for one.
void seal_superblock(std::span<std::byte> bytes);

// --- blocks of the log ---------------------------------------------------------------------------------------------

void put_header(std::span<std::byte> block, LogBlockType type, std::uint32_t sequence);
inline bool has_magic(std::span<const std::byte> block) { return view_as<be32>(block).get() == kMagic; }

// Descriptor and revoke blocks. Always true without checksums v2/v3.
bool tail_is_valid(const LogFormat &format, std::span<const std::byte> block);
void seal_tail(const LogFormat &format, std::span<std::byte> block);
// Commit blocks with checksums v2/v3. Checksum v1 covers the other blocks and is the caller's to compare.
bool commit_is_valid(const LogFormat &format, std::span<const std::byte> block);
void seal_commit(const LogFormat &format, std::span<std::byte> block);
// Of a data block as it stands in the log (escaped). The lower 16 bits count with v2.
std::uint32_t data_checksum(const LogFormat &format, std::uint32_t sequence, std::span<const std::byte> block);

struct Tag {
  BlockNumber block;
  std::uint32_t checksum = 0;  // v3: all of it, v2: the lower half, else 0
  bool escaped = false;
};
bool tag_matches(const LogFormat &format, const Tag &tag, std::uint32_t sequence, std::span<const std::byte> data);

// The tags of a descriptor block in order. Ends at the tag marked last or at the end of the block.
class TagReader {
public:
  TagReader(const LogFormat &format, std::span<const std::byte> block) : format_(format), block_(block) {}
  std::optional<Tag> next();

private:
  const LogFormat &format_;
  std::span<const std::byte> block_;
  std::size_t position_ = sizeof(Header);
  bool ended_ = false;
};

// Fills a descriptor block. The block must be zeroed; at most tags_per_descriptor() tags, at least one, then finish().
class TagWriter {
public:
  TagWriter(const LogFormat &format, std::span<std::byte> block, std::uint32_t sequence);
  // `data` as it goes to the log: already escaped.
  void add(BlockNumber home, bool escaped, std::span<const std::byte> data);
  void finish();

private:
  const LogFormat &format_;
  std::span<std::byte> block_;
  std::uint32_t sequence_;
  std::size_t position_ = sizeof(Header);
  std::size_t last_ = 0;  // where the newest tag stands
};

// Calls `visit(BlockNumber)` for every record. Corrupt when the used length does not fit the block.
template <class Visit> Status for_each_revoke(const LogFormat &format, std::span<const std::byte> block, Visit visit) {
  const std::uint32_t used = view_as<RevokeHeader>(block).used.get();
  if (used > block.size() - format.tail_bytes()) return fail(Error::corrupt("revoke block: used length"));
  const std::uint32_t step = format.revoke_bytes();
  for (std::size_t at = sizeof(RevokeHeader); at + step <= used; at += step) {
    visit(BlockNumber(format.wide ? view_as<be64>(block, at).get() : view_as<be32>(block, at).get()));
  }
  return {};
}
// `block` must be zeroed; at most revokes_per_block() records.
void write_revoke_block(const LogFormat &format, std::span<std::byte> block, std::uint32_t sequence,
                        std::span<const BlockNumber> revoked);

}  // namespace outboard::jbd2

// The fast-commit area: records of what single operations changed since the last full commit, little-endian, behind the
// log proper. Documentation/filesystems/ext4/journal.rst, "Fast commits". Bytes only.
//
// A record is a tag, a length and a value, and lies whole in one block; PAD fills the rest of a block. One fast commit is
// what stands before a TAIL, whose CRC32C (from 0, no final inversion) covers every byte since the TAIL before it, up to its
// own CRC field. A TAIL's value reaches to the end of its block. The area's first record is a HEAD. Head and tails carry
// the number of the transaction that was running, i.e. the one that follows the last complete one of the log: with any
// other number the area is remains of the past. Only whole fast commits count: the area ends before the first that is not.
#pragma once

#include "ext4/format/extent.h"
#include "ext4/format/superblock.h"

#include <span>
#include <string>
#include <vector>

namespace outboard::ext4::format {

enum class FastCommitTag : std::uint16_t {
  add_range = 1,
  del_range = 2,
  create = 3,
  link = 4,
  unlink = 5,
  inode = 6,
  pad = 7,
  tail = 8,
  head = 9,
};

struct RawFastCommitTag {
  le16 tag;
  le16 length;  // of the value
};
LAYOUT_SIZE(RawFastCommitTag, 4);
LAYOUT_FIELD(RawFastCommitTag, length, 0x2);

struct RawFastCommitHead {
  le32 features;
  le32 tid;
};
LAYOUT_SIZE(RawFastCommitHead, 8);
LAYOUT_FIELD(RawFastCommitHead, tid, 0x4);

struct RawFastCommitAddRange {
  le32 inode;
  RawExtent extent;
};
LAYOUT_SIZE(RawFastCommitAddRange, 16);
LAYOUT_FIELD(RawFastCommitAddRange, extent, 0x4);

struct RawFastCommitDelRange {
  le32 inode;
  le32 first;
  le32 count;
};
LAYOUT_SIZE(RawFastCommitDelRange, 12);
LAYOUT_FIELD(RawFastCommitDelRange, first, 0x4);
LAYOUT_FIELD(RawFastCommitDelRange, count, 0x8);

struct RawFastCommitEntry {  // the name follows
  le32 parent;
  le32 inode;
};
LAYOUT_SIZE(RawFastCommitEntry, 8);
LAYOUT_FIELD(RawFastCommitEntry, inode, 0x4);

struct RawFastCommitInode {  // the record follows: 128 bytes and i_extra_isize more
  le32 inode;
};
LAYOUT_SIZE(RawFastCommitInode, 4);

struct RawFastCommitTail {
  le32 tid;
  le32 crc;
};
LAYOUT_SIZE(RawFastCommitTail, 8);
LAYOUT_FIELD(RawFastCommitTail, crc, 0x4);

// A record decoded. Numbers are as read: whoever uses them checks that they exist.
struct FastCommitRecord {
  FastCommitTag tag = FastCommitTag::pad;
  InodeNumber inode;
  InodeNumber parent;          // create, link, unlink
  std::string name;            // create, link, unlink: 1..255 bytes
  Extent range;                // add_range; del_range: logical and len
  std::vector<std::byte> raw;  // inode: at least 128 bytes
};

// Finds what counts in an area, block by block.
class FastCommitScanner {
public:
  FastCommitScanner(const Superblock &superblock, std::uint32_t tid)
      : inode_size_(superblock.inode_size), tid_(tid) {}

  // The next block of the area. True: go on. False: the end of what counts. Error::unsupported: a head with features that
  // we do not know. Error::corrupt: a valid fast commit that is absurdly large.
  Result<bool> add(std::span<const std::byte> block);

  std::uint32_t commits() const { return commits_; }
  // The records of all whole fast commits, in order, each fast commit by itself.
  std::vector<std::vector<FastCommitRecord>> take() { return std::move(whole_); }

private:
  static constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;  // 256 times what mke2fs gives an area
  enum class Step : std::uint8_t { next, end };
  Result<Step> record(FastCommitTag tag, std::span<const std::byte> all, std::span<const std::byte> value);
  Step tail(std::span<const std::byte> all, std::span<const std::byte> value);
  bool decode(FastCommitTag tag, std::span<const std::byte> value);

  const std::size_t inode_size_;
  const std::uint32_t tid_;
  bool begun_ = false;
  std::uint32_t crc_ = 0;
  std::uint32_t commits_ = 0;
  std::uint64_t bytes_ = 0;
  std::vector<FastCommitRecord> pending_;  // of the fast commit that has not met its tail yet
  std::vector<std::vector<FastCommitRecord>> whole_;
};

// Writes one fast commit as whole blocks. Each add returns false when the record can never fit a block.
class FastCommitEncoder {
public:
  FastCommitEncoder(std::uint32_t block_size, std::uint32_t tid) : block_size_(block_size), tid_(tid) {}

  // For the first fast commit of a transaction: a block with a head and an empty tail. What follows may then be torn and
  // is merely ignored; a torn first commit is an error to the kernel's recovery. Both records lie in one sector.
  void begin_area();
  bool add_range(InodeNumber inode, const Extent &extent);
  bool del_range(InodeNumber inode, FileBlock first, std::uint32_t count);
  bool entry(FastCommitTag tag, InodeNumber parent, InodeNumber inode, std::string_view name);
  bool inode(InodeNumber number, std::span<const std::byte> raw);
  std::size_t block_count() const { return bytes_.size() / block_size_; }  // so far, without a tail
  std::vector<std::byte> finish();                                         // adds the tail

private:
  // Room for a value in one block, the rest of the current one padded if it does not fit. Empty: it never fits.
  std::span<std::byte> add(FastCommitTag tag, std::size_t length);
  void add_tail();

  const std::uint32_t block_size_;
  const std::uint32_t tid_;
  std::vector<std::byte> bytes_;  // whole blocks
  std::size_t used_ = 0;          // bytes of the last block
  std::size_t covered_ = 0;       // where the next tail's CRC begins
};

}  // namespace outboard::ext4::format

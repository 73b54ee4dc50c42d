// Extended attributes, in the inode's record or in a block of their own. Documentation/filesystems/ext4/attributes.rst.
// Both are a table of entries that grows up from a header and values that grow down from the end. Value offsets count
// from the first entry (inode) or from the block's start (block). Entries in a block are sorted and carry hashes, so
// that equal blocks can be found and shared; those in an inode are in any order with hash 0. Block checksum
// (metadata_csum): crc32c(file system's seed, block number le64, block with h_checksum zero).
#pragma once

#include "base/endian.h"
#include "base/result.h"
#include "base/units.h"
#include "ext4/format/superblock.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace outboard::ext4::format {

inline constexpr std::uint32_t kXattrMagic = 0xEA020000;
inline constexpr std::uint32_t kXattrMaxRefcount = 1024;

// e_name_index
inline constexpr std::uint8_t kXattrUser = 1;
inline constexpr std::uint8_t kXattrAclAccess = 2;   // empty name
inline constexpr std::uint8_t kXattrAclDefault = 3;  // empty name
inline constexpr std::uint8_t kXattrTrusted = 4;
inline constexpr std::uint8_t kXattrLustre = 5;
inline constexpr std::uint8_t kXattrSecurity = 6;
inline constexpr std::uint8_t kXattrSystem = 7;
inline constexpr std::uint8_t kXattrRichacl = 8;  // empty name
inline constexpr std::uint8_t kXattrEncryption = 9;

struct RawXattrInlineHeader {
  le32 h_magic;
};
LAYOUT_SIZE(RawXattrInlineHeader, 4);

struct RawXattrBlockHeader {
  le32 h_magic;
  le32 h_refcount;
  le32 h_blocks;
  le32 h_hash;
  le32 h_checksum;
  le32 h_reserved[3];
};
LAYOUT_SIZE(RawXattrBlockHeader, 32);
LAYOUT_FIELD(RawXattrBlockHeader, h_magic, 0x0);
LAYOUT_FIELD(RawXattrBlockHeader, h_refcount, 0x4);
LAYOUT_FIELD(RawXattrBlockHeader, h_blocks, 0x8);
LAYOUT_FIELD(RawXattrBlockHeader, h_hash, 0xC);
LAYOUT_FIELD(RawXattrBlockHeader, h_checksum, 0x10);

struct RawXattrEntry {
  std::uint8_t e_name_len;
  std::uint8_t e_name_index;
  le16 e_value_offs;
  le32 e_value_inum;
  le32 e_value_size;
  le32 e_hash;
};
LAYOUT_SIZE(RawXattrEntry, 16);
LAYOUT_FIELD(RawXattrEntry, e_name_len, 0x0);
LAYOUT_FIELD(RawXattrEntry, e_name_index, 0x1);
LAYOUT_FIELD(RawXattrEntry, e_value_offs, 0x2);
LAYOUT_FIELD(RawXattrEntry, e_value_inum, 0x4);
LAYOUT_FIELD(RawXattrEntry, e_value_size, 0x8);
LAYOUT_FIELD(RawXattrEntry, e_hash, 0xC);

// "user.x" <-> {kXattrUser, "x"}.
struct XattrName {
  std::uint8_t index = 0;
  std::string_view name;  // without the prefix; at most 255 bytes
  friend bool operator==(const XattrName &, const XattrName &) = default;
};
// None for a prefix that has no index, or one that must be followed by something and is not.
std::optional<XattrName> split_xattr_name(std::string_view full);
// None for an index without a name.
std::optional<std::string> full_xattr_name(XattrName name);

// An attribute as it stands; name and value live as long as the bytes.
struct XattrView {
  XattrName name;
  std::span<const std::byte> value;
  std::uint32_t hash = 0;
};

// An attribute to be written.
struct XattrItem {
  std::uint8_t index = 0;
  std::string name;
  std::vector<std::byte> value;
  friend bool operator==(const XattrItem &, const XattrItem &) = default;
};

// Walks the entries of either form; each is verified before it is shown: inside the area, value inside the area and
// behind the table, hash right (blocks). Values kept in an inode (ea_inode) are Error::unsupported. Bounded by the
// area.
class XattrCursor {
public:
  // `area`: inline_xattr_area() of an inode. An area without the magic number has no attributes.
  static Result<XattrCursor> in_inode(std::span<const std::byte> area);
  // `block`: a whole block; the header is verified.
  static Result<XattrCursor> in_block(std::span<const std::byte> block);
  Result<bool> next();
  const XattrView &entry() const { return entry_; }

private:
  XattrCursor(std::span<const std::byte> area, std::uint32_t next, std::uint32_t table_end, bool is_block);
  static Result<XattrCursor> over(std::span<const std::byte> area, std::uint32_t first, bool is_block);
  std::span<const std::byte> area_;  // value offsets count from its start
  std::uint32_t next_;               // offset of the next entry
  std::uint32_t table_end_;          // offset of the terminating zero word
  bool is_block_;
  XattrView entry_;
};

// All of them, verified.
Result<std::vector<XattrItem>> read_xattrs(XattrCursor cursor);
Result<std::optional<XattrView>> find_xattr(XattrCursor cursor, XattrName name);
// Every entry of a block, header included. Not the checksum.
Status verify_xattr_block(std::span<const std::byte> block);
// Every entry of an inode's area.
Status verify_inline_xattrs(std::span<const std::byte> area);

// Bytes that these attributes take, header and terminator included.
std::size_t inline_xattr_size(std::span<const XattrItem> items);
std::size_t block_xattr_size(std::span<const XattrItem> items);
// Lays the attributes out over the whole area, which is overwritten. No attributes: all zero. False: they do not fit,
// nothing changed.
bool build_inline_xattrs(std::span<std::byte> area, std::span<const XattrItem> items);
// The same in a block with refcount 1, sorted and with hashes; the checksum is stamped by seal_xattr_block().
bool build_xattr_block(std::span<std::byte> block, std::span<const XattrItem> items);

// Of a verified block.
std::uint32_t xattr_block_refcount(std::span<const std::byte> block);
void set_xattr_block_refcount(std::span<std::byte> block, std::uint32_t refcount);
// Equal contents have equal hashes; 0: not to be shared.
std::uint32_t xattr_block_hash(std::span<const std::byte> block);
// Same attributes, whatever the refcount.
bool same_xattr_block(std::span<const std::byte> a, std::span<const std::byte> b);

// True without metadata_csum.
bool xattr_checksum_matches(const Superblock &superblock, BlockNumber number, std::span<const std::byte> block);
void seal_xattr_block(const Superblock &superblock, BlockNumber number, std::span<std::byte> block);

}  // namespace outboard::ext4::format

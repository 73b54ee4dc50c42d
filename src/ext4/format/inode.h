// Inodes in the inode table: 128 bytes, then (inode_size > 128) i_extra_isize bytes of further fields, then in-inode
// extended attributes. Documentation/filesystems/ext4/inodes.rst. Checksum (metadata_csum): crc32c over the whole
// record with the two checksum halves zero, from the inode's own seed: crc32c(file system's seed, number le32,
// generation le32).
#pragma once

#include "base/endian.h"
#include "base/result.h"
#include "base/units.h"
#include "ext4/format/superblock.h"

#include <array>
#include <compare>
#include <cstdint>
#include <span>

namespace outboard::ext4::format {

inline constexpr std::size_t kGoodOldInodeSize = 128;
inline constexpr std::size_t kInodeBlockBytes = 60;   // i_block
inline constexpr std::uint16_t kKnownExtraSize = 32;  // i_extra_isize that covers every field below

// i_flags
inline constexpr std::uint32_t kInodeFlagSecureDelete = 0x00000001;
inline constexpr std::uint32_t kInodeFlagUndelete = 0x00000002;
inline constexpr std::uint32_t kInodeFlagCompressed = 0x00000004;
inline constexpr std::uint32_t kInodeFlagSync = 0x00000008;
inline constexpr std::uint32_t kInodeFlagImmutable = 0x00000010;
inline constexpr std::uint32_t kInodeFlagAppend = 0x00000020;
inline constexpr std::uint32_t kInodeFlagNoDump = 0x00000040;
inline constexpr std::uint32_t kInodeFlagNoAtime = 0x00000080;
inline constexpr std::uint32_t kInodeFlagDirty = 0x00000100;
inline constexpr std::uint32_t kInodeFlagCompressedBlocks = 0x00000200;
inline constexpr std::uint32_t kInodeFlagNoCompress = 0x00000400;
inline constexpr std::uint32_t kInodeFlagEncrypt = 0x00000800;
inline constexpr std::uint32_t kInodeFlagIndex = 0x00001000;
inline constexpr std::uint32_t kInodeFlagImagic = 0x00002000;
inline constexpr std::uint32_t kInodeFlagJournalData = 0x00004000;
inline constexpr std::uint32_t kInodeFlagNoTail = 0x00008000;
inline constexpr std::uint32_t kInodeFlagDirSync = 0x00010000;
inline constexpr std::uint32_t kInodeFlagTopDirectory = 0x00020000;
inline constexpr std::uint32_t kInodeFlagHugeFile = 0x00040000;  // set and cleared by encode_inode()
inline constexpr std::uint32_t kInodeFlagExtents = 0x00080000;
inline constexpr std::uint32_t kInodeFlagVerity = 0x00100000;
inline constexpr std::uint32_t kInodeFlagEaInode = 0x00200000;
inline constexpr std::uint32_t kInodeFlagEofBlocks = 0x00400000;
inline constexpr std::uint32_t kInodeFlagDax = 0x02000000;
inline constexpr std::uint32_t kInodeFlagInlineData = 0x10000000;
inline constexpr std::uint32_t kInodeFlagProjectInherit = 0x20000000;
inline constexpr std::uint32_t kInodeFlagCaseFold = 0x40000000;

// i_mode
inline constexpr std::uint16_t kModeTypeMask = 0170000;
inline constexpr std::uint16_t kModeFifo = 0010000;
inline constexpr std::uint16_t kModeCharDevice = 0020000;
inline constexpr std::uint16_t kModeDirectory = 0040000;
inline constexpr std::uint16_t kModeBlockDevice = 0060000;
inline constexpr std::uint16_t kModeRegular = 0100000;
inline constexpr std::uint16_t kModeSymlink = 0120000;
inline constexpr std::uint16_t kModeSocket = 0140000;

struct RawInode {
  le16 i_mode;
  le16 i_uid;
  le32 i_size_lo;
  le32 i_atime;
  le32 i_ctime;
  le32 i_mtime;
  le32 i_dtime;
  le16 i_gid;
  le16 i_links_count;
  le32 i_blocks_lo;
  le32 i_flags;
  le32 i_version;  // osd1, Linux
  std::byte i_block[60];
  le32 i_generation;
  le32 i_file_acl_lo;
  le32 i_size_high;
  le32 i_obso_faddr;
  le16 i_blocks_high;  // osd2, Linux, from here ...
  le16 i_file_acl_high;
  le16 i_uid_high;
  le16 i_gid_high;
  le16 i_checksum_lo;
  le16 i_reserved;  // ... to here
  // Beyond 128 bytes: each field exists only when i_extra_isize covers it.
  le16 i_extra_isize;
  le16 i_checksum_hi;
  le32 i_ctime_extra;
  le32 i_mtime_extra;
  le32 i_atime_extra;
  le32 i_crtime;
  le32 i_crtime_extra;
  le32 i_version_hi;
  le32 i_projid;
};
LAYOUT_SIZE(RawInode, 160);
LAYOUT_FIELD(RawInode, i_mode, 0x0);
LAYOUT_FIELD(RawInode, i_uid, 0x2);
LAYOUT_FIELD(RawInode, i_size_lo, 0x4);
LAYOUT_FIELD(RawInode, i_atime, 0x8);
LAYOUT_FIELD(RawInode, i_ctime, 0xC);
LAYOUT_FIELD(RawInode, i_mtime, 0x10);
LAYOUT_FIELD(RawInode, i_dtime, 0x14);
LAYOUT_FIELD(RawInode, i_gid, 0x18);
LAYOUT_FIELD(RawInode, i_links_count, 0x1A);
LAYOUT_FIELD(RawInode, i_blocks_lo, 0x1C);
LAYOUT_FIELD(RawInode, i_flags, 0x20);
LAYOUT_FIELD(RawInode, i_version, 0x24);
LAYOUT_FIELD(RawInode, i_block, 0x28);
LAYOUT_FIELD(RawInode, i_generation, 0x64);
LAYOUT_FIELD(RawInode, i_file_acl_lo, 0x68);
LAYOUT_FIELD(RawInode, i_size_high, 0x6C);
LAYOUT_FIELD(RawInode, i_obso_faddr, 0x70);
LAYOUT_FIELD(RawInode, i_blocks_high, 0x74);
LAYOUT_FIELD(RawInode, i_file_acl_high, 0x76);
LAYOUT_FIELD(RawInode, i_uid_high, 0x78);
LAYOUT_FIELD(RawInode, i_gid_high, 0x7A);
LAYOUT_FIELD(RawInode, i_checksum_lo, 0x7C);
LAYOUT_FIELD(RawInode, i_reserved, 0x7E);
LAYOUT_FIELD(RawInode, i_extra_isize, 0x80);
LAYOUT_FIELD(RawInode, i_checksum_hi, 0x82);
LAYOUT_FIELD(RawInode, i_ctime_extra, 0x84);
LAYOUT_FIELD(RawInode, i_mtime_extra, 0x88);
LAYOUT_FIELD(RawInode, i_atime_extra, 0x8C);
LAYOUT_FIELD(RawInode, i_crtime, 0x90);
LAYOUT_FIELD(RawInode, i_crtime_extra, 0x94);
LAYOUT_FIELD(RawInode, i_version_hi, 0x98);
LAYOUT_FIELD(RawInode, i_projid, 0x9C);

struct Timestamp {
  std::int64_t sec = 0;    // since 1970, may be negative
  std::uint32_t nsec = 0;  // below 1'000'000'000
  friend constexpr auto operator<=>(const Timestamp &, const Timestamp &) = default;
};

// An inode decoded. Everything is in one unit, whatever the features and the record's size.
struct InodeFields {
  std::uint16_t mode = 0;  // 0: never used or freed
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint64_t size = 0;     // bytes; at most 2^63 - 1
  std::uint32_t links = 0;    // at most 65535
  std::uint64_t sectors = 0;  // 512-byte units, metadata of the file included
  std::uint32_t flags = 0;    // kInodeFlag*
  std::uint32_t generation = 0;
  BlockNumber file_acl;  // extended attribute block; 0: none
  Timestamp atime, ctime, mtime;
  Timestamp crtime;         // zero when the record has no room for it
  std::uint32_t dtime = 0;  // seconds; while on the orphan list: the next inode's number
  std::uint64_t version = 0;
  std::uint16_t extra_isize = 0;  // bytes; 0 with 128-byte inodes, and in records that never used more
  std::uint32_t projid = 0;       // 0 without the project feature or room for it
  std::array<std::byte, kInodeBlockBytes> block{};  // extent root, block map, symlink target, device number

  bool has_flag(std::uint32_t flag) const { return (flags & flag) != 0; }
  std::uint16_t type() const { return mode & kModeTypeMask; }
  bool is_directory() const { return type() == kModeDirectory; }
  bool is_regular() const { return type() == kModeRegular; }
  bool is_symlink() const { return type() == kModeSymlink; }
  bool is_device() const { return type() == kModeCharDevice || type() == kModeBlockDevice; }
  bool uses_extents() const { return has_flag(kInodeFlagExtents); }
  friend bool operator==(const InodeFields &, const InodeFields &) = default;
};

// Start of the checksums of everything that belongs to an inode: its record, its directory and extent blocks.
std::uint32_t inode_checksum_seed(const Superblock &superblock, InodeNumber inode, std::uint32_t generation);

// `raw`: superblock.inode_size bytes. Verifies the checksum (a record of zeros only has none and is an inode with mode
// 0), i_extra_isize, that the size fits 63 bits and that the attribute block lies in the file system. Not whether it is
// in use.
Result<InodeFields> parse_inode(const Superblock &superblock, InodeNumber inode, std::span<const std::byte> raw);

// Writes every field that extra_isize covers and the checksum. Bytes that are not known fields (in-inode attributes,
// fields of later formats) are kept: give zeros for a new inode. Times out of the record's range are clamped,
// nanoseconds dropped where there is no room. EFBIG: more blocks than the volume's features can count (nothing is
// written then).
Status encode_inode(const Superblock &superblock, InodeNumber inode, const InodeFields &fields,
                    std::span<std::byte> raw);

bool inode_checksum_matches(const Superblock &superblock, InodeNumber inode, std::span<const std::byte> raw);
// Stamps the checksum, for changes of raw bytes; nothing without metadata_csum.
void seal_inode(const Superblock &superblock, InodeNumber inode, std::span<std::byte> raw);

// The deletion time's place, where an orphan's link stands too. The checksum is stale afterwards: seal_inode().
std::uint32_t raw_inode_dtime(std::span<const std::byte> raw);
void set_raw_inode_dtime(std::span<std::byte> raw, std::uint32_t value);

// The part of the record for in-inode attributes (their magic number included); empty when there is none.
// `raw` is the whole record; `extra_isize` a verified one.
std::span<const std::byte> inline_xattr_area(std::span<const std::byte> raw, std::uint16_t extra_isize);
std::span<std::byte> inline_xattr_area(std::span<std::byte> raw, std::uint16_t extra_isize);

// The latest time that a record with this extra_isize can keep, and the earliest; times are clamped to it.
Timestamp latest_time(std::uint16_t extra_isize);
Timestamp earliest_time();
// `time` as it will read back after encode_inode(): clamped, nanoseconds dropped when they do not fit.
Timestamp storable_time(Timestamp time, std::uint16_t extra_isize);

// True for a symlink whose target stands in `block` (size is below 60 then).
bool is_fast_symlink(const Superblock &superblock, const InodeFields &fields);
// Sectors of the inode's attribute block, if it has one: part of `sectors`.
std::uint64_t xattr_block_sectors(const Superblock &superblock, const InodeFields &fields);

// The device number of a character or block device, in i_block[0] (8:8 bits) or i_block[1] (12:20 bits).
struct DeviceNumber {
  std::uint32_t major = 0;  // at most 0xfff
  std::uint32_t minor = 0;  // at most 0xfffff
  friend bool operator==(const DeviceNumber &, const DeviceNumber &) = default;
};
DeviceNumber decode_device(const InodeFields &fields);
void encode_device(InodeFields &fields, DeviceNumber device);

}  // namespace outboard::ext4::format

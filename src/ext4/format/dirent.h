// Linear directory blocks: a chain of variable-length entries that fills the block, with metadata_csum ended by a
// 12-byte tail in the disguise of an unused entry. Documentation/filesystems/ext4/directory.rst. Block checksum:
// crc32c(directory inode's seed, block up to the tail).
#pragma once

#include "base/endian.h"
#include "base/result.h"
#include "base/units.h"
#include "ext4/format/superblock.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace outboard::ext4::format {

inline constexpr std::size_t kMaxNameLength = 255;
inline constexpr std::uint32_t kDirEntryHeader = 8;  // bytes before the name
inline constexpr std::uint8_t kDirTailFileType = 0xDE;

// file_type of an entry
inline constexpr std::uint8_t kFileTypeUnknown = 0;
inline constexpr std::uint8_t kFileTypeRegular = 1;
inline constexpr std::uint8_t kFileTypeDirectory = 2;
inline constexpr std::uint8_t kFileTypeCharDevice = 3;
inline constexpr std::uint8_t kFileTypeBlockDevice = 4;
inline constexpr std::uint8_t kFileTypeFifo = 5;
inline constexpr std::uint8_t kFileTypeSocket = 6;
inline constexpr std::uint8_t kFileTypeSymlink = 7;
std::uint8_t file_type_of_mode(std::uint32_t mode);

struct RawDirEntry {
  le32 inode;
  le16 rec_len;  // encoded: see decode_rec_len()
  std::uint8_t name_len;
  std::uint8_t file_type;  // high byte of name_len in volumes without the filetype feature
};
LAYOUT_SIZE(RawDirEntry, 8);
LAYOUT_FIELD(RawDirEntry, inode, 0x0);
LAYOUT_FIELD(RawDirEntry, rec_len, 0x4);
LAYOUT_FIELD(RawDirEntry, name_len, 0x6);
LAYOUT_FIELD(RawDirEntry, file_type, 0x7);

struct RawDirTail {
  le32 det_reserved_zero1;
  le16 det_rec_len;
  std::uint8_t det_reserved_zero2;
  std::uint8_t det_reserved_ft;
  le32 det_checksum;
};
LAYOUT_SIZE(RawDirTail, 12);
LAYOUT_FIELD(RawDirTail, det_reserved_zero1, 0x0);
LAYOUT_FIELD(RawDirTail, det_rec_len, 0x4);
LAYOUT_FIELD(RawDirTail, det_reserved_zero2, 0x6);
LAYOUT_FIELD(RawDirTail, det_reserved_ft, 0x7);
LAYOUT_FIELD(RawDirTail, det_checksum, 0x8);

// What the bytes of a volume's directories look like.
struct DirFormat {
  std::uint32_t block_size = 0;
  std::uint32_t inodes_count = 0;
  bool has_file_type = true;
  bool has_checksum = true;  // blocks end in a tail
  bool large_dir = false;    // three levels of index instead of two

  static DirFormat of(const Superblock &superblock);
  // Bytes of a linear block that entries may fill.
  std::uint32_t usable() const { return block_size - (has_checksum ? std::uint32_t{sizeof(RawDirTail)} : 0); }
};

// Bytes that an entry with a name of this length needs.
constexpr std::uint32_t dir_entry_size(std::size_t name_length) {
  return static_cast<std::uint32_t>((kDirEntryHeader + name_length + 3) / 4 * 4);
}
// In blocks of 64k a length of 65536 does not fit 16 bits and is written as 65535 (or 0).
std::uint32_t decode_rec_len(std::uint16_t raw, std::uint32_t block_size);
std::uint16_t encode_rec_len(std::uint32_t length, std::uint32_t block_size);

// An entry as it stands in its block; the name lives as long as the block's bytes.
struct DirEntryView {
  InodeNumber inode;  // 0: unused
  std::string_view name;
  std::uint8_t file_type = kFileTypeUnknown;
  std::uint32_t rec_len = 0;  // bytes to the next entry
  std::uint32_t offset = 0;   // bytes from the block's start
  bool used() const { return inode.value() != 0; }
};

// Walks the entries, unused ones included (the tail not), each verified before it is shown: length at least what the
// name needs, a multiple of 4, inside the block; inode number in range. Ends after at most block_size / 12 steps.
class DirCursor {
public:
  DirCursor(std::span<const std::byte> block, const DirFormat &format, std::uint32_t offset = 0);
  // False at the end of the block. After an error there is no going on.
  Result<bool> next();
  const DirEntryView &entry() const { return entry_; }

private:
  std::span<const std::byte> block_;
  DirFormat format_;
  std::uint32_t end_;   // bytes that entries fill
  std::uint32_t next_;  // offset of the next entry
  DirEntryView entry_;
};

// Every entry, that they fill the block exactly, and that a tail is there when the format has one. Not the checksum.
Status verify_dir_block(std::span<const std::byte> block, const DirFormat &format);
// True when there is no checksum in this format; false when the tail is missing. `seed`: the directory inode's.
bool dir_checksum_matches(std::span<const std::byte> block, const DirFormat &format, std::uint32_t seed);
void seal_dir_block(std::span<std::byte> block, const DirFormat &format, std::uint32_t seed);

Result<std::optional<DirEntryView>> find_entry(std::span<const std::byte> block, const DirFormat &format,
                                               std::string_view name);
// The used entry before `offset` does not matter: into an unused entry, or the slack behind a used one. False: no room.
// Does not look whether the name exists.
Result<bool> insert_entry(std::span<std::byte> block, const DirFormat &format, std::string_view name, InodeNumber inode,
                          std::uint8_t file_type);
// The entry at `offset` (from find_entry) is merged into the one before it, or becomes unused when it is the first.
Status remove_entry(std::span<std::byte> block, const DirFormat &format, std::uint32_t offset);
// The entry at `offset` (from find_entry) points elsewhere.
void set_entry_inode(std::span<std::byte> block, const DirFormat &format, std::uint32_t offset, InodeNumber inode,
                     std::uint8_t file_type);
// True when insert_entry() would find room for a name of this length.
Result<bool> has_room(std::span<const std::byte> block, const DirFormat &format, std::size_t name_length);

// An empty block, tail included (its checksum is stamped by seal_dir_block()).
void init_dir_block(std::span<std::byte> block, const DirFormat &format);
// The first block of a new directory: "." and "..".
void init_dot_entries(std::span<std::byte> block, const DirFormat &format, InodeNumber self, InodeNumber parent);
// A block of exactly these entries, packed, the last one taking the rest. The names must not lie in `block`. Asserts
// that they fit.
void fill_dir_block(std::span<std::byte> block, const DirFormat &format, std::span<const DirEntryView> entries);

// False for names that no system call could have made: empty, over-long, or with '/' or a zero byte in them.
bool is_plain_name(std::string_view name);

}  // namespace outboard::ext4::format

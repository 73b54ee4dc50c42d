// Index blocks of hashed directories. Documentation/filesystems/ext4/directory.rst, "Hash Tree Directories".
// Root (file block 0): entries "." and ".." (the latter spanning the rest, so that old programs see an empty block), 8
// bytes of root info, then the index. Node: an unused entry spanning the block, then the index. The index: its first
// place holds {limit, count} where the others have a hash, since the first hash is 0 by definition. The last place is a
// checksum tail with metadata_csum: crc32c(directory inode's seed, block up to the last used entry, tail's reserved
// word, four zero bytes).
#pragma once

#include "base/endian.h"
#include "base/result.h"
#include "base/units.h"
#include "ext4/format/dirent.h"
#include "ext4/format/dirhash.h"

#include <cstdint>
#include <span>

namespace outboard::ext4::format {

inline constexpr std::uint32_t kDxRootIndexOffset = 32;  // bytes: two entries of 12 and the root info
inline constexpr std::uint32_t kDxNodeIndexOffset = 8;
inline constexpr std::uint32_t kDxBlockMask = 0x0fffffff;

struct RawDxRootInfo {
  le32 reserved_zero;
  std::uint8_t hash_version;
  std::uint8_t info_length;
  std::uint8_t indirect_levels;
  std::uint8_t unused_flags;
};
LAYOUT_SIZE(RawDxRootInfo, 8);
LAYOUT_FIELD(RawDxRootInfo, hash_version, 0x4);
LAYOUT_FIELD(RawDxRootInfo, info_length, 0x5);
LAYOUT_FIELD(RawDxRootInfo, indirect_levels, 0x6);
LAYOUT_FIELD(RawDxRootInfo, unused_flags, 0x7);

struct RawDxCountLimit {
  le16 limit;
  le16 count;
};
LAYOUT_SIZE(RawDxCountLimit, 4);

struct RawDxEntry {
  le32 hash;
  le32 block;
};
LAYOUT_SIZE(RawDxEntry, 8);

struct RawDxTail {
  le32 dt_reserved;
  le32 dt_checksum;
};
LAYOUT_SIZE(RawDxTail, 8);

// The root's index is at 32, a node's at 8.
enum class DxKind : std::uint8_t { root, node };

struct DxEntry {
  std::uint32_t hash = 0;  // entry 0: always 0
  FileBlock block;
  friend bool operator==(const DxEntry &, const DxEntry &) = default;
};

// A verified index block. Entry numbers out of range are our mistakes: assertions.
class DxView {
public:
  DxView(std::span<const std::byte> block, DxKind kind) : bytes_(block), kind_(kind) {}

  std::uint16_t count() const { return counts().count.get(); }
  std::uint16_t limit() const { return counts().limit.get(); }
  bool full() const { return count() >= limit(); }
  DxEntry get(std::uint16_t i) const;
  // The last entry whose hash is at most `hash`: where the name is, or the first of the blocks where it may be.
  std::uint16_t find(std::uint32_t hash) const;

  // Roots only.
  std::uint8_t hash_version() const { return info().hash_version; }
  std::uint8_t indirect_levels() const { return info().indirect_levels; }

  DxKind kind() const { return kind_; }

protected:
  std::uint32_t index_offset() const { return kind_ == DxKind::root ? kDxRootIndexOffset : kDxNodeIndexOffset; }

private:
  const RawDxCountLimit &counts() const { return view_as<RawDxCountLimit>(bytes_, index_offset()); }
  const RawDxRootInfo &info() const { return view_as<RawDxRootInfo>(bytes_, 24); }
  std::span<const std::byte> bytes_;
  DxKind kind_;
};

class DxEdit : public DxView {
public:
  DxEdit(std::span<std::byte> block, DxKind kind) : DxView(block, kind), bytes_(block) {}

  // Before entry `i` (not 0), which and those after it move up. The index must not be full.
  void insert(std::uint16_t i, const DxEntry &entry);
  void set(std::uint16_t i, const DxEntry &entry);  // entry 0: the hash is ignored
  void set_count(std::uint16_t count);
  void set_indirect_levels(std::uint8_t levels);  // roots only
  // The entries from `from` on become the index of `target`, an initialised node, and are cut off here. Returns the
  // hash of the first.
  std::uint32_t move_tail(std::uint16_t from, DxEdit &target);
  // Takes over all entries of another index (root into a new node when the tree grows).
  void assign(const DxView &source);

private:
  RawDxEntry &entry(std::uint16_t i);
  std::span<std::byte> bytes_;
};

// Places in an index block: what limit must say.
std::uint16_t dx_limit(const DirFormat &format, DxKind kind);
// Index levels below the root that a volume allows.
inline std::uint8_t dx_max_indirect_levels(const DirFormat &format) { return format.large_dir ? 2 : 1; }

// New blocks; both get one entry that leads to `first`.
// The root keeps "." and ".." of the linear block it replaces: `block` is that block on entry (verified).
Status init_dx_root(std::span<std::byte> block, const DirFormat &format, std::uint8_t stored_hash_version,
                    FileBlock first);
void init_dx_node(std::span<std::byte> block, const DirFormat &format, FileBlock first);

// Entries and root info, limit as geometry says, 1 <= count <= limit, hashes not descending, every block number in
// 1..directory_blocks-1, hash version known, levels allowed. Not the checksum. `directory_blocks`: of the file.
Status verify_dx_root(std::span<const std::byte> block, const DirFormat &format, std::uint32_t directory_blocks);
Status verify_dx_node(std::span<const std::byte> block, const DirFormat &format, std::uint32_t directory_blocks);

bool dx_checksum_matches(std::span<const std::byte> block, const DirFormat &format, DxKind kind, std::uint32_t seed);
void seal_dx_block(std::span<std::byte> block, const DirFormat &format, DxKind kind, std::uint32_t seed);

// What a block of a directory is, going by its bytes. Unambiguous with metadata_csum; without it an empty linear block
// looks like a node and one with only "." and ".." may look like a root, so who walks the index must know from there.
enum class DirBlockKind : std::uint8_t { linear, dx_root, dx_node };
DirBlockKind dir_block_kind(std::span<const std::byte> block, const DirFormat &format);
// For blocks as they come from the disk, whichever kind: entries as for a linear block, and the checksum where there is
// one. The index itself is checked by verify_dx_root() and verify_dx_node() when it is walked.
Status verify_any_dir_block(std::span<const std::byte> block, const DirFormat &format, std::uint32_t seed);
void seal_any_dir_block(std::span<std::byte> block, const DirFormat &format, std::uint32_t seed);

}  // namespace outboard::ext4::format

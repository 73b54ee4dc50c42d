// The ext4 superblock: 1024 bytes at byte 1024 of the file system, with backups in some groups.
// Documentation/filesystems/ext4/super.rst. Checksum: crc32c(~0, bytes 0..0x3fb) when metadata_csum is set.
#pragma once

#include "base/endian.h"
#include "base/result.h"
#include "base/units.h"
#include "ext4/format/features.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace outboard::ext4::format {

inline constexpr std::size_t kSuperblockOffset = 1024;  // bytes from the start of the file system
inline constexpr std::size_t kSuperblockSize = 1024;
inline constexpr std::uint16_t kSuperblockMagic = 0xEF53;
inline constexpr std::uint32_t kMinBlockSize = 1024;
inline constexpr std::uint32_t kMaxBlockSize = 65536;
inline constexpr InodeNumber kRootInode{2};
inline constexpr InodeNumber kResizeInode{7};
inline constexpr InodeNumber kJournalInode{8};

// s_state
inline constexpr std::uint16_t kStateClean = 0x0001;
inline constexpr std::uint16_t kStateErrors = 0x0002;
inline constexpr std::uint16_t kStateOrphans = 0x0004;

// s_errors
enum class ErrorBehaviour : std::uint16_t { continue_ = 1, remount_read_only = 2, panic = 3 };

// s_default_mount_opts
inline constexpr std::uint32_t kDefaultMountDebug = 0x0001;
inline constexpr std::uint32_t kDefaultMountBsdGroups = 0x0002;
inline constexpr std::uint32_t kDefaultMountUserXattr = 0x0004;
inline constexpr std::uint32_t kDefaultMountAcl = 0x0008;
inline constexpr std::uint32_t kDefaultMountUid16 = 0x0010;
inline constexpr std::uint32_t kDefaultMountJournalMode = 0x0060;
inline constexpr std::uint32_t kDefaultMountJournalData = 0x0020;
inline constexpr std::uint32_t kDefaultMountJournalOrdered = 0x0040;
inline constexpr std::uint32_t kDefaultMountJournalWriteback = 0x0060;
inline constexpr std::uint32_t kDefaultMountNoBarrier = 0x0100;
inline constexpr std::uint32_t kDefaultMountBlockValidity = 0x0200;
inline constexpr std::uint32_t kDefaultMountDiscard = 0x0400;
inline constexpr std::uint32_t kDefaultMountNoDelalloc = 0x0800;

// s_flags
inline constexpr std::uint32_t kSuperFlagSignedHash = 0x0001;
inline constexpr std::uint32_t kSuperFlagUnsignedHash = 0x0002;
inline constexpr std::uint32_t kSuperFlagTestFilesystem = 0x0004;

struct RawSuperblock {
  le32 s_inodes_count;
  le32 s_blocks_count_lo;
  le32 s_r_blocks_count_lo;
  le32 s_free_blocks_count_lo;
  le32 s_free_inodes_count;
  le32 s_first_data_block;
  le32 s_log_block_size;
  le32 s_log_cluster_size;
  le32 s_blocks_per_group;
  le32 s_clusters_per_group;
  le32 s_inodes_per_group;
  le32 s_mtime;
  le32 s_wtime;
  le16 s_mnt_count;
  le16 s_max_mnt_count;
  le16 s_magic;
  le16 s_state;
  le16 s_errors;
  le16 s_minor_rev_level;
  le32 s_lastcheck;
  le32 s_checkinterval;
  le32 s_creator_os;
  le32 s_rev_level;
  le16 s_def_resuid;
  le16 s_def_resgid;
  le32 s_first_ino;
  le16 s_inode_size;
  le16 s_block_group_nr;
  le32 s_feature_compat;
  le32 s_feature_incompat;
  le32 s_feature_ro_compat;
  std::uint8_t s_uuid[16];
  char s_volume_name[16];
  char s_last_mounted[64];
  le32 s_algorithm_usage_bitmap;
  std::uint8_t s_prealloc_blocks;
  std::uint8_t s_prealloc_dir_blocks;
  le16 s_reserved_gdt_blocks;
  std::uint8_t s_journal_uuid[16];
  le32 s_journal_inum;
  le32 s_journal_dev;
  le32 s_last_orphan;
  le32 s_hash_seed[4];
  std::uint8_t s_def_hash_version;
  std::uint8_t s_jnl_backup_type;
  le16 s_desc_size;
  le32 s_default_mount_opts;
  le32 s_first_meta_bg;
  le32 s_mkfs_time;
  le32 s_jnl_blocks[17];
  le32 s_blocks_count_hi;
  le32 s_r_blocks_count_hi;
  le32 s_free_blocks_count_hi;
  le16 s_min_extra_isize;
  le16 s_want_extra_isize;
  le32 s_flags;
  le16 s_raid_stride;
  le16 s_mmp_interval;
  le64 s_mmp_block;
  le32 s_raid_stripe_width;
  std::uint8_t s_log_groups_per_flex;
  std::uint8_t s_checksum_type;
  std::uint8_t s_encryption_level;
  std::uint8_t s_reserved_pad;
  le64 s_kbytes_written;
  le32 s_snapshot_inum;
  le32 s_snapshot_id;
  le64 s_snapshot_r_blocks_count;
  le32 s_snapshot_list;
  le32 s_error_count;
  le32 s_first_error_time;
  le32 s_first_error_ino;
  le64 s_first_error_block;
  char s_first_error_func[32];
  le32 s_first_error_line;
  le32 s_last_error_time;
  le32 s_last_error_ino;
  le32 s_last_error_line;
  le64 s_last_error_block;
  char s_last_error_func[32];
  char s_mount_opts[64];
  le32 s_usr_quota_inum;
  le32 s_grp_quota_inum;
  le32 s_overhead_clusters;
  le32 s_backup_bgs[2];
  std::uint8_t s_encrypt_algos[4];
  std::uint8_t s_encrypt_pw_salt[16];
  le32 s_lpf_ino;
  le32 s_prj_quota_inum;
  le32 s_checksum_seed;
  std::uint8_t s_wtime_hi;
  std::uint8_t s_mtime_hi;
  std::uint8_t s_mkfs_time_hi;
  std::uint8_t s_lastcheck_hi;
  std::uint8_t s_first_error_time_hi;
  std::uint8_t s_last_error_time_hi;
  std::uint8_t s_first_error_errcode;
  std::uint8_t s_last_error_errcode;
  le16 s_encoding;
  le16 s_encoding_flags;
  le32 s_orphan_file_inum;
  le32 s_reserved[94];
  le32 s_checksum;
};
LAYOUT_SIZE(RawSuperblock, 1024);
LAYOUT_FIELD(RawSuperblock, s_inodes_count, 0x0);
LAYOUT_FIELD(RawSuperblock, s_blocks_count_lo, 0x4);
LAYOUT_FIELD(RawSuperblock, s_r_blocks_count_lo, 0x8);
LAYOUT_FIELD(RawSuperblock, s_free_blocks_count_lo, 0xC);
LAYOUT_FIELD(RawSuperblock, s_free_inodes_count, 0x10);
LAYOUT_FIELD(RawSuperblock, s_first_data_block, 0x14);
LAYOUT_FIELD(RawSuperblock, s_log_block_size, 0x18);
LAYOUT_FIELD(RawSuperblock, s_log_cluster_size, 0x1C);
LAYOUT_FIELD(RawSuperblock, s_blocks_per_group, 0x20);
LAYOUT_FIELD(RawSuperblock, s_clusters_per_group, 0x24);
LAYOUT_FIELD(RawSuperblock, s_inodes_per_group, 0x28);
LAYOUT_FIELD(RawSuperblock, s_mtime, 0x2C);
LAYOUT_FIELD(RawSuperblock, s_wtime, 0x30);
LAYOUT_FIELD(RawSuperblock, s_mnt_count, 0x34);
LAYOUT_FIELD(RawSuperblock, s_max_mnt_count, 0x36);
LAYOUT_FIELD(RawSuperblock, s_magic, 0x38);
LAYOUT_FIELD(RawSuperblock, s_state, 0x3A);
LAYOUT_FIELD(RawSuperblock, s_errors, 0x3C);
LAYOUT_FIELD(RawSuperblock, s_minor_rev_level, 0x3E);
LAYOUT_FIELD(RawSuperblock, s_lastcheck, 0x40);
LAYOUT_FIELD(RawSuperblock, s_checkinterval, 0x44);
LAYOUT_FIELD(RawSuperblock, s_creator_os, 0x48);
LAYOUT_FIELD(RawSuperblock, s_rev_level, 0x4C);
LAYOUT_FIELD(RawSuperblock, s_def_resuid, 0x50);
LAYOUT_FIELD(RawSuperblock, s_def_resgid, 0x52);
LAYOUT_FIELD(RawSuperblock, s_first_ino, 0x54);
LAYOUT_FIELD(RawSuperblock, s_inode_size, 0x58);
LAYOUT_FIELD(RawSuperblock, s_block_group_nr, 0x5A);
LAYOUT_FIELD(RawSuperblock, s_feature_compat, 0x5C);
LAYOUT_FIELD(RawSuperblock, s_feature_incompat, 0x60);
LAYOUT_FIELD(RawSuperblock, s_feature_ro_compat, 0x64);
LAYOUT_FIELD(RawSuperblock, s_uuid, 0x68);
LAYOUT_FIELD(RawSuperblock, s_volume_name, 0x78);
LAYOUT_FIELD(RawSuperblock, s_last_mounted, 0x88);
LAYOUT_FIELD(RawSuperblock, s_algorithm_usage_bitmap, 0xC8);
LAYOUT_FIELD(RawSuperblock, s_prealloc_blocks, 0xCC);
LAYOUT_FIELD(RawSuperblock, s_prealloc_dir_blocks, 0xCD);
LAYOUT_FIELD(RawSuperblock, s_reserved_gdt_blocks, 0xCE);
LAYOUT_FIELD(RawSuperblock, s_journal_uuid, 0xD0);
LAYOUT_FIELD(RawSuperblock, s_journal_inum, 0xE0);
LAYOUT_FIELD(RawSuperblock, s_journal_dev, 0xE4);
LAYOUT_FIELD(RawSuperblock, s_last_orphan, 0xE8);
LAYOUT_FIELD(RawSuperblock, s_hash_seed, 0xEC);
LAYOUT_FIELD(RawSuperblock, s_def_hash_version, 0xFC);
LAYOUT_FIELD(RawSuperblock, s_jnl_backup_type, 0xFD);
LAYOUT_FIELD(RawSuperblock, s_desc_size, 0xFE);
LAYOUT_FIELD(RawSuperblock, s_default_mount_opts, 0x100);
LAYOUT_FIELD(RawSuperblock, s_first_meta_bg, 0x104);
LAYOUT_FIELD(RawSuperblock, s_mkfs_time, 0x108);
LAYOUT_FIELD(RawSuperblock, s_jnl_blocks, 0x10C);
LAYOUT_FIELD(RawSuperblock, s_blocks_count_hi, 0x150);
LAYOUT_FIELD(RawSuperblock, s_r_blocks_count_hi, 0x154);
LAYOUT_FIELD(RawSuperblock, s_free_blocks_count_hi, 0x158);
LAYOUT_FIELD(RawSuperblock, s_min_extra_isize, 0x15C);
LAYOUT_FIELD(RawSuperblock, s_want_extra_isize, 0x15E);
LAYOUT_FIELD(RawSuperblock, s_flags, 0x160);
LAYOUT_FIELD(RawSuperblock, s_raid_stride, 0x164);
LAYOUT_FIELD(RawSuperblock, s_mmp_interval, 0x166);
LAYOUT_FIELD(RawSuperblock, s_mmp_block, 0x168);
LAYOUT_FIELD(RawSuperblock, s_raid_stripe_width, 0x170);
LAYOUT_FIELD(RawSuperblock, s_log_groups_per_flex, 0x174);
LAYOUT_FIELD(RawSuperblock, s_checksum_type, 0x175);
LAYOUT_FIELD(RawSuperblock, s_encryption_level, 0x176);
LAYOUT_FIELD(RawSuperblock, s_kbytes_written, 0x178);
LAYOUT_FIELD(RawSuperblock, s_snapshot_inum, 0x180);
LAYOUT_FIELD(RawSuperblock, s_snapshot_id, 0x184);
LAYOUT_FIELD(RawSuperblock, s_snapshot_r_blocks_count, 0x188);
LAYOUT_FIELD(RawSuperblock, s_snapshot_list, 0x190);
LAYOUT_FIELD(RawSuperblock, s_error_count, 0x194);
LAYOUT_FIELD(RawSuperblock, s_first_error_time, 0x198);
LAYOUT_FIELD(RawSuperblock, s_first_error_ino, 0x19C);
LAYOUT_FIELD(RawSuperblock, s_first_error_block, 0x1A0);
LAYOUT_FIELD(RawSuperblock, s_first_error_func, 0x1A8);
LAYOUT_FIELD(RawSuperblock, s_first_error_line, 0x1C8);
LAYOUT_FIELD(RawSuperblock, s_last_error_time, 0x1CC);
LAYOUT_FIELD(RawSuperblock, s_last_error_ino, 0x1D0);
LAYOUT_FIELD(RawSuperblock, s_last_error_line, 0x1D4);
LAYOUT_FIELD(RawSuperblock, s_last_error_block, 0x1D8);
LAYOUT_FIELD(RawSuperblock, s_last_error_func, 0x1E0);
LAYOUT_FIELD(RawSuperblock, s_mount_opts, 0x200);
LAYOUT_FIELD(RawSuperblock, s_usr_quota_inum, 0x240);
LAYOUT_FIELD(RawSuperblock, s_grp_quota_inum, 0x244);
LAYOUT_FIELD(RawSuperblock, s_overhead_clusters, 0x248);
LAYOUT_FIELD(RawSuperblock, s_backup_bgs, 0x24C);
LAYOUT_FIELD(RawSuperblock, s_encrypt_algos, 0x254);
LAYOUT_FIELD(RawSuperblock, s_encrypt_pw_salt, 0x258);
LAYOUT_FIELD(RawSuperblock, s_lpf_ino, 0x268);
LAYOUT_FIELD(RawSuperblock, s_prj_quota_inum, 0x26C);
LAYOUT_FIELD(RawSuperblock, s_checksum_seed, 0x270);
LAYOUT_FIELD(RawSuperblock, s_wtime_hi, 0x274);
LAYOUT_FIELD(RawSuperblock, s_mtime_hi, 0x275);
LAYOUT_FIELD(RawSuperblock, s_mkfs_time_hi, 0x276);
LAYOUT_FIELD(RawSuperblock, s_lastcheck_hi, 0x277);
LAYOUT_FIELD(RawSuperblock, s_first_error_time_hi, 0x278);
LAYOUT_FIELD(RawSuperblock, s_last_error_time_hi, 0x279);
LAYOUT_FIELD(RawSuperblock, s_first_error_errcode, 0x27A);
LAYOUT_FIELD(RawSuperblock, s_last_error_errcode, 0x27B);
LAYOUT_FIELD(RawSuperblock, s_encoding, 0x27C);
LAYOUT_FIELD(RawSuperblock, s_encoding_flags, 0x27E);
LAYOUT_FIELD(RawSuperblock, s_orphan_file_inum, 0x280);
LAYOUT_FIELD(RawSuperblock, s_reserved, 0x284);
LAYOUT_FIELD(RawSuperblock, s_checksum, 0x3FC);

// What the journal inode looked like when it was made, so that fsck can find it again.
struct JournalBackup {
  bool valid = false;
  std::array<std::byte, 60> block{};  // the inode's i_block
  std::uint64_t size = 0;             // bytes
};

// Decoded: one value per meaning, whatever the features. Invariants that parse_superblock() has proved:
// block_size is a power of two in 1k..64k; group_count >= 1; inodes_count == group_count * inodes_per_group;
// inodes_per_group and clusters_per_group are multiples of 8 and fit one bitmap block; blocks_count > first_data_block
// and blocks_count * block_size < 2^63; descriptors fit in a block.
struct Superblock {
  FeatureSet features;

  std::uint32_t block_size = 0;    // bytes
  std::uint8_t block_bits = 0;     // log2(block_size)
  std::uint32_t cluster_size = 0;  // bytes; == block_size without bigalloc
  std::uint8_t cluster_bits = 0;   // log2(blocks per cluster); 0 without bigalloc

  std::uint64_t blocks_count = 0;
  std::uint64_t reserved_blocks = 0;  // kept for root; at most blocks_count
  std::uint64_t free_blocks = 0;      // blocks, also with bigalloc; as the superblock claims
  std::uint32_t inodes_count = 0;
  std::uint32_t free_inodes = 0;
  BlockNumber first_data_block;
  std::uint32_t group_count = 0;
  std::uint32_t blocks_per_group = 0;
  std::uint32_t clusters_per_group = 0;  // == blocks_per_group without bigalloc
  std::uint32_t inodes_per_group = 0;
  std::uint16_t inode_size = 0;  // bytes
  std::uint16_t desc_size = 0;   // bytes of a group descriptor: 32, or 64 and more with 64bit
  std::uint16_t reserved_gdt_blocks = 0;
  std::uint32_t first_meta_bg = 0;            // descriptor block number from which meta_bg's places hold
  std::uint8_t log_groups_per_flex = 0;       // 0 without flex_bg
  std::array<std::uint32_t, 2> backup_bgs{};  // sparse_super2
  InodeNumber first_ino;                      // first not reserved
  std::uint16_t min_extra_isize = 0;
  std::uint16_t want_extra_isize = 0;  // for new inodes; fits inode_size; 0 with 128-byte inodes

  std::array<std::byte, 16> uuid{};
  std::string label;
  std::string last_mounted;
  std::uint32_t checksum_seed = 0;  // from csum_seed's field, else crc32c(~0, uuid)

  std::array<std::uint32_t, 4> hash_seed{};  // as stored: all zero means the algorithms' default
  std::uint8_t default_hash_version = 0;     // as stored (0 legacy, 1 half_md4, 2 tea)
  std::uint32_t flags = 0;                   // kSuperFlag*
  bool unsigned_hash = false;                // names are hashed as unsigned chars

  InodeNumber journal_inode;  // 0: none or external
  std::uint32_t journal_dev = 0;
  std::array<std::byte, 16> journal_uuid{};
  JournalBackup journal_backup;
  InodeNumber last_orphan;
  InodeNumber orphan_file_inode;  // 0 without orphan_file

  std::uint32_t rev_level = 0;
  std::uint16_t minor_rev_level = 0;
  std::uint32_t creator_os = 0;  // 0 Linux
  std::uint16_t state = 0;       // kState*
  ErrorBehaviour errors = ErrorBehaviour::continue_;
  std::uint32_t default_mount_opts = 0;  // kDefaultMount*
  std::string mount_opts;                // option string of tune2fs -E mount_opts
  std::uint16_t reserved_uid = 0;        // may use reserved_blocks
  std::uint16_t reserved_gid = 0;
  std::int64_t mkfs_time = 0;  // seconds since 1970; 40 bits on disk, as those below
  std::int64_t mount_time = 0;
  std::int64_t write_time = 0;
  std::int64_t last_check = 0;
  std::uint32_t check_interval = 0;  // seconds
  std::uint16_t mount_count = 0;
  std::int16_t max_mount_count = 0;  // <= 0: never
  std::uint64_t kbytes_written = 0;
  std::uint32_t error_count = 0;
  std::uint32_t overhead_clusters = 0;  // 0: not recorded
  InodeNumber lpf_inode;                // lost+found, 0 when not recorded
  InodeNumber user_quota_inode, group_quota_inode, project_quota_inode;
  std::uint16_t encoding = 0;
  std::uint16_t encoding_flags = 0;
  BlockNumber mmp_block;
  std::uint16_t mmp_interval = 0;
  std::uint16_t raid_stride = 0;        // blocks
  std::uint32_t raid_stripe_width = 0;  // blocks

  bool has(Compat feature) const { return features.has(feature); }
  bool has(Incompat feature) const { return features.has(feature); }
  bool has(RoCompat feature) const { return features.has(feature); }
  // Every metadata structure carries a crc32c.
  bool has_metadata_checksums() const { return has(RoCompat::metadata_csum); }
  // Group descriptors carry some checksum, and with it their "uninitialised" flags and unused-inode counts mean
  // something.
  bool has_group_checksums() const { return has(RoCompat::metadata_csum) || has(RoCompat::gdt_csum); }
  std::uint32_t blocks_per_cluster() const { return std::uint32_t{1} << cluster_bits; }
  bool contains(BlockNumber block) const { return block >= first_data_block && block.value() < blocks_count; }
  // Every block of the run is inside; false for an empty run.
  bool contains(BlockNumber start, std::uint64_t count) const {
    return contains(start) && count != 0 && count <= blocks_count - start.value();
  }
};

// The magic number only: is it worth parsing? `raw`: the 1024 bytes; false when fewer.
bool looks_like_ext(std::span<const std::byte> raw);

// Verifies magic, checksum and everything the invariants above promise. Does not refuse features, except those that
// make the rest unreadable: a journal device (Error::unsupported) or a checksum type we do not know.
Result<Superblock> parse_superblock(std::span<const std::byte> raw);

// An external journal has a superblock of its own kind: no groups; jbd2's superblock is in block `journal_block`.
struct JournalDevice {
  std::array<std::byte, 16> uuid{};
  std::uint32_t block_size = 0;
  std::uint64_t blocks_count = 0;
  BlockNumber journal_block;
};
// EINVAL-free: corrupt when it is no ext superblock or its numbers are wrong, unsupported when it is a file system.
Result<JournalDevice> parse_journal_device(std::span<const std::byte> raw);

// Changes of single fields in the raw 1024 bytes. The checksum is stale after each; seal_superblock() stamps it.
void set_free_counts(std::span<std::byte> raw, std::uint64_t free_blocks, std::uint32_t free_inodes);
void set_state(std::span<std::byte> raw, std::uint16_t state);
void set_mount_time(std::span<std::byte> raw, std::int64_t seconds);
void set_mount_count(std::span<std::byte> raw, std::uint16_t count);
void set_write_time(std::span<std::byte> raw, std::int64_t seconds);
void set_kbytes_written(std::span<std::byte> raw, std::uint64_t kbytes);
void set_last_orphan(std::span<std::byte> raw, InodeNumber inode);
void set_needs_recovery(std::span<std::byte> raw, bool on);
void set_orphan_present(std::span<std::byte> raw, bool on);
void set_feature(std::span<std::byte> raw, Compat feature, bool on);
void set_feature(std::span<std::byte> raw, Incompat feature, bool on);
void set_feature(std::span<std::byte> raw, RoCompat feature, bool on);
void set_label(std::span<std::byte> raw, std::string_view label);        // at most 16 bytes are kept
void set_last_mounted(std::span<std::byte> raw, std::string_view path);  // at most 64 bytes are kept
void set_overhead(std::span<std::byte> raw, std::uint32_t clusters);
void set_journal_inode(std::span<std::byte> raw, InodeNumber inode);

// What the superblock remembers of an error: the first one, the last one and how many.
struct ErrorRecord {
  std::int64_t time = 0;  // seconds
  InodeNumber inode;      // 0: unknown
  BlockNumber block;      // 0: unknown
  std::string_view function;
  std::uint32_t line = 0;
  int code = 0;  // errno value; stored as ext4's own small code
};
// Also sets kStateErrors.
void record_error(std::span<std::byte> raw, const ErrorRecord &record);

// Fields that change while mounted, from raw bytes.
InodeNumber last_orphan(std::span<const std::byte> raw);
std::string label(std::span<const std::byte> raw);
std::uint16_t state(std::span<const std::byte> raw);
FeatureSet features(std::span<const std::byte> raw);

// True when there is no checksum to be wrong.
bool superblock_checksum_matches(std::span<const std::byte> raw);
// Stamps the checksum when metadata_csum is set.
void seal_superblock(std::span<std::byte> raw);

}  // namespace outboard::ext4::format

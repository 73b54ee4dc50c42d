#include "ext4/format/superblock.h"

#include "base/checksum.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <type_traits>

namespace outboard::ext4::format {
namespace {

constexpr std::uint8_t kChecksumTypeCrc32c = 1;
constexpr std::uint32_t kOriginalRevision = 0;
constexpr std::uint32_t kOriginalFirstInode = 11;
constexpr std::uint16_t kOriginalInodeSize = 128;
constexpr std::uint16_t kSmallDescriptor = 32;
constexpr std::uint16_t kLargeDescriptor = 64;
constexpr std::uint16_t kMaxDescriptor = 1024;
constexpr std::uint16_t kDefaultExtraSize = 32;
constexpr std::uint8_t kJournalBackupBlocks = 1;
constexpr std::uint32_t kMaxClusterBits = 29 - 10;  // log2 of a cluster in units of 1024 bytes: at most 512M

// Fixed-size text, ended by a zero byte or by its room.
template <std::size_t N> std::string text_of(const char (&field)[N]) { return {field, ::strnlen(field, N)}; }
template <std::size_t N> void set_text(char (&field)[N], std::string_view text) {
  std::memset(field, 0, N);
  text.copy(field, N);
}

std::int64_t join_time(le32 low, std::uint8_t high) {
  return static_cast<std::int64_t>(low.get() | std::uint64_t{high} << 32);
}
// 40 bits, unsigned: times before 1970 become 1970.
void split_time(std::int64_t seconds, le32 &low, std::uint8_t &high) {
  const std::uint64_t value =
      seconds < 0 ? 0 : std::min<std::uint64_t>(static_cast<std::uint64_t>(seconds), (std::uint64_t{1} << 40) - 1);
  low.set(static_cast<std::uint32_t>(value));
  high = static_cast<std::uint8_t>(value >> 32);
}

FeatureSet features_of(const RawSuperblock &raw) {
  return {raw.s_feature_compat.get(), raw.s_feature_incompat.get(), raw.s_feature_ro_compat.get()};
}

std::uint32_t checksum_of(std::span<const std::byte> raw) {
  return crc32c(~std::uint32_t{0}, raw.first(offsetof(RawSuperblock, s_checksum)));
}

Status check_identity(std::span<const std::byte> bytes) {
  if (bytes.size() < kSuperblockSize) return fail(Error::corrupt("superblock: short read"));
  if (!looks_like_ext(bytes)) return fail(Error::corrupt("superblock: magic"));
  const auto &raw = view_as<RawSuperblock>(bytes);
  if (features_of(raw).has(RoCompat::metadata_csum) && raw.s_checksum_type != kChecksumTypeCrc32c)
    return fail(Error::unsupported("superblock: checksum type"));
  if (!superblock_checksum_matches(bytes)) return fail(Error::bad_checksum("superblock: checksum"));
  return {};
}

Status decode_sizes(const RawSuperblock &raw, Superblock &sb) {
  const std::uint32_t log = raw.s_log_block_size.get();
  if (log > 6) return fail(Error::corrupt("superblock: block size"));
  sb.block_bits = static_cast<std::uint8_t>(10 + log);
  sb.block_size = std::uint32_t{1} << sb.block_bits;
  if (sb.has(RoCompat::bigalloc)) {
    const std::uint32_t log_cluster = raw.s_log_cluster_size.get();
    if (log_cluster < log || log_cluster > kMaxClusterBits) return fail(Error::corrupt("superblock: cluster size"));
    sb.cluster_bits = static_cast<std::uint8_t>(log_cluster - log);
  }
  sb.cluster_size = sb.block_size << sb.cluster_bits;

  if (sb.rev_level == kOriginalRevision) {
    sb.inode_size = kOriginalInodeSize;
    sb.first_ino = InodeNumber(kOriginalFirstInode);
  } else {
    sb.inode_size = raw.s_inode_size.get();
    sb.first_ino = InodeNumber(raw.s_first_ino.get());
  }
  if (!std::has_single_bit(sb.inode_size) || sb.inode_size < kOriginalInodeSize || sb.inode_size > sb.block_size)
    return fail(Error::corrupt("superblock: inode size"));
  if (sb.first_ino.value() < kOriginalFirstInode) return fail(Error::corrupt("superblock: first inode"));

  sb.desc_size = kSmallDescriptor;
  if (sb.has(Incompat::bit64)) {
    sb.desc_size = raw.s_desc_size.get();
    if (!std::has_single_bit(sb.desc_size) || sb.desc_size < kLargeDescriptor || sb.desc_size > kMaxDescriptor)
      return fail(Error::corrupt("superblock: descriptor size"));
  }
  return {};
}

Status decode_counts(const RawSuperblock &raw, Superblock &sb) {
  const bool wide = sb.has(Incompat::bit64);
  const auto count = [wide](le32 low, le32 high) { return wide ? join(low, high) : low.get(); };
  sb.blocks_count = count(raw.s_blocks_count_lo, raw.s_blocks_count_hi);
  sb.first_data_block = BlockNumber(raw.s_first_data_block.get());
  sb.inodes_count = raw.s_inodes_count.get();
  sb.blocks_per_group = raw.s_blocks_per_group.get();
  sb.clusters_per_group = sb.has(RoCompat::bigalloc) ? raw.s_clusters_per_group.get() : sb.blocks_per_group;
  sb.inodes_per_group = raw.s_inodes_per_group.get();

  const std::uint32_t bits = 8 * sb.block_size;
  if (sb.clusters_per_group == 0 || sb.clusters_per_group > bits || sb.clusters_per_group % 8 != 0)
    return fail(Error::corrupt("superblock: blocks per group"));
  if (sb.blocks_per_group != std::uint64_t{sb.clusters_per_group} << sb.cluster_bits)
    return fail(Error::corrupt("superblock: clusters per group"));
  if (sb.inodes_per_group == 0 || sb.inodes_per_group > bits || sb.inodes_per_group % 8 != 0)
    return fail(Error::corrupt("superblock: inodes per group"));
  if (sb.inodes_per_group < sb.block_size / sb.inode_size) return fail(Error::corrupt("superblock: inodes per group"));

  // Only file systems of 1k blocks (and no clusters) have their boot block outside of group 0.
  const bool boot_block_apart = sb.block_size == kMinBlockSize && sb.cluster_bits == 0;
  if (sb.first_data_block != BlockNumber(boot_block_apart ? 1 : 0))
    return fail(Error::corrupt("superblock: first data block"));
  if (sb.blocks_count <= sb.first_data_block.value() || sb.blocks_count > (~std::uint64_t{0} >> 1) >> sb.block_bits)
    return fail(Error::corrupt("superblock: blocks count"));
  const std::uint64_t groups =
      divide_up<std::uint64_t>(sb.blocks_count - sb.first_data_block.value(), sb.blocks_per_group);
  if (groups * sb.inodes_per_group != sb.inodes_count) return fail(Error::corrupt("superblock: inodes count"));
  sb.group_count = static_cast<std::uint32_t>(groups);
  if (sb.inodes_count < sb.first_ino.value()) return fail(Error::corrupt("superblock: inodes count"));

  sb.reserved_blocks = std::min(count(raw.s_r_blocks_count_lo, raw.s_r_blocks_count_hi), sb.blocks_count);
  sb.free_blocks = std::min(count(raw.s_free_blocks_count_lo, raw.s_free_blocks_count_hi), sb.blocks_count);
  sb.free_inodes = std::min(raw.s_free_inodes_count.get(), sb.inodes_count);
  return {};
}

Status decode_places(const RawSuperblock &raw, Superblock &sb) {
  sb.reserved_gdt_blocks = raw.s_reserved_gdt_blocks.get();
  if (sb.reserved_gdt_blocks > sb.block_size / 4) return fail(Error::corrupt("superblock: reserved descriptor blocks"));
  const std::uint32_t descriptor_blocks = divide_up(sb.group_count, sb.block_size / sb.desc_size);
  if (sb.has(Incompat::meta_bg)) {
    sb.first_meta_bg = raw.s_first_meta_bg.get();
    if (sb.first_meta_bg > descriptor_blocks) return fail(Error::corrupt("superblock: first meta block group"));
  }
  // Group 0 at least must hold what geometry will put at its start, or the descriptors would lie in other groups' data.
  const std::uint64_t old_style = sb.has(Incompat::meta_bg) ? sb.first_meta_bg : descriptor_blocks;
  if (1 + old_style + sb.reserved_gdt_blocks > std::min<std::uint64_t>(sb.blocks_per_group, sb.blocks_count))
    return fail(Error::corrupt("superblock: descriptors larger than a group"));
  if (sb.has(Incompat::flex_bg) && raw.s_log_groups_per_flex < 32) sb.log_groups_per_flex = raw.s_log_groups_per_flex;
  for (std::size_t i = 0; i < 2; ++i) sb.backup_bgs[i] = raw.s_backup_bgs[i].get();
  return {};
}

void decode_inode_defaults(const RawSuperblock &raw, Superblock &sb) {
  if (sb.inode_size == kOriginalInodeSize) return;
  const std::uint32_t room = sb.inode_size - std::uint32_t{kOriginalInodeSize};
  sb.want_extra_isize = kDefaultExtraSize;
  if (!sb.has(RoCompat::extra_isize)) return;
  sb.min_extra_isize = raw.s_min_extra_isize.get();
  const std::uint16_t wanted = std::max({sb.want_extra_isize, raw.s_want_extra_isize.get(), sb.min_extra_isize});
  if (wanted <= room && wanted % 4 == 0) sb.want_extra_isize = wanted;
}

void decode_identity(const RawSuperblock &raw, Superblock &sb) {
  std::memcpy(sb.uuid.data(), raw.s_uuid, sb.uuid.size());
  sb.label = text_of(raw.s_volume_name);
  sb.last_mounted = text_of(raw.s_last_mounted);
  sb.mount_opts = text_of(raw.s_mount_opts);
  sb.checksum_seed = sb.has(Incompat::csum_seed) ? raw.s_checksum_seed.get() : crc32c(~std::uint32_t{0}, sb.uuid);
  for (std::size_t i = 0; i < sb.hash_seed.size(); ++i) sb.hash_seed[i] = raw.s_hash_seed[i].get();
  sb.default_hash_version = raw.s_def_hash_version;
  sb.flags = raw.s_flags.get();
  // A volume that says neither takes the char of the machine it is first mounted on.
  sb.unsigned_hash =
      (sb.flags & kSuperFlagUnsignedHash) != 0 || ((sb.flags & kSuperFlagSignedHash) == 0 && std::is_unsigned_v<char>);
  sb.encoding = raw.s_encoding.get();
  sb.encoding_flags = raw.s_encoding_flags.get();
}

void decode_journal(const RawSuperblock &raw, Superblock &sb) {
  sb.last_orphan = InodeNumber(raw.s_last_orphan.get());
  if (sb.has(Compat::orphan_file)) sb.orphan_file_inode = InodeNumber(raw.s_orphan_file_inum.get());
  sb.journal_inode = InodeNumber(raw.s_journal_inum.get());
  sb.journal_dev = raw.s_journal_dev.get();
  std::memcpy(sb.journal_uuid.data(), raw.s_journal_uuid, sb.journal_uuid.size());
  sb.journal_backup.valid = raw.s_jnl_backup_type == kJournalBackupBlocks;
  std::memcpy(sb.journal_backup.block.data(), raw.s_jnl_blocks, sb.journal_backup.block.size());
  sb.journal_backup.size = join(raw.s_jnl_blocks[16], raw.s_jnl_blocks[15]);
}

void decode_history(const RawSuperblock &raw, Superblock &sb) {
  sb.minor_rev_level = raw.s_minor_rev_level.get();
  sb.creator_os = raw.s_creator_os.get();
  sb.state = raw.s_state.get();
  const std::uint16_t errors = raw.s_errors.get();
  // Values that nobody knows mean the careful one.
  sb.errors = errors == 1   ? ErrorBehaviour::continue_
              : errors == 3 ? ErrorBehaviour::panic
                            : ErrorBehaviour::remount_read_only;
  sb.default_mount_opts = raw.s_default_mount_opts.get();
  sb.reserved_uid = raw.s_def_resuid.get();
  sb.reserved_gid = raw.s_def_resgid.get();
  sb.mkfs_time = join_time(raw.s_mkfs_time, raw.s_mkfs_time_hi);
  sb.mount_time = join_time(raw.s_mtime, raw.s_mtime_hi);
  sb.write_time = join_time(raw.s_wtime, raw.s_wtime_hi);
  sb.last_check = join_time(raw.s_lastcheck, raw.s_lastcheck_hi);
  sb.check_interval = raw.s_checkinterval.get();
  sb.mount_count = raw.s_mnt_count.get();
  sb.max_mount_count = static_cast<std::int16_t>(raw.s_max_mnt_count.get());
  sb.kbytes_written = raw.s_kbytes_written.get();
  sb.error_count = raw.s_error_count.get();
  sb.overhead_clusters = raw.s_overhead_clusters.get();
  sb.lpf_inode = InodeNumber(raw.s_lpf_ino.get());
  sb.user_quota_inode = InodeNumber(raw.s_usr_quota_inum.get());
  sb.group_quota_inode = InodeNumber(raw.s_grp_quota_inum.get());
  sb.project_quota_inode = InodeNumber(raw.s_prj_quota_inum.get());
  sb.mmp_block = BlockNumber(raw.s_mmp_block.get());
  sb.mmp_interval = raw.s_mmp_interval.get();
  sb.raid_stride = raw.s_raid_stride.get();
  sb.raid_stripe_width = raw.s_raid_stripe_width.get();
}

RawSuperblock &edit(std::span<std::byte> raw) {
  assert(raw.size() >= kSuperblockSize);
  return edit_as<RawSuperblock>(raw);
}
const RawSuperblock &view(std::span<const std::byte> raw) {
  assert(raw.size() >= kSuperblockSize);
  return view_as<RawSuperblock>(raw);
}

template <class Feature> void set_bit(le32 &field, Feature feature, bool on) {
  const auto bit = static_cast<std::uint32_t>(feature);
  field.set(on ? field.get() | bit : field.get() & ~bit);
}

// The superblock's own numbering of errors.
std::uint8_t stored_error_code(int code) {
  constexpr std::array kCodes{EIO,    ENOMEM, EBADMSG,   EUCLEAN, ENOSPC,  ENOKEY,    EROFS,     EFBIG,
                              EEXIST, ERANGE, EOVERFLOW, EBUSY,   ENOTDIR, ENOTEMPTY, ESHUTDOWN, EFAULT};
  const auto found = std::find(kCodes.begin(), kCodes.end(), code);
  return found == kCodes.end() ? 1 : static_cast<std::uint8_t>(2 + (found - kCodes.begin()));
}

}  // namespace

bool looks_like_ext(std::span<const std::byte> raw) {
  return raw.size() >= kSuperblockSize && view_as<RawSuperblock>(raw).s_magic.get() == kSuperblockMagic;
}

Result<Superblock> parse_superblock(std::span<const std::byte> bytes) {
  TRY(check_identity(bytes));
  const auto &raw = view_as<RawSuperblock>(bytes);
  Superblock sb;
  sb.features = features_of(raw);
  sb.rev_level = raw.s_rev_level.get();
  if (sb.has(Incompat::journal_dev))
    return fail(Error::unsupported("superblock: an external journal, not a file system"));
  TRY(decode_sizes(raw, sb));
  TRY(decode_counts(raw, sb));
  TRY(decode_places(raw, sb));
  decode_inode_defaults(raw, sb);
  decode_identity(raw, sb);
  decode_journal(raw, sb);
  decode_history(raw, sb);
  return sb;
}

Result<JournalDevice> parse_journal_device(std::span<const std::byte> bytes) {
  TRY(check_identity(bytes));
  const auto &raw = view_as<RawSuperblock>(bytes);
  if (!features_of(raw).has(Incompat::journal_dev))
    return fail(Error::unsupported("journal device: a file system, not a journal"));
  const std::uint32_t log = raw.s_log_block_size.get();
  if (log > 6) return fail(Error::corrupt("journal device: block size"));
  JournalDevice device;
  device.block_size = kMinBlockSize << log;
  device.blocks_count = join(raw.s_blocks_count_lo, raw.s_blocks_count_hi);
  // The journal begins in the block after the one that holds this superblock.
  device.journal_block = BlockNumber(log == 0 ? 2 : 1);
  if (device.blocks_count <= device.journal_block.value()) return fail(Error::corrupt("journal device: blocks count"));
  std::memcpy(device.uuid.data(), raw.s_uuid, device.uuid.size());
  return device;
}

void set_free_counts(std::span<std::byte> raw, std::uint64_t free_blocks, std::uint32_t free_inodes) {
  RawSuperblock &sb = edit(raw);
  sb.s_free_blocks_count_lo.set(static_cast<std::uint32_t>(free_blocks));
  // Without 64bit the high word belongs to nobody; a count that needed it would be our mistake.
  if (features_of(sb).has(Incompat::bit64))
    sb.s_free_blocks_count_hi.set(static_cast<std::uint32_t>(free_blocks >> 32));
  else assert(free_blocks >> 32 == 0);
  sb.s_free_inodes_count.set(free_inodes);
}

void set_state(std::span<std::byte> raw, std::uint16_t state) { edit(raw).s_state.set(state); }

void set_mount_time(std::span<std::byte> raw, std::int64_t seconds) {
  RawSuperblock &sb = edit(raw);
  split_time(seconds, sb.s_mtime, sb.s_mtime_hi);
}

void set_mount_count(std::span<std::byte> raw, std::uint16_t count) { edit(raw).s_mnt_count.set(count); }

void set_write_time(std::span<std::byte> raw, std::int64_t seconds) {
  RawSuperblock &sb = edit(raw);
  split_time(seconds, sb.s_wtime, sb.s_wtime_hi);
}

void set_kbytes_written(std::span<std::byte> raw, std::uint64_t kbytes) { edit(raw).s_kbytes_written.set(kbytes); }
void set_last_orphan(std::span<std::byte> raw, InodeNumber inode) { edit(raw).s_last_orphan.set(inode.value()); }
void set_needs_recovery(std::span<std::byte> raw, bool on) { set_feature(raw, Incompat::recover, on); }
void set_orphan_present(std::span<std::byte> raw, bool on) { set_feature(raw, RoCompat::orphan_present, on); }
void set_feature(std::span<std::byte> raw, Compat feature, bool on) {
  set_bit(edit(raw).s_feature_compat, feature, on);
}
void set_feature(std::span<std::byte> raw, Incompat feature, bool on) {
  set_bit(edit(raw).s_feature_incompat, feature, on);
}
void set_feature(std::span<std::byte> raw, RoCompat feature, bool on) {
  set_bit(edit(raw).s_feature_ro_compat, feature, on);
}
void set_label(std::span<std::byte> raw, std::string_view label) { set_text(edit(raw).s_volume_name, label); }
void set_last_mounted(std::span<std::byte> raw, std::string_view path) { set_text(edit(raw).s_last_mounted, path); }
void set_overhead(std::span<std::byte> raw, std::uint32_t clusters) { edit(raw).s_overhead_clusters.set(clusters); }
void set_journal_inode(std::span<std::byte> raw, InodeNumber inode) { edit(raw).s_journal_inum.set(inode.value()); }

void record_error(std::span<std::byte> raw, const ErrorRecord &record) {
  RawSuperblock &sb = edit(raw);
  sb.s_state.set(sb.s_state.get() | kStateErrors);
  split_time(record.time, sb.s_last_error_time, sb.s_last_error_time_hi);
  sb.s_last_error_ino.set(record.inode.value());
  sb.s_last_error_block.set(record.block.value());
  set_text(sb.s_last_error_func, record.function);
  sb.s_last_error_line.set(record.line);
  sb.s_last_error_errcode = stored_error_code(record.code);
  if (sb.s_first_error_time.get() == 0 && sb.s_first_error_time_hi == 0) {
    sb.s_first_error_time = sb.s_last_error_time;
    sb.s_first_error_time_hi = sb.s_last_error_time_hi;
    sb.s_first_error_ino = sb.s_last_error_ino;
    sb.s_first_error_block = sb.s_last_error_block;
    std::memcpy(sb.s_first_error_func, sb.s_last_error_func, sizeof sb.s_first_error_func);
    sb.s_first_error_line = sb.s_last_error_line;
    sb.s_first_error_errcode = sb.s_last_error_errcode;
  }
  if (sb.s_error_count.get() != ~std::uint32_t{0}) sb.s_error_count.set(sb.s_error_count.get() + 1);
}

InodeNumber last_orphan(std::span<const std::byte> raw) { return InodeNumber(view(raw).s_last_orphan.get()); }
std::string label(std::span<const std::byte> raw) { return text_of(view(raw).s_volume_name); }
std::uint16_t state(std::span<const std::byte> raw) { return view(raw).s_state.get(); }
FeatureSet features(std::span<const std::byte> raw) { return features_of(view(raw)); }

bool superblock_checksum_matches(std::span<const std::byte> raw) {
  const RawSuperblock &sb = view(raw);
  return !features_of(sb).has(RoCompat::metadata_csum) || sb.s_checksum.get() == checksum_of(raw);
}

void seal_superblock(std::span<std::byte> raw) {
  RawSuperblock &sb = edit(raw);
  if (features_of(sb).has(RoCompat::metadata_csum)) sb.s_checksum.set(checksum_of(raw));
}

}  // namespace outboard::ext4::format

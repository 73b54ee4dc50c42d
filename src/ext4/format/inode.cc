#include "ext4/format/inode.h"

#include "base/checksum.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <limits>

namespace outboard::ext4::format {
namespace {

constexpr std::array<std::byte, 2> kZeroChecksum{};
constexpr std::uint32_t kNanoseconds = 1'000'000'000;
constexpr std::uint32_t kMaxLinks = 0xffff;

// True when i_extra_isize covers the field that ends at `end` bytes from the record's start.
constexpr bool covers(std::uint16_t extra_isize, std::size_t end) { return kGoodOldInodeSize + extra_isize >= end; }
#define FIELD_END(field) (offsetof(RawInode, field) + sizeof(RawInode::field))

// The fields as a whole structure, also when the record is shorter: what is not there is zero.
RawInode copy_in(std::span<const std::byte> raw) {
  RawInode copy{};
  std::memcpy(&copy, raw.data(), std::min(raw.size(), sizeof copy));
  return copy;
}

std::uint16_t raw_extra_isize(const Superblock &sb, std::span<const std::byte> raw) {
  return sb.inode_size > kGoodOldInodeSize ? view_as<le16>(raw, offsetof(RawInode, i_extra_isize)).get()
                                           : std::uint16_t{0};
}

std::uint32_t checksum_of(const Superblock &sb, InodeNumber inode, std::span<const std::byte> raw) {
  const std::uint32_t generation = view_as<le32>(raw, offsetof(RawInode, i_generation)).get();
  std::uint32_t crc = inode_checksum_seed(sb, inode, generation);
  crc = crc32c(crc, raw.first(offsetof(RawInode, i_checksum_lo)));
  crc = crc32c(crc, kZeroChecksum);
  crc = crc32c(crc, raw.subspan(FIELD_END(i_checksum_lo), kGoodOldInodeSize - FIELD_END(i_checksum_lo)));
  if (sb.inode_size == kGoodOldInodeSize) return crc;
  std::size_t next = offsetof(RawInode, i_checksum_hi);
  crc = crc32c(crc, raw.subspan(kGoodOldInodeSize, next - kGoodOldInodeSize));
  if (covers(raw_extra_isize(sb, raw), FIELD_END(i_checksum_hi))) {
    crc = crc32c(crc, kZeroChecksum);
    next = FIELD_END(i_checksum_hi);
  }
  return crc32c(crc, raw.subspan(next, sb.inode_size - next));
}

// The size has a high half in regular files, and in directories when they may be that large.
bool has_size_high(const Superblock &sb, std::uint16_t mode) {
  return (mode & kModeTypeMask) == kModeRegular || sb.has(Incompat::large_dir);
}

// Two low bits of the extra word are bits 32 and 33 of the seconds, the rest nanoseconds.
Timestamp decode_time(le32 seconds, le32 extra, bool has_extra) {
  Timestamp time{static_cast<std::int32_t>(seconds.get()), 0};
  if (has_extra) {
    time.sec += static_cast<std::int64_t>(std::uint64_t{extra.get() & 3} << 32);
    time.nsec = std::min(extra.get() >> 2, kNanoseconds - 1);
  }
  return time;
}

Timestamp clamp_time(Timestamp time, bool has_extra) {
  constexpr std::int64_t kFirst = std::numeric_limits<std::int32_t>::min();
  const std::int64_t last =
      has_extra ? kFirst + (std::int64_t{1} << 34) - 1 : std::int64_t{std::numeric_limits<std::int32_t>::max()};
  if (time.sec < kFirst) return {kFirst, 0};
  if (time.sec > last) return {last, has_extra ? kNanoseconds - 1 : 0};
  return {time.sec, has_extra ? std::min(time.nsec, kNanoseconds - 1) : 0};
}

void encode_time(Timestamp time, bool has_extra, le32 &seconds, le32 &extra) {
  time = clamp_time(time, has_extra);
  seconds.set(static_cast<std::uint32_t>(time.sec));
  if (!has_extra) return;
  const std::int64_t above = time.sec - static_cast<std::int32_t>(time.sec);
  extra.set(static_cast<std::uint32_t>(static_cast<std::uint64_t>(above) >> 32 & 3) | time.nsec << 2);
}

std::uint64_t decode_sectors(const Superblock &sb, const RawInode &raw) {
  if (!sb.has(RoCompat::huge_file)) return raw.i_blocks_lo.get();
  const std::uint64_t count = join(raw.i_blocks_lo, raw.i_blocks_high);
  return (raw.i_flags.get() & kInodeFlagHugeFile) != 0 ? count << (sb.block_bits - 9) : count;
}

Status encode_sectors(const Superblock &sb, std::uint64_t sectors, RawInode &raw) {
  constexpr std::uint64_t kWide = (std::uint64_t{1} << 48) - 1;
  std::uint32_t flags = raw.i_flags.get() & ~kInodeFlagHugeFile;
  if (sectors > 0xffffffff) {
    if (!sb.has(RoCompat::huge_file)) return fail(Error::user(EFBIG, "inode: too many blocks without huge_file"));
    if (sectors > kWide) {
      flags |= kInodeFlagHugeFile;
      sectors = divide_up(sectors, std::uint64_t{1} << (sb.block_bits - 9));
      if (sectors > kWide) return fail(Error::user(EFBIG, "inode: too many blocks"));
    }
  }
  raw.i_flags.set(flags);
  raw.i_blocks_lo.set(static_cast<std::uint32_t>(sectors));
  if (sb.has(RoCompat::huge_file)) raw.i_blocks_high.set(static_cast<std::uint16_t>(sectors >> 32));
  return {};
}

void decode_base(const Superblock &sb, const RawInode &raw, InodeFields &f) {
  f.mode = raw.i_mode.get();
  f.uid = join(raw.i_uid, raw.i_uid_high);
  f.gid = join(raw.i_gid, raw.i_gid_high);
  f.size = raw.i_size_lo.get();
  if (has_size_high(sb, f.mode)) f.size = join(raw.i_size_lo, raw.i_size_high);
  f.links = raw.i_links_count.get();
  f.sectors = decode_sectors(sb, raw);
  f.flags = raw.i_flags.get();
  f.generation = raw.i_generation.get();
  f.file_acl = BlockNumber(raw.i_file_acl_lo.get());
  if (sb.has(Incompat::bit64)) f.file_acl = BlockNumber(join(raw.i_file_acl_lo, raw.i_file_acl_high));
  f.dtime = raw.i_dtime.get();
  f.version = raw.i_version.get();
  std::memcpy(f.block.data(), raw.i_block, f.block.size());
}

// extra_isize decides; times of records without extra fields come from the base.
void decode_extra(const Superblock &sb, const RawInode &raw, InodeFields &f) {
  const auto has = [&](std::size_t end) { return covers(f.extra_isize, end); };
  f.ctime = decode_time(raw.i_ctime, raw.i_ctime_extra, has(FIELD_END(i_ctime_extra)));
  f.mtime = decode_time(raw.i_mtime, raw.i_mtime_extra, has(FIELD_END(i_mtime_extra)));
  f.atime = decode_time(raw.i_atime, raw.i_atime_extra, has(FIELD_END(i_atime_extra)));
  if (has(FIELD_END(i_crtime)))
    f.crtime = decode_time(raw.i_crtime, raw.i_crtime_extra, has(FIELD_END(i_crtime_extra)));
  if (has(FIELD_END(i_version_hi))) f.version = join(raw.i_version, raw.i_version_hi);
  if (has(FIELD_END(i_projid)) && sb.has(RoCompat::project)) f.projid = raw.i_projid.get();
}

void encode_base(const Superblock &sb, const InodeFields &f, RawInode &raw) {
  assert(f.links <= kMaxLinks);
  raw.i_mode.set(f.mode);
  raw.i_uid.set(static_cast<std::uint16_t>(f.uid));
  raw.i_uid_high.set(static_cast<std::uint16_t>(f.uid >> 16));
  raw.i_gid.set(static_cast<std::uint16_t>(f.gid));
  raw.i_gid_high.set(static_cast<std::uint16_t>(f.gid >> 16));
  raw.i_size_lo.set(static_cast<std::uint32_t>(f.size));
  if (has_size_high(sb, f.mode)) raw.i_size_high.set(static_cast<std::uint32_t>(f.size >> 32));
  raw.i_links_count.set(static_cast<std::uint16_t>(f.links));
  raw.i_generation.set(f.generation);
  raw.i_file_acl_lo.set(static_cast<std::uint32_t>(f.file_acl.value()));
  if (sb.has(Incompat::bit64)) raw.i_file_acl_high.set(static_cast<std::uint16_t>(f.file_acl.value() >> 32));
  raw.i_dtime.set(f.dtime);
  raw.i_version.set(static_cast<std::uint32_t>(f.version));
  std::memcpy(raw.i_block, f.block.data(), f.block.size());
}

void encode_extra(const Superblock &sb, const InodeFields &f, RawInode &raw) {
  const auto has = [&](std::size_t end) { return covers(f.extra_isize, end); };
  encode_time(f.ctime, has(FIELD_END(i_ctime_extra)), raw.i_ctime, raw.i_ctime_extra);
  encode_time(f.mtime, has(FIELD_END(i_mtime_extra)), raw.i_mtime, raw.i_mtime_extra);
  encode_time(f.atime, has(FIELD_END(i_atime_extra)), raw.i_atime, raw.i_atime_extra);
  if (has(FIELD_END(i_crtime))) encode_time(f.crtime, has(FIELD_END(i_crtime_extra)), raw.i_crtime, raw.i_crtime_extra);
  if (has(FIELD_END(i_version_hi))) raw.i_version_hi.set(static_cast<std::uint32_t>(f.version >> 32));
  if (has(FIELD_END(i_projid)) && sb.has(RoCompat::project)) raw.i_projid.set(f.projid);
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

le32 block_word(const InodeFields &fields, std::size_t index) {
  return view_as<le32>(fields.block, index * sizeof(le32));
}
void set_block_word(InodeFields &fields, std::size_t index, std::uint32_t value) {
  edit_as<le32>(fields.block, index * sizeof(le32)).set(value);
}

}  // namespace

std::uint32_t inode_checksum_seed(const Superblock &sb, InodeNumber inode, std::uint32_t generation) {
  return crc32c_le32(crc32c_le32(sb.checksum_seed, inode.value()), generation);
}

bool inode_checksum_matches(const Superblock &sb, InodeNumber inode, std::span<const std::byte> raw) {
  assert(raw.size() >= sb.inode_size);
  if (!sb.has_metadata_checksums()) return true;
  const std::uint32_t computed = checksum_of(sb, inode, raw);
  const le16 low = view_as<le16>(raw, offsetof(RawInode, i_checksum_lo));
  if (!covers(raw_extra_isize(sb, raw), FIELD_END(i_checksum_hi))) return low.get() == (computed & 0xffff);
  return join(low, view_as<le16>(raw, offsetof(RawInode, i_checksum_hi))) == computed;
}

void seal_inode(const Superblock &sb, InodeNumber inode, std::span<std::byte> raw) {
  assert(raw.size() >= sb.inode_size);
  if (!sb.has_metadata_checksums()) return;
  const std::uint32_t computed = checksum_of(sb, inode, raw);
  edit_as<le16>(raw, offsetof(RawInode, i_checksum_lo)).set(static_cast<std::uint16_t>(computed));
  if (covers(raw_extra_isize(sb, raw), FIELD_END(i_checksum_hi)))
    edit_as<le16>(raw, offsetof(RawInode, i_checksum_hi)).set(static_cast<std::uint16_t>(computed >> 16));
}

Result<InodeFields> parse_inode(const Superblock &sb, InodeNumber inode, std::span<const std::byte> bytes) {
  assert(bytes.size() >= sb.inode_size);
  bytes = bytes.first(sb.inode_size);
  const std::uint16_t extra = raw_extra_isize(sb, bytes);
  if (extra > sb.inode_size - kGoodOldInodeSize || extra % 4 != 0)
    return fail(Error::corrupt("inode: extra size").of_inode(inode.value()));
  if (!inode_checksum_matches(sb, inode, bytes) && !all_zero(bytes))
    return fail(Error::bad_checksum("inode: checksum").of_inode(inode.value()));
  const RawInode raw = copy_in(bytes);
  InodeFields fields;
  fields.extra_isize = extra;
  decode_base(sb, raw, fields);
  decode_extra(sb, raw, fields);
  if (fields.size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return fail(Error::corrupt("inode: size").of_inode(inode.value()));
  if (fields.file_acl && !sb.contains(fields.file_acl))
    return fail(
        Error::corrupt("inode: attribute block outside").in_block(fields.file_acl.value()).of_inode(inode.value()));
  return fields;
}

Status encode_inode(const Superblock &sb, InodeNumber inode, const InodeFields &fields, std::span<std::byte> bytes) {
  assert(bytes.size() >= sb.inode_size);
  bytes = bytes.first(sb.inode_size);
  assert(fields.extra_isize <= sb.inode_size - kGoodOldInodeSize && fields.extra_isize % 4 == 0);
  RawInode raw = copy_in(bytes);
  raw.i_flags.set(fields.flags);
  TRY(encode_sectors(sb, fields.sectors, raw));
  encode_base(sb, fields, raw);
  raw.i_extra_isize.set(fields.extra_isize);
  encode_extra(sb, fields, raw);
  std::memcpy(bytes.data(), &raw, std::min(bytes.size(), sizeof raw));
  seal_inode(sb, inode, bytes);
  return {};
}

std::uint32_t raw_inode_dtime(std::span<const std::byte> raw) {
  return view_as<le32>(raw, offsetof(RawInode, i_dtime)).get();
}
void set_raw_inode_dtime(std::span<std::byte> raw, std::uint32_t value) {
  edit_as<le32>(raw, offsetof(RawInode, i_dtime)).set(value);
}

std::span<const std::byte> inline_xattr_area(std::span<const std::byte> raw, std::uint16_t extra_isize) {
  // A record that never grew extra fields has no attributes either.
  if (extra_isize == 0 || raw.size() <= kGoodOldInodeSize + extra_isize) return {};
  return raw.subspan(kGoodOldInodeSize + extra_isize);
}
std::span<std::byte> inline_xattr_area(std::span<std::byte> raw, std::uint16_t extra_isize) {
  if (extra_isize == 0 || raw.size() <= kGoodOldInodeSize + extra_isize) return {};
  return raw.subspan(kGoodOldInodeSize + extra_isize);
}

Timestamp latest_time(std::uint16_t extra_isize) {
  return clamp_time({std::numeric_limits<std::int64_t>::max(), 0}, covers(extra_isize, FIELD_END(i_atime_extra)));
}
Timestamp earliest_time() { return clamp_time({std::numeric_limits<std::int64_t>::min(), 0}, true); }
Timestamp storable_time(Timestamp time, std::uint16_t extra_isize) {
  return clamp_time(time, covers(extra_isize, FIELD_END(i_atime_extra)));
}

std::uint64_t xattr_block_sectors(const Superblock &sb, const InodeFields &fields) {
  return fields.file_acl ? sb.cluster_size / 512 : 0;
}

bool is_fast_symlink(const Superblock &sb, const InodeFields &fields) {
  if (!fields.is_symlink() || fields.has_flag(kInodeFlagInlineData) || fields.size >= kInodeBlockBytes) return false;
  return fields.sectors <= xattr_block_sectors(sb, fields);
}

DeviceNumber decode_device(const InodeFields &fields) {
  if (const std::uint32_t old = block_word(fields, 0).get(); old != 0) return {old >> 8 & 0xff, old & 0xff};
  const std::uint32_t wide = block_word(fields, 1).get();
  return {wide >> 8 & 0xfff, (wide & 0xff) | (wide >> 12 & 0xfff00)};
}

void encode_device(InodeFields &fields, DeviceNumber device) {
  assert(device.major <= 0xfff && device.minor <= 0xfffff);
  const bool old = device.major <= 0xff && device.minor <= 0xff;
  set_block_word(fields, 0, old ? device.major << 8 | device.minor : 0);
  set_block_word(fields, 1, old ? 0 : (device.minor & 0xff) | device.major << 8 | (device.minor & 0xfff00) << 12);
  if (!old) set_block_word(fields, 2, 0);
}

}  // namespace outboard::ext4::format

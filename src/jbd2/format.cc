#include "jbd2/format.h"

#include "base/checksum.h"

#include <cassert>
#include <cstring>

namespace outboard::jbd2 {

namespace {

constexpr std::uint32_t kKnownIncompat = 0x3F;
constexpr std::uint32_t kKnownCompat = 1;
constexpr std::uint8_t kCrc32c = 4;
constexpr std::uint32_t kDefaultFastCommitBlocks = 256;
constexpr std::uint32_t kUuidBytes = 16;

// Flags of a tag.
constexpr std::uint16_t kEscaped = 1;
constexpr std::uint16_t kSameUuid = 2;
constexpr std::uint16_t kLast = 8;

bool has(be32 field, Incompat feature) { return (field.get() & static_cast<std::uint32_t>(feature)) != 0; }

// CRC of a block in which the be32 at `position` counts as zero.
std::uint32_t checksum_without(std::uint32_t seed, std::span<const std::byte> bytes, std::size_t position) {
  const std::array<std::byte, 4> zero{};
  std::uint32_t crc = crc32c(seed, bytes.first(position));
  crc = crc32c(crc, zero);
  return crc32c(crc, bytes.subspan(position + 4));
}

Status check_geometry(const DiskSuperblock &disk, LogFormat &format, std::uint32_t area_blocks) {
  const std::uint32_t length = disk.max_length.get();
  if (length > area_blocks) return fail(Error::corrupt("journal superblock: longer than its area"));
  format.first = disk.first.get();
  format.max_length = length;
  format.end = length;
  if (format.fast_commit) {
    const std::uint32_t reserved = fast_commit_blocks(disk);
    if (length < kSmallestLogWithFastCommits || length - kSmallestLogWithFastCommits < reserved) {
      return fail(Error::corrupt("journal superblock: fast-commit area"));
    }
    format.end = length - reserved;
  }
  if (format.first == 0 || format.first >= format.end) return fail(Error::corrupt("journal superblock: first block"));
  const std::uint32_t start = disk.start.get();
  if (start != 0 && (start < format.first || start >= format.end)) return fail(Error::corrupt("journal superblock: start"));
  return {};
}

Status check_features(const DiskSuperblock &disk, LogFormat &format) {
  if ((disk.incompat.get() & ~kKnownIncompat) != 0) return fail(Error::unsupported("journal: unknown incompatible feature"));
  if (disk.ro_compat.get() != 0) return fail(Error::unsupported("journal: unknown read-only-compatible feature"));
  if (disk.users_count.get() > 1) return fail(Error::unsupported("journal: shared by several file systems"));
  format.checksum_v1 = (disk.compat.get() & kKnownCompat) != 0;
  format.revoke = has(disk.incompat, Incompat::revoke);
  format.wide = has(disk.incompat, Incompat::wide);
  format.async_commit = has(disk.incompat, Incompat::async_commit);
  format.checksum_v2 = has(disk.incompat, Incompat::checksum_v2);
  format.checksum_v3 = has(disk.incompat, Incompat::checksum_v3);
  format.fast_commit = has(disk.incompat, Incompat::fast_commit);
  if (int{format.checksum_v1} + int{format.checksum_v2} + int{format.checksum_v3} > 1) {
    return fail(Error::corrupt("journal superblock: several checksum versions"));
  }
  if (format.block_checksums() && disk.checksum_type != kCrc32c) {
    return fail(Error::unsupported("journal: unknown checksum type"));
  }
  return {};
}

}  // namespace

std::uint32_t fast_commit_blocks(const DiskSuperblock &disk) {
  const std::uint32_t blocks = disk.fast_commit_blocks.get();
  return blocks == 0 ? kDefaultFastCommitBlocks : blocks;
}

Result<LogFormat> parse_superblock(std::span<const std::byte> bytes, std::uint32_t block_size, std::uint32_t area_blocks) {
  if (bytes.size() < sizeof(DiskSuperblock)) return fail(Error::corrupt("journal superblock: too short"));
  const auto &disk = view_as<DiskSuperblock>(bytes);
  if (disk.header.magic.get() != kMagic) return fail(Error::corrupt("journal superblock: magic"));
  const auto type = static_cast<LogBlockType>(disk.header.type.get());
  if (type != LogBlockType::superblock_v1 && type != LogBlockType::superblock_v2) {
    return fail(Error::corrupt("journal superblock: block type"));
  }
  LogFormat format;
  format.version2 = type == LogBlockType::superblock_v2;
  format.block_size = block_size;
  if (format.version2) TRY(check_features(disk, format));
  if (format.block_checksums()) {
    const std::uint32_t computed = checksum_without(~0U, bytes.first(sizeof disk), offsetof(DiskSuperblock, checksum));
    if (computed != disk.checksum.get()) return fail(Error::bad_checksum("journal superblock"));
  }
  if (disk.block_size.get() != block_size) return fail(Error::corrupt("journal superblock: block size"));
  TRY(check_geometry(disk, format, area_blocks));
  if (format.version2) format.uuid = disk.uuid;
  format.seed = crc32c(~0U, format.uuid);
  return format;
}

void seal_superblock(std::span<std::byte> bytes) {
  auto &disk = edit_as<DiskSuperblock>(bytes);
  if (static_cast<LogBlockType>(disk.header.type.get()) != LogBlockType::superblock_v2) return;
  if (!has(disk.incompat, Incompat::checksum_v2) && !has(disk.incompat, Incompat::checksum_v3)) return;
  disk.checksum_type = kCrc32c;
  disk.checksum.set(checksum_without(~0U, bytes.first(sizeof disk), offsetof(DiskSuperblock, checksum)));
}

std::uint32_t LogFormat::advance(std::uint32_t position, std::uint32_t count) const {
  assert(position >= first && position < end && count <= length());
  const std::uint64_t next = std::uint64_t{position} + count;
  return static_cast<std::uint32_t>(next >= end ? next - length() : next);
}

std::uint32_t LogFormat::tag_bytes() const {
  if (checksum_v3) return sizeof(Tag3);
  return (wide ? 12U : 8U) + (checksum_v2 ? 2U : 0U);
}

std::uint32_t LogFormat::tags_per_descriptor() const {
  return static_cast<std::uint32_t>((block_size - sizeof(Header) - kUuidBytes - tail_bytes()) / tag_bytes());
}

void put_header(std::span<std::byte> block, LogBlockType type, std::uint32_t sequence) {
  auto &header = edit_as<Header>(block);
  header.magic.set(kMagic);
  header.type.set(static_cast<std::uint32_t>(type));
  header.sequence.set(sequence);
}

bool tail_is_valid(const LogFormat &format, std::span<const std::byte> block) {
  if (!format.block_checksums()) return true;
  const std::size_t position = block.size() - sizeof(BlockTail);
  return view_as<BlockTail>(block, position).checksum.get() == checksum_without(format.seed, block, position);
}

void seal_tail(const LogFormat &format, std::span<std::byte> block) {
  if (!format.block_checksums()) return;
  const std::size_t position = block.size() - sizeof(BlockTail);
  edit_as<BlockTail>(block, position).checksum.set(checksum_without(format.seed, block, position));
}

bool commit_is_valid(const LogFormat &format, std::span<const std::byte> block) {
  if (!format.block_checksums()) return true;
  return view_as<CommitBlock>(block).checksum[0].get() ==
         checksum_without(format.seed, block, offsetof(CommitBlock, checksum));
}

void seal_commit(const LogFormat &format, std::span<std::byte> block) {
  if (!format.block_checksums()) return;
  edit_as<CommitBlock>(block).checksum[0].set(checksum_without(format.seed, block, offsetof(CommitBlock, checksum)));
}

std::uint32_t data_checksum(const LogFormat &format, std::uint32_t sequence, std::span<const std::byte> block) {
  const be32 on_disk(sequence);
  return crc32c(crc32c(format.seed, &on_disk, sizeof on_disk), block);
}

bool tag_matches(const LogFormat &format, const Tag &tag, std::uint32_t sequence, std::span<const std::byte> data) {
  if (!format.block_checksums()) return true;
  const std::uint32_t computed = data_checksum(format, sequence, data);
  return tag.checksum == (format.checksum_v3 ? computed : (computed & 0xFFFF));
}

std::optional<Tag> TagReader::next() {
  if (ended_ || position_ + format_.tag_bytes() > block_.size() - format_.tail_bytes()) return std::nullopt;
  Tag tag;
  std::uint16_t flags = 0;
  std::uint64_t block = 0;
  if (format_.checksum_v3) {
    const auto &disk = view_as<Tag3>(block_, position_);
    flags = static_cast<std::uint16_t>(disk.flags.get());
    block = disk.block.get();
    if (format_.wide) block |= std::uint64_t{disk.block_high.get()} << 32;
    tag.checksum = disk.checksum.get();
  } else {
    // Only tag_bytes() of it are there; block_high is looked at only when it is among them.
    block = view_as<be32>(block_, position_ + offsetof(ClassicTag, block)).get();
    flags = view_as<be16>(block_, position_ + offsetof(ClassicTag, flags)).get();
    if (format_.wide) block |= std::uint64_t{view_as<be32>(block_, position_ + offsetof(ClassicTag, block_high)).get()} << 32;
    if (format_.checksum_v2) tag.checksum = view_as<be16>(block_, position_ + offsetof(ClassicTag, checksum)).get();
  }
  tag.block = BlockNumber(block);
  tag.escaped = (flags & kEscaped) != 0;
  position_ += format_.tag_bytes();
  if ((flags & kSameUuid) == 0) position_ += kUuidBytes;
  ended_ = (flags & kLast) != 0;
  return tag;
}

TagWriter::TagWriter(const LogFormat &format, std::span<std::byte> block, std::uint32_t sequence)
    : format_(format), block_(block), sequence_(sequence) {
  put_header(block_, LogBlockType::descriptor, sequence_);
}

void TagWriter::add(BlockNumber home, bool escaped, std::span<const std::byte> data) {
  assert(position_ + format_.tag_bytes() <= block_.size() - format_.tail_bytes());
  const bool is_first = position_ == sizeof(Header);
  const std::uint64_t block = home.value();
  const auto flags = static_cast<std::uint16_t>((escaped ? kEscaped : 0) | (is_first ? 0 : kSameUuid));
  last_ = position_;
  edit_as<be32>(block_, position_).set(static_cast<std::uint32_t>(block));
  if (format_.checksum_v3) {
    auto &tag = edit_as<Tag3>(block_, position_);
    tag.flags.set(flags);
    if (format_.wide) tag.block_high.set(static_cast<std::uint32_t>(block >> 32));
    tag.checksum.set(data_checksum(format_, sequence_, data));
  } else {
    edit_as<be16>(block_, position_ + offsetof(ClassicTag, flags)).set(flags);
    if (format_.wide) {
      edit_as<be32>(block_, position_ + offsetof(ClassicTag, block_high)).set(static_cast<std::uint32_t>(block >> 32));
    }
    if (format_.checksum_v2) {
      const auto half = static_cast<std::uint16_t>(data_checksum(format_, sequence_, data));
      edit_as<be16>(block_, position_ + offsetof(ClassicTag, checksum)).set(half);
    }
  }
  position_ += format_.tag_bytes();
  if (is_first) {
    std::memcpy(block_.data() + position_, format_.uuid.data(), kUuidBytes);
    position_ += kUuidBytes;
  }
}

void TagWriter::finish() {
  assert(last_ != 0);
  // The lower half of v3's 32-bit flags stands where the classic tag has its 16 bits.
  auto &flags = edit_as<be16>(block_, last_ + offsetof(ClassicTag, flags));
  flags.set(static_cast<std::uint16_t>(flags.get() | kLast));
  seal_tail(format_, block_);
}

void write_revoke_block(const LogFormat &format, std::span<std::byte> block, std::uint32_t sequence,
                        std::span<const BlockNumber> revoked) {
  assert(revoked.size() <= format.revokes_per_block());
  put_header(block, LogBlockType::revoke, sequence);
  std::size_t at = sizeof(RevokeHeader);
  for (BlockNumber number : revoked) {
    if (format.wide) edit_as<be64>(block, at).set(number.value());
    else edit_as<be32>(block, at).set(static_cast<std::uint32_t>(number.value()));
    at += format.revoke_bytes();
  }
  edit_as<RevokeHeader>(block).used.set(static_cast<std::uint32_t>(at));
  seal_tail(format, block);
}

}  // namespace outboard::jbd2

#include "ext4/format/dirent.h"

#include "base/checksum.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

namespace outboard::ext4::format {
namespace {

constexpr std::uint32_t kSmallestEntry = dir_entry_size(1);
constexpr std::uint8_t kFileTypeMask = 0x0f;  // the rest are flags of encrypted, casefolded directories

RawDirEntry raw_entry(std::span<const std::byte> block, std::uint32_t offset) {
  return view_as<RawDirEntry>(block, offset);
}

void write_header(std::span<std::byte> block, const DirFormat &format, std::uint32_t offset, InodeNumber inode,
                  std::uint32_t rec_len, std::size_t name_length, std::uint8_t file_type) {
  auto &raw = edit_as<RawDirEntry>(block, offset);
  raw.inode.set(inode.value());
  raw.rec_len.set(encode_rec_len(rec_len, format.block_size));
  raw.name_len = static_cast<std::uint8_t>(name_length);
  raw.file_type = format.has_file_type ? file_type : kFileTypeUnknown;
}

void write_entry(std::span<std::byte> block, const DirFormat &format, std::uint32_t offset, InodeNumber inode,
                 std::uint32_t rec_len, std::string_view name, std::uint8_t file_type) {
  assert(rec_len >= dir_entry_size(name.size()) && offset + rec_len <= block.size());
  write_header(block, format, offset, inode, rec_len, name.size(), file_type);
  std::byte *at = block.data() + offset + kDirEntryHeader;
  std::memcpy(at, name.data(), name.size());
  std::memset(at + name.size(), 0, dir_entry_size(name.size()) - kDirEntryHeader - name.size());
}

bool has_tail(std::span<const std::byte> block) {
  const auto &tail = view_as<RawDirTail>(block, block.size() - sizeof(RawDirTail));
  return tail.det_reserved_zero1.get() == 0 && tail.det_rec_len.get() == sizeof(RawDirTail) &&
         tail.det_reserved_zero2 == 0 && tail.det_reserved_ft == kDirTailFileType;
}

void write_tail(std::span<std::byte> block, const DirFormat &format) {
  if (!format.has_checksum) return;
  RawDirTail tail{};
  tail.det_rec_len.set(sizeof(RawDirTail));
  tail.det_reserved_ft = kDirTailFileType;
  edit_as<RawDirTail>(block, format.usable()) = tail;
}

// Bytes of an entry that are taken: what is behind them may hold another.
std::uint32_t taken(const DirEntryView &entry) { return entry.used() ? dir_entry_size(entry.name.size()) : 0; }

Error bad_entry(const char *what) { return Error::corrupt(what); }

}  // namespace

std::uint8_t file_type_of_mode(std::uint32_t mode) {
  constexpr std::array<std::uint8_t, 16> kTypes{0,
                                                kFileTypeFifo,
                                                kFileTypeCharDevice,
                                                0,
                                                kFileTypeDirectory,
                                                0,
                                                kFileTypeBlockDevice,
                                                0,
                                                kFileTypeRegular,
                                                0,
                                                kFileTypeSymlink,
                                                0,
                                                kFileTypeSocket,
                                                0,
                                                0,
                                                0};
  return kTypes[mode >> 12 & 0xf];
}

DirFormat DirFormat::of(const Superblock &sb) {
  DirFormat format;
  format.block_size = sb.block_size;
  format.inodes_count = sb.inodes_count;
  format.has_file_type = sb.has(Incompat::filetype);
  format.has_checksum = sb.has_metadata_checksums();
  format.large_dir = sb.has(Incompat::large_dir);
  return format;
}

std::uint32_t decode_rec_len(std::uint16_t raw, std::uint32_t block_size) {
  if (block_size < 65536) return raw;
  if (raw == 65535 || raw == 0) return block_size;
  return (raw & 65532u) | (raw & 3u) << 16;
}

std::uint16_t encode_rec_len(std::uint32_t length, [[maybe_unused]] std::uint32_t block_size) {
  assert(length <= block_size && length % 4 == 0);
  if (length < 65536) return static_cast<std::uint16_t>(length);
  return 65535;
}

namespace {
// Index blocks have no such tail: their last entry, which hides the index, spans the rest of the block. What stands at the
// tail's place may still look like one: the kernel leaves the linear block's when it makes a root of it.
bool spans_block(std::span<const std::byte> block, const DirFormat &format) {
  const auto length_at = [&](std::uint32_t offset) {
    return decode_rec_len(raw_entry(block, offset).rec_len.get(), format.block_size);
  };
  const std::uint32_t first = length_at(0);
  if (first == format.block_size) return raw_entry(block, 0).inode.get() == 0;
  constexpr std::uint32_t kDotSize = dir_entry_size(1);
  return first == kDotSize && length_at(kDotSize) == format.block_size - kDotSize;
}
}  // namespace

DirCursor::DirCursor(std::span<const std::byte> block, const DirFormat &format, std::uint32_t offset)
    : block_(block), format_(format), end_(format.block_size), next_(offset) {
  assert(block.size() == format.block_size && offset <= block.size());
  if (format.has_checksum && has_tail(block) && !spans_block(block, format)) end_ = format.usable();
}

Result<bool> DirCursor::next() {
  if (next_ >= end_) return false;
  if (end_ - next_ < kSmallestEntry) return fail(bad_entry("directory entry: no room for a header"));
  const RawDirEntry raw = raw_entry(block_, next_);
  const std::uint32_t length = decode_rec_len(raw.rec_len.get(), format_.block_size);
  if (length < kSmallestEntry || length % 4 != 0) return fail(bad_entry("directory entry: length"));
  if (length > end_ - next_) return fail(bad_entry("directory entry: length beyond the block"));
  if (length < dir_entry_size(raw.name_len)) return fail(bad_entry("directory entry: length less than the name's"));
  if (raw.inode.get() > format_.inodes_count)
    return fail(bad_entry("directory entry: inode number").of_inode(raw.inode.get()));
  if (raw.inode.get() != 0 && raw.name_len == 0)
    return fail(bad_entry("directory entry: no name").of_inode(raw.inode.get()));
  entry_.inode = InodeNumber(raw.inode.get());
  entry_.name = {reinterpret_cast<const char *>(block_.data()) + next_ + kDirEntryHeader, raw.name_len};
  const auto type = static_cast<std::uint8_t>(raw.file_type & kFileTypeMask);
  entry_.file_type = format_.has_file_type && type <= kFileTypeSymlink ? type : kFileTypeUnknown;
  entry_.rec_len = length;
  entry_.offset = next_;
  next_ += length;
  return true;
}

Status verify_dir_block(std::span<const std::byte> block, const DirFormat &format) {
  if (format.has_checksum && !has_tail(block)) return fail(Error::corrupt("directory block: no checksum tail"));
  if (format.has_checksum && spans_block(block, format)) return fail(bad_entry("directory block: an entry over the checksum tail"));
  DirCursor cursor(block, format);
  while (TRY(cursor.next())) {
  }
  return {};
}

bool dir_checksum_matches(std::span<const std::byte> block, const DirFormat &format, std::uint32_t seed) {
  if (!format.has_checksum) return true;
  if (!has_tail(block)) return false;
  return view_as<RawDirTail>(block, format.usable()).det_checksum.get() == crc32c(seed, block.first(format.usable()));
}

void seal_dir_block(std::span<std::byte> block, const DirFormat &format, std::uint32_t seed) {
  if (!format.has_checksum) return;
  assert(has_tail(block));
  edit_as<RawDirTail>(block, format.usable()).det_checksum.set(crc32c(seed, block.first(format.usable())));
}

Result<std::optional<DirEntryView>> find_entry(std::span<const std::byte> block, const DirFormat &format,
                                               std::string_view name) {
  DirCursor cursor(block, format);
  while (TRY(cursor.next()))
    if (cursor.entry().used() && cursor.entry().name == name) return cursor.entry();
  return std::nullopt;
}

Result<bool> insert_entry(std::span<std::byte> block, const DirFormat &format, std::string_view name, InodeNumber inode,
                          std::uint8_t file_type) {
  assert(!name.empty() && name.size() <= kMaxNameLength && inode);
  const std::uint32_t need = dir_entry_size(name.size());
  DirCursor cursor(block, format);
  while (TRY(cursor.next())) {
    const DirEntryView entry = cursor.entry();
    const std::uint32_t keep = taken(entry);
    if (entry.rec_len - keep < need) continue;
    if (keep != 0) edit_as<RawDirEntry>(block, entry.offset).rec_len.set(encode_rec_len(keep, format.block_size));
    write_entry(block, format, entry.offset + keep, inode, entry.rec_len - keep, name, file_type);
    return true;
  }
  return false;
}

Status remove_entry(std::span<std::byte> block, const DirFormat &format, std::uint32_t offset) {
  DirCursor cursor(block, format);
  std::optional<DirEntryView> before;
  while (TRY(cursor.next())) {
    const DirEntryView entry = cursor.entry();
    if (entry.offset < offset) {
      before = entry;
      continue;
    }
    if (entry.offset > offset || !entry.used()) break;
    // The name goes: it is nobody's business any more. A first entry keeps its header to span the room.
    const std::size_t shown = taken(entry);
    std::memset(block.data() + offset + kDirEntryHeader, 0, shown - kDirEntryHeader);
    if (!before) {
      write_header(block, format, offset, InodeNumber(0), entry.rec_len, 0, kFileTypeUnknown);
      return {};
    }
    std::memset(block.data() + offset, 0, kDirEntryHeader);
    edit_as<RawDirEntry>(block, before->offset)
        .rec_len.set(encode_rec_len(before->rec_len + entry.rec_len, format.block_size));
    return {};
  }
  return fail(Error::corrupt("directory block: no entry where one was"));
}

void set_entry_inode(std::span<std::byte> block, const DirFormat &format, std::uint32_t offset, InodeNumber inode,
                     std::uint8_t file_type) {
  assert(offset + kDirEntryHeader <= block.size());
  auto &raw = edit_as<RawDirEntry>(block, offset);
  raw.inode.set(inode.value());
  if (format.has_file_type) raw.file_type = file_type;
}

Result<bool> has_room(std::span<const std::byte> block, const DirFormat &format, std::size_t name_length) {
  const std::uint32_t need = dir_entry_size(name_length);
  DirCursor cursor(block, format);
  while (TRY(cursor.next()))
    if (cursor.entry().rec_len - taken(cursor.entry()) >= need) return true;
  return false;
}

void init_dir_block(std::span<std::byte> block, const DirFormat &format) { fill_dir_block(block, format, {}); }

void init_dot_entries(std::span<std::byte> block, const DirFormat &format, InodeNumber self, InodeNumber parent) {
  const std::array<DirEntryView, 2> dots{DirEntryView{self, ".", kFileTypeDirectory, 0, 0},
                                         DirEntryView{parent, "..", kFileTypeDirectory, 0, 0}};
  fill_dir_block(block, format, dots);
}

void fill_dir_block(std::span<std::byte> block, const DirFormat &format, std::span<const DirEntryView> entries) {
  assert(block.size() == format.block_size);
  std::fill(block.begin(), block.end(), std::byte{0});
  std::uint32_t offset = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const DirEntryView &entry = entries[i];
    const std::uint32_t length = i + 1 == entries.size() ? format.usable() - offset : dir_entry_size(entry.name.size());
    write_entry(block, format, offset, entry.inode, length, entry.name, entry.file_type);
    offset += length;
  }
  if (entries.empty()) write_header(block, format, 0, InodeNumber(0), format.usable(), 0, kFileTypeUnknown);
  write_tail(block, format);
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameLength && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

}  // namespace outboard::ext4::format

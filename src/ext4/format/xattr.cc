#include "ext4/format/xattr.h"

#include "base/checksum.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>

namespace outboard::ext4::format {
namespace {

constexpr std::size_t kMaxNameBytes = 255;

struct Prefix {
  std::uint8_t index;
  std::string_view text;
  bool whole;  // the attribute's full name, nothing may follow
};
// Whole names before the prefixes that they begin with.
constexpr std::array kPrefixes{
    Prefix{kXattrAclAccess, "system.posix_acl_access", true},
    Prefix{kXattrAclDefault, "system.posix_acl_default", true},
    Prefix{kXattrRichacl, "system.richacl", true},
    Prefix{kXattrUser, "user.", false},
    Prefix{kXattrTrusted, "trusted.", false},
    Prefix{kXattrSecurity, "security.", false},
    Prefix{kXattrSystem, "system.", false},
};

constexpr std::size_t padded(std::size_t bytes) { return (bytes + 3) / 4 * 4; }
constexpr std::size_t entry_size(std::size_t name_length) { return sizeof(RawXattrEntry) + padded(name_length); }

// Old kernels hashed names as the machine's char: signed on some. Both are met.
std::uint32_t entry_hash(std::string_view name, std::span<const std::byte> value, bool signed_chars) {
  std::uint32_t hash = 0;
  for (char c : name) {
    const auto next = signed_chars ? static_cast<std::uint32_t>(std::int32_t{static_cast<signed char>(c)})
                                   : std::uint32_t{static_cast<unsigned char>(c)};
    hash = std::rotl(hash, 5) ^ next;
  }
  for (std::size_t at = 0; at < value.size(); at += sizeof(le32)) {
    le32 word{};
    std::memcpy(&word, value.data() + at, std::min(sizeof word, value.size() - at));
    hash = std::rotl(hash, 16) ^ word.get();
  }
  return hash;
}

bool hash_is_right(const XattrView &entry) {
  return entry.hash == 0 || entry.hash == entry_hash(entry.name.name, entry.value, false) ||
         entry.hash == entry_hash(entry.name.name, entry.value, true);
}

std::uint32_t checksum_of(const Superblock &sb, BlockNumber number, std::span<const std::byte> block) {
  constexpr std::array<std::byte, 4> kZeroChecksum{};
  constexpr std::size_t kAt = offsetof(RawXattrBlockHeader, h_checksum);
  const le64 place(number.value());
  std::uint32_t crc = crc32c(sb.checksum_seed, &place, sizeof place);
  crc = crc32c(crc, block.first(kAt));
  crc = crc32c(crc, kZeroChecksum);
  return crc32c(crc, block.subspan(kAt + sizeof(le32)));
}

std::size_t contents_size(std::span<const XattrItem> items) {
  std::size_t size = sizeof(le32);  // the table ends in a zero word
  for (const XattrItem &item : items) size += entry_size(item.name.size()) + padded(item.value.size());
  return size;
}

// Entries from `first` on, values from the end downwards. `area` is zero and large enough; offsets count from its
// start.
void lay_out(std::span<std::byte> area, std::size_t first, std::span<const XattrItem *const> items, bool with_hashes) {
  std::size_t next = first, values = area.size();
  for (const XattrItem *item : items) {
    assert(item->name.size() <= kMaxNameBytes);
    auto &raw = edit_as<RawXattrEntry>(area, next);
    raw.e_name_len = static_cast<std::uint8_t>(item->name.size());
    raw.e_name_index = item->index;
    raw.e_value_size.set(static_cast<std::uint32_t>(item->value.size()));
    if (with_hashes) raw.e_hash.set(entry_hash(item->name, item->value, false));
    if (!item->value.empty()) {
      values -= padded(item->value.size());
      raw.e_value_offs.set(static_cast<std::uint16_t>(values));
      std::memcpy(area.data() + values, item->value.data(), item->value.size());
    }
    std::memcpy(area.data() + next + sizeof(RawXattrEntry), item->name.data(), item->name.size());
    next += entry_size(item->name.size());
    assert(next + sizeof(le32) <= values);
  }
}

std::vector<const XattrItem *> pointers_to(std::span<const XattrItem> items) {
  std::vector<const XattrItem *> pointers;
  pointers.reserve(items.size());
  for (const XattrItem &item : items) pointers.push_back(&item);
  return pointers;
}

// The order of entries in a block.
bool comes_before(const XattrItem *a, const XattrItem *b) {
  if (a->index != b->index) return a->index < b->index;
  if (a->name.size() != b->name.size()) return a->name.size() < b->name.size();
  return std::memcmp(a->name.data(), b->name.data(), a->name.size()) < 0;
}

// One entry without a hash makes the block's 0: it is not shared then.
std::uint32_t block_hash(std::span<const std::byte> block, std::size_t entries) {
  std::uint32_t hash = 0;
  std::size_t at = sizeof(RawXattrBlockHeader);
  for (std::size_t i = 0; i < entries; ++i) {
    const auto &entry = view_as<RawXattrEntry>(block, at);
    if (entry.e_hash.get() == 0) return 0;
    hash = std::rotl(hash, 16) ^ entry.e_hash.get();
    at += entry_size(entry.e_name_len);
  }
  return hash;
}

}  // namespace

std::optional<XattrName> split_xattr_name(std::string_view full) {
  for (const Prefix &prefix : kPrefixes) {
    if (!full.starts_with(prefix.text)) continue;
    const std::string_view rest = full.substr(prefix.text.size());
    if (prefix.whole && rest.empty()) return XattrName{prefix.index, {}};
    if (!prefix.whole && !rest.empty() && rest.size() <= kMaxNameBytes) return XattrName{prefix.index, rest};
  }
  return std::nullopt;
}

std::optional<std::string> full_xattr_name(XattrName name) {
  for (const Prefix &prefix : kPrefixes)
    if (prefix.index == name.index && prefix.whole == name.name.empty())
      return std::string(prefix.text).append(name.name);
  return std::nullopt;
}

XattrCursor::XattrCursor(std::span<const std::byte> area, std::uint32_t next, std::uint32_t table_end, bool is_block)
    : area_(area), next_(next), table_end_(table_end), is_block_(is_block) {}

// Finds the end of the table: only values behind it are believed.
Result<XattrCursor> XattrCursor::over(std::span<const std::byte> area, std::uint32_t first, bool is_block) {
  std::size_t at = first;
  for (;;) {
    if (at + sizeof(le32) > area.size()) return fail(Error::corrupt("extended attributes: table runs out of its area"));
    if (view_as<le32>(area, at).get() == 0) break;
    if (at + sizeof(RawXattrEntry) > area.size())
      return fail(Error::corrupt("extended attributes: entry runs out of its area"));
    at += entry_size(view_as<RawXattrEntry>(area, at).e_name_len);
  }
  return XattrCursor(area, first, static_cast<std::uint32_t>(at), is_block);
}

Result<XattrCursor> XattrCursor::in_inode(std::span<const std::byte> area) {
  if (area.size() < sizeof(RawXattrInlineHeader) + sizeof(le32) ||
      view_as<RawXattrInlineHeader>(area).h_magic.get() != kXattrMagic)
    return XattrCursor({}, 0, 0, false);
  return over(area.subspan(sizeof(RawXattrInlineHeader)), 0, false);
}

Result<XattrCursor> XattrCursor::in_block(std::span<const std::byte> block) {
  assert(block.size() > sizeof(RawXattrBlockHeader));
  const auto &header = view_as<RawXattrBlockHeader>(block);
  if (header.h_magic.get() != kXattrMagic) return fail(Error::corrupt("extended attribute block: magic"));
  if (header.h_blocks.get() != 1) return fail(Error::corrupt("extended attribute block: blocks"));
  if (header.h_refcount.get() == 0 || header.h_refcount.get() > kXattrMaxRefcount)
    return fail(Error::corrupt("extended attribute block: reference count"));
  return over(block, sizeof(RawXattrBlockHeader), true);
}

Result<bool> XattrCursor::next() {
  if (next_ >= table_end_) return false;
  const auto &raw = view_as<RawXattrEntry>(area_, next_);
  const auto *name = reinterpret_cast<const char *>(area_.data()) + next_ + sizeof(RawXattrEntry);
  entry_.name = {raw.e_name_index, {name, raw.e_name_len}};
  if (entry_.name.name.find('\0') != std::string_view::npos)
    return fail(Error::corrupt("extended attribute: zero byte in the name"));
  if (raw.e_value_inum.get() != 0)
    return fail(Error::unsupported("extended attribute: value in an inode").of_inode(raw.e_value_inum.get()));
  const std::uint32_t size = raw.e_value_size.get();
  const std::uint32_t offset = raw.e_value_offs.get();
  entry_.value = {};
  if (size != 0) {
    if (offset < table_end_ + sizeof(le32) || offset > area_.size() || padded(size) > area_.size() - offset)
      return fail(Error::corrupt("extended attribute: value outside of its area"));
    entry_.value = area_.subspan(offset, size);
  }
  entry_.hash = raw.e_hash.get();
  if (is_block_ && !hash_is_right(entry_)) return fail(Error::corrupt("extended attribute: hash"));
  next_ += static_cast<std::uint32_t>(entry_size(raw.e_name_len));
  return true;
}

Result<std::vector<XattrItem>> read_xattrs(XattrCursor cursor) {
  std::vector<XattrItem> items;
  while (TRY(cursor.next())) {
    const XattrView &entry = cursor.entry();
    items.push_back({entry.name.index, std::string(entry.name.name), {entry.value.begin(), entry.value.end()}});
  }
  return items;
}

Result<std::optional<XattrView>> find_xattr(XattrCursor cursor, XattrName name) {
  while (TRY(cursor.next()))
    if (cursor.entry().name == name) return cursor.entry();
  return std::nullopt;
}

Status verify_xattr_block(std::span<const std::byte> block) {
  XattrCursor cursor = TRY(XattrCursor::in_block(block));
  while (TRY(cursor.next())) {
  }
  return {};
}

Status verify_inline_xattrs(std::span<const std::byte> area) {
  XattrCursor cursor = TRY(XattrCursor::in_inode(area));
  while (TRY(cursor.next())) {
  }
  return {};
}

std::size_t inline_xattr_size(std::span<const XattrItem> items) {
  return sizeof(RawXattrInlineHeader) + contents_size(items);
}
std::size_t block_xattr_size(std::span<const XattrItem> items) {
  return sizeof(RawXattrBlockHeader) + contents_size(items);
}

bool build_inline_xattrs(std::span<std::byte> area, std::span<const XattrItem> items) {
  if (!items.empty() && inline_xattr_size(items) > area.size()) return false;
  std::fill(area.begin(), area.end(), std::byte{0});
  if (items.empty()) return true;
  edit_as<RawXattrInlineHeader>(area).h_magic.set(kXattrMagic);
  // Values end at a multiple of 4 from the first entry.
  const std::span<std::byte> rest = area.subspan(sizeof(RawXattrInlineHeader));
  lay_out(rest.first(rest.size() / 4 * 4), 0, pointers_to(items), false);
  return true;
}

bool build_xattr_block(std::span<std::byte> block, std::span<const XattrItem> items) {
  if (block_xattr_size(items) > block.size()) return false;
  std::vector<const XattrItem *> sorted = pointers_to(items);
  std::sort(sorted.begin(), sorted.end(), comes_before);
  std::fill(block.begin(), block.end(), std::byte{0});
  lay_out(block, sizeof(RawXattrBlockHeader), sorted, true);
  auto &header = edit_as<RawXattrBlockHeader>(block);
  header.h_magic.set(kXattrMagic);
  header.h_refcount.set(1);
  header.h_blocks.set(1);
  header.h_hash.set(block_hash(block, items.size()));
  return true;
}

std::uint32_t xattr_block_refcount(std::span<const std::byte> block) {
  return view_as<RawXattrBlockHeader>(block).h_refcount.get();
}
void set_xattr_block_refcount(std::span<std::byte> block, std::uint32_t refcount) {
  edit_as<RawXattrBlockHeader>(block).h_refcount.set(refcount);
}
std::uint32_t xattr_block_hash(std::span<const std::byte> block) {
  return view_as<RawXattrBlockHeader>(block).h_hash.get();
}

bool same_xattr_block(std::span<const std::byte> a, std::span<const std::byte> b) {
  Result<XattrCursor> left = XattrCursor::in_block(a), right = XattrCursor::in_block(b);
  if (!left || !right) return false;
  for (;;) {
    const Result<bool> more_left = left->next(), more_right = right->next();
    if (!more_left || !more_right || *more_left != *more_right) return false;
    if (!*more_left) return true;
    if (left->entry().name != right->entry().name || !std::ranges::equal(left->entry().value, right->entry().value))
      return false;
  }
}

bool xattr_checksum_matches(const Superblock &sb, BlockNumber number, std::span<const std::byte> block) {
  if (!sb.has_metadata_checksums()) return true;
  return view_as<RawXattrBlockHeader>(block).h_checksum.get() == checksum_of(sb, number, block);
}

void seal_xattr_block(const Superblock &sb, BlockNumber number, std::span<std::byte> block) {
  if (sb.has_metadata_checksums()) edit_as<RawXattrBlockHeader>(block).h_checksum.set(checksum_of(sb, number, block));
}

}  // namespace outboard::ext4::format

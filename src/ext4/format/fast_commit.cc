#include "ext4/format/fast_commit.h"

#include "base/checksum.h"
#include "ext4/format/dirent.h"
#include "ext4/format/inode.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace outboard::ext4::format {
namespace {

constexpr std::size_t kTagBytes = sizeof(RawFastCommitTag);

bool length_is_valid(FastCommitTag tag, std::size_t length, std::size_t inode_size) {
  switch (tag) {
  case FastCommitTag::add_range: return length == sizeof(RawFastCommitAddRange);
  case FastCommitTag::del_range: return length == sizeof(RawFastCommitDelRange);
  case FastCommitTag::create:
  case FastCommitTag::link:
  case FastCommitTag::unlink:
    return length > sizeof(RawFastCommitEntry) && length <= sizeof(RawFastCommitEntry) + kMaxNameLength;
  case FastCommitTag::inode:
    return length >= sizeof(RawFastCommitInode) + kGoodOldInodeSize && length <= sizeof(RawFastCommitInode) + inode_size;
  case FastCommitTag::pad: return true;
  case FastCommitTag::tail: return length >= sizeof(RawFastCommitTail);
  case FastCommitTag::head: return length == sizeof(RawFastCommitHead);
  }
  return false;
}

RawExtent encode(const Extent &extent) {
  RawExtent raw;
  raw.ee_block.set(extent.logical.value());
  raw.ee_len.set(static_cast<std::uint16_t>(extent.unwritten ? extent.len + kMaxExtentBlocks : extent.len));
  raw.ee_start_hi.set(static_cast<std::uint16_t>(extent.start.value() >> 32));
  raw.ee_start_lo.set(static_cast<std::uint32_t>(extent.start.value()));
  return raw;
}

Extent decode(const RawExtent &raw) {
  Extent extent;
  extent.logical = FileBlock(raw.ee_block.get());
  const std::uint32_t length = raw.ee_len.get();
  extent.unwritten = length > kMaxExtentBlocks;
  extent.len = extent.unwritten ? length - kMaxExtentBlocks : length;
  extent.start = BlockNumber(join(raw.ee_start_lo, raw.ee_start_hi));
  return extent;
}

}  // namespace

// --- scanning -------------------------------------------------------------------------------------------------------

Result<bool> FastCommitScanner::add(std::span<const std::byte> block) {
  for (std::size_t at = 0; at + kTagBytes <= block.size();) {
    const auto &header = view_as<RawFastCommitTag>(block, at);
    const auto tag = static_cast<FastCommitTag>(header.tag.get());
    const std::size_t length = header.length.get();
    if (length > block.size() - at - kTagBytes || !length_is_valid(tag, length, inode_size_)) return false;
    if (!begun_ && tag != FastCommitTag::head) return false;
    begun_ = true;
    const std::span<const std::byte> all = block.subspan(at, kTagBytes + length);
    if (TRY(record(tag, all, all.subspan(kTagBytes))) == Step::end) return false;
    at += all.size();
  }
  return begun_;
}

Result<FastCommitScanner::Step> FastCommitScanner::record(FastCommitTag tag, std::span<const std::byte> all,
                                                          std::span<const std::byte> value) {
  bytes_ += all.size();
  if (bytes_ > kMostBytes) return fail(Error::corrupt("fast commits: more than an area can reasonably hold"));
  if (tag == FastCommitTag::tail) return tail(all, value);
  if (tag == FastCommitTag::head) {
    const auto &head = view_as<RawFastCommitHead>(value);
    if (head.tid.get() != tid_) return Step::end;
    if (head.features.get() != 0) return fail(Error::unsupported("fast commits: unknown features"));
  } else if (!decode(tag, value)) {
    return Step::end;
  }
  crc_ = crc32c(crc_, all);
  return Step::next;
}

FastCommitScanner::Step FastCommitScanner::tail(std::span<const std::byte> all, std::span<const std::byte> value) {
  const auto &tail = view_as<RawFastCommitTail>(value);
  crc_ = crc32c(crc_, all.first(kTagBytes + offsetof(RawFastCommitTail, crc)));
  if (tail.tid.get() != tid_ || tail.crc.get() != crc_) return Step::end;
  ++commits_;
  if (!pending_.empty()) whole_.push_back(std::exchange(pending_, {}));
  crc_ = 0;
  return Step::next;
}

// False for a value that no writer makes.
bool FastCommitScanner::decode(FastCommitTag tag, std::span<const std::byte> value) {
  FastCommitRecord record;
  record.tag = tag;
  switch (tag) {
  case FastCommitTag::add_range: {
    const auto &raw = view_as<RawFastCommitAddRange>(value);
    record.inode = InodeNumber(raw.inode.get());
    record.range = format::decode(raw.extent);
    if (record.range.len == 0) return false;
    break;
  }
  case FastCommitTag::del_range: {
    const auto &raw = view_as<RawFastCommitDelRange>(value);
    record.inode = InodeNumber(raw.inode.get());
    record.range.logical = FileBlock(raw.first.get());
    record.range.len = raw.count.get();
    break;
  }
  case FastCommitTag::create:
  case FastCommitTag::link:
  case FastCommitTag::unlink: {
    const auto &raw = view_as<RawFastCommitEntry>(value);
    record.parent = InodeNumber(raw.parent.get());
    record.inode = InodeNumber(raw.inode.get());
    const std::span<const std::byte> name = value.subspan(sizeof(RawFastCommitEntry));
    record.name.assign(reinterpret_cast<const char *>(name.data()), name.size());
    break;
  }
  case FastCommitTag::inode: {
    record.inode = InodeNumber(view_as<RawFastCommitInode>(value).inode.get());
    const std::span<const std::byte> raw = value.subspan(sizeof(RawFastCommitInode));
    record.raw.assign(raw.begin(), raw.end());
    break;
  }
  case FastCommitTag::pad:
  case FastCommitTag::tail:
  case FastCommitTag::head: return true;
  }
  pending_.push_back(std::move(record));
  return true;
}

// --- encoding -------------------------------------------------------------------------------------------------------

// A block always keeps room for the tag of a pad.
std::span<std::byte> FastCommitEncoder::add(FastCommitTag tag, std::size_t length) {
  if (length + 2 * kTagBytes > block_size_) return {};
  if (!bytes_.empty() && used_ + kTagBytes + length > block_size_ - kTagBytes) {
    const std::span<std::byte> rest = std::span(bytes_).last(block_size_ - used_);
    if (!rest.empty()) {
      auto &pad = edit_as<RawFastCommitTag>(rest);
      pad.tag.set(static_cast<std::uint16_t>(FastCommitTag::pad));
      pad.length.set(static_cast<std::uint16_t>(rest.size() - kTagBytes));
    }
    used_ = block_size_;
  }
  if (bytes_.empty() || used_ == block_size_) {
    bytes_.resize(bytes_.size() + block_size_);
    used_ = 0;
  }
  const std::span<std::byte> place = std::span(bytes_).subspan(bytes_.size() - block_size_ + used_, kTagBytes + length);
  edit_as<RawFastCommitTag>(place).tag.set(static_cast<std::uint16_t>(tag));
  edit_as<RawFastCommitTag>(place).length.set(static_cast<std::uint16_t>(length));
  used_ += place.size();
  return place.subspan(kTagBytes);
}

void FastCommitEncoder::add_tail() {
  const std::span<std::byte> value = add(FastCommitTag::tail, sizeof(RawFastCommitTail));
  const auto crc_at = static_cast<std::size_t>(value.data() - bytes_.data()) + offsetof(RawFastCommitTail, crc);
  edit_as<RawFastCommitTag>(bytes_, crc_at - offsetof(RawFastCommitTail, crc) - kTagBytes)
      .length.set(static_cast<std::uint16_t>(sizeof(RawFastCommitTail) + block_size_ - used_));
  auto &tail = edit_as<RawFastCommitTail>(value);
  tail.tid.set(tid_);
  tail.crc.set(crc32c(0, std::span<const std::byte>(bytes_).subspan(covered_, crc_at - covered_)));
  used_ = block_size_;
  covered_ = bytes_.size();
}

void FastCommitEncoder::begin_area() {
  assert(bytes_.empty());
  edit_as<RawFastCommitHead>(add(FastCommitTag::head, sizeof(RawFastCommitHead))).tid.set(tid_);
  add_tail();
}

bool FastCommitEncoder::add_range(InodeNumber inode, const Extent &extent) {
  auto &raw = edit_as<RawFastCommitAddRange>(add(FastCommitTag::add_range, sizeof(RawFastCommitAddRange)));
  raw.inode.set(inode.value());
  raw.extent = encode(extent);
  return true;
}

bool FastCommitEncoder::del_range(InodeNumber inode, FileBlock first, std::uint32_t count) {
  auto &raw = edit_as<RawFastCommitDelRange>(add(FastCommitTag::del_range, sizeof(RawFastCommitDelRange)));
  raw.inode.set(inode.value());
  raw.first.set(first.value());
  raw.count.set(count);
  return true;
}

bool FastCommitEncoder::entry(FastCommitTag tag, InodeNumber parent, InodeNumber inode, std::string_view name) {
  assert(!name.empty() && name.size() <= kMaxNameLength);
  const std::span<std::byte> value = add(tag, sizeof(RawFastCommitEntry) + name.size());
  if (value.empty()) return false;
  edit_as<RawFastCommitEntry>(value).parent.set(parent.value());
  edit_as<RawFastCommitEntry>(value).inode.set(inode.value());
  std::memcpy(value.data() + sizeof(RawFastCommitEntry), name.data(), name.size());
  return true;
}

bool FastCommitEncoder::inode(InodeNumber number, std::span<const std::byte> raw) {
  const std::span<std::byte> value = add(FastCommitTag::inode, sizeof(RawFastCommitInode) + raw.size());
  if (value.empty()) return false;
  edit_as<RawFastCommitInode>(value).inode.set(number.value());
  std::ranges::copy(raw, value.begin() + sizeof(RawFastCommitInode));
  return true;
}

std::vector<std::byte> FastCommitEncoder::finish() {
  add_tail();
  return std::move(bytes_);
}

}  // namespace outboard::ext4::format

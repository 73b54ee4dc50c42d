#include "device/overlay_device.h"

#include "base/units.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace outboard::device {

OverlayDevice::OverlayDevice(std::unique_ptr<BlockDevice> lower, const OverlayOptions &options)
    : OverlayDevice(*lower, options) {
  owned_ = std::move(lower);
}

OverlayDevice::OverlayDevice(BlockDevice &lower, const OverlayOptions &options)
    : lower_(lower), properties_(lower.properties()), most_pages_(options.most_bytes / kPage) {
  properties_.read_only = false;
  properties_.discards = false;
}

std::uint64_t OverlayDevice::bytes_in_use() const {
  ReadLock lock(mutex_);
  return pages_.size() * kPage;
}

std::vector<std::uint64_t> OverlayDevice::changed_pages() const {
  std::vector<std::uint64_t> offsets;
  {
    ReadLock lock(mutex_);
    offsets.reserve(pages_.size());
    for (const auto &[page, bytes] : pages_) offsets.push_back(page * kPage);
  }
  std::ranges::sort(offsets);
  return offsets;
}

Status OverlayDevice::check(std::uint64_t offset, std::uint64_t length) const {
  if (offset > properties_.size || length > properties_.size - offset)
    return fail(Error::system(EIO, "overlay: range beyond the end"));
  return {};
}

Status OverlayDevice::read(std::uint64_t offset, std::span<std::byte> data) {
  TRY(check(offset, data.size()));
  // What is in memory is copied under the lock; the gaps, joined to runs, are read below without it. A page that
  // appears meanwhile belongs to a write that overlaps this read in time, or leaves our bytes of it as they were.
  std::vector<ByteRange> gaps;  // offsets into data
  {
    ReadLock lock(mutex_);
    for (std::size_t done = 0; done < data.size();) {
      const std::uint64_t at = offset + done;
      const std::size_t in_page = at % kPage;
      const std::size_t piece = std::min(data.size() - done, kPage - in_page);
      const auto found = pages_.find(at / kPage);
      if (found != pages_.end()) std::memcpy(data.data() + done, found->second->data() + in_page, piece);
      else if (!gaps.empty() && gaps.back().end() == done) gaps.back().length += piece;
      else gaps.push_back({done, piece});
      done += piece;
    }
  }
  for (const ByteRange &gap : gaps) TRY(lower_.read(offset + gap.offset, data.subspan(gap.offset, gap.length)));
  return {};
}

// The contents below of a page that is to be changed in part.
Status OverlayDevice::load_edge(std::uint64_t page, Page &out) const {
  const std::uint64_t start = page * kPage;
  const std::uint64_t length = std::min<std::uint64_t>(kPage, properties_.size - start);
  out.fill(std::byte{0});
  return lower_.read(start, std::span(out).first(length));
}

Status OverlayDevice::write(std::uint64_t offset, std::span<const std::byte> data) {
  TRY(check(offset, data.size()));
  if (data.empty()) return {};
  const std::uint64_t first = offset / kPage;
  const std::uint64_t last = (offset + data.size() - 1) / kPage;
  const std::uint64_t end = offset + data.size();
  // Read ahead of the lock: below nothing changes, so these bytes stay right; they are unused if the page exists.
  Page head, tail;
  const bool head_partial = offset % kPage != 0 || (first == last && end % kPage != 0);
  const bool tail_partial = first != last && end % kPage != 0;
  if (head_partial) TRY(load_edge(first, head));
  if (tail_partial) TRY(load_edge(last, tail));

  WriteLock lock(mutex_);
  std::uint64_t missing = 0;
  for (std::uint64_t page = first; page <= last; ++page) missing += pages_.contains(page) ? 0 : 1;
  if (missing > most_pages_ - std::min<std::uint64_t>(most_pages_, pages_.size()))
    return fail(Error::system(ENOSPC, "overlay: more changes than its memory holds"));
  for (std::uint64_t page = first; page <= last; ++page) {
    std::unique_ptr<Page> &slot = pages_[page];
    if (!slot) {
      slot = std::make_unique<Page>();
      if (page == first && head_partial) *slot = head;
      if (page == last && tail_partial) *slot = tail;
    }
    const std::size_t in_page = page == first ? offset % kPage : 0;
    const std::size_t piece = std::min(data.size(), kPage - in_page);
    std::memcpy(slot->data() + in_page, data.data(), piece);
    data = data.subspan(piece);
  }
  return {};
}

Status OverlayDevice::discard(std::uint64_t offset, std::uint64_t length) { return check(offset, length); }

}  // namespace outboard::device

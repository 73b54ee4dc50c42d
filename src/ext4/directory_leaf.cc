#include "ext4/directory_leaf.h"

#include "ext4/directory_linear.h"

#include <algorithm>
#include <cassert>

namespace outboard::ext4 {

Result<LeafContents> LeafContents::of(const DirectoryBlocks &blocks, const cache::BufferRef &buffer,
                                      const format::NameHash &hash, bool first_block) {
  LeafContents contents;
  contents.copy_.assign(buffer->bytes().begin(), buffer->bytes().end());
  format::DirCursor cursor(contents.copy_, blocks.format());
  while (TRY(blocks.placed(cursor.next(), buffer))) {
    const format::DirEntryView &entry = cursor.entry();
    if (!entry.used()) continue;
    contents.packed_size_ += format::dir_entry_size(entry.name.size());
    if (first_block && is_dot_or_dotdot(entry.name)) contents.dots_.push_back(entry);
    else contents.entries_.push_back({hash(entry.name).major, entry});
  }
  if (first_block && (contents.dots_.size() != 2 || contents.dots_[0].name != "." || contents.dots_[1].name != ".."))
    return fail(blocks.corrupt("directory: first block without . and ..", buffer->block().value()));
  return contents;
}

std::vector<format::DirEntryView> LeafContents::all() const {
  std::vector<format::DirEntryView> views = dots_;
  views.reserve(dots_.size() + entries_.size());
  for (const Entry &entry : entries_) views.push_back(entry.view);
  return views;
}

LeafContents::Halves LeafContents::halves(std::uint32_t block_size) const {
  assert(entries_.size() >= 2);
  std::vector<Entry> sorted = entries_;
  std::ranges::stable_sort(sorted, {}, &Entry::major);
  // From the top down until half the block is full; both sides get one entry at least.
  std::size_t cut = sorted.size();
  for (std::uint32_t moved = 0; cut > 1; --cut) {
    const std::uint32_t size = format::dir_entry_size(sorted[cut - 1].view.name.size());
    if (moved + size / 2 > block_size / 2) break;
    moved += size;
  }
  assert(cut < sorted.size());
  Halves halves;
  for (std::size_t i = 0; i < sorted.size(); ++i) (i < cut ? halves.lower : halves.upper).push_back(sorted[i].view);
  halves.boundary = sorted[cut].major;
  halves.continued = sorted[cut - 1].major == halves.boundary;
  return halves;
}

}  // namespace outboard::ext4

#include "pagecache/file_cache.h"

#include "pagecache/trace.h"

#include <cassert>
#include <cstring>

namespace outboard::pagecache {
namespace {

// A file that is written from front to back in small pieces gets folios that double up to this.
constexpr std::size_t kGrownFolio = std::size_t{256} << 10;

// [start, end) of a folio as a folio of its own, in the same memory and in the same state.
FolioRef part_of(const Folio &folio, std::uint64_t start, std::uint64_t end) {
  auto part = std::make_shared<Folio>();
  part->offset = start;
  part->length = end - start;
  part->buffer = folio.buffer;
  part->start = folio.start + (start - folio.offset);
  part->in_writeback = folio.in_writeback;
  return part;
}

std::uint64_t clipped_end(ByteRange range) { return range.length > ~range.offset ? ~std::uint64_t{0} : range.end(); }
std::uint64_t clipped_round_up(std::uint64_t value, std::uint64_t unit) {
  return value > ~unit ? ~std::uint64_t{0} : round_up(value, unit);
}

}  // namespace

// --- looking --------------------------------------------------------------------------------------------------------

FileCache::Folios::const_iterator FileCache::first_touching(std::uint64_t offset) const {
  auto folio = folios_.upper_bound(offset);
  if (folio != folios_.begin() && std::prev(folio)->second->end() > offset) --folio;
  return folio;
}

FileCache::Folios::iterator FileCache::first_touching(std::uint64_t offset) {
  auto folio = folios_.upper_bound(offset);
  if (folio != folios_.begin() && std::prev(folio)->second->end() > offset) --folio;
  return folio;
}

std::vector<FileCache::Piece> FileCache::pieces(ByteRange range) const {
  std::vector<Piece> out;
  MutexLock lock(mutex_);
  std::uint64_t at = range.offset;
  for (auto it = first_touching(at); at < range.end() && it != folios_.end() && it->first < range.end(); ++it) {
    const FolioRef &folio = it->second;
    if (folio->offset > at) out.push_back({{at, folio->offset - at}, {}, nullptr});
    at = std::max(at, folio->offset);
    const std::uint64_t end = std::min(folio->end(), range.end());
    out.push_back({{at, end - at}, folio->bytes().subspan(at - folio->offset, end - at), folio});
    at = end;
  }
  if (at < range.end()) out.push_back({{at, range.end() - at}, {}, nullptr});
  return out;
}

bool FileCache::touches(ByteRange range) const {
  if (empty()) return false;
  MutexLock lock(mutex_);
  auto folio = first_touching(range.offset);
  return folio != folios_.end() && folio->first < clipped_end(range);
}

ByteRange FileCache::next_dirty(std::uint64_t offset) const {
  MutexLock lock(mutex_);
  auto folio = first_touching(offset);
  if (folio == folios_.end()) return {offset, 0};
  const std::uint64_t start = std::max(offset, folio->first);
  std::uint64_t end = folio->second->end();
  for (++folio; folio != folios_.end() && folio->first == end; ++folio) end = folio->second->end();
  return {start, end - start};
}

// --- writing --------------------------------------------------------------------------------------------------------

Result<FileCache::Folios::iterator> FileCache::unshare(Folios::iterator it, std::uint64_t start, std::uint64_t end) {
  const FolioRef folio = it->second;
  start = std::max(start, folio->offset);
  end = std::min(end, folio->end());
  auto copy = std::make_shared<Folio>();
  copy->offset = start;
  copy->length = end - start;
  copy->buffer = std::make_shared<FolioMemory::Buffer>(TRY(memory_.allocate(copy->length)));
  std::memcpy(copy->bytes().data(), folio->bytes().data() + (start - folio->offset), copy->length);
  folios_.erase(it);
  if (folio->offset < start) folios_.emplace(folio->offset, part_of(*folio, folio->offset, start));
  if (end < folio->end()) folios_.emplace(end, part_of(*folio, end, folio->end()));
  return folios_.emplace(start, std::move(copy)).first;
}

// Room at `offset`, where no folio is, up to `limit` (the next folio or the end of what is wanted): behind the folio that
// ends there while it has room, else in a new one.
Status FileCache::append_room(std::uint64_t offset, std::uint64_t limit, std::size_t wanted, std::vector<Writable> &out) {
  auto next = folios_.lower_bound(offset);
  Folio *before = next != folios_.begin() ? std::prev(next)->second.get() : nullptr;
  const bool continues = before != nullptr && before->end() == offset && !before->in_writeback;
  const std::size_t room = continues ? before->room() : 0;
  const std::size_t fits = round_down<std::size_t>(std::min<std::uint64_t>(room, limit - offset), block_size_);
  if (fits > 0) {
    before->length += fits;
    out.push_back({{offset, fits}, before->bytes().last(fits), true});
    dirty_.fetch_add(fits, std::memory_order_release);
    return {};
  }
  std::size_t size = wanted;
  if (continues) size = std::max(size, std::min(kGrownFolio, before->length * 2));
  auto folio = std::make_shared<Folio>();
  folio->buffer = std::make_shared<FolioMemory::Buffer>(TRY(memory_.allocate(std::max<std::size_t>(size, block_size_))));
  folio->offset = offset;
  const std::size_t most = std::min<std::uint64_t>(folio->buffer->bytes().size(), limit - offset);
  folio->length = round_down<std::size_t>(most, block_size_);
  out.push_back({{offset, folio->length}, folio->bytes(), true});
  dirty_.fetch_add(folio->length, std::memory_order_release);
  folios_.emplace_hint(next, offset, std::move(folio));
  return {};
}

Result<std::vector<FileCache::Writable>> FileCache::make_writable(ByteRange blocks) {
  assert(blocks.offset % block_size_ == 0 && blocks.length % block_size_ == 0);
  std::vector<Writable> out;
  MutexLock lock(mutex_);
  Status status;
  for (std::uint64_t at = blocks.offset; at < blocks.end() && status;) {
    auto it = first_touching(at);
    if (it != folios_.end() && it->first <= at) {
      if (it->second->in_writeback) {
        auto copy = unshare(it, at, blocks.end());
        if (!copy) {
          status = fail(std::move(copy).error());
          break;
        }
        it = *copy;
      }
      Folio &folio = *it->second;
      const std::uint64_t end = std::min(folio.end(), blocks.end());
      out.push_back({{at, end - at}, folio.bytes().subspan(at - folio.offset, end - at), false});
    } else {
      const std::uint64_t limit = it != folios_.end() ? std::min(it->first, blocks.end()) : blocks.end();
      status = append_room(at, limit, limit - at, out);
      if (!status) break;
    }
    at = out.back().range.end();
  }
  if (status) {
    trace::dirtied(inode_, blocks.offset, blocks.length);
    return out;
  }
  for (const Writable &part : out)
    if (part.fresh) drop_locked(part.range);
  return std::unexpected(std::move(status).error());
}

void FileCache::drop(ByteRange blocks) {
  if (!empty()) trace::dropped(inode_, blocks.offset, blocks.length);
  MutexLock lock(mutex_);
  drop_locked(blocks);
}

void FileCache::drop_locked(ByteRange blocks) {
  const std::uint64_t start = blocks.offset, end = clipped_end(blocks);
  for (auto it = first_touching(start); it != folios_.end() && it->first < end;) {
    FolioRef folio = it->second;
    const std::uint64_t old_end = folio->end();
    it = folios_.erase(it);
    dirty_.fetch_sub(folio->length, std::memory_order_release);
    if (old_end > end) {
      FolioRef rest = part_of(*folio, end, old_end);
      dirty_.fetch_add(rest->length, std::memory_order_release);
      it = std::next(folios_.emplace(end, std::move(rest)).first);
    }
    if (folio->offset < start) {
      folio->length = start - folio->offset;
      dirty_.fetch_add(folio->length, std::memory_order_release);
      folios_.emplace(folio->offset, std::move(folio));
    }
  }
}

Status FileCache::zero(ByteRange range) {
  MutexLock lock(mutex_);
  const std::uint64_t end = clipped_end(range);
  for (auto it = first_touching(range.offset); it != folios_.end() && it->first < end; ++it) {
    if (it->second->in_writeback)
      it = TRY(unshare(it, round_down<std::uint64_t>(range.offset, block_size_), clipped_round_up(end, block_size_)));
    Folio &folio = *it->second;
    const std::uint64_t from = std::max(range.offset, folio.offset), to = std::min(end, folio.end());
    std::memset(folio.bytes().data() + (from - folio.offset), 0, to - from);
  }
  return {};
}

// --- write-back -----------------------------------------------------------------------------------------------------

FileCache::Batch FileCache::take(std::uint64_t from, std::uint64_t most) {
  Batch batch;
  MutexLock lock(mutex_);
  for (auto it = first_touching(from); it != folios_.end(); ++it) {
    const FolioRef &folio = it->second;
    if (batch.empty()) batch.range.offset = folio->offset;
    else if (folio->offset != batch.range.end() || batch.range.length + folio->length > most) break;
    folio->in_writeback = true;
    batch.range.length += folio->length;
    batch.folios.push_back(folio);
  }
  if (!batch.empty()) {
    const std::uint64_t size = this->size();
    if (batch.range.end() > size && size > batch.range.offset) batch.range.length = size - batch.range.offset;
    trace::write_back_begin(inode_, batch.range.offset, batch.range.length, batch.folios.size());
  }
  return batch;
}

void FileCache::finish(Batch &batch) {
  trace::write_back_end(inode_, batch.range.offset, batch.range.length);
  MutexLock lock(mutex_);
  for (const FolioRef &folio : batch.folios) {
    // The folio, or what writers have left of it: copies are not marked.
    for (auto it = first_touching(folio->offset); it != folios_.end() && it->first < folio->end();) {
      if (!it->second->in_writeback) {
        ++it;
        continue;
      }
      dirty_.fetch_sub(it->second->length, std::memory_order_release);
      it = folios_.erase(it);
    }
  }
  batch.folios.clear();
}

}  // namespace outboard::pagecache

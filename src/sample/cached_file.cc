#include "sample/cached_file.h"

#include "iomap/buffered.h"
#include "iomap/direct.h"
#include "iomap/seek.h"
#include "iomap/write_back.h"

#include <algorithm>

namespace outboard::sample {
namespace {

namespace buffered = iomap::buffered;
namespace direct = iomap::direct;
using pagecache::FileCache;

constexpr std::uint64_t kBatch = std::uint64_t{4} << 20;

}  // namespace

// Write-back holds no lock while the device works; it takes the file's for each question.
class CachedFile::LockedSource final : public iomap::MappingSource {
public:
  explicit LockedSource(CachedFile &file) : file_(file) {}
  Result<iomap::Mapping> begin(ByteRange range, iomap::Operation operation) override {
    WriteLock locked(file_.lock);
    return file_.source_.begin(range, operation);
  }
  Status ioend(ByteRange written, const iomap::Mapping &mapping) override {
    WriteLock locked(file_.lock);
    return file_.source_.ioend(written, mapping);
  }
  Status end(ByteRange range, std::uint64_t moved, iomap::Operation operation, const iomap::Mapping &mapping) override {
    WriteLock locked(file_.lock);
    return file_.source_.end(range, moved, operation, mapping);
  }
  bool is_current(const iomap::Mapping &mapping) const override {
    ReadLock locked(file_.lock);
    return file_.source_.is_current(mapping);
  }

private:
  CachedFile &file_;
};

CachedFile::CachedFile(FileSource &source, device::BlockDevice &device, pagecache::FolioMemory &memory,
                       std::uint32_t block_size)
    : source_(source), device_(device), block_size_(block_size), cache_(memory, block_size) {
  cache_.set_size(source.size());
}

// --- through the page cache ------------------------------------------------------------------------------------------

Result<std::size_t> CachedFile::read(std::uint64_t offset, std::span<std::byte> into) {
  ReadLock locked(lock);
  return buffered::read(source_, cache_, device_, offset, into);
}

Result<std::size_t> CachedFile::write(std::uint64_t offset, std::span<const std::byte> data) {
  WriteLock locked(lock);
  return buffered::write(source_, cache_, device_, offset, data);
}

Status CachedFile::zero(ByteRange range) {
  WriteLock locked(lock);
  if (range.offset >= cache_.size()) return {};
  range.length = std::min(range.length, cache_.size() - range.offset);
  return buffered::zero(source_, cache_, device_, range);
}

// --- write-back -------------------------------------------------------------------------------------------------------

// All that is dirty is taken at one moment: no write is in it by half. The folios go when all of it is recorded, so that
// readers see each byte in one of the two places at any time.
Status CachedFile::write_back_locked() {
  std::vector<FileCache::Batch> batches;
  {
    WriteLock locked(lock);
    for (std::uint64_t from = 0;;) {
      FileCache::Batch batch = cache_.take(from, kBatch);
      if (batch.empty()) break;
      source_.taken(batch.range);
      from = batch.next();
      batches.push_back(std::move(batch));
    }
  }
  LockedSource source(*this);
  Status status;
  // In order, and nothing behind an error: a size must not expose what stands before it.
  for (const FileCache::Batch &batch : batches) {
    iomap::WriteBackCount done;
    status = iomap::write_back(source, batch, device_, block_size_, done);
    if (!status) break;
  }
  WriteLock locked(lock);
  if (!batches.empty()) source_.settle(status.has_value());
  for (FileCache::Batch &batch : batches) cache_.finish(batch);
  if (!cache_.empty()) return status;
  source_.clean();
  // A file that grew without data: its old end has reached the device by now.
  if (status && source_.size() < cache_.size()) status = source_.grow(cache_.size());
  return status;
}

Status CachedFile::write_back() {
  MutexLock io(io_);
  Status status = write_back_locked();
  if (!status && unreported_) unreported_ = status;
  return status;
}

Status CachedFile::flush() {
  MutexLock io(io_);
  Status status = write_back_locked();
  if (!unreported_) status = std::exchange(unreported_, Status{});
  Status synced = source_.sync();
  return status ? synced : status;
}

void CachedFile::discard() {
  MutexLock io(io_);
  WriteLock locked(lock);
  cache_.drop({0, ~std::uint64_t{0}});
  source_.clean();
}

// --- past the page cache, and changes of the map ---------------------------------------------------------------------

// No byte is dirty, and the lock is held so that none becomes so.
Status CachedFile::clean_and_lock() {
  for (;;) {
    Status status = write_back_locked();
    lock.lock();
    if (!status || cache_.empty()) return status;
    lock.unlock();
  }
}

Result<std::size_t> CachedFile::read_direct(std::uint64_t offset, std::span<std::byte> into) {
  {
    MutexLock io(io_);
    if (cache_.touches({offset, into.size()})) TRY(write_back_locked());
  }
  // What has become dirty meanwhile is read where it is.
  return read(offset, into);
}

Result<std::size_t> CachedFile::write_direct(std::uint64_t offset, std::span<const std::byte> data) {
  {
    MutexLock io(io_);
    Status clean = clean_and_lock();
    Result<std::size_t> done = 0;
    if (clean) done = write_direct_locked(offset, data);
    lock.unlock();
    TRY(std::move(clean));
    if (done || done.error().kind() != ErrorKind::unsupported) return done;
  }
  const std::size_t done = TRY(write(offset, data));
  TRY(write_back());
  return done;
}

Result<std::size_t> CachedFile::write_direct_locked(std::uint64_t offset, std::span<const std::byte> data) {
  std::size_t done = 0;
  Status status;
  while (status && done < data.size()) {
    const Result<std::size_t> more =
        direct::write(source_, device_, block_size_, offset + done, data.subspan(done), cache_.size());
    if (more) done += *more;
    else status = fail(more.error());
  }
  source_.settle(status.has_value());
  cache_.set_size(std::max(cache_.size(), source_.size()));
  // What came before the error stands, unless it has just been taken back.
  if (!status && (done == 0 || source_.atomic())) return fail(std::move(status).error());
  return done;
}

Status CachedFile::punch(ByteRange range) {
  MutexLock io(io_);
  WriteLock locked(lock);
  const std::uint64_t size = cache_.size();
  if (range.offset >= size || range.length == 0) return {};
  const std::uint64_t end = range.offset + std::min(range.length, size - range.offset);
  const std::uint64_t first = round_up<std::uint64_t>(range.offset, block_size_);
  // The file's last block counts as whole: nothing is behind it.
  const std::uint64_t last = end == size ? round_up<std::uint64_t>(end, block_size_) : round_down<std::uint64_t>(end, block_size_);
  if (first >= last) return buffered::zero(source_, cache_, device_, {range.offset, end - range.offset});
  TRY(source_.punch({first, last - first}));
  cache_.drop({first, last - first});
  TRY(buffered::zero(source_, cache_, device_, {range.offset, first - range.offset}));
  return end > last ? buffered::zero(source_, cache_, device_, {last, end - last}) : Status{};
}

Status CachedFile::set_size(std::uint64_t size) {
  MutexLock io(io_);
  WriteLock locked(lock);
  const std::uint64_t old = cache_.size();
  if (size > old) {
    if (size > source_.size_limit()) return fail(Error::user(EFBIG));
    // Whatever stands behind the old end becomes zeros, which reach the device before the size does.
    const std::uint64_t tail = round_up<std::uint64_t>(old, block_size_) - old;
    TRY(buffered::zero(source_, cache_, device_, {old, std::min(tail, size - old)}));
  } else if (size < old) {
    TRY(source_.shrink(size));
    const std::uint64_t end = round_up<std::uint64_t>(size, block_size_);
    TRY(cache_.zero({size, end - size}));
    cache_.drop({end, ~end});
  }
  cache_.set_size(size);
  return {};
}

Result<std::uint64_t> CachedFile::seek_data(std::uint64_t offset) {
  ReadLock locked(lock);
  return iomap::seek_data(source_, offset, cache_.size(), &cache_);
}

Result<std::uint64_t> CachedFile::seek_hole(std::uint64_t offset) {
  ReadLock locked(lock);
  return iomap::seek_hole(source_, offset, cache_.size(), &cache_);
}

Result<iomap::Report> CachedFile::report(ByteRange range, std::size_t most) {
  ReadLock locked(lock);
  return iomap::report(source_, range, most);
}

}  // namespace outboard::sample

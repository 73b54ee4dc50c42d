#include "pagecache/folio_memory.h"

#include "pagecache/trace.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstdlib>

namespace outboard::pagecache {

void FolioMemory::Free::operator()(std::byte *bytes) const { std::free(bytes); }

FolioMemory::FolioMemory(MemoryLimits limits) : limits_(limits) {}

FolioMemory::~FolioMemory() {
  MutexLock lock(mutex_);
  assert(in_use_ == 0);
}

std::size_t FolioMemory::class_of(std::size_t size) {
  return static_cast<std::size_t>(std::countr_zero(std::bit_ceil(size))) - static_cast<std::size_t>(std::countr_zero(kSmallest));
}

Result<FolioMemory::Buffer> FolioMemory::allocate(std::size_t wanted) {
  const std::size_t size = std::bit_ceil(std::clamp(wanted, kSmallest, kLargest));
  Owned bytes;
  {
    MutexLock lock(mutex_);
    std::vector<Owned> &spare = spare_[class_of(size)];
    if (!spare.empty()) {
      bytes = std::move(spare.back());
      spare.pop_back();
      spare_bytes_ -= size;
    }
    in_use_ += size;
  }
  if (!bytes) bytes = Owned(static_cast<std::byte *>(std::aligned_alloc(kAlignment, size)));
  if (!bytes) {
    MutexLock lock(mutex_);
    in_use_ -= size;
    return fail(Error::system(ENOMEM, "page cache: no memory for a folio"));
  }
  return Buffer(this, {bytes.release(), size});
}

void FolioMemory::give_back(std::span<std::byte> bytes) {
  Owned owned(bytes.data());
  MutexLock lock(mutex_);
  in_use_ -= bytes.size();
  if (in_use_ < limits_.dirty) room_.notify_all();
  if (spare_bytes_ + bytes.size() > limits_.spare) return;
  spare_bytes_ += bytes.size();
  spare_[class_of(bytes.size())].push_back(std::move(owned));
}

void FolioMemory::wait_for_room() {
  MutexLock lock(mutex_);
  if (in_use_ < limits_.dirty || !waiting_allowed_) return;
  ++waits_;
  const outboard::trace::Stopwatch watch;
  while (in_use_ >= limits_.dirty && waiting_allowed_) room_.wait(mutex_);
  trace::throttled(in_use_, watch);
}

void FolioMemory::stop_waiting() {
  MutexLock lock(mutex_);
  waiting_allowed_ = false;
  room_.notify_all();
}

std::size_t FolioMemory::in_use() const {
  MutexLock lock(mutex_);
  return in_use_;
}

std::uint64_t FolioMemory::waits() const {
  MutexLock lock(mutex_);
  return waits_;
}

std::size_t FolioMemory::shrink() {
  std::array<std::vector<Owned>, kClasses> freed;
  MutexLock lock(mutex_);
  freed.swap(spare_);
  return std::exchange(spare_bytes_, 0);
}

}  // namespace outboard::pagecache

#include "device/request_memory.h"

#include "base/units.h"

#include <bit>
#include <cassert>
#include <cstdlib>

namespace outboard::device {

void RequestMemory::Free::operator()(std::byte *memory) const { std::free(memory); }

Result<std::shared_ptr<RequestMemory>> RequestMemory::allocate(std::size_t bytes) {
  auto made = std::make_shared<RequestMemory>();
  made->size_ = round_up(bytes, kAlignment);
  made->memory_.reset(static_cast<std::byte *>(std::aligned_alloc(kAlignment, made->size_)));
  if (!made->memory_) return fail(Error::system(ENOMEM, "device: memory of a request"));
  return made;
}

Result<std::shared_ptr<RequestMemory>> RequestMemory::of_this_thread(std::size_t bytes) {
  assert(bytes <= kLargest);
  thread_local std::shared_ptr<RequestMemory> kept;
  // Others own it too while a request that was given up is still under way.
  if (!kept || kept->size_ < bytes || kept.use_count() > 1)
    kept = TRY(allocate(std::bit_ceil(bytes < kAlignment ? kAlignment : bytes)));
  return kept;
}

}  // namespace outboard::device

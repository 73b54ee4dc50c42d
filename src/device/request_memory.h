// The memory of one device request, aligned for direct I/O. It belongs to the request, not to whoever waits for it: when the
// waiter's patience ends, the request keeps its memory until the device is done with it, however late that is, and the thread
// gets other memory. So a late completion touches nothing that was reused.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <memory>
#include <span>

namespace outboard::device {

class RequestMemory {
public:
  static constexpr std::size_t kAlignment = 4096;
  static constexpr std::size_t kLargest = std::size_t{1} << 20;  // bytes; longer transfers go in pieces

  // Memory of at least `bytes` (up to kLargest), kept by the thread from request to request so that its pages are there.
  // Whoever shares ownership beyond the request keeps the thread from using it again. ENOMEM.
  static Result<std::shared_ptr<RequestMemory>> of_this_thread(std::size_t bytes);
  static Result<std::shared_ptr<RequestMemory>> allocate(std::size_t bytes);

  std::span<std::byte> first(std::size_t bytes) const { return {memory_.get(), bytes}; }

private:
  struct Free {
    void operator()(std::byte *memory) const;
  };
  std::unique_ptr<std::byte[], Free> memory_;
  std::size_t size_ = 0;
};

}  // namespace outboard::device

// Memory for folios: bounded, reused, and the place where writers wait when too much of it is dirty.
//
// Thread-safe. One per mount. Buffers come in power-of-two sizes and are aligned for direct I/O; a few are kept for
// reuse, because freshly mapped memory costs a page fault a page.
#pragma once

#include "base/mutex.h"
#include "base/result.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace outboard::pagecache {

inline constinit WaitClass kRoom{"pagecache: room for dirty folios"};  // owed by whoever writes back for those who wait

struct MemoryLimits {
  std::size_t dirty = std::size_t{48} << 20;  // bytes of folios, clean or dirty, above which writers wait
  std::size_t spare = std::size_t{16} << 20;  // bytes of freed buffers kept for reuse
};

class FolioMemory {
public:
  static constexpr std::size_t kAlignment = 4096;
  static constexpr std::size_t kSmallest = 4096, kLargest = std::size_t{1} << 20;

  explicit FolioMemory(MemoryLimits limits = {});
  FolioMemory(const FolioMemory &) = delete;
  FolioMemory &operator=(const FolioMemory &) = delete;
  ~FolioMemory();  // every buffer has been given back

  // A buffer on loan; empty when default-made.
  class Buffer {
  public:
    Buffer() = default;
    Buffer(Buffer &&other) noexcept
        : memory_(std::exchange(other.memory_, nullptr)), bytes_(std::exchange(other.bytes_, {})) {}
    Buffer &operator=(Buffer &&other) noexcept {
      std::swap(memory_, other.memory_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Buffer() {
      if (memory_ != nullptr) memory_->give_back(bytes_);
    }
    std::span<std::byte> bytes() const { return bytes_; }

  private:
    friend class FolioMemory;
    Buffer(FolioMemory *memory, std::span<std::byte> bytes) : memory_(memory), bytes_(bytes) {}
    FolioMemory *memory_ = nullptr;
    std::span<std::byte> bytes_;
  };

  // At least `wanted` bytes (rounded up to a size class, at most kLargest); contents undefined. Never waits: whoever
  // may wait calls wait_for_room() before it takes any lock. ENOMEM.
  Result<Buffer> allocate(std::size_t wanted);

  // Waits until less than the limit is in use: for whoever is about to dirty memory and holds no lock that write-back
  // needs. What ends the wait: write-back giving buffers back, or stop_waiting().
  void wait_for_room() EXCLUDES(mutex_);
  // Nobody waits any more (unmount, shutdown): writers are about to be told why.
  void stop_waiting() EXCLUDES(mutex_);

  std::size_t in_use() const EXCLUDES(mutex_);
  std::size_t limit() const { return limits_.dirty; }
  // Frees the spare buffers: under memory pressure they go first. Returns bytes freed.
  std::size_t shrink() EXCLUDES(mutex_);
  std::uint64_t waits() const EXCLUDES(mutex_);  // how often a writer had to wait

private:
  static constexpr std::size_t kClasses = 9;  // 4 KiB to 1 MiB
  static std::size_t class_of(std::size_t size);
  void give_back(std::span<std::byte> bytes) EXCLUDES(mutex_);

  struct Free {
    void operator()(std::byte *bytes) const;
  };
  using Owned = std::unique_ptr<std::byte[], Free>;

  const MemoryLimits limits_;
  mutable Mutex mutex_{Rank::leaf};
  CondVar room_;
  std::array<std::vector<Owned>, kClasses> spare_ GUARDED_BY(mutex_);
  std::size_t spare_bytes_ GUARDED_BY(mutex_) = 0;
  std::size_t in_use_ GUARDED_BY(mutex_) = 0;
  std::uint64_t waits_ GUARDED_BY(mutex_) = 0;
  bool waiting_allowed_ GUARDED_BY(mutex_) = true;
};

}  // namespace outboard::pagecache

// A device that keeps its writes in memory over another that is never written: for a read-only mount of an image whose
// journal must be replayed to be read. What is written is lost when the object goes; flush() makes nothing durable.
#pragma once

#include "base/mutex.h"
#include "device/block_device.h"

#include <array>
#include <memory>
#include <unordered_map>
#include <vector>

namespace outboard::device {

struct OverlayOptions {
  std::uint64_t most_bytes = std::uint64_t{1} << 30;  // memory for changed pages; a write that needs more is ENOSPC
};

class OverlayDevice final : public BlockDevice {
public:
  explicit OverlayDevice(std::unique_ptr<BlockDevice> lower, const OverlayOptions &options = {});
  // `lower` outlives the overlay, and nobody writes to it.
  explicit OverlayDevice(BlockDevice &lower, const OverlayOptions &options = {});

  std::uint64_t bytes_in_use() const;
  // Offsets of the pages of kPage bytes that were written to, ascending.
  std::vector<std::uint64_t> changed_pages() const;
  static constexpr std::size_t kPage = 4096;

  const Properties &properties() const override { return properties_; }
  Status read(std::uint64_t offset, std::span<std::byte> data) override;
  // All or nothing: a write refused with ENOSPC, or whose edges cannot be read below, has changed nothing.
  Status write(std::uint64_t offset, std::span<const std::byte> data) override;
  Status flush() override { return {}; }
  Status discard(std::uint64_t offset, std::uint64_t length) override;  // ignored

private:
  using Page = std::array<std::byte, kPage>;

  Status check(std::uint64_t offset, std::uint64_t length) const;
  Status load_edge(std::uint64_t page, Page &out) const;

  std::unique_ptr<BlockDevice> owned_;
  BlockDevice &lower_;
  Properties properties_;
  std::uint64_t most_pages_;
  mutable SharedMutex mutex_{Rank::leaf};                                              // never held during I/O below
  std::unordered_map<std::uint64_t, std::unique_ptr<Page>> pages_ GUARDED_BY(mutex_);  // by offset / kPage
};

}  // namespace outboard::device

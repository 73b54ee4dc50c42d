// Fast commits replayed, as jbd2::recover() asks for it (docs/jbd2.md, "Fast commits").
//
// The changes are made by this program's own code, on a volume of its own over an overlay of the device: nothing of it
// reaches the device from here. What differs in the end is handed to recovery, which makes it one transaction.
#pragma once

#include "ext4/format/fast_commit.h"
#include "ext4/volume.h"

#include <optional>

namespace outboard::ext4 {

class FastCommitReplayer final : public jbd2::FastCommitReplay {
public:
  // `superblock` as read before recovery; `log`: no place for anything else when it lies on the same device.
  FastCommitReplayer(device::BlockDevice &device, const format::Superblock &superblock, std::optional<jbd2::LogArea> log)
      : device_(device), superblock_(superblock), log_(std::move(log)) {}

  Result<bool> scan(std::uint32_t tid, std::span<const std::byte> block) override;
  Result<std::vector<jbd2::ChangedBlock>> replay() override;

  std::uint32_t commits() const { return commits_; }

private:
  device::BlockDevice &device_;
  const format::Superblock superblock_;
  const std::optional<jbd2::LogArea> log_;
  std::optional<format::FastCommitScanner> scanner_;
  std::uint32_t commits_ = 0;
};

}  // namespace outboard::ext4

#include "ext4/fast_commit_replay.h"

#include "base/log.h"
#include "device/overlay_device.h"
#include "ext4/fast_commit_apply.h"

#include <algorithm>

namespace outboard::ext4 {
namespace {

constexpr std::uint64_t kMostChanges = std::uint64_t{256} << 20;  // bytes

Result<std::vector<jbd2::ChangedBlock>> differences(device::OverlayDevice &overlay, device::BlockDevice &lower,
                                                    std::uint32_t block_size) {
  std::vector<jbd2::ChangedBlock> changes;
  std::vector<std::byte> now(block_size), before(block_size);
  const std::uint64_t step = std::max<std::uint64_t>(block_size, device::OverlayDevice::kPage);
  std::uint64_t done = 0;  // bytes looked at
  for (const std::uint64_t page : overlay.changed_pages()) {
    for (std::uint64_t at = std::max(done, round_down<std::uint64_t>(page, step)); at < page + device::OverlayDevice::kPage; at += block_size) {
      done = at + block_size;
      if (done > lower.properties().size) break;
      TRY(overlay.read(at, now));
      TRY(lower.read(at, before));
      if (now != before) changes.push_back({BlockNumber(at / block_size), now});
    }
  }
  return changes;
}

}  // namespace

Result<bool> FastCommitReplayer::scan(std::uint32_t tid, std::span<const std::byte> block) {
  if (!scanner_) scanner_.emplace(superblock_, tid);
  return scanner_->add(block);
}

Result<std::vector<jbd2::ChangedBlock>> FastCommitReplayer::replay() {
  if (!scanner_ || scanner_->commits() == 0) return std::vector<jbd2::ChangedBlock>{};
  commits_ = scanner_->commits();
  const std::vector<std::vector<format::FastCommitRecord>> commits = scanner_->take();
  device::OverlayDevice overlay(device_, {.most_bytes = kMostChanges});
  std::unique_ptr<Volume> volume = TRY(Volume::open_for_replay(overlay, log_));
  Status applied = FastCommitApply(*volume).run(commits);
  // The error policy may have turned an error into a volume that takes no more changes.
  if (applied) applied = volume->check_writable();
  if (applied) applied = volume->journal().close();
  if (!applied) {
    outboard::log(LogLevel::error, "ext4: fast commits cannot be replayed: {}", applied.error().message());
    return fail(std::move(applied).error());
  }
  volume.reset();
  return differences(overlay, device_, superblock_.block_size);
}

}  // namespace outboard::ext4

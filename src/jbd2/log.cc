#include "jbd2/log.h"

#include <algorithm>
#include <cassert>

namespace outboard::jbd2 {

LogArea::LogArea(device::BlockDevice &device, std::uint32_t block_size, std::vector<BlockRun> runs)
    : device_(&device), block_size_(block_size), runs_(std::move(runs)) {
  std::erase_if(runs_, [](const BlockRun &run) { return run.count == 0; });
  first_of_run_.reserve(runs_.size());
  for (const BlockRun &run : runs_) {
    first_of_run_.push_back(block_count_);
    block_count_ += run.count;
  }
}

LogArea::Piece LogArea::locate(std::uint32_t first, std::uint32_t count) const {
  assert(first < block_count_ && count > 0);
  const auto after = std::ranges::upper_bound(first_of_run_, first);
  const auto index = static_cast<std::size_t>(after - first_of_run_.begin()) - 1;
  const std::uint32_t inside = first - first_of_run_[index];
  const BlockNumber block = runs_[index].start + inside;
  return {block.value() * block_size_, std::min(count, runs_[index].count - inside)};
}

Status LogArea::read(std::uint32_t first, std::span<std::byte> blocks) const {
  assert(blocks.size() % block_size_ == 0);
  while (!blocks.empty()) {
    const auto count = static_cast<std::uint32_t>(blocks.size() / block_size_);
    if (first >= block_count_ || count > block_count_ - first) return fail(Error::corrupt("journal: block beyond the log"));
    const Piece piece = locate(first, count);
    const std::size_t bytes = std::size_t{piece.count} * block_size_;
    TRY(device_->read(piece.device_offset, blocks.first(bytes)));
    blocks = blocks.subspan(bytes);
    first += piece.count;
  }
  return {};
}

Status LogArea::write(std::uint32_t first, std::span<const std::byte> blocks) const {
  assert(blocks.size() % block_size_ == 0);
  while (!blocks.empty()) {
    const auto count = static_cast<std::uint32_t>(blocks.size() / block_size_);
    if (first >= block_count_ || count > block_count_ - first) return fail(Error::corrupt("journal: block beyond the log"));
    const Piece piece = locate(first, count);
    const std::size_t bytes = std::size_t{piece.count} * block_size_;
    if (Status status = device_->write(piece.device_offset, blocks.first(bytes)); !status)
      return fail(Error::system(status.error().code(), "journal: the log could not be written").in_block(piece.device_offset / block_size_));
    blocks = blocks.subspan(bytes);
    first += piece.count;
  }
  return {};
}

bool LogArea::contains(BlockNumber block) const {
  return std::ranges::any_of(runs_, [block](const BlockRun &run) { return block >= run.start && block < run.end(); });
}

}  // namespace outboard::jbd2

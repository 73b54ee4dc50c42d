#include "jbd2/home_writer.h"

#include <algorithm>
#include <cassert>

namespace outboard::jbd2 {

namespace {
constexpr std::size_t kAreaBytes = std::size_t{1} << 20;
}

HomeWriter::HomeWriter(device::BlockDevice &device, std::uint32_t block_size)
    : device_(device), block_size_(block_size), capacity_(std::max<std::size_t>(16, kAreaBytes / block_size)),
      area_(capacity_ * block_size, device.properties().alignment) {
  blocks_.reserve(capacity_);
}

std::span<std::byte> HomeWriter::add(BlockNumber block) {
  assert(!full() && (blocks_.empty() || blocks_.back() < block));
  blocks_.push_back(block);
  return area_.span((blocks_.size() - 1) * block_size_, block_size_);
}

Status HomeWriter::write_out() {
  std::vector<device::Request> batch;
  for (std::size_t first = 0; first < blocks_.size();) {
    std::size_t end = first + 1;
    while (end < blocks_.size() && blocks_[end] == blocks_[end - 1] + 1) ++end;
    device::Request request;
    request.op = device::Request::Op::write;
    request.offset = blocks_[first].value() * block_size_;
    request.data = area_.span(first * block_size_, (end - first) * block_size_);
    batch.push_back(request);
    first = end;
  }
  blocks_.clear();
  if (batch.empty()) return {};
  if (Status status = device_.run(batch); !status)
    return fail(Error::system(status.error().code(), "journal: metadata could not be written home, first of them")
                    .in_block(batch.front().offset / block_size_));
  return {};
}

}  // namespace outboard::jbd2

#include "crash_explorer/broken_device.h"

#include "base/checksum.h"
#include "crash_explorer/tagged_bytes.h"

#include <algorithm>
#include <cstring>

namespace outboard::crash_explorer {

using jbd2::LogBlockType;

std::string_view name_of(Fault fault) {
  switch (fault) {
  case Fault::none: return "none";
  case Fault::no_flush_before_commit: return "no flush before the commit block";
  case Fault::data_after_commit: return "data not ordered before its metadata";
  case Fault::tail_not_zeroed: return "tail not zeroed";
  case Fault::no_revokes: return "revoke left out";
  case Fault::directories_not_synced: return "fsync that forgets the directory";
  }
  return "?";
}

std::uint64_t BrokenDevice::faults() const {
  MutexLock lock(mutex_);
  return faults_;
}

bool BrokenDevice::holds(std::span<const std::byte> data, LogBlockType type) const {
  for (std::size_t at = 0; at + block_size_ <= data.size(); at += block_size_) {
    const auto block = data.subspan(at, block_size_);
    if (jbd2::has_magic(block) && view_as<jbd2::Header>(block).type.get() == static_cast<std::uint32_t>(type)) return true;
  }
  return false;
}

// Well-formed, but with nothing in them.
void BrokenDevice::empty_revokes(std::vector<std::byte> &data) {
  for (std::size_t at = 0; at + block_size_ <= data.size(); at += block_size_) {
    const std::span<std::byte> block = std::span(data).subspan(at, block_size_);
    if (!holds(block, LogBlockType::revoke)) continue;
    edit_as<jbd2::RevokeHeader>(block).used.set(sizeof(jbd2::RevokeHeader));
    jbd2::seal_tail(format_, block);
    ++faults_;
  }
}

// Data that has been held back goes to the device. What is written is what would have been: the last of each block counts.
Status BrokenDevice::release() {
  for (const auto &[offset, data] : held_) TRY(lower_.write(offset, data));
  held_.clear();
  return {};
}

Status BrokenDevice::read(std::uint64_t offset, std::span<std::byte> data) {
  MutexLock lock(mutex_);
  TRY(lower_.read(offset, data));
  for (const auto &[start, bytes] : held_) {
    const std::uint64_t from = std::max(offset, start), to = std::min(offset + data.size(), start + bytes.size());
    if (from < to) std::memcpy(data.data() + (from - offset), bytes.data() + (from - start), to - from);
  }
  return {};
}

Status BrokenDevice::write(std::uint64_t offset, std::span<const std::byte> data) {
  MutexLock lock(mutex_);
  if (fault_ == Fault::data_after_commit && holds_tagged(data)) {
    held_.emplace_back(offset, std::vector<std::byte>(data.begin(), data.end()));
    ++faults_;
    return {};
  }
  if (holds(data, LogBlockType::superblock_v2)) {
    const auto &log = view_as<jbd2::DiskSuperblock>(data);
    format_.checksum_v3 = (log.incompat.get() & static_cast<std::uint32_t>(jbd2::Incompat::checksum_v3)) != 0;
    format_.seed = crc32c(~0u, log.uuid);
  }
  if (holds(data, LogBlockType::descriptor) || holds(data, LogBlockType::revoke)) in_commit_ = true;
  if (fault_ == Fault::no_revokes && holds(data, LogBlockType::revoke)) {
    std::vector<std::byte> edited(data.begin(), data.end());
    empty_revokes(edited);
    return lower_.write(offset, edited);
  }
  TRY(lower_.write(offset, data));
  if (holds(data, LogBlockType::commit)) {
    in_commit_ = false;
    return release();
  }
  return {};
}

Status BrokenDevice::write_gather(std::uint64_t offset, std::span<const iovec> pieces) {
  std::vector<std::byte> data;
  for (const iovec &piece : pieces) {
    const auto *bytes = static_cast<const std::byte *>(piece.iov_base);
    data.insert(data.end(), bytes, bytes + piece.iov_len);
  }
  return write(offset, data);
}

Status BrokenDevice::flush() {
  MutexLock lock(mutex_);
  if (fault_ == Fault::no_flush_before_commit && in_commit_) {
    ++faults_;
    return {};
  }
  // Only a commit overtakes data: whoever asks for a flush without one gets what was written.
  if (!in_commit_) TRY(release());
  return lower_.flush();
}

Status BrokenDevice::zero(std::uint64_t offset, std::uint64_t length) {
  MutexLock lock(mutex_);
  if (fault_ == Fault::tail_not_zeroed && length < block_size_) {
    ++faults_;
    return {};
  }
  return lower_.zero(offset, length);
}

}  // namespace outboard::crash_explorer

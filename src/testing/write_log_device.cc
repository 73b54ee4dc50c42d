#include "testing/write_log_device.h"

#include "testing/crash_states.h"

#include <algorithm>

namespace outboard::testing {

using device::BlockDevice;
using device::MemoryDevice;

namespace {

// Which of `count` changes that are not durable survive.
std::vector<bool> choose_survivors(std::size_t count, std::uint64_t seed, CrashRandom &random) {
  std::vector<bool> survives(count, seed == 1);
  if (seed <= 1 || count == 0) return survives;
  switch (random() % 4) {
  case 0: {  // each by chance: few, half, or most
    const std::uint64_t out_of_ten = 1 + random() % 9;
    for (std::size_t i = 0; i < count; ++i) survives[i] = random() % 10 < out_of_ten;
    break;
  }
  case 1:  // all but one
    survives.assign(count, true);
    survives[random() % count] = false;
    break;
  case 2: survives[random() % count] = true; break;
  default: std::fill_n(survives.begin(), random() % (count + 1), true);  // an early part
  }
  return survives;
}

}  // namespace

WriteLogDevice::WriteLogDevice(std::unique_ptr<MemoryDevice> contents)
    : owned_(std::move(contents)), lower_(*owned_), base_(owned_->clone()) {
  base_->set_read_only(false);
}

Result<std::unique_ptr<WriteLogDevice>> WriteLogDevice::over(BlockDevice &lower) {
  auto base = TRY(copy_to_memory(lower));
  return std::unique_ptr<WriteLogDevice>(new WriteLogDevice(lower, std::move(base)));
}

std::uint64_t WriteLogDevice::position() const {
  MutexLock lock(mutex_);
  return next_event_;
}

std::uint64_t WriteLogDevice::note(std::string text) {
  const std::size_t index = begin({.kind = LogEntry::Kind::note, .text = std::move(text)});
  MutexLock lock(mutex_);
  entries_[index].end = entries_[index].begin;
  return entries_[index].begin + 1;
}

std::vector<LogEntry> WriteLogDevice::entries() const {
  MutexLock lock(mutex_);
  return entries_;
}

std::vector<std::uint64_t> WriteLogDevice::crash_points() const {
  MutexLock lock(mutex_);
  std::vector<std::uint64_t> points = {0, next_event_};
  for (const LogEntry &entry : entries_) {
    if (entry.kind == LogEntry::Kind::note) continue;
    points.push_back(entry.begin + 1);
    if (entry.kind == LogEntry::Kind::flush && entry.end != LogEntry::kNever) points.push_back(entry.end + 1);
  }
  std::ranges::sort(points);
  const auto repeated = std::ranges::unique(points);
  points.erase(repeated.begin(), repeated.end());
  return points;
}

std::size_t WriteLogDevice::begin(LogEntry entry) {
  MutexLock lock(mutex_);
  entry.begin = next_event_++;
  entries_.push_back(std::move(entry));
  return entries_.size() - 1;
}

Status WriteLogDevice::end(std::size_t index, Status status) {
  MutexLock lock(mutex_);
  const std::uint64_t event = next_event_++;
  if (status) entries_[index].end = event;
  return status;
}

Status WriteLogDevice::write(std::uint64_t offset, std::span<const std::byte> data) {
  const iovec piece = {const_cast<std::byte *>(data.data()), data.size()};
  return write_gather(offset, {&piece, 1});
}

Status WriteLogDevice::write_gather(std::uint64_t offset, std::span<const iovec> pieces) {
  LogEntry entry = {.kind = LogEntry::Kind::write, .offset = offset};
  for (const iovec &piece : pieces) {
    const auto *bytes = static_cast<const std::byte *>(piece.iov_base);
    entry.data.insert(entry.data.end(), bytes, bytes + piece.iov_len);
  }
  entry.length = entry.data.size();
  // A range that the device refuses is no change, and could not be applied to an image either.
  if (offset > properties().size || entry.length > properties().size - offset)
    return fail(Error::system(EIO, "write log: range beyond the end"));
  const std::size_t index = begin(std::move(entry));
  return end(index, lower_.write_gather(offset, pieces));
}

Status WriteLogDevice::flush() {
  const std::size_t index = begin({.kind = LogEntry::Kind::flush});
  return end(index, lower_.flush());
}

Status WriteLogDevice::discard(std::uint64_t offset, std::uint64_t length) {
  if (offset > properties().size || length > properties().size - offset)
    return fail(Error::system(EIO, "write log: range beyond the end"));
  const std::size_t index = begin({.kind = LogEntry::Kind::discard, .offset = offset, .length = length});
  return end(index, lower_.discard(offset, length));
}

Status WriteLogDevice::zero(std::uint64_t offset, std::uint64_t length) {
  if (offset > properties().size || length > properties().size - offset)
    return fail(Error::system(EIO, "write log: range beyond the end"));
  const std::size_t index = begin({.kind = LogEntry::Kind::zero, .offset = offset, .length = length});
  return end(index, lower_.zero(offset, length));
}

std::uint64_t WriteLogDevice::durable_before(std::uint64_t position) const {
  std::uint64_t before = 0;
  for (const LogEntry &entry : entries_) {
    if (entry.kind == LogEntry::Kind::flush && entry.end < position) before = std::max(before, entry.begin);
  }
  return before;
}

std::size_t WriteLogDevice::volatile_changes(std::uint64_t position) const {
  MutexLock lock(mutex_);
  const std::uint64_t durable = durable_before(position);
  return static_cast<std::size_t>(std::ranges::count_if(entries_, [&](const LogEntry &entry) {
    return is_change(entry) && entry.begin < position && entry.end >= durable;
  }));
}

Result<std::unique_ptr<MemoryDevice>> WriteLogDevice::image_at(std::uint64_t position) const {
  auto image = base_->clone();
  MutexLock lock(mutex_);
  for (const LogEntry &entry : entries_) {
    if (is_change(entry) && entry.begin < position) TRY(apply_part(*image, entry, 0, entry.length));
  }
  return image;
}

Result<std::unique_ptr<MemoryDevice>> WriteLogDevice::crash_state(std::uint64_t position, std::uint64_t seed) const {
  CrashRandom random(seed * 0x9e3779b97f4a7c15u + position);
  const std::vector<bool> survives = choose_survivors(volatile_changes(position), seed, random);
  const bool tears = seed > 1 && one_in(random, 2);
  auto image = base_->clone();
  MutexLock lock(mutex_);
  const std::uint64_t durable = durable_before(position);
  std::size_t next = 0;
  for (const LogEntry &entry : entries_) {
    if (!is_change(entry) || entry.begin >= position) continue;
    if (entry.end >= durable) {
      if (!survives.at(next++)) continue;
      if (entry.kind != LogEntry::Kind::discard && tears && one_in(random, 3)) {
        TRY(apply_torn(*image, entry, random));
        continue;
      }
    }
    if (entry.kind == LogEntry::Kind::discard) TRY(apply_discard(*image, entry, random));
    else TRY(apply_part(*image, entry, 0, entry.length));
  }
  return image;
}

Result<std::unique_ptr<MemoryDevice>> copy_to_memory(BlockDevice &device) {
  const std::uint64_t size = device.properties().size;
  auto copy = std::make_unique<MemoryDevice>(size, device.properties().alignment);
  std::vector<std::byte> buffer(1 << 16);
  for (std::uint64_t at = 0; at < size; at += buffer.size()) {
    const std::span<std::byte> bytes = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), size - at));
    TRY(device.read(at, bytes));
    if (std::ranges::any_of(bytes, [](std::byte b) { return b != std::byte{0}; })) TRY(copy->write(at, bytes));
  }
  return copy;
}

}  // namespace outboard::testing

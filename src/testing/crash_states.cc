#include "testing/crash_states.h"

#include <algorithm>

namespace outboard::testing {

using device::MemoryDevice;

namespace {

constexpr std::uint64_t kSector = 512;

// Which of the loose changes survive, the newest (the last) always among them.
std::vector<bool> choose(std::size_t count, CrashRandom &random) {
  std::vector<bool> survives(count, false);
  switch (random() % 5) {
  case 0:
  case 1: {  // each by chance: few, half, or most
    const std::uint64_t out_of_ten = 1 + random() % 9;
    for (std::size_t i = 0; i < count; ++i) survives[i] = random() % 10 < out_of_ten;
    break;
  }
  case 2:  // all but one
    survives.assign(count, true);
    survives[random() % count] = false;
    break;
  case 3: break;  // only the newest: it has overtaken everything
  default: std::fill_n(survives.begin(), random() % (count + 1), true);  // an early part
  }
  survives.back() = true;
  return survives;
}

}  // namespace

bool is_change(const LogEntry &entry) {
  return entry.kind == LogEntry::Kind::write || entry.kind == LogEntry::Kind::zero ||
         entry.kind == LogEntry::Kind::discard;
}

Status apply_part(MemoryDevice &image, const LogEntry &entry, std::uint64_t from, std::uint64_t length) {
  if (entry.kind == LogEntry::Kind::write)
    return image.write(entry.offset + from, std::span(entry.data).subspan(from, length));
  return image.zero(entry.offset + from, length);  // what a discard of ours leaves, too
}

Status apply_torn(MemoryDevice &image, const LogEntry &entry, CrashRandom &random, ByteRange whole) {
  const std::uint64_t first = entry.offset / kSector;
  const std::uint64_t sectors = divide_up(entry.offset + entry.length, kSector) - first;
  const bool cut = sectors > 256 || one_in(random, 2);
  const std::uint64_t kept = random() % (sectors + 1);
  bool there = false;
  for (std::uint64_t sector = 0; sector < sectors; ++sector) {
    const std::uint64_t at = (first + sector) * kSector;
    const bool with_the_last = sector > 0 && at > whole.offset && at < whole.end();
    if (!with_the_last) there = cut ? sector < kept : one_in(random, 2);
    if (!there) continue;
    const std::uint64_t start = std::max((first + sector) * kSector, entry.offset);
    const std::uint64_t end = std::min((first + sector + 1) * kSector, entry.offset + entry.length);
    TRY(apply_part(image, entry, start - entry.offset, end - start));
  }
  return {};
}

Status apply_discard(MemoryDevice &image, const LogEntry &entry, CrashRandom &random) {
  switch (random() % 3) {
  case 0: return {};
  case 1: return image.zero(entry.offset, entry.length);
  default: {
    const std::vector<std::byte> garbage(std::min<std::uint64_t>(entry.length, 1 << 20), std::byte{0xdb});
    for (std::uint64_t done = 0; done < entry.length; done += garbage.size())
      TRY(image.write(entry.offset + done,
                      std::span(garbage).first(std::min<std::uint64_t>(garbage.size(), entry.length - done))));
    return {};
  }
  }
}

CrashStates::CrashStates(const WriteLogDevice &log, ByteRange never_torn)
    : entries_(log.entries()), never_torn_(never_torn) {
  auto base = log.image_at(0);
  durable_ = base ? *std::move(base) : std::make_unique<MemoryDevice>(log.properties().size);
}

Status CrashStates::move_to(std::uint64_t position) {
  if (position < position_) return fail(Error::user(EINVAL, "crash states: positions only grow"));
  position_ = position;
  for (; next_ < entries_.size() && entries_[next_].begin < position; ++next_)
    if (is_change(entries_[next_])) loose_.push_back(next_);
  // Whatever had ended before the newest finished flush began is durable.
  std::uint64_t before = 0;
  for (std::size_t i = 0; i < next_; ++i)
    if (entries_[i].kind == LogEntry::Kind::flush && entries_[i].end < position) before = std::max(before, entries_[i].begin);
  std::vector<std::size_t> still_loose;
  for (const std::size_t index : loose_) {
    const LogEntry &entry = entries_[index];
    if (entry.end >= before) {
      still_loose.push_back(index);
      continue;
    }
    CrashRandom random(entry.begin);  // for what a discard has left, once and for all
    if (entry.kind == LogEntry::Kind::discard) TRY(apply_discard(*durable_, entry, random));
    else TRY(apply_part(*durable_, entry, 0, entry.length));
  }
  loose_ = std::move(still_loose);
  return {};
}

std::uint64_t CrashStates::distinct() const {
  if (loose_.empty()) return 1;
  return loose_.size() > 32 ? kMany : std::uint64_t{1} << (loose_.size() - 1);
}

Result<std::unique_ptr<MemoryDevice>> CrashStates::prefix() const {
  CrashRandom random(position_);
  return with(std::vector<bool>(loose_.size(), true), false, random);
}

Result<std::unique_ptr<MemoryDevice>> CrashStates::subset(std::uint64_t number) const {
  CrashRandom random(position_);
  std::vector<bool> survives(loose_.size(), true);
  for (std::size_t i = 0; i + 1 < loose_.size(); ++i) survives[i] = i < 64 && (number >> i & 1) != 0;
  return with(survives, false, random);
}

Result<std::unique_ptr<MemoryDevice>> CrashStates::sample(std::uint64_t seed) const {
  CrashRandom random(seed * 0x9e3779b97f4a7c15u + position_);
  if (loose_.empty()) return durable_->clone();
  const std::vector<bool> survives = choose(loose_.size(), random);
  const bool tears = !one_in(random, 3);
  return with(survives, tears, random);
}

Result<std::unique_ptr<MemoryDevice>> CrashStates::with(const std::vector<bool> &survives, bool tears,
                                                        CrashRandom &random) const {
  auto image = durable_->clone();
  for (std::size_t i = 0; i < loose_.size(); ++i) {
    if (!survives[i]) continue;
    const LogEntry &entry = entries_[loose_[i]];
    if (entry.kind == LogEntry::Kind::discard) {
      TRY(apply_discard(*image, entry, random));
    } else if (tears && one_in(random, i + 1 == loose_.size() ? 2 : 4)) {
      TRY(apply_torn(*image, entry, random, never_torn_));
    } else {
      TRY(apply_part(*image, entry, 0, entry.length));
    }
  }
  return image;
}

}  // namespace outboard::testing

#include "exerciser/operation.h"

#include "base/units.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fmt/format.h>

namespace outboard::exerciser {

namespace {
using Kind = Operation::Kind;
using Way = Operation::Way;

constexpr std::array kNames = {"read",      "write",     "append",   "truncate",   "allocate", "allocate_keep", "punch",
                               "zero",      "zero_keep", "collapse", "insert",     "copy",     "seek",          "sync",
                               "sync_data", "sync_all",  "reopen",   "drop_cache", "remount",  "crash"};
static_assert(kNames.size() == kKinds);
constexpr std::array kWays = {"buffered", "second", "direct", "mapped"};

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kDirectAlignment = 512;
}  // namespace

const char *name_of(Kind kind) { return kNames[static_cast<std::size_t>(kind)]; }

std::string describe(const Operation &o) {
  const std::string range = fmt::format("[{:#x}, {:#x}) length {:#x}", o.offset, o.offset + o.length, o.length);
  switch (o.kind) {
  case Kind::read:
  case Kind::write:
    return fmt::format("file {} {} {} {}", o.file, name_of(o.kind), kWays[static_cast<std::size_t>(o.way)], range);
  case Kind::truncate: return fmt::format("file {} truncate to {:#x}", o.file, o.offset);
  case Kind::append: return fmt::format("file {} append length {:#x}", o.file, o.length);
  case Kind::copy: return fmt::format("file {} copy {} to file {} at {:#x}", o.file, range, o.other, o.target);
  case Kind::seek: return fmt::format("file {} seek from {:#x}", o.file, o.offset);
  case Kind::sync:
  case Kind::sync_data:
  case Kind::reopen:
  case Kind::drop_cache: return fmt::format("file {} {}", o.file, name_of(o.kind));
  case Kind::sync_all:
  case Kind::remount:
  case Kind::crash: return name_of(o.kind);
  default: return fmt::format("file {} {} {}", o.file, name_of(o.kind), range);
  }
}

int due_refusal(const Traits &traits, Kind kind) {
  switch (kind) {
  case Kind::allocate:
  case Kind::allocate_keep:
  case Kind::zero:
  case Kind::zero_keep:
  case Kind::collapse:
  case Kind::insert: return traits.extents ? 0 : EOPNOTSUPP;
  default: return 0;
  }
}

Kind OperationSource::kind() {
  // How often each comes, in the order of Kind.
  std::array<unsigned, kKinds> weights = {1800,
                                          2400,
                                          500,
                                          900,
                                          500,
                                          400,
                                          800,
                                          500,
                                          200,
                                          250,
                                          250,
                                          600,
                                          500,
                                          150,
                                          150,
                                          40,
                                          150,
                                          150,
                                          traits_.restarts,
                                          traits_.restarts};
  if (!traits_.shifts) weights[9] = weights[10] = 0;
  if (!traits_.extents)  // the refusals are worth a look, no more
    for (const Kind refused :
         {Kind::allocate, Kind::allocate_keep, Kind::zero, Kind::zero_keep, Kind::collapse, Kind::insert})
      weights[static_cast<std::size_t>(refused)] /= 20;
  unsigned total = 0;
  for (const unsigned weight : weights) total += weight;
  std::uint64_t pick = below(total);
  std::size_t kind = 0;
  while (pick >= weights[kind]) pick -= weights[kind++];
  return static_cast<Kind>(kind);
}

// Near block and page boundaries, the end of the file, and the operation before.
std::uint64_t OperationSource::position(std::uint64_t size) {
  const std::uint64_t block = traits_.block_size, limit = traits_.max_size;
  std::uint64_t at = 0;
  switch (below(8)) {
  case 0: at = below(limit + 1); break;
  case 1: at = below(limit / block + 1) * block; break;
  case 2: at = below(limit / kPage + 1) * kPage; break;
  case 3: at = size; break;
  case 4: at = one_in(2) ? round_down(size, block) : round_up(size, block); break;
  case 5: at = last_end_; break;
  default: at = size == 0 ? 0 : below(size); break;  // inside the file
  }
  switch (below(6)) {
  case 0: at += below(5); break;
  case 1: at -= std::min<std::uint64_t>(at, below(5)); break;
  case 2: at += below(block); break;
  default: break;
  }
  return std::min(at, limit);
}

// At least 1, at most `limit` (which is at least 1).
std::uint64_t OperationSource::length(std::uint64_t limit) {
  std::uint64_t bytes = 0;
  switch (below(12)) {
  case 0:
  case 1: bytes = 1 + below(16); break;
  case 2:
  case 3: bytes = 1 + below(traits_.block_size); break;
  case 4:
  case 5: bytes = (1 + below(4)) * traits_.block_size; break;
  case 6:
  case 7: bytes = (1 + below(6)) * kPage; break;
  case 8:
  case 9: bytes = 1 + below(3 * kPage); break;
  case 10: bytes = 1 + below(std::uint64_t{64} << 10); break;
  default: bytes = one_in(6) ? limit : 1 + below(std::uint64_t{16} << 10); break;
  }
  return std::min(bytes, limit);
}

Operation OperationSource::next(std::span<const std::uint64_t> sizes) {
  Operation o;
  o.kind = kind();
  o.file = static_cast<unsigned>(below(sizes.size()));
  o.other = static_cast<unsigned>(below(sizes.size()));
  o.way = static_cast<Way>(below(kWays.size()));
  place(o, sizes[o.file]);
  if (o.length > 0) last_end_ = o.offset + o.length;
  return o;
}

void OperationSource::place(Operation &o, std::uint64_t size) {
  const std::uint64_t limit = traits_.max_size;
  switch (o.kind) {
  case Kind::truncate:
  case Kind::seek: o.offset = position(size); return;
  case Kind::append:
    o.offset = size;
    if (size < limit) {
      o.length = length(limit - size);
      return;
    }
    o.kind = Kind::truncate;
    o.offset = position(size / 2);
    return;
  case Kind::read:
  case Kind::write: return place_moved(o, size);
  case Kind::collapse:
  case Kind::insert: return place_shifted(o, size);
  case Kind::copy: return place_copied(o, size);
  case Kind::allocate:
  case Kind::allocate_keep:
  case Kind::punch:
  case Kind::zero:
  case Kind::zero_keep:
    o.offset = std::min(position(size), limit - 1);
    o.length = length(limit - o.offset);
    return;
  default: return;
  }
}

void OperationSource::place_moved(Operation &o, std::uint64_t size) {
  // A mapping has nothing behind the end of the file.
  if (o.way == Way::mapped && size == 0) o.way = Way::buffered;
  const std::uint64_t limit = o.way == Way::mapped ? size : traits_.max_size;
  o.offset = std::min(position(size), limit - 1);
  o.length = length(limit - o.offset);
  if (o.way == Way::direct) {
    o.offset = round_down(o.offset, kDirectAlignment);
    o.length = std::min(round_up(o.length, kDirectAlignment), traits_.max_size - o.offset);
  }
}

void OperationSource::place_shifted(Operation &o, std::uint64_t size) {
  const std::uint64_t block = traits_.block_size;
  o.offset = round_down(position(size), block);
  o.length = round_up(length(traits_.max_size), block);
  if (o.kind == Kind::insert && o.offset < size && o.length <= traits_.max_size - size) return;
  if (o.kind == Kind::collapse && o.offset < size) {
    // It may not reach the end.
    o.length = std::min(o.length, round_down(size - o.offset - 1, block));
    if (o.length > 0) return;
  }
  o = {.kind = Kind::read, .way = Way::buffered, .file = o.file, .other = o.other, .offset = o.offset, .length = block};
}

void OperationSource::place_copied(Operation &o, std::uint64_t size) {
  const std::uint64_t limit = traits_.max_size;
  o.offset = std::min(position(size), limit - 1);
  o.target = std::min(position(size), limit - 1);
  o.length = length(limit - std::max(o.offset, o.target));
  if (o.file != o.other) return;
  // In one file the two ranges must not overlap.
  const std::uint64_t apart = std::max(o.offset, o.target) - std::min(o.offset, o.target);
  o.length = std::min(o.length, apart);
  if (o.length == 0)
    o = {.kind = Kind::read,
         .way = Way::buffered,
         .file = o.file,
         .other = o.other,
         .offset = o.offset,
         .length = limit};
}

}  // namespace outboard::exerciser

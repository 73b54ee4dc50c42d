#include "sample/out_of_place.h"

#include <algorithm>
#include <cassert>

namespace outboard::sample {

using iomap::Mapping;
using iomap::MappingType;
using iomap::Operation;
using out_of_place::Layout;
using out_of_place::Root;

namespace {

constexpr std::uint64_t kMostBlocks = std::uint64_t{1} << 50;  // of a file: 2^62 bytes

}  // namespace

// --- the map of one file: rounds -----------------------------------------------------------------------------------

const std::uint64_t *OutOfPlaceVolume::File::place(std::uint64_t block) const {
  for (const BlockMap *map : {&staged_, &settled})
    if (auto found = map->find(block); found != map->end()) return &found->second;
  return nullptr;
}

// As far from `block` as all is the same: mapped in one piece or not at all, promised or not.
OutOfPlaceVolume::File::Stretch OutOfPlaceVolume::File::stretch(std::uint64_t block, std::uint64_t most) const {
  Stretch out;
  const IntervalSet::Run promise = promised_.at_or_after(block);
  out.promised = !promise.empty() && promise.first == block;
  if (!promise.empty()) most = std::min(most, (out.promised ? promise.end : promise.first) - block);
  if (const std::uint64_t *start = place(block)) {
    out.mapped = true;
    out.start = *start;
    for (out.count = 1; out.count < most; ++out.count)
      if (const std::uint64_t *next = place(block + out.count); next == nullptr || *next != out.start + out.count) break;
    return out;
  }
  out.count = most;
  for (const BlockMap *map : {&staged_, &settled})
    if (auto next = map->lower_bound(block); next != map->end()) out.count = std::min(out.count, next->first - block);
  return out;
}

// Every block that becomes dirty will need a new place, also where it has one now.
Status OutOfPlaceVolume::File::promise(std::uint64_t block, Stretch &stretch) {
  last_promise_ = {};
  if (stretch.promised) return {};
  stretch.count = std::min(stretch.count, volume_.available());
  if (stretch.count == 0) return fail(Error::user(ENOSPC, "out-of-place: no block to promise"));
  last_promise_ = {block, block + stretch.count};
  promised_.add(last_promise_.first, last_promise_.end);
  volume_.promises_ += stretch.count;
  stretch.promised = true;
  return {};
}

Result<Mapping> OutOfPlaceVolume::File::begin(ByteRange range, Operation operation) {
  MutexLock lock(volume_.mutex_);
  const std::uint64_t block = range.offset / kBlock;
  const bool provides = operation == Operation::write || operation == Operation::delay;
  if (block >= kMostBlocks) {
    if (provides) return fail(Error::user(EFBIG, "out-of-place: beyond the largest file"));
    return Mapping{.offset = kMostBlocks * kBlock, .length = ~(kMostBlocks * kBlock), .inline_bytes = {}};
  }
  std::uint64_t most = kMostBlocks - block;
  // Only a report asks for more than what the range holds: a map by blocks is slow to look far in.
  if (operation != Operation::report) most = std::min(most, divide_up<std::uint64_t>(range.end(), kBlock) - block);
  if (operation == Operation::write) return allocate(range, block, most);
  Stretch found = stretch(block, most);
  last_promise_ = {};
  if (operation == Operation::delay || (operation == Operation::zero && found.mapped)) TRY(promise(block, found));
  Mapping mapping{.offset = block * kBlock, .length = found.count * kBlock, .inline_bytes = {}};
  if (found.mapped) {
    mapping.type = MappingType::mapped;
    mapping.address = found.start * kBlock;
    if (operation != Operation::read) mapping.flags |= iomap::kShared;
  } else if (found.promised && operation != Operation::read) {
    mapping.type = MappingType::delalloc;
  }
  return mapping;
}

// New blocks, whether or not there are old ones. The engine writes them whole, zeros around the data: the rest of a block
// that has an old version would be lost, so such a write has to pass through the page cache.
Result<Mapping> OutOfPlaceVolume::File::allocate(ByteRange range, std::uint64_t block,
                                                 std::uint64_t want) {
  const bool cuts_first = range.offset % kBlock != 0 && place(block) != nullptr;
  const bool cuts_last = range.end() % kBlock != 0 && range.end() < staged_size_ && place(range.end() / kBlock) != nullptr;
  if (cuts_first || cuts_last) return fail(Error::unsupported("out-of-place: part of a block"));
  // As far as all of it is promised, or none of it.
  const IntervalSet::Run promise = on_their_way_.at_or_after(block);
  const bool promised = !promise.empty() && promise.first == block;
  if (!promise.empty()) want = std::min(want, (promised ? promise.end : promise.first) - block);
  if (!promised) want = std::min(want, volume_.available());
  if (want == 0) return fail(Error::user(ENOSPC, "out-of-place: no free block"));
  // Promises are kept: promises_ never exceeds what is free.
  IntervalSet::Run run = volume_.free_.at_or_after(volume_.cursor_);
  if (run.empty()) run = volume_.free_.at_or_after(0);
  assert(!run.empty());
  run.end = std::min(run.end, run.first + want);
  volume_.free_.remove(run.first, run.end);
  volume_.cursor_ = run.end;
  if (promised) withdraw(on_their_way_, block, block + run.length());
  return Mapping{.type = MappingType::mapped,
                 .flags = iomap::kFresh,
                 .offset = block * kBlock,
                 .length = run.length() * kBlock,
                 .address = run.first * kBlock,
                 .inline_bytes = {}};
}

Status OutOfPlaceVolume::File::ioend(ByteRange written, const Mapping &mapping) {
  MutexLock lock(volume_.mutex_);
  const std::uint64_t last = divide_up<std::uint64_t>(written.end(), kBlock);
  for (std::uint64_t block = written.offset / kBlock; block < last; ++block) {
    const std::uint64_t place = mapping.address / kBlock + (block - mapping.offset / kBlock);
    auto [entry, is_new] = staged_.try_emplace(block, place);
    // Written twice in one group: what came first was never anybody's.
    if (!is_new) volume_.free_.add(entry->second, entry->second + 1);
    entry->second = place;
  }
  staged_size_ = std::max(staged_size_, written.end());
  return {};
}

Status OutOfPlaceVolume::File::end(ByteRange range, std::uint64_t moved, Operation operation, const Mapping &mapping) {
  MutexLock lock(volume_.mutex_);
  const std::uint64_t done = divide_up<std::uint64_t>(range.offset + moved, kBlock);
  if (operation == Operation::write) {
    const std::uint64_t from = moved == 0 ? mapping.offset / kBlock : done;  // of the file
    const std::uint64_t start = mapping.address / kBlock + (from - mapping.offset / kBlock);
    volume_.free_.add(start, mapping.address / kBlock + mapping.length / kBlock);
  } else if (operation == Operation::delay || operation == Operation::zero) {
    const std::uint64_t from = moved == 0 ? last_promise_.first : std::max(done, last_promise_.first);
    withdraw(promised_, from, std::max(from, last_promise_.end));
    last_promise_ = {};
  }
  return {};
}

// --- what the owner tells -------------------------------------------------------------------------------------------

void OutOfPlaceVolume::File::withdraw(IntervalSet &from, std::uint64_t first,
                                      std::uint64_t end) {
  volume_.promises_ -= from.remove(first, end);
}

void OutOfPlaceVolume::File::taken(ByteRange dirty) {
  MutexLock lock(volume_.mutex_);
  const std::uint64_t first = dirty.offset / kBlock, end = divide_up<std::uint64_t>(dirty.end(), kBlock);
  [[maybe_unused]] const std::uint64_t moved = promised_.remove(first, end);
  assert(moved == end - first);
  on_their_way_.add(first, end);
}

void OutOfPlaceVolume::File::settle(bool complete) {
  MutexLock lock(volume_.mutex_);
  for (const auto &[block, place] : staged_) {
    if (!complete) {
      volume_.free_.add(place, place + 1);
      continue;
    }
    auto [entry, is_new] = settled.try_emplace(block, place);
    if (!is_new) volume_.replaced_.add(entry->second, entry->second + 1);
    entry->second = place;
  }
  staged_.clear();
  if (complete) settled_size = staged_size_;
  staged_size_ = settled_size;
  withdraw(on_their_way_, 0, kMostBlocks);
}

void OutOfPlaceVolume::File::clean() {
  MutexLock lock(volume_.mutex_);
  withdraw(promised_, 0, kMostBlocks);
}

std::uint64_t OutOfPlaceVolume::File::size() const {
  MutexLock lock(volume_.mutex_);
  return staged_size_;
}

void OutOfPlaceVolume::File::remove(std::uint64_t first, std::uint64_t end) {
  assert(staged_.empty());
  const auto from = settled.lower_bound(first), to = settled.lower_bound(end);
  for (auto entry = from; entry != to; ++entry) volume_.replaced_.add(entry->second, entry->second + 1);
  settled.erase(from, to);
  withdraw(promised_, first, end);
}

Status OutOfPlaceVolume::File::shrink(std::uint64_t size) {
  MutexLock lock(volume_.mutex_);
  remove(divide_up<std::uint64_t>(size, kBlock), kMostBlocks);
  settled_size = staged_size_ = std::min(settled_size, size);
  return {};
}

Status OutOfPlaceVolume::File::grow(std::uint64_t size) {
  MutexLock lock(volume_.mutex_);
  assert(staged_.empty());
  settled_size = staged_size_ = size;
  return {};
}

Status OutOfPlaceVolume::File::punch(ByteRange blocks) {
  MutexLock lock(volume_.mutex_);
  remove(blocks.offset / kBlock, blocks.end() / kBlock);
  return {};
}

void OutOfPlaceVolume::File::erase() {
  MutexLock lock(volume_.mutex_);
  remove(0, kMostBlocks);
  settled_size = staged_size_ = 0;
  in_use = false;
}

// --- the volume -----------------------------------------------------------------------------------------------------

Status OutOfPlaceVolume::format(device::BlockDevice &device) {
  const Layout layout = TRY(out_of_place::layout_of(device));
  // An old root in the other slot must not win.
  TRY(device.zero(layout.slot(1), kBlock));
  TRY(device.write(layout.slot(0), out_of_place::encode(Root{.generation = 1, .files = {}})));
  return device.flush();
}

Result<std::unique_ptr<OutOfPlaceVolume>> OutOfPlaceVolume::open(device::BlockDevice &device) {
  const Layout layout = TRY(out_of_place::layout_of(device));
  Result<Root> roots[] = {out_of_place::read_slot(device, layout, 0), out_of_place::read_slot(device, layout, 1)};
  for (const Result<Root> &root : roots)
    if (!root && !root.error().is_corrupt()) return fail(root.error());
  if (!roots[0] && !roots[1]) return fail(roots[0].error());
  const unsigned newest = !roots[0] || (roots[1] && roots[1]->generation > roots[0]->generation) ? 1 : 0;
  std::unique_ptr<OutOfPlaceVolume> volume(new OutOfPlaceVolume(device, layout));
  {
    MutexLock lock(volume->commit_mutex_);
    volume->durable_slot_ = newest;
    volume->generation_ = roots[newest]->generation;
  }
  TRY(volume->adopt(*roots[newest]));
  return volume;
}

Status OutOfPlaceVolume::adopt(const Root &root) {
  MutexLock lock(mutex_);
  for (unsigned n = 0; n < out_of_place::kMostFiles; ++n) files_.emplace_back(*this);
  free_.add(layout_.first(), layout_.blocks);
  for (unsigned n = 0; n < root.files.size(); ++n) {
    File &file = files_[n];
    file.name = root.files[n].name;
    file.in_use = true;
    file.settled_size = file.staged_size_ = root.files[n].size;
    for (const out_of_place::Extent &extent : root.files[n].extents) {
      if (free_.remove(extent.device_block, extent.device_block + extent.count) != extent.count)
        return fail(Error::corrupt("out-of-place: a block with two owners").in_block(extent.device_block));
      for (std::uint64_t b = 0; b < extent.count; ++b) file.settled[extent.file_block + b] = extent.device_block + b;
    }
  }
  return {};
}

Root OutOfPlaceVolume::root() {
  Root root;
  for (const File &file : files_) {
    if (file.name.empty()) continue;
    out_of_place::RootFile &out = root.files.emplace_back();
    out.name = file.name;
    out.size = file.settled_size;
    for (const auto &[block, place] : file.settled) {
      if (!out.extents.empty()) {
        out_of_place::Extent &last = out.extents.back();
        if (last.file_block + last.count == block && last.device_block + last.count == place) {
          ++last.count;
          continue;
        }
      }
      out.extents.push_back({block, place, 1});
    }
  }
  return root;
}

// The files' blocks, then the root that finds them, into the slot that is not needed if this goes wrong.
Status OutOfPlaceVolume::commit() {
  MutexLock committing(commit_mutex_);
  Root next;
  IntervalSet replaced;
  {
    MutexLock lock(mutex_);
    next = root();
    replaced = replaced_;
  }
  next.generation = ++generation_;
  const unsigned slot = 1 - durable_slot_;
  TRY(device_.flush());
  TRY(device_.write(layout_.slot(slot), out_of_place::encode(next)));
  TRY(device_.flush());
  durable_slot_ = slot;
  // No crash brings these back any more. What was replaced meanwhile waits for the next time.
  MutexLock lock(mutex_);
  for (IntervalSet::Run run = replaced.at_or_after(0); !run.empty(); run = replaced.at_or_after(run.end)) {
    replaced_.remove(run.first, run.end);
    free_.add(run.first, run.end);
  }
  return {};
}

std::vector<Volume::Name> OutOfPlaceVolume::names() {
  std::vector<Name> out;
  MutexLock lock(mutex_);
  for (unsigned n = 0; n < files_.size(); ++n)
    if (!files_[n].name.empty()) out.push_back({n, files_[n].name});
  return out;
}

Result<unsigned> OutOfPlaceVolume::create(std::string_view name) {
  if (name.size() > out_of_place::kNameRoom) return fail(Error::user(ENAMETOOLONG));
  MutexLock lock(mutex_);
  const auto free = std::ranges::find(files_, false, &File::in_use);
  if (free == files_.end()) return fail(Error::user(ENOSPC, "out-of-place: no file left"));
  free->name = name;
  free->in_use = true;
  return static_cast<unsigned>(free - files_.begin());
}

Status OutOfPlaceVolume::unlink(unsigned file) {
  MutexLock lock(mutex_);
  files_[file].name.clear();
  return {};
}

void OutOfPlaceVolume::erase(unsigned file) { files_[file].erase(); }

Volume::Space OutOfPlaceVolume::space() {
  MutexLock lock(mutex_);
  const auto free = static_cast<std::uint64_t>(std::ranges::count(files_, false, &File::in_use));
  return {.blocks = layout_.blocks - layout_.first(),
          .free_blocks = available(),
          .files = files_.size(),
          .free_files = free};
}

}  // namespace outboard::sample

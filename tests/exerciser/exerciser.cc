#include "exerciser/exerciser.h"

#include <algorithm>
#include <fmt/format.h>
#include <linux/falloc.h>

namespace outboard::exerciser {

namespace {
using Kind = Operation::Kind;
using Way = Operation::Way;
using Seek = Subject::Seek;

int fallocate_mode(Kind kind) {
  switch (kind) {
  case Kind::allocate_keep: return FALLOC_FL_KEEP_SIZE;
  case Kind::punch: return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  case Kind::zero: return FALLOC_FL_ZERO_RANGE;
  case Kind::zero_keep: return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  case Kind::collapse: return FALLOC_FL_COLLAPSE_RANGE;
  case Kind::insert: return FALLOC_FL_INSERT_RANGE;
  default: return 0;
  }
}

bool needs_space(Kind kind) {
  switch (kind) {
  case Kind::write:
  case Kind::append:
  case Kind::copy:
  case Kind::allocate:
  case Kind::allocate_keep:
  case Kind::zero:
  case Kind::zero_keep:
  case Kind::punch:  // may divide an extent, whose leaf may be full
  case Kind::collapse:
  case Kind::insert: return true;
  default: return false;
  }
}

// A count that must be exact, as a Status. `may_fill`: less is as good as ENOSPC.
Status exactly(const Result<std::size_t> &count, std::size_t expected, bool may_fill, std::string &wrong) {
  if (!count) return fail(count.error());
  if (*count < expected && may_fill) return fail(Error::user(ENOSPC, "short"));
  if (*count != expected) wrong = fmt::format("{:#x} bytes done, expected {:#x}", *count, expected);
  return {};
}
}  // namespace

std::string Exerciser::run(std::uint64_t operations) {
  for (std::uint64_t i = 0; i < operations; ++i) {
    ++number_;
    const std::vector<std::uint64_t> sizes = model_.sizes();
    const Operation o = source_.next(sizes);
    history_.push_back(fmt::format("{}: {} (size {:#x})", number_, describe(o), sizes[o.file]));
    if (history_.size() > kRemembered) history_.pop_front();
    std::string wrong = perform(o);
    if (wrong.empty()) wrong = check_after(o);
    if (!wrong.empty()) return complaint(wrong);
  }
  const std::string wrong = verify_all();
  return wrong.empty() ? wrong : complaint(wrong);
}

std::string Exerciser::complaint(const std::string &what) const {
  std::string text = fmt::format("seed {}, operation {}: {}\nthe last operations:\n", seed_, number_, what);
  for (const std::string &line : history_) text += "  " + line + "\n";
  return text;
}

// No more space half way. What is there now must be explained by a part of the operation.
std::string Exerciser::reconcile(const Operation &o) {
  ++short_of_space_;
  const unsigned changed = o.kind == Kind::copy ? o.other : o.file;
  const bool all_or_nothing = o.kind == Kind::collapse || o.kind == Kind::insert;
  Model whole = model_;
  if (!all_or_nothing) whole.apply(o, number_);
  const std::span<const std::byte> before = model_.contents(changed), after = whole.contents(changed);
  const Result<std::uint64_t> size = subject_.size(changed);
  if (!size) return "stat failed: " + size.error().message();
  if (*size < before.size() || *size > after.size())
    return fmt::format("without space: file {} has {:#x} bytes, {:#x} before and {:#x} asked for", changed, *size,
                       before.size(), after.size());
  const std::span<std::byte> found = std::span(buffer_).first(*size);
  const Result<std::size_t> got = subject_.read(changed, Way::buffered, 0, found);
  if (!got || *got != found.size()) return "without space: the file cannot be read";
  for (std::size_t i = 0; i < found.size(); ++i) {
    const std::byte old = i < before.size() ? before[i] : std::byte{0};
    if (found[i] != old && found[i] != after[i])
      return fmt::format(
          "without space: byte {:#x} of file {} is neither as before nor as asked: {:02x}, {:02x}, {:02x}", i, changed,
          std::to_integer<unsigned>(found[i]), std::to_integer<unsigned>(old), std::to_integer<unsigned>(after[i]));
  }
  model_.adopt(changed, found);
  return {};
}

// What came of an operation against what had to; the model follows.
std::string Exerciser::settle(const Operation &o, const Status &status) {
  if (!status && status.error().is(ENOSPC) && traits_.may_fill && needs_space(o.kind)) return reconcile(o);
  const int due = due_refusal(traits_, o.kind);
  if (!status && due != 0 && status.error().is(due)) return {};
  if (!status) return "failed: " + status.error().message();
  if (due != 0) return fmt::format("succeeded, expected errno {}", due);
  ++succeeded_[static_cast<std::size_t>(o.kind)];
  model_.apply(o, number_);
  return {};
}

std::span<const std::byte> Exerciser::data_for(const Operation &o) {
  const std::span<std::byte> data = std::span(buffer_).first(o.length);
  fill(data, number_, o.offset);
  return data;
}

std::string Exerciser::perform(const Operation &o) {
  std::string wrong;
  Status status;
  switch (o.kind) {
  case Kind::read: return read(o);
  case Kind::seek: return seek(o);
  case Kind::crash: return crash();
  case Kind::write:
    status = exactly(subject_.write(o.file, o.way, o.offset, data_for(o)), o.length, traits_.may_fill, wrong);
    break;
  case Kind::append: status = exactly(subject_.append(o.file, data_for(o)), o.length, traits_.may_fill, wrong); break;
  case Kind::truncate: status = subject_.truncate(o.file, o.offset); break;
  case Kind::copy:
    status = exactly(subject_.copy(o.file, o.offset, o.other, o.target, o.length),
                     model_.part(o.file, o.offset, o.length).size(), traits_.may_fill, wrong);
    break;
  case Kind::sync:
  case Kind::sync_data: status = subject_.sync(o.file, o.kind == Kind::sync_data); break;
  case Kind::sync_all: status = subject_.sync_all(); break;
  case Kind::reopen: status = subject_.reopen(o.file); break;
  case Kind::drop_cache: status = subject_.drop_cache(o.file); break;
  case Kind::remount: status = subject_.remount(); break;
  default: status = subject_.allocate(o.file, fallocate_mode(o.kind), o.offset, o.length); break;
  }
  return wrong.empty() ? settle(o, status) : wrong;
}

std::string Exerciser::read(const Operation &o) {
  if (std::string wrong = verify(o.file, o.way, o.offset, o.length); !wrong.empty()) return wrong;
  return settle(o, {});
}

// Reads behind the end of the file, too: they must come back short.
std::string Exerciser::verify(unsigned file, Way way, std::uint64_t offset, std::uint64_t length) {
  const std::span<std::byte> into = std::span(buffer_).first(length);
  const Result<std::size_t> got = subject_.read(file, way, offset, into);
  if (!got) return "read failed: " + got.error().message();
  const std::string wrong = difference(model_.part(file, offset, length), into.first(std::min(*got, into.size())),
                                       offset, traits_.block_size);
  return wrong.empty() ? wrong : fmt::format("read of file {}: {}", file, wrong);
}

std::string Exerciser::verify_all() {
  for (unsigned file = 0; file < traits_.files; ++file) {
    if (std::string wrong = check_size(file); !wrong.empty()) return wrong;
    if (std::string wrong = verify(file, Way::buffered, 0, traits_.max_size); !wrong.empty()) return wrong;
  }
  return {};
}

std::string Exerciser::check_size(unsigned file) {
  const Result<std::uint64_t> size = subject_.size(file);
  if (!size) return "stat failed: " + size.error().message();
  const std::uint64_t expected = model_.contents(file).size();
  return *size == expected ? "" : fmt::format("file {} has {:#x} bytes, expected {:#x}", file, *size, expected);
}

std::string Exerciser::check_after(const Operation &o) {
  if (o.kind == Kind::remount || o.kind == Kind::crash || number_ % verify_every_ == 0) return verify_all();
  const unsigned changed = o.kind == Kind::copy ? o.other : o.file;
  if (std::string wrong = check_size(changed); !wrong.empty()) return wrong;
  if (o.kind == Kind::read || checks_() % 6 != 0) return {};
  // The neighbourhood of the change. Not always: a look fills a cache, and an empty one is worth testing too.
  constexpr std::uint64_t kBeside = 8192;
  const std::uint64_t at = o.kind == Kind::copy ? o.target : o.offset;
  const std::uint64_t from = at - std::min(at, kBeside);
  return verify(changed, static_cast<Way>(checks_() % 3), from / 512 * 512,
                std::min(((at - from) + o.length + kBeside) / 512 * 512, traits_.max_size));
}

std::string Exerciser::crash() {
  for (unsigned file = 0; file < traits_.files; ++file) {
    const Status synced = subject_.sync(file, checks_() % 2 == 0);
    if (!synced) return "sync before a crash failed: " + synced.error().message();
  }
  return settle({.kind = Kind::crash}, subject_.crash());
}

// A walk from the offset to the end: every byte that is not zero must lie in what is called data, and the answers must
// agree with each other.
std::string Exerciser::seek(const Operation &o) {
  const std::uint64_t size = model_.contents(o.file).size();
  std::uint64_t at = o.offset;
  while (at < size) {
    const Result<std::uint64_t> data = subject_.seek(o.file, at, Seek::data);
    if (!data && !data.error().is(ENXIO)) return "SEEK_DATA failed: " + data.error().message();
    const std::uint64_t nonzero = model_.first_nonzero(o.file, at);
    const std::uint64_t begin = data.value_or(size);
    if (begin < at || begin > size || (data && begin == size))
      return fmt::format("SEEK_DATA from {:#x} says {:#x}", at, begin);
    if (nonzero < begin)
      return fmt::format("SEEK_DATA from {:#x} says {:#x}, but {:#x} is not zero", at, begin, nonzero);
    if (!data) break;
    const Result<std::uint64_t> hole = subject_.seek(o.file, begin, Seek::hole);
    if (!hole) return "SEEK_HOLE failed: " + hole.error().message();
    if (*hole <= begin || *hole > size)
      return fmt::format("SEEK_HOLE from {:#x}, which is data, says {:#x}", begin, *hole);
    if (*hole < size) {
      const Result<std::uint64_t> again = subject_.seek(o.file, *hole, Seek::data);
      if (again && *again == *hole) return fmt::format("{:#x} is called a hole and data", *hole);
    }
    at = *hole;
  }
  for (const Seek what : {Seek::data, Seek::hole}) {
    const Result<std::uint64_t> behind = subject_.seek(o.file, std::max(size, o.offset), what);
    if (behind || !behind.error().is(ENXIO))
      return fmt::format("seek from {:#x}, behind the end, is not ENXIO", std::max(size, o.offset));
  }
  return settle(o, {});
}

}  // namespace outboard::exerciser

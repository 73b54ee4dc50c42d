#include "iomap/cached_source.h"

#include <cassert>
#include <utility>

namespace outboard::iomap {

bool CachedSource::may_answer(Operation operation) const {
  switch (operation) {
  case Operation::read:
  case Operation::report: return true;
  case Operation::write:
  case Operation::delay:
  case Operation::zero: return overwrites_ == Overwrites::from_cache;
  }
  return false;
}

bool CachedSource::suffices(const Mapping &mapping, Operation operation) {
  switch (operation) {
  case Operation::read: return true;
  case Operation::report: return mapping.type != MappingType::hole;
  case Operation::write:
  case Operation::delay:
  case Operation::zero: return mapping.type == MappingType::mapped && mapping.flags == 0;
  }
  return false;
}

Result<Mapping> CachedSource::begin(ByteRange range, Operation operation) {
  assert(!inner_has_round_);
  if (may_answer(operation)) {
    const std::optional<Mapping> known = cache_.lookup(mappings_, range.offset, sequence_);
    if (known && suffices(*known, operation)) return *known;
  }
  Mapping mapping = TRY(inner_.begin(range, operation));
  inner_has_round_ = true;
  // Only what is true now, and an answer to the question: the rest is for the engine to refuse. What is a hole to a
  // `zero` is one to a read. What `write` and `delay` answer may not be recorded yet, however plain it looks.
  const bool changes_nothing =
      operation == Operation::read || operation == Operation::report || operation == Operation::zero;
  const bool covers = mapping.offset <= range.offset && range.offset - mapping.offset < mapping.length;
  if (changes_nothing && covers && mapping.cookie == sequence_) cache_.upsert(mappings_, mapping);
  return mapping;
}

Status CachedSource::end(ByteRange range, std::uint64_t moved, Operation operation, const Mapping &mapping) {
  if (!std::exchange(inner_has_round_, false)) return {};
  return inner_.end(range, moved, operation, mapping);
}

}  // namespace outboard::iomap

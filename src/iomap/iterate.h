// The loop of every operation: ask for a mapping, work on it, tell the source how far it got, go on behind it.
//
// What the loop guarantees, whatever the source answers: each round moves forward by at least one byte or ends; a
// mapping that is empty, overflows or does not cover the position is Error::corrupt; each begin() that succeeded gets
// exactly one end() with the number of bytes really moved.
#pragma once

#include "iomap/mapping.h"
#include "iomap/trace.h"

#include <algorithm>
#include <functional>

namespace outboard::iomap {

// What one round did: `bytes` from the start of the piece, and why it stopped if it stopped short.
struct Step {
  std::uint64_t bytes = 0;
  Status status;
};

// begin() with the answer checked: it covers range.offset and can be added up without overflow.
Result<Mapping> begin_checked(MappingSource &source, ByteRange range, Operation operation);

// `body(mapping, piece)` returns a Step; `piece` is the part of `range` that `mapping` covers (never empty). A step
// that is shorter than its piece ends the loop, with its error if it has one, else without. Returns the bytes done. An
// error comes out only when no byte was done before it: whoever is told of a short count asks again for the rest, and
// meets the error then.
template <class Body>
Result<std::uint64_t> iterate(MappingSource &source, ByteRange range, Operation operation, Body &&body) {
  if (range.length > ~range.offset) return fail(Error::user(EINVAL, "byte range: end beyond 2^64"));
  std::uint64_t done = 0;
  while (done < range.length) {
    const ByteRange rest{range.offset + done, range.length - done};
    Result<Mapping> mapping = begin_checked(source, rest, operation);
    if (!mapping) {
      if (done > 0) return done;
      return fail(std::move(mapping).error());
    }
    const ByteRange piece{rest.offset, std::min(rest.length, mapping->end() - rest.offset)};
    Step step = body(std::as_const(*mapping), piece);
    Status ended = source.end(piece, step.bytes, operation, *mapping);
    trace::map_end(source.inode_number(), piece.offset, step.bytes, operation, ended);
    // Bytes that could not be recorded were not written, as far as anybody can tell.
    if (ended) done += step.bytes;
    if (step.status && !ended) step.status = std::move(ended);
    if (!step.status) {
      if (done > 0) return done;
      return fail(std::move(step.status).error());
    }
    if (step.bytes < piece.length) break;
  }
  return done;
}

}  // namespace outboard::iomap

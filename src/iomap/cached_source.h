// A MappingSource that asks another one only for what the mapping cache does not know.
//
//   ext4::Mapper mapper(volume, inode.disk);
//   CachedSource source(mapper, cache, inode.mappings, inode.disk.map_sequence);
//   buffered::read(source, ...);
//
// Same contract as the source inside, same locking: it speaks for one inode during one operation, one round at a time,
// and looks at the sequence under the lock that begin() is called with. A source that takes the inode's lock inside
// begin() stands around this one, not inside it.
//
// What is answered from the cache:
//   read                hole, unwritten, mapped
//   report              unwritten, mapped. Holes are asked for: a hole gets a promise (delalloc) without a new sequence
//   write, delay, zero  mapped without any flag, if `Overwrites::from_cache`: nothing is to be provided, so there is
//                       nothing to ask. Whatever the inner begin() does besides mapping (refuse because the volume has
//                       become read-only, settle a promise) does not happen then: the caller sees to it
//
// A round that was answered from the cache has no end() inside: its begin() provided nothing that could be taken back.
// ioend(), prepare(), commit(), fetch() and is_current() always go through: they speak of the mapping, not of the
// round.
#pragma once

#include "iomap/mapping_cache.h"

namespace outboard::iomap {

enum class Overwrites : std::uint8_t { asked, from_cache };

class CachedSource final : public MappingSource {
public:
  // `sequence` is the inode's own, not a copy: it may move between two rounds of one operation.
  CachedSource(MappingSource &inner, MappingCache &cache, InodeMappings &mappings, const std::uint64_t &sequence,
               Overwrites overwrites = Overwrites::asked)
      : inner_(inner), cache_(cache), mappings_(mappings), sequence_(sequence), overwrites_(overwrites) {}
  CachedSource(MappingSource &, MappingCache &, InodeMappings &, const std::uint64_t &&,
               Overwrites = Overwrites::asked) = delete;

  Result<Mapping> begin(ByteRange range, Operation operation) override;
  Status end(ByteRange range, std::uint64_t moved, Operation operation, const Mapping &mapping) override;
  Status ioend(ByteRange written, const Mapping &mapping) override { return inner_.ioend(written, mapping); }
  Result<std::span<std::byte>> prepare(ByteRange block, const Mapping &mapping) override {
    return inner_.prepare(block, mapping);
  }
  Status commit(ByteRange block, const Mapping &mapping) override { return inner_.commit(block, mapping); }
  Status fetch(std::uint64_t offset, std::span<std::byte> into, const Mapping &mapping) override {
    return inner_.fetch(offset, into, mapping);
  }
  bool is_current(const Mapping &mapping) const override { return inner_.is_current(mapping); }

private:
  // May the cache speak for this operation at all? Then a look-up is worth its while.
  bool may_answer(Operation operation) const;
  static bool suffices(const Mapping &mapping, Operation operation);

  MappingSource &inner_;
  MappingCache &cache_;
  InodeMappings &mappings_;
  const std::uint64_t &sequence_;
  const Overwrites overwrites_;
  bool inner_has_round_ = false;  // the round under way is known inside
};

}  // namespace outboard::iomap

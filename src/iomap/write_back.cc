#include "iomap/write_back.h"

#include "iomap/iterate.h"

#include <algorithm>
#include <cassert>
#include <vector>

namespace outboard::iomap {
namespace {

// The parts of the batch's folios that lie in `range`, for one gathered write.
std::vector<iovec> gather(const pagecache::FileCache::Batch &batch, ByteRange range) {
  std::vector<iovec> out;
  auto folio = std::ranges::upper_bound(batch.folios, range.offset, {}, [](const auto &f) { return f->offset; });
  assert(folio != batch.folios.begin());
  for (--folio; folio != batch.folios.end() && (*folio)->offset < range.end(); ++folio) {
    const std::uint64_t from = std::max(range.offset, (*folio)->offset), to = std::min(range.end(), (*folio)->end());
    out.push_back({(*folio)->bytes().data() + (from - (*folio)->offset), to - from});
  }
  return out;
}

}  // namespace

Status write_back(MappingSource &source, const pagecache::FileCache::Batch &batch, device::BlockDevice &device,
                  std::uint32_t block_size, WriteBackCount &done) {
  const auto body = [&](const Mapping &mapping, ByteRange piece) -> Step {
    if (mapping.type != MappingType::mapped && mapping.type != MappingType::unwritten)
      return {0, fail(Error::unsupported("write-back: mapping has no blocks"))};
    // Folios are whole blocks: so is what is written, also where the file ends inside one.
    const ByteRange blocks{piece.offset, round_up<std::uint64_t>(piece.end(), block_size) - piece.offset};
    if (piece.offset % block_size != 0 || blocks.end() > mapping.end())
      return {0, fail(Error::corrupt("mapping: not on block boundaries"))};
    const std::vector<iovec> pieces = gather(batch, blocks);
    if (!source.is_current(mapping)) return {0, {}};  // asked for again
    const std::uint64_t address = mapping.address + (piece.offset - mapping.offset);
    ++done.writes;
    if (Status status = device.write_gather(address, pieces); !status) return {0, std::move(status)};
    if (Status status = source.ioend(piece, mapping); !status) return {0, std::move(status)};
    return {piece.length, {}};
  };
  // A stale mapping makes a round without progress; a source that never has a true answer ends it.
  constexpr int kStaleRounds = 100;
  int idle = 0;
  while (done.bytes < batch.range.length) {
    const ByteRange rest{batch.range.offset + done.bytes, batch.range.length - done.bytes};
    const std::uint64_t more = TRY(iterate(source, rest, Operation::write, body));
    done.bytes += more;
    idle = more == 0 ? idle + 1 : 0;
    if (idle == kStaleRounds) return fail(Error::corrupt("mapping: never current"));
  }
  return {};
}

}  // namespace outboard::iomap

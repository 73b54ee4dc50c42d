#include "iomap/buffered.h"

#include "iomap/direct.h"
#include "iomap/iterate.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <functional>

namespace outboard::iomap::buffered {
namespace {

using pagecache::FileCache;

// What is to stand in a range of the file: bytes, or zeros.
struct Source {
  std::uint64_t offset = 0;
  std::span<const std::byte> data;
  bool zeros = false;
  void copy(std::uint64_t from, std::span<std::byte> to) const {
    if (zeros) std::memset(to.data(), 0, to.size());
    else std::memcpy(to.data(), data.data() + (from - offset), to.size());
  }
};

class Writer {
public:
  Writer(MappingSource &source, FileCache &cache, device::BlockDevice &device)
      : source_(source), cache_(cache), device_(device), block_size_(cache.block_size()) {}

  Step put(const Mapping &mapping, ByteRange piece, const Source &bytes) {
    if (mapping.type == MappingType::inline_data) return put_inline(mapping, piece, bytes);
    if ((mapping.flags & kPrepared) != 0) return put_prepared(mapping, piece, bytes);
    return put_folios(mapping, piece, bytes);
  }

private:
  Step put_inline(const Mapping &mapping, ByteRange piece, const Source &bytes) {
    if (mapping.inline_bytes.size() < mapping.length) return {0, fail(Error::corrupt("mapping: inline data without memory"))};
    bytes.copy(piece.offset, mapping.inline_bytes.subspan(piece.offset - mapping.offset, piece.length));
    return {piece.length, {}};
  }

  Step put_prepared(const Mapping &mapping, ByteRange piece, const Source &bytes) {
    std::uint64_t done = 0;
    while (done < piece.length) {
      const std::uint64_t at = piece.offset + done, into = at % block_size_;
      const std::uint64_t length = std::min<std::uint64_t>(block_size_ - into, piece.length - done);
      const ByteRange block{at - into, block_size_};
      Result<std::span<std::byte>> memory = source_.prepare(block, mapping);
      if (!memory) return {done, fail(std::move(memory).error())};
      bytes.copy(at, memory->subspan(into, length));
      if (Status committed = source_.commit(block, mapping); !committed) return {done, std::move(committed)};
      done += length;
    }
    return {done, {}};
  }

  Step put_folios(const Mapping &mapping, ByteRange piece, const Source &bytes) {
    const std::uint64_t first = round_down<std::uint64_t>(piece.offset, block_size_);
    const ByteRange blocks{first, round_up<std::uint64_t>(piece.end(), block_size_) - first};
    Result<std::vector<FileCache::Writable>> parts = cache_.make_writable(blocks);
    if (!parts) return {0, fail(std::move(parts).error())};
    // First what may fail: the rest of blocks that are only partly overwritten.
    for (const FileCache::Writable &part : *parts) {
      if (!part.fresh) continue;
      Status filled = fill_edges(mapping, piece, part);
      if (filled) continue;
      for (const FileCache::Writable &other : *parts)
        if (other.fresh) cache_.drop(other.range);
      return {0, std::move(filled)};
    }
    for (const FileCache::Writable &part : *parts) {
      const std::uint64_t from = std::max(part.range.offset, piece.offset), to = std::min(part.range.end(), piece.end());
      bytes.copy(from, part.bytes.subspan(from - part.range.offset, to - from));
    }
    return {piece.length, {}};
  }

  // The bytes of a fresh part that `piece` does not overwrite: in its first and in its last block, at most.
  Status fill_edges(const Mapping &mapping, ByteRange piece, const FileCache::Writable &part) {
    if (part.range.offset < piece.offset) {
      TRY(load(mapping, {part.range.offset, block_size_}, part));
      if (part.range.length == block_size_) return {};
    }
    if (part.range.end() > piece.end()) TRY(load(mapping, {part.range.end() - block_size_, block_size_}, part));
    return {};
  }

  // One block as it is on the device, with zeros behind the end of the file.
  Status load(const Mapping &mapping, ByteRange block, const FileCache::Writable &part) {
    const std::span<std::byte> into = part.bytes.subspan(block.offset - part.range.offset, block.length);
    const std::uint64_t size = cache_.size();
    std::uint64_t valid = size > block.offset ? std::min(size - block.offset, block.length) : 0;
    if (mapping.type != MappingType::mapped) valid = 0;
    if (valid > 0) TRY(device_.read(mapping.address + (block.offset - mapping.offset), into));
    std::memset(into.data() + valid, 0, into.size() - valid);
    return {};
  }

  MappingSource &source_;
  FileCache &cache_;
  device::BlockDevice &device_;
  const std::uint32_t block_size_;
};

// iterate() until everything is done or an error stops it.
Status all_of(MappingSource &source, ByteRange range, Operation operation,
              const std::function<Step(const Mapping &, ByteRange)> &body) {
  for (std::uint64_t done = 0; done < range.length;) {
    const std::uint64_t more = TRY(iterate(source, {range.offset + done, range.length - done}, operation, body));
    if (more == 0) return fail(Error::corrupt("mapping: no progress"));
    done += more;
  }
  return {};
}

}  // namespace

Result<std::size_t> read(MappingSource &source, const FileCache &cache, device::BlockDevice &device, std::uint64_t offset,
                         std::span<std::byte> data) {
  const std::uint64_t size = cache.size();
  if (cache.empty()) return direct::read(source, device, offset, data, size);
  if (offset >= size || data.empty()) return std::size_t{0};
  const ByteRange range{offset, std::min<std::uint64_t>(data.size(), size - offset)};
  std::size_t done = 0;
  for (const FileCache::Piece &piece : cache.pieces(range)) {
    const std::span<std::byte> into = data.subspan(done, piece.range.length);
    if (piece.hold) {
      std::memcpy(into.data(), piece.bytes.data(), into.size());
      done += into.size();
      continue;
    }
    Result<std::size_t> got = direct::read(source, device, piece.range.offset, into, size);
    if (!got) return done > 0 ? Result<std::size_t>(done) : got;
    done += *got;
    if (*got < into.size()) break;
  }
  return done;
}

Status zero(MappingSource &source, FileCache &cache, device::BlockDevice &device, ByteRange range) {
  Writer writer(source, cache, device);
  return all_of(source, range, Operation::zero, [&](const Mapping &mapping, ByteRange piece) -> Step {
    // Holes and unwritten blocks read as zeros, but for what is dirty over them.
    if (mapping.type == MappingType::hole || mapping.type == MappingType::unwritten || mapping.type == MappingType::delalloc) {
      if (Status zeroed = cache.zero(piece); !zeroed) return {0, std::move(zeroed)};
      return {piece.length, {}};
    }
    return writer.put(mapping, piece, {.offset = piece.offset, .data = {}, .zeros = true});
  });
}

Result<std::size_t> write(MappingSource &source, FileCache &cache, device::BlockDevice &device, std::uint64_t offset,
                          std::span<const std::byte> data) {
  if (data.empty()) return std::size_t{0};
  const std::uint64_t size = cache.size();
  if (const std::uint64_t into = size % cache.block_size(); offset > size && into != 0)
    TRY(zero(source, cache, device, {size, std::min<std::uint64_t>(cache.block_size() - into, offset - size)}));
  Writer writer(source, cache, device);
  const Source bytes{.offset = offset, .data = data};
  const std::uint64_t done = TRY(iterate(source, {offset, data.size()}, Operation::delay, [&](const Mapping &mapping, ByteRange piece) {
    return writer.put(mapping, piece, bytes);
  }));
  if (offset + done > cache.size()) cache.set_size(offset + done);
  return static_cast<std::size_t>(done);
}

}  // namespace outboard::iomap::buffered

#include "iomap/report.h"

#include "iomap/iterate.h"

#include <optional>

namespace outboard::iomap {
namespace {

constexpr std::uint64_t kEnd = std::uint64_t{1} << 63;  // no file reaches here

// The first mapping with contents that ends behind `position` and begins before `limit`.
Result<std::optional<Mapping>> next_extent(MappingSource &source, std::uint64_t position, std::uint64_t limit) {
  while (position < limit) {
    const ByteRange rest{position, limit - position};
    const Mapping mapping = TRY(begin_checked(source, rest, Operation::report));
    TRY(source.end(rest, 0, Operation::report, mapping));
    if (mapping.type != MappingType::hole) return mapping;
    position = mapping.end();
  }
  return std::nullopt;
}

// Does `next` go on where `mapping` ends, in the file and on the device?
bool continues(const Mapping &mapping, const Mapping &next) {
  if (mapping.type != next.type || mapping.flags != next.flags || mapping.end() != next.offset) return false;
  const bool has_address = mapping.type == MappingType::mapped || mapping.type == MappingType::unwritten;
  return has_address ? mapping.address + mapping.length == next.address : mapping.type == MappingType::delalloc;
}

}  // namespace

Result<Report> report(MappingSource &source, ByteRange range, std::size_t max_extents) {
  if (range.offset >= kEnd) return fail(Error::user(EFBIG, "report: beyond any file"));
  const std::uint64_t limit = range.offset + std::min(range.length, kEnd - range.offset);
  Report report;
  std::uint64_t position = range.offset;
  while (auto found = TRY(next_extent(source, position, limit))) {
    position = found->end();
    if (!report.extents.empty() && continues(report.extents.back().mapping, *found)) {
      report.extents.back().mapping.length += found->length;
      continue;
    }
    if (report.extents.size() == max_extents) {
      report.complete = false;
      return report;
    }
    report.extents.push_back({*found, false});
  }
  if (!report.extents.empty()) report.extents.back().last = !TRY(next_extent(source, position, kEnd)).has_value();
  return report;
}

Result<std::uint64_t> bmap(MappingSource &source, std::uint32_t block_size, std::uint64_t file_block) {
  if (file_block >= kEnd / block_size) return fail(Error::user(EFBIG, "bmap: beyond any file"));
  const ByteRange range{file_block * block_size, block_size};
  const Mapping mapping = TRY(begin_checked(source, range, Operation::report));
  TRY(source.end(range, 0, Operation::report, mapping));
  if (mapping.type != MappingType::mapped) return std::uint64_t{0};
  return (mapping.address + (range.offset - mapping.offset)) / block_size;
}

}  // namespace outboard::iomap

#include "iomap/short_read.h"

#include <algorithm>

namespace outboard::iomap {
namespace {

struct Target {
  std::uint64_t address = 0;
  std::size_t length = 0;  // clipped to the file's size; 0: not short
};

Target find_target(MappingCache &cache, const ShortReadFile &file, std::uint64_t offset, std::size_t wanted) {
  const std::uint64_t size = file.cache.size();
  if (offset >= size) return {};
  const std::uint64_t length = std::min<std::uint64_t>(wanted, size - offset);
  if (length == 0 || length > ShortRead::kMostBytes) return {};
  if (!file.cache.empty() && file.cache.touches({offset, length})) return {};
  const std::optional<Mapping> known = cache.lookup(file.mappings, offset, file.cookie);
  if (!known || known->type != MappingType::mapped || known->flags != 0) return {};
  const std::uint64_t into = offset - known->offset;
  if (length > known->length - into) return {};
  return {known->address + into, static_cast<std::size_t>(length)};
}

}  // namespace

bool ShortRead::map(MappingCache &cache, const ShortReadFile &file, std::uint64_t offset, std::span<std::byte> into) {
  const Target target = find_target(cache, file, offset, into.size());
  if (target.length == 0) return false;
  address_ = target.address;
  data_ = into.first(target.length);
  cookie_ = file.cookie;
  status_ = {};
  rendezvous_.reset();
  return true;
}

std::optional<Result<std::size_t>> short_read(MappingCache &cache, const ShortReadFile &file,
                                              device::BlockDevice &device, std::uint64_t offset,
                                              std::span<std::byte> into) {
  const Target target = find_target(cache, file, offset, into.size());
  if (target.length == 0) return std::nullopt;
  if (Status status = device.read(target.address, into.first(target.length)); !status)
    return Result<std::size_t>(fail(std::move(status).error()));
  return Result<std::size_t>(target.length);
}

}  // namespace outboard::iomap

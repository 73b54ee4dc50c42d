#include "jbd2/replay_changes.h"

#include "cache/aligned_memory.h"
#include "jbd2/home_writer.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace outboard::jbd2 {

bool fits_log(const LogFormat &format, std::size_t blocks) {
  return blocks + divide_up<std::size_t>(blocks, format.tags_per_descriptor()) + 1 <= format.length();
}

namespace {

// A commit block without checksum v1: jbd2 takes one whose fields say so.
Status write_commit(const LogArea &log, const LogFormat &format, std::uint32_t position, std::uint32_t sequence) {
  cache::AlignedArea area(format.block_size, log.device().properties().alignment);
  std::ranges::fill(area.span(), std::byte{0});
  put_header(area.span(), LogBlockType::commit, sequence);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  edit_as<CommitBlock>(area.span()).seconds.set(static_cast<std::uint64_t>(std::max<std::int64_t>(0, seconds)));
  seal_commit(format, area.span());
  TRY(log.write(position, area.span()));
  return log.device().flush();
}

}  // namespace

Status write_as_transaction(const LogArea &log, const LogFormat &format, std::span<std::byte> superblock,
                            std::uint32_t sequence, std::span<const ChangedBlock> changes) {
  // The log begins anew, and holds nothing yet: what was in it is home.
  auto &disk = edit_as<DiskSuperblock>(superblock);
  disk.start.set(format.first);
  disk.sequence.set(sequence);
  seal_superblock(superblock);
  TRY(log.write(0, superblock));
  TRY(log.device().flush());

  std::uint32_t position = format.first;
  const std::size_t group = format.tags_per_descriptor();
  cache::AlignedArea area((std::min(group, changes.size()) + 1) * format.block_size, log.device().properties().alignment);
  for (std::size_t first = 0; first < changes.size(); first += group) {
    const std::span<const ChangedBlock> part = changes.subspan(first, std::min(group, changes.size() - first));
    const std::span<std::byte> out = area.span(0, (part.size() + 1) * format.block_size);
    const std::span<std::byte> descriptor = out.first(format.block_size);
    std::ranges::fill(descriptor, std::byte{0});
    TagWriter tags(format, descriptor, sequence);
    for (std::size_t i = 0; i < part.size(); ++i) {
      const std::span<std::byte> block = out.subspan((i + 1) * format.block_size, format.block_size);
      std::memcpy(block.data(), part[i].bytes.data(), block.size());
      const bool escaped = has_magic(block);
      if (escaped) edit_as<be32>(block).set(0);
      tags.add(part[i].block, escaped, block);
    }
    tags.finish();
    // Never around the ring: it begins at its first block and fits_log() holds.
    TRY(log.write(position, out));
    position += static_cast<std::uint32_t>(part.size() + 1);
  }
  TRY(log.device().flush());
  return write_commit(log, format, position, sequence);
}

Status write_home(device::BlockDevice &filesystem, std::uint32_t block_size, std::span<const ChangedBlock> changes) {
  HomeWriter writer(filesystem, block_size);
  for (const ChangedBlock &change : changes) {
    if (writer.full()) TRY(writer.write_out());
    std::ranges::copy(change.bytes, writer.add(change.block).begin());
  }
  TRY(writer.write_out());
  return filesystem.flush();
}

}  // namespace outboard::jbd2

// File contents: which locks a read or write holds; the bytes are the engine's business.
#include "ext4/file_map.h"
#include "ext4/journaled_data.h"
#include "ext4/mapper.h"
#include "ext4/truncate.h"
#include "iomap/buffered.h"
#include "iomap/cached_source.h"
#include "iomap/direct.h"
#include "iomap/seek.h"
#include "iomap/short_read.h"
#include "vfs/mounted_volume.h"

#include <linux/falloc.h>
#include <vector>

namespace outboard::vfs {

Result<InodeRef> MountedVolume::find_file(NodeId node) {
  InodeRef inode = TRY(find(node));
  ReadLock lock(inode->lock);
  if (inode->disk.is_directory()) return fail(Error::user(EISDIR));
  if (!inode->disk.is_regular()) return fail(Error::user(EINVAL));
  return inode;
}

Result<std::size_t> MountedVolume::read(NodeId node, std::uint64_t offset, std::span<std::byte> into) {
  TRY(check_running());
  InodeRef inode = TRY(find_file(node));
  std::size_t got = 0;
  {
    ReadLock lock(inode->lock);
    const std::uint64_t &sequence = inode->disk.map_sequence;
    // Short: one known stretch, straight from the device. Anything else goes the whole way.
    const iomap::ShortReadFile file{.mappings = inode->mappings, .cookie = sequence, .cache = inode->pages};
    if (auto quick = iomap::short_read(mappings_, file, volume_->device(), offset, into)) {
      got = TRY(reported(std::move(*quick)));
    } else {
      ext4::Mapper mapper(*volume_, inode->disk);
      iomap::CachedSource source(mapper, mappings_, inode->mappings, sequence);
      got = TRY(reported(iomap::buffered::read(source, inode->pages, volume_->device(), offset, into)));
    }
  }
  touch_atime(*inode);
  return got;
}

// --- writing --------------------------------------------------------------------------------------------------------

Result<std::size_t> MountedVolume::write(NodeId node, std::uint64_t offset, std::span<const std::byte> data, WriteFlags flags) {
  const ChangeGate::Pass pass = TRY(begin_write(node));
  InodeRef inode = TRY(find_file(node));
  if (data.empty()) return std::size_t{0};
  // Too much is dirty already: the writer waits, with nothing held, for write-back to make room.
  if (!flags.direct) memory_.wait_for_room();
  Result<std::size_t> written = write_once(*inode, offset, data, flags);
  if (!written && written.error().is(ENOSPC)) {
    reclaim_space();
    written = write_once(*inode, offset, data, flags);
  }
  return reported(std::move(written));
}

// May this be written, and how much of it? Does what a write does to the inode itself.
Status MountedVolume::check_write(Inode &inode, std::uint64_t offset, std::span<const std::byte> &data, WriteFlags flags) {
  ext4::Inode &disk = inode.disk;
  if ((disk.fields.flags & format::kInodeFlagImmutable) != 0) return fail(Error::user(EPERM, "file is immutable"));
  const std::uint64_t limit = ext4::file_map::max_file_blocks(*volume_, disk) * volume_->block_size();
  if (offset >= limit) return fail(Error::user(EFBIG));
  if (data.size() > limit - offset) data = data.first(limit - offset);
  if (flags.kill_privileges) TRY(clear_privileges(inode, flags.writer_gid));
  if (!flags.from_page_cache) {
    disk.fields.mtime = disk.fields.ctime = volume_->now();
    inode.times_dirty = true;
  }
  return {};
}

Result<std::size_t> MountedVolume::write_once(Inode &inode, std::uint64_t offset, std::span<const std::byte> data,
                                              WriteFlags flags) {
  if (flags.direct) return write_direct(inode, offset, data, flags);
  std::size_t written = 0;
  {
    WriteLock lock(inode.lock);
    TRY(check_write(inode, offset, data, flags));
    ext4::Mapper mapper(*volume_, inode.disk);
    Result<std::size_t> done = iomap::buffered::write(mapper, inode.pages, volume_->device(), offset, data);
    if (!done) return done;
    written = *done;
  }
  flusher_->note(inode);
  return written;
}

// Overwrites in place share the file with other reads and overwrites; whatever else needs it alone.
Result<std::size_t> MountedVolume::write_direct(Inode &inode, std::uint64_t offset, std::span<const std::byte> data,
                                                WriteFlags flags) {
  {
    WriteLock lock(inode.lock);
    TRY(check_write(inode, offset, data, flags));
  }
  inode.data_unflushed = true;
  if (TRY(overwrite(inode, offset, data))) return data.size();
  WriteLock io(inode.io);
  Result<std::size_t> written = std::size_t{0};
  {
    CleanLock lock(*this, inode);
    TRY(lock.status());
    ext4::Mapper mapper(*volume_, inode.disk);
    // Nobody writes past the journal what belongs into it.
    if (ext4::journals_data(*volume_, inode.disk))
      written = iomap::buffered::write(mapper, inode.pages, volume_->device(), offset, data);
    else
      written = iomap::direct::write(mapper, volume_->device(), volume_->block_size(), offset, data, inode.disk.fields.size);
    inode.pages.set_size(inode.disk.fields.size);
  }
  flusher_->note(inode);
  return written;
}

// True when the bytes lay in mapped blocks inside the file, and have been written there.
Result<bool> MountedVolume::overwrite(Inode &inode, std::uint64_t offset, std::span<const std::byte> data) {
  ReadLock io(inode.io);
  ReadLock lock(inode.lock);
  if (offset + data.size() > inode.disk.fields.size) return false;
  const std::uint64_t block_size = volume_->block_size();
  const std::uint64_t first = round_down(offset, block_size), end = round_up(offset + data.size(), block_size);
  if (inode.pages.touches({first, end - first})) return false;
  ext4::Mapper mapper(*volume_, inode.disk);
  iomap::CachedSource source(mapper, mappings_, inode.mappings, inode.disk.map_sequence);
  for (std::uint64_t done = 0; done < data.size();) {
    const std::uint64_t at = offset + done, left = data.size() - done;
    // Nothing is asked of the map but where: an answer for reading does.
    const iomap::Mapping mapping = TRY(source.begin({at, left}, iomap::Operation::read));
    TRY(source.end({at, left}, 0, iomap::Operation::read, mapping));
    if (mapping.type != iomap::MappingType::mapped || mapping.flags != 0) return false;
    const std::uint64_t length = std::min(left, mapping.end() - at);
    TRY(volume_->device().write(mapping.address + (at - mapping.offset), data.subspan(done, length)));
    done += length;
  }
  return true;
}

Status MountedVolume::allocate(NodeId node, std::uint64_t offset, std::uint64_t length, int mode) {
  const ChangeGate::Pass pass = TRY(begin_change("fallocate", node));
  InodeRef inode = TRY(find_file(node));
  if (length == 0) return fail(Error::user(EINVAL));
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const ByteRange range{offset, length};
  WriteLock io(inode->io);
  CleanLock lock(*this, *inode);
  TRY(lock.status());
  ext4::Inode &disk = inode->disk;
  if ((disk.fields.flags & format::kInodeFlagImmutable) != 0) return fail(Error::user(EPERM, "file is immutable"));
  if ((disk.fields.flags & format::kInodeFlagAppend) != 0 && (mode & ~FALLOC_FL_KEEP_SIZE) != 0)
    return fail(Error::user(EPERM, "file is append-only"));
  const std::uint64_t limit = ext4::file_map::max_file_blocks(*volume_, disk) * volume_->block_size();
  if ((mode & FALLOC_FL_PUNCH_HOLE) == 0 && (offset > limit || length > limit - offset)) return fail(Error::user(EFBIG));
  inode->data_unflushed = true;
  disk.fields.mtime = disk.fields.ctime = volume_->now();
  inode->times_dirty = true;
  const Status status = [&]() NO_THREAD_SAFETY_ANALYSIS -> Status {
    switch (mode) {
    case 0:
    case FALLOC_FL_KEEP_SIZE: return ext4::truncate::preallocate(*volume_, disk, range, keep_size);
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE: return ext4::truncate::punch_hole(*volume_, disk, range);
    case FALLOC_FL_ZERO_RANGE:
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE: return ext4::truncate::zero_range(*volume_, disk, range, keep_size);
    case FALLOC_FL_COLLAPSE_RANGE: return ext4::truncate::collapse_range(*volume_, disk, range);
    case FALLOC_FL_INSERT_RANGE: return ext4::truncate::insert_range(*volume_, disk, range);
    default: return fail(Error::user(EOPNOTSUPP, "fallocate mode"));
    }
  }();
  inode->pages.set_size(disk.fields.size);
  return reported(status);
}

Result<std::uint64_t> MountedVolume::seek(NodeId node, std::uint64_t offset, Seek what) {
  InodeRef inode = TRY(find_file(node));
  ReadLock lock(inode->lock);
  ext4::Mapper mapper(*volume_, inode->disk);
  const std::uint64_t size = inode->pages.size();
  return reported(what == Seek::data ? iomap::seek_data(mapper, offset, size, &inode->pages)
                                   : iomap::seek_hole(mapper, offset, size, &inode->pages));
}

Result<std::size_t> MountedVolume::copy_range(NodeId from, std::uint64_t from_offset, NodeId to, std::uint64_t to_offset,
                                              std::size_t length) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  {
    // What the source has now: a copy to behind the end of the same file makes more of it, piece by piece.
    InodeRef source = TRY(find_file(from));
    ReadLock lock(source->lock);
    const std::uint64_t size = source->pages.size();
    if (from_offset >= size) return std::size_t{0};
    length = static_cast<std::size_t>(std::min<std::uint64_t>(length, size - from_offset));
  }
  std::vector<std::byte> buffer(std::min(length, kPiece));
  std::size_t copied = 0;
  while (copied < length) {
    const std::size_t want = std::min(buffer.size(), length - copied);
    Result<std::size_t> got = read(from, from_offset + copied, std::span(buffer).first(want));
    if (!got) return copied > 0 ? Result<std::size_t>(copied) : got;
    if (*got == 0) break;
    Result<std::size_t> put = write(to, to_offset + copied, std::span(buffer).first(*got), WriteFlags{});
    if (!put) return copied > 0 ? Result<std::size_t>(copied) : put;
    copied += *put;
    if (*put < want) break;
  }
  return copied;
}

Result<std::uint64_t> MountedVolume::map_block(NodeId node, std::uint64_t block, std::uint32_t block_size) {
  InodeRef inode = TRY(find_file(node));
  if (const auto pass = freezer_->gate().try_enter(ChangeGate::Level::background, "bmap", inode->number)) {
    write_back(*inode);
    TRY(record_written(*inode));
  }
  ReadLock lock(inode->lock);
  // Whoever asks means to look at the device.
  if (ext4::journals_data(*volume_, inode->disk) && !volume_->read_only()) TRY(reported(volume_->journal().checkpoint_all()));
  const std::uint64_t offset = block * block_size;
  if (block_size == 0 || offset / block_size != block || offset >= inode->disk.fields.size) return std::uint64_t{0};
  ext4::Mapper mapper(*volume_, inode->disk);
  const iomap::Mapping mapping = TRY(reported(mapper.begin({offset, block_size}, iomap::Operation::report)));
  if (mapping.type != iomap::MappingType::mapped) return std::uint64_t{0};
  return (mapping.address + (offset - mapping.offset)) / block_size;
}

}  // namespace outboard::vfs

#include "device/file_device.h"

#include "base/units.h"
#include "device/claim.h"
#include "device/in_memory.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <limits>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

namespace outboard::device {

namespace {

constexpr std::size_t kWindow = 128 * 1024;         // bytes of a bounce buffer; windows are aligned to it
constexpr std::uint32_t kMaximumAlignment = 4096;   // a host that asks for more is used buffered
constexpr std::uint64_t kZeroOnHost = 64 * 1024;    // below this, writing zeros is cheaper than asking the host
constexpr std::uint64_t kLongestCommand = 1 << 30;  // bytes of one discard or zero command, so that none takes forever

struct Free {
  void operator()(std::byte *memory) const { std::free(memory); }
};
using AlignedMemory = std::unique_ptr<std::byte[], Free>;

AlignedMemory allocate_aligned(std::size_t bytes) {
  return AlignedMemory(static_cast<std::byte *>(std::aligned_alloc(kMaximumAlignment, bytes)));
}

// One window for each thread, made at its first unaligned request and kept. Not reentrant.
Result<std::span<std::byte>> bounce_buffer() {
  thread_local AlignedMemory memory;
  if (!memory) memory = allocate_aligned(kWindow);
  if (!memory) return fail(Error::system(ENOMEM, "device: bounce buffer"));
  return std::span(memory.get(), kWindow);
}

Result<std::uint64_t> size_of(int fd, bool is_block, const struct stat &info) {
  if (!is_block) return static_cast<std::uint64_t>(info.st_size);
  std::uint64_t bytes = 0;
  if (::ioctl(fd, BLKGETSIZE64, &bytes) != 0) return fail(Error::system(errno, "device: size of the block device"));
  if (bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return fail(Error::system(EFBIG, "device: size of the block device"));
  return bytes;
}

bool set_direct_flag(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return false;
  const int wanted = on ? flags | O_DIRECT : flags & ~O_DIRECT;
  return wanted == flags || ::fcntl(fd, F_SETFL, wanted) == 0;
}

// The part of a range made of whole units, or an empty range.
ByteRange whole_units(std::uint64_t position, std::uint64_t length, std::uint64_t unit) {
  const std::uint64_t start = round_up(position, unit);
  const std::uint64_t end = round_down(position + length, unit);
  return start < end ? ByteRange{start, end - start} : ByteRange{position, 0};
}

ClaimOptions claim_options(const OpenOptions &options, bool read_only) {
  ClaimOptions claim;
  if (!options.claim) claim.mode = ClaimMode::none;
  else if (options.mount_claims) claim.mode = ClaimMode::test_then_share;
  claim.read_only = read_only;
  claim.offset = options.offset;
  claim.length = options.size_limit.value_or(0);
  claim.own_loop = options.own_loop;
  claim.refusal = options.refusal;
  return claim;
}

struct DirectAlignment {
  bool known = false;
  std::uint32_t memory = 0;  // 0: the host says that it does no direct I/O here
  std::uint32_t offset = 0;
};

DirectAlignment ask_direct_alignment(int fd, bool is_block) {
  if (is_block) {
    int sector = 0;
    if (::ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0)
      return {true, static_cast<std::uint32_t>(sector), static_cast<std::uint32_t>(sector)};
    return {};
  }
#if defined(STATX_DIOALIGN)
  struct statx info {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 && (info.stx_mask & STATX_DIOALIGN) != 0)
    return {true, info.stx_dio_mem_align, info.stx_dio_offset_align};
#else
  static_cast<void>(fd);
#endif
  return {};
}

}  // namespace

Result<std::unique_ptr<FileDevice>> FileDevice::open(const std::string &path, const OpenOptions &options) {
  return make(TRY(open_claimed(path, claim_options(options, options.read_only))), options);
}

Result<std::unique_ptr<FileDevice>> FileDevice::adopt(UniqueFd fd, const OpenOptions &options) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0) return fail(Error::system(errno, "device: status of the descriptor"));
  if ((flags & O_ACCMODE) == O_WRONLY) return fail(Error::system(EBADF, "device: descriptor cannot be read"));
  const bool read_only = options.read_only || (flags & O_ACCMODE) == O_RDONLY;
  TRY(outboard::device::claim(fd.get(), claim_options(options, read_only)));
  return make(std::move(fd), options);
}

Result<std::unique_ptr<FileDevice>> FileDevice::make(UniqueFd fd, const OpenOptions &options) {
  std::unique_ptr<FileDevice> device(new FileDevice(std::move(fd)));
  TRY(device->set_up(options));
  return device;
}

Status FileDevice::set_up(const OpenOptions &options) {
  struct stat info {};
  if (::fstat(host_.fd(), &info) != 0) return fail(Error::system(errno, "device: status of the file"));
  is_block_ = S_ISBLK(info.st_mode);
  if (!is_block_ && !S_ISREG(info.st_mode))
    return fail(Error::system(EINVAL, "device: neither a regular file nor a block device"));
  const int flags = ::fcntl(host_.fd(), F_GETFL);
  if (flags < 0) return fail(Error::system(errno, "device: status of the descriptor"));
  properties_.read_only = options.read_only || (flags & O_ACCMODE) == O_RDONLY;
  int protected_device = 0;
  if (is_block_ && !properties_.read_only && ::ioctl(host_.fd(), BLKROGET, &protected_device) == 0 &&
      protected_device != 0)
    return fail(Error::system(EROFS, "device: write-protected block device"));

  const std::uint64_t host_size = TRY(size_of(host_.fd(), is_block_, info));
  if (options.offset > host_size) return fail(Error::system(EINVAL, "device: offset lies beyond the end"));
  if (options.size_limit && *options.size_limit > host_size - options.offset)
    return fail(Error::system(EINVAL, "device: size limit lies beyond the end"));
  offset_ = options.offset;
  properties_.size = options.size_limit.value_or(host_size - options.offset);

  if (options.direct_io) set_up_direct(host_size);
  if (!direct_) {
    if (!set_direct_flag(host_.fd(), false)) return fail(Error::system(errno, "device: buffered mode"));
    memory_alignment_ = offset_alignment_ = 1;
  }
  properties_.alignment = std::max(memory_alignment_, offset_alignment_);
  host_.set_granule(offset_alignment_);
  if (options.health && !in_memory()) {
    properties_.keeps_deadline = host_.keep_deadlines(options.health);
    if (!direct_) direct_reads_.reset(::open(fmt::format("/proc/self/fd/{}", host_.fd()).c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  }
  properties_.discards = !properties_.read_only && probe_discard(host_size);
  return {};
}

void FileDevice::set_up_direct(std::uint64_t host_size) {
  const DirectAlignment asked = ask_direct_alignment(host_.fd(), is_block_);
  if (asked.known) {
    if (asked.memory == 0 || asked.offset == 0) return;
    direct_ = try_direct(asked.memory, asked.offset, host_size);
    return;
  }
  for (std::uint32_t guess = 512; guess <= kMaximumAlignment && !direct_; guess *= 2)
    direct_ = try_direct(guess, guess, host_size);
}

// Whether a first sector can be read directly with this alignment. Sets the alignment; the caller undoes it.
bool FileDevice::try_direct(std::uint32_t memory_alignment, std::uint32_t offset_alignment, std::uint64_t host_size) {
  if (!std::has_single_bit(memory_alignment) || !std::has_single_bit(offset_alignment)) return false;
  if (memory_alignment > kMaximumAlignment || offset_alignment > kMaximumAlignment) return false;
  // The end of the file must be an end of a sector: rewriting the last one must not make the file longer.
  if (offset_ % offset_alignment != 0 || host_size % offset_alignment != 0 || host_size == 0) return false;
  if (!set_direct_flag(host_.fd(), true)) return false;
  const AlignedMemory memory = allocate_aligned(kMaximumAlignment);
  if (!memory) return false;
  host_.set_granule(offset_alignment);
  if (!host_.read(0, std::span(memory.get(), offset_alignment))) return false;
  memory_alignment_ = memory_alignment;
  offset_alignment_ = offset_alignment;
  return true;
}

// Asks without harm: a hole far behind the end of the file, or a block range that is refused only after the question
// whether the device discards at all (EOPNOTSUPP) has been answered.
bool FileDevice::probe_discard(std::uint64_t host_size) const {
  if (is_block_) {
    std::uint64_t misaligned[2] = {1, 0};
    return ::ioctl(host_.fd(), BLKDISCARD, misaligned) != 0 && errno == EINVAL;
  }
  const std::uint64_t behind = round_up<std::uint64_t>(host_size, kWindow) + kWindow;
  return ::fallocate(host_.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(behind),
                     kMaximumAlignment) == 0;
}

Status FileDevice::check(std::uint64_t offset, std::uint64_t length) const {
  if (offset > properties_.size || length > properties_.size - offset)
    return fail(Error::system(EIO, "device: range beyond the end"));
  return {};
}

Status FileDevice::check_change(std::uint64_t offset, std::uint64_t length) const {
  if (properties_.read_only) return fail(Error::system(EROFS, "device: opened read-only"));
  return check(offset, length);
}

bool FileDevice::memory_aligned(const void *data) const {
  return (reinterpret_cast<std::uintptr_t>(data) & (memory_alignment_ - 1)) == 0;
}

bool FileDevice::range_aligned(std::uint64_t position, std::uint64_t length) const {
  return ((position | length) & (offset_alignment_ - 1)) == 0;
}

Status FileDevice::read(std::uint64_t offset, std::span<std::byte> data) {
  TRY(check(offset, data.size()));
  const std::uint64_t position = offset_ + offset;
  if (memory_aligned(data.data()) && range_aligned(position, data.size())) return host_.read(position, data);
  return read_bounced(position, data);
}

Status FileDevice::read_bounced(std::uint64_t position, std::span<std::byte> data) const {
  const std::span<std::byte> bounce = TRY(bounce_buffer());
  while (!data.empty()) {
    const std::uint64_t start = round_down<std::uint64_t>(position, offset_alignment_);
    const std::uint64_t end = std::min<std::uint64_t>(
        round_up<std::uint64_t>(position + data.size(), offset_alignment_), start + bounce.size());
    TRY(host_.read(start, bounce.first(end - start)));
    const std::size_t take = std::min<std::uint64_t>(data.size(), end - position);
    std::memcpy(data.data(), bounce.data() + (position - start), take);
    data = data.subspan(take);
    position += take;
  }
  return {};
}

Status FileDevice::write(std::uint64_t offset, std::span<const std::byte> data) {
  const iovec piece = {const_cast<std::byte *>(data.data()), data.size()};
  return write_gather(offset, {&piece, 1});
}

Status FileDevice::write_gather(std::uint64_t offset, std::span<const iovec> pieces) {
  std::uint64_t length = 0;
  bool aligned = range_aligned(offset_ + offset, 0);
  for (const iovec &piece : pieces) {
    if (piece.iov_len > std::numeric_limits<std::uint64_t>::max() - length)
      return fail(Error::system(EIO, "device: range beyond the end"));
    length += piece.iov_len;
    aligned = aligned && memory_aligned(piece.iov_base) && range_aligned(0, piece.iov_len);
  }
  TRY(check_change(offset, length));
  if (aligned) return host_.write(offset_ + offset, GatherCursor(pieces), length);
  return write_bounced(offset_ + offset, GatherCursor(pieces), length);
}

// Goes window by window, so that each piece has one lock.
Status FileDevice::write_bounced(std::uint64_t position, GatherCursor from, std::uint64_t length) {
  while (length > 0) {
    const std::uint64_t window = position / kWindow;
    const std::size_t piece = std::min<std::uint64_t>(length, (window + 1) * kWindow - position);
    if (range_aligned(position, piece)) {  // only the memory was unaligned
      TRY(write_piece(position, from, piece));
    } else {
      MutexLock lock(stripes_[window % kStripes].mutex);
      TRY(write_piece(position, from, piece));
    }
    position += piece;
    length -= piece;
  }
  return {};
}

Status FileDevice::write_piece(std::uint64_t position, GatherCursor &from, std::size_t length) const {
  const std::span<std::byte> bounce = TRY(bounce_buffer());
  const std::uint64_t start = round_down<std::uint64_t>(position, offset_alignment_);
  const std::uint64_t end = round_up<std::uint64_t>(position + length, offset_alignment_);
  assert(end - start <= bounce.size());
  const std::uint64_t last_sector = end - offset_alignment_;
  if (start != position) TRY(host_.read(start, bounce.first(offset_alignment_)));
  if (end != position + length && (last_sector != start || start == position))
    TRY(host_.read(last_sector, bounce.subspan(last_sector - start, offset_alignment_)));
  from.copy(bounce.subspan(position - start, length));
  const iovec whole = {bounce.data(), end - start};
  return host_.write(start, GatherCursor({&whole, 1}), whole.iov_len);
}

Status FileDevice::flush() { return host_.sync(); }

bool FileDevice::in_memory() const { return is_in_memory(host_.fd()); }

// Where the superblock is, so that an image full of holes answers from the device too.
Status FileDevice::sign_of_life() {
  constexpr std::size_t kLength = kMaximumAlignment;
  const std::uint64_t position = round_down<std::uint64_t>(offset_ + 1024, kLength);
  const AlignedMemory memory = allocate_aligned(kLength);
  if (!memory) return fail(Error::system(ENOMEM, "device: memory of a probe"));
  const int fd = direct_reads_ ? direct_reads_.get() : host_.fd();
  if (!direct_ && !direct_reads_) ::posix_fadvise(fd, static_cast<off_t>(position), kLength, POSIX_FADV_DONTNEED);
  if (::pread(fd, memory.get(), kLength, static_cast<off_t>(position)) < 0) return fail(Error::system(errno, "device: probe"));
  return {};
}

Status FileDevice::discard(std::uint64_t offset, std::uint64_t length) {
  TRY(check_change(offset, length));
  if (!properties_.discards) return {};
  // Whole pages only: freeing parts of one makes the host do work and gains no space.
  ByteRange range = whole_units(offset_ + offset, length, kMaximumAlignment);
  while (range.length > 0) {
    const std::uint64_t piece = std::min(range.length, kLongestCommand);
    int result;
    if (is_block_) {
      std::uint64_t bounds[2] = {range.offset, piece};
      result = ::ioctl(host_.fd(), BLKDISCARD, bounds);
    } else {
      result = ::fallocate(host_.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(range.offset),
                           static_cast<off_t>(piece));
    }
    if (result != 0) {
      if (errno == EINTR) continue;
      if (errno == EOPNOTSUPP || errno == ENOSYS) return {};  // a hint
      return fail(Error::system(errno, "device: discard"));
    }
    range.offset += piece;
    range.length -= piece;
  }
  return {};
}

Status FileDevice::zero(std::uint64_t offset, std::uint64_t length) {
  TRY(check_change(offset, length));
  const ByteRange inner = whole_units(offset_ + offset, length, kMaximumAlignment);
  if (inner.length < kZeroOnHost || !zeroes_on_host_.load(std::memory_order_relaxed))
    return BlockDevice::zero(offset, length);
  if (Status done = zero_on_host(inner.offset, inner.length); !done) {
    if (!done.error().is(EOPNOTSUPP)) return done;
    zeroes_on_host_.store(false, std::memory_order_relaxed);
    return BlockDevice::zero(offset, length);
  }
  const std::uint64_t inner_start = inner.offset - offset_;
  const std::uint64_t inner_end = inner_start + inner.length;
  TRY(BlockDevice::zero(offset, inner_start - offset));
  return BlockDevice::zero(inner_end, offset + length - inner_end);
}

Status FileDevice::zero_on_host(std::uint64_t position, std::uint64_t length) const {
  while (length > 0) {
    const std::uint64_t piece = std::min(length, kLongestCommand);
    int result;
    if (is_block_) {
      std::uint64_t bounds[2] = {position, piece};
      result = ::ioctl(host_.fd(), BLKZEROOUT, bounds);
    } else {
      result = ::fallocate(host_.fd(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(position),
                           static_cast<off_t>(piece));
    }
    if (result != 0) {
      if (errno == EINTR) continue;
      const bool refused = errno == EOPNOTSUPP || errno == ENOSYS || errno == ENOTTY;
      return fail(Error::system(refused ? EOPNOTSUPP : errno, "device: zero"));
    }
    position += piece;
    length -= piece;
  }
  return {};
}

}  // namespace outboard::device

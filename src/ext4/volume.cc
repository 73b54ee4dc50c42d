// The handle's face: accessors, counters, the superblock's own fields.
#include "ext4/volume.h"

#include "ext4/volume_impl.h"

#include <algorithm>
#include <ctime>

namespace outboard::ext4 {

Volume::Volume(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Volume::~Volume() = default;

const OpenReport &Volume::report() const { return impl_->open_report; }
const VolumeOptions &Volume::options() const { return impl_->options; }
bool Volume::read_only() const {
  return impl_->read_only || impl_->failed.load(std::memory_order_relaxed) || (impl_->journal && impl_->journal->aborted());
}
Status Volume::check_writable() const {
  if (read_only()) return fail(Error::user(EROFS));
  return {};
}
const format::Superblock &Volume::superblock() const { return impl_->superblock; }
const format::Geometry &Volume::geometry() const { return impl_->geometry; }
std::uint32_t Volume::block_size() const { return impl_->superblock.block_size; }
bool Volume::has_metadata_checksums() const { return impl_->superblock.has_metadata_checksums(); }
const SipKey &Volume::listing_key() const { return impl_->listing_key; }

device::BlockDevice &Volume::device() { return impl_->device; }
cache::BufferCache &Volume::cache() { return *impl_->cache; }
jbd2::Journal &Volume::journal() { return *impl_->journal; }
const BlockTypes &Volume::types() const { return *impl_->types; }
GroupTable &Volume::groups() { return *impl_->groups; }
BlockAllocator &Volume::blocks() { return *impl_->blocks; }
InodeAllocator &Volume::inodes() { return *impl_->inodes; }
Orphans &Volume::orphans() { return *impl_->orphans; }
FastCommits &Volume::fast_commits() { return *impl_->fast_commits; }
XattrBlocks &Volume::xattr_blocks() { return *impl_->xattr_blocks; }

Status Volume::sync() {
  if (impl_->read_only) return {};
  return impl_->journal->commit_running();
}

// --- counters -------------------------------------------------------------------------------------------------------------

// As ext4 computes it: fixed metadata of every group, and the journal when it is inside.
std::uint64_t Volume::Impl::overhead_blocks() {
  if (const std::uint64_t known = overhead.load(std::memory_order_relaxed); known != 0) return known;
  std::uint64_t blocks_ = geometry.static_overhead_blocks();
  if (superblock.cluster_bits != 0 && superblock.overhead_clusters != 0) {
    // Clusters that several pieces of metadata share are counted once; mkfs has done it.
    blocks_ = std::uint64_t{superblock.overhead_clusters} << superblock.cluster_bits;
  } else if (superblock.has(format::Compat::has_journal) && superblock.journal_inode) {
    if (log) blocks_ += log->block_count();
    else if (auto inode = inodes->load(superblock.journal_inode)) blocks_ += inode->fields.size >> superblock.block_bits;
  }
  blocks_ = std::clamp<std::uint64_t>(blocks_, 1, superblock.blocks_count);
  overhead.store(blocks_, std::memory_order_relaxed);
  return blocks_;
}

Counts Volume::counts() {
  Counts counts;
  counts.blocks = impl_->superblock.blocks_count - impl_->overhead_blocks();
  counts.free_blocks = impl_->blocks->free_blocks();
  const std::uint64_t kept = impl_->blocks->kept_blocks();
  counts.available_blocks = counts.free_blocks > kept ? counts.free_blocks - kept : 0;
  counts.inodes = impl_->superblock.inodes_count;
  counts.free_inodes = impl_->groups->free_inodes();
  return counts;
}

Status Volume::Impl::before_commit(jbd2::Handle &handle) {
  fast_commits->forget();
  const std::uint64_t free_blocks = groups->free_blocks();
  const auto free_inodes = static_cast<std::uint32_t>(groups->free_inodes());
  const bool large_file = want_large_file.load(std::memory_order_relaxed);
  MutexLock lock(superblock_lock);
  std::optional<PendingError> pending = take_pending_error();
  if (free_blocks == written_free_blocks && free_inodes == written_free_inodes && large_file <= written_large_file && !pending)
    return {};
  const std::span<std::byte> bytes = raw_of(TRY(superblock_buffer->writable(handle)));
  format::set_free_counts(bytes, free_blocks, free_inodes);
  written_free_blocks = free_blocks;
  written_free_inodes = free_inodes;
  if (large_file && !written_large_file) {
    format::set_feature(bytes, format::RoCompat::large_file, true);
    written_large_file = true;
  }
  if (pending) put_error(bytes, *pending);
  format::seal_superblock(bytes);
  return {};
}

void Volume::need_large_file() { impl_->want_large_file.store(true, std::memory_order_relaxed); }

// --- clock ----------------------------------------------------------------------------------------------------------------

format::Timestamp Volume::now() const {
  constexpr std::uint64_t kSecond = 1'000'000'000;
  timespec spec{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &spec);
  const std::uint64_t time = static_cast<std::uint64_t>(std::max<std::int64_t>(spec.tv_sec, 0)) * kSecond +
                             static_cast<std::uint64_t>(spec.tv_nsec);
  std::uint64_t last = impl_->last_now.load(std::memory_order_relaxed);
  while (last < time && !impl_->last_now.compare_exchange_weak(last, time, std::memory_order_relaxed)) {
  }
  const std::uint64_t result = std::max(last, time);
  return format::storable_time({static_cast<std::int64_t>(result / kSecond), static_cast<std::uint32_t>(result % kSecond)},
                               impl_->superblock.want_extra_isize);
}

// --- the superblock -------------------------------------------------------------------------------------------------------

Status Volume::edit_superblock(jbd2::Handle &handle, const std::function<void(std::span<std::byte>)> &edit) {
  MutexLock lock(impl_->superblock_lock);
  const std::span<std::byte> bytes = impl_->raw_of(TRY(impl_->superblock_buffer->writable(handle)));
  edit(bytes);
  format::seal_superblock(bytes);
  return {};
}

std::uint32_t Volume::last_orphan() {
  MutexLock lock(impl_->superblock_lock);
  return format::last_orphan(impl_->raw_superblock()).value();
}

std::string Volume::label() {
  MutexLock lock(impl_->superblock_lock);
  return format::label(impl_->raw_superblock());
}

void Volume::report_error(const Error &error) { impl_->report(error); }

}  // namespace outboard::ext4

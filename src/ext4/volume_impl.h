// What a mounted volume consists of. volume_open.cc makes it, volume.cc is the handle's face, volume_errors.cc what happens when
// something is found broken.
#pragma once

#include "ext4/block_alloc.h"
#include "ext4/fast_commit_tracker.h"
#include "ext4/group_table.h"
#include "ext4/inode_alloc.h"
#include "ext4/orphans.h"
#include "ext4/volume.h"
#include "ext4/xattr_block.h"

#include <array>
#include <atomic>
#include <optional>

namespace outboard::ext4 {

using RawSuperblockBytes = std::array<std::byte, format::kSuperblockSize>;

struct Volume::Impl {
  Impl(device::BlockDevice &dev, VolumeOptions opts, device::BlockDevice *log_device)
      : device(dev), options(opts), journal_device(log_device) {}

  // --- volume_open.cc, in this order
  Status read_superblock();
  Status check_features(std::string *refusal);
  Status check_size() const;
  Status find_log(std::string *refusal);
  Status recover(std::string *refusal);
  Status mark_mounted();  // on the device, before the cache sees the superblock
  void unmark_mounted();
  Status build(Volume &volume);
  Status start_using(Volume &volume);
  // On the device, after the last commit.
  Status mark_clean();
  Status write_state(bool clean);  // as the cache has it, but for what says whether it is clean
  void force_read_only(std::string reason);
  Status write_superblock(RawSuperblockBytes &raw);  // seals, writes, flushes

  // --- volume.cc
  // Runs when no handle is open: counters, features and errors into the superblock of the transaction that commits.
  Status before_commit(jbd2::Handle &handle);
  std::span<std::byte> raw_of(std::span<std::byte> block) const {
    return block.subspan(geometry.super_offset(), format::kSuperblockSize);
  }
  std::span<const std::byte> raw_superblock() const REQUIRES(superblock_lock) {
    return superblock_buffer->bytes().subspan(geometry.super_offset(), format::kSuperblockSize);
  }
  std::uint64_t overhead_blocks();

  // --- volume_errors.cc
  void report(const Error &error);
  void log_error(const Error &error);
  void stop_changes(const Error &error);

  device::BlockDevice &device;
  const VolumeOptions options;
  device::BlockDevice *const journal_device;

  RawSuperblockBytes raw{};         // as read by open()
  format::Superblock superblock;    // as read by open(), after recovery
  format::Geometry geometry;
  const SipKey listing_key = SipKey::random();
  OpenReport open_report;
  bool read_only = false;           // decided by open()
  bool recovered = false;
  bool replaying = false;           // open_for_replay()
  std::uint16_t state = 0;          // s_state to be restored by a clean unmount
  ErrorPolicy policy = ErrorPolicy::continue_;
  std::optional<jbd2::LogArea> log;

  // Order matters: what is below uses what is above, and goes first.
  std::optional<BlockTypes> types;
  std::optional<cache::BufferCache> cache;
  Mutex superblock_lock{Rank::superblock};
  cache::BufferRef superblock_buffer;  // contents under superblock_lock
  std::unique_ptr<FastCommits> fast_commits;
  std::unique_ptr<GroupTable> groups;
  std::unique_ptr<BlockAllocator> blocks;
  std::unique_ptr<InodeAllocator> inodes;
  std::unique_ptr<XattrBlocks> xattr_blocks;
  std::unique_ptr<Orphans> orphans;
  std::unique_ptr<jbd2::Journal> journal;

  // What the superblock buffer says.
  std::uint64_t written_free_blocks GUARDED_BY(superblock_lock) = 0;
  std::uint32_t written_free_inodes GUARDED_BY(superblock_lock) = 0;
  bool written_large_file GUARDED_BY(superblock_lock) = false;
  std::atomic<bool> want_large_file{false};
  std::atomic<std::uint64_t> overhead{0};  // blocks; 0: not computed yet
  std::atomic<std::uint64_t> last_now{0};  // nanoseconds since 1970: now() never goes back
  bool closed = false;

  // An error that the next commit writes into the superblock.
  struct PendingError {
    Error error;
    std::int64_t time;  // seconds
    std::uint32_t count = 1;
  };
  static void put_error(std::span<std::byte> raw, const PendingError &pending);
  Mutex error_lock{Rank::leaf};
  std::optional<PendingError> pending_error GUARDED_BY(error_lock);
  std::optional<PendingError> take_pending_error();
  std::atomic<bool> failed{false};  // changes were stopped because of an error
  // Log lines: a burst is allowed, then one a second.
  std::int64_t log_second GUARDED_BY(error_lock) = 0;
  std::uint32_t logged_this_second GUARDED_BY(error_lock) = 0, suppressed GUARDED_BY(error_lock) = 0;
};

}  // namespace outboard::ext4

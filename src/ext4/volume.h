// The handle of a mounted ext4: geometry, features, counters, and the rooms that share them.
// Thread-safe. Created by open(), which verifies the superblock, decides read-write, read-only or refusal by feature,
// recovers the journal and starts it. close() leaves a clean image; without close() the disk is as after a crash.
#pragma once

#include "base/mutex.h"
#include "base/siphash.h"
#include "cache/buffer_cache.h"
#include "device/block_device.h"
#include "ext4/block_types.h"
#include "ext4/format/geometry.h"
#include "ext4/format/superblock.h"
#include "ext4/inode.h"
#include "jbd2/journal.h"
#include "jbd2/replay.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace outboard::ext4 {

class BlockAllocator;
class FastCommits;
class GroupTable;
class InodeAllocator;
class Orphans;
class XattrBlocks;

enum class ErrorPolicy : std::uint8_t { continue_, remount_read_only, panic };

struct VolumeOptions {
  bool read_only = false;
  bool no_recovery = false;  // with read_only: show the disk as it is, journal unreplayed
  bool fast_commit = true;   // fsync by fast commits, on volumes with the feature
  bool discard = false;      // tell the device about freed blocks
  std::optional<ErrorPolicy> errors;  // default: the superblock's
  bool journal_data = false;          // all regular files' data goes through the journal (data=journal)
  std::chrono::seconds commit_interval{5};
  std::size_t cache_bytes = std::size_t{32} << 20;
};

// What open() found worth telling a person.
struct OpenReport {
  jbd2::RecoveryReport recovery;
  std::uint32_t fast_commits = 0;    // replayed
  bool forced_read_only = false;
  std::string read_only_reason;      // "read-only: features quota, verity are not supported for writing"
  std::uint32_t orphans_deleted = 0, orphans_truncated = 0;
};

struct Counts {
  std::uint64_t blocks = 0;            // data blocks: total less overhead
  std::uint64_t free_blocks = 0;       // less reservations
  std::uint64_t available_blocks = 0;  // ... and less what is kept for root
  std::uint64_t inodes = 0, free_inodes = 0;
};

class Volume {
public:
  // `journal_device`: for file systems whose journal is external. Devices must outlive the volume. On a dirty image with
  // read_only and not no_recovery the caller gives a writable (overlay) device; if the device is read-only and the log dirty: EROFS.
  // The refusal of a feature is Error::unsupported; `refusal` (if given) receives the sentence that names it.
  static Result<std::unique_ptr<Volume>> open(device::BlockDevice &device, VolumeOptions options,
                                              device::BlockDevice *journal_device = nullptr, std::string *refusal = nullptr);
  // For fast_commit_replay.h: the volume that the ordinary log has left on `device`, without a log: commits go home. Orphans
  // are not cleaned up, nothing is marked, and close() is not for it. `log`: an internal journal's place, or none.
  static Result<std::unique_ptr<Volume>> open_for_replay(device::BlockDevice &device, std::optional<jbd2::LogArea> log);
  ~Volume();
  Volume(const Volume &) = delete;

  // Deletes and truncates what the orphan list and file hold; called by open() when mounted read-write.
  // Everything committed and at home, superblock clean (needs_recovery cleared), device flushed. Once.
  Status close();
  // Everything changed so far is durable.
  Status sync();
  // Freezing, after Journal::checkpoint_all(): the superblock on disk says clean, so that a copy of the device mounts without
  // recovery and is not taken for a crashed one. No handle is open, and none is started until mark_in_use() has succeeded, which
  // takes it back. The superblock in the cache says "in use" all the time.
  Status mark_frozen();
  Status mark_in_use();

  const OpenReport &report() const;
  const VolumeOptions &options() const;
  bool read_only() const;              // by option, by feature, or after an error
  Status check_writable() const;       // EROFS when read_only()
  const format::Superblock &superblock() const;  // as it was at open: geometry, features, seeds. Counters are not kept here
  const format::Geometry &geometry() const;
  std::uint32_t block_size() const;
  bool has_metadata_checksums() const;
  // Secret, new with each open(): tells names of one hash apart in a directory's order (directory_iterate.cc).
  const SipKey &listing_key() const;

  device::BlockDevice &device();
  cache::BufferCache &cache();
  jbd2::Journal &journal();
  const BlockTypes &types() const;
  GroupTable &groups();
  BlockAllocator &blocks();
  InodeAllocator &inodes();
  Orphans &orphans();
  FastCommits &fast_commits();
  XattrBlocks &xattr_blocks();  // xattr_block.h: made with XattrBlocks(Volume &), beside the others

  Counts counts();
  // A coarse clock. (Records of 128 bytes keep seconds only: InodeAllocator::store() cuts what does not fit.)
  format::Timestamp now() const;

  // A change to the superblock's own fields in this transaction: orphan head, feature bits, label ...
  // `edit` gets the raw 1024 bytes with the superblock lock held.
  Status edit_superblock(jbd2::Handle &handle, const std::function<void(std::span<std::byte>)> &edit);
  std::uint32_t last_orphan();         // s_last_orphan as it is now
  // A file is about to be larger than 2^31 - 1 bytes: the large_file feature goes into the transaction that is running.
  void need_large_file();
  std::string label();

  // Every corrupt or I/O error that an operation met comes by here once: logged, recorded in the superblock, policy applied.
  void report_error(const Error &error);

private:
  struct Impl;
  explicit Volume(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace outboard::ext4

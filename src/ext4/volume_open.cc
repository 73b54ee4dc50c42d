// From a device to a mounted volume, and the last steps of the way back.
//
// Order: superblock; features; the log and its recovery, before anything else is trusted; the superblock again, since recovery
// may have replaced it; the mark "in use" on the device, durable before the first commit; then cache and journal.
#include "base/log.h"
#include "ext4/credits.h"
#include "ext4/fast_commit_replay.h"
#include "ext4/journal_area.h"
#include "ext4/volume_impl.h"

#include <algorithm>
#include <ctime>
#include <fmt/format.h>

namespace outboard::ext4 {
namespace {

// More would be a hundred terabytes of the smallest groups: the tables alone would be the size of a disk.
constexpr std::uint32_t kMaxGroups = std::uint32_t{1} << 22;
// Up to here descriptors are summed at every mount instead of believing the superblock's totals.
constexpr std::uint32_t kCheapDescriptorBlocks = 64;
// Replaying fast commits: one commit at the end, unless the changes are many.
constexpr std::chrono::hours kNever{24 * 365};
constexpr std::uint32_t kReplayBuffers = 16384;

void refuse(std::string *refusal, std::string sentence) {
  if (refusal != nullptr) *refusal = std::move(sentence);
}

}  // namespace

Result<std::unique_ptr<Volume>> Volume::open(device::BlockDevice &device, VolumeOptions options,
                                             device::BlockDevice *journal_device, std::string *refusal) {
  std::unique_ptr<Volume> volume(new Volume(std::make_unique<Impl>(device, options, journal_device)));
  Impl &impl = *volume->impl_;
  impl.read_only = options.read_only;
  TRY(impl.read_superblock());
  TRY(impl.check_features(refusal));
  TRY(impl.check_size());
  TRY(impl.recover(refusal));
  if (Status built = impl.build(*volume); !built) {
    impl.unmark_mounted();
    return fail(std::move(built).error());
  }
  if (Status started = impl.start_using(*volume); !started) {
    // As clean as it was, if that can still be had: whoever looks next is not to blame this attempt.
    if (!impl.read_only) static_cast<void>(volume->close());
    return fail(std::move(started).error());
  }
  return volume;
}

Result<std::unique_ptr<Volume>> Volume::open_for_replay(device::BlockDevice &device, std::optional<jbd2::LogArea> log) {
  VolumeOptions options;
  options.commit_interval = kNever;
  std::unique_ptr<Volume> volume(new Volume(std::make_unique<Impl>(device, options, nullptr)));
  Impl &impl = *volume->impl_;
  impl.replaying = impl.recovered = true;
  impl.log = std::move(log);
  TRY(impl.read_superblock());
  TRY(impl.check_features(nullptr));
  TRY(impl.check_size());
  if (impl.read_only) return fail(Error::unsupported("fast commits of a volume that cannot be changed"));
  TRY(impl.build(*volume));
  impl.groups->sum_descriptors();
  return volume;
}

Status Volume::Impl::read_superblock() {
  if (device.properties().size < format::kSuperblockOffset + raw.size())
    return fail(Error::corrupt("superblock: the device is too small for one"));
  TRY(device.read(format::kSuperblockOffset, raw));
  superblock = TRY(format::parse_superblock(raw));
  geometry = format::Geometry(superblock);
  state = superblock.state;
  return {};
}

void Volume::Impl::force_read_only(std::string reason) {
  if (!options.read_only) open_report.forced_read_only = true;
  if (open_report.read_only_reason.empty()) open_report.read_only_reason = std::move(reason);
  read_only = true;
}

Status Volume::Impl::check_features(std::string *refusal) {
  if (const std::string names = format::unsupported_incompat(superblock.features); !names.empty()) {
    refuse(refusal, fmt::format("cannot mount: unsupported features: {}", names));
    return fail(Error::unsupported("superblock: features that this program does not know"));
  }
  if (superblock.group_count > kMaxGroups) {
    refuse(refusal, "cannot mount: too many block groups");
    return fail(Error::unsupported("superblock: too many block groups"));
  }
  if (const std::string names = format::unsupported_ro_compat(superblock.features); !names.empty())
    force_read_only(fmt::format("read-only: features {} are not supported for writing", names));
  if (device.properties().read_only) force_read_only("read-only: the device cannot be written");
  if (options.journal_data && !superblock.has(format::Compat::has_journal)) {
    refuse(refusal, "cannot mount: data=journal needs a journal, and there is none");
    return fail(Error::user(EINVAL, "data=journal without a journal"));
  }
  switch (superblock.errors) {
  case format::ErrorBehaviour::continue_: policy = ErrorPolicy::continue_; break;
  case format::ErrorBehaviour::remount_read_only: policy = ErrorPolicy::remount_read_only; break;
  case format::ErrorBehaviour::panic: policy = ErrorPolicy::panic; break;
  }
  if (options.errors) policy = *options.errors;
  return {};
}

Status Volume::Impl::check_size() const {
  if (superblock.blocks_count > device.properties().size / superblock.block_size)
    return fail(Error::corrupt("superblock: the file system is larger than its device"));
  return {};
}

Status Volume::Impl::find_log(std::string *refusal) {
  if (superblock.journal_inode) {
    log = TRY(internal_journal(device, superblock));
    return {};
  }
  if (journal_device == nullptr) {
    refuse(refusal, "cannot mount: the journal is on another device, which was not given");
    return fail(Error::user(EINVAL, "journal: external, and its device was not given"));
  }
  log = TRY(external_journal(*journal_device, superblock));
  return {};
}

Status Volume::Impl::recover(std::string *refusal) {
  if (!superblock.has(format::Compat::has_journal)) return {};
  if (options.read_only && options.no_recovery) return {};
  TRY(find_log(refusal));
  const bool dirty = TRY(jbd2::needs_recovery(*log));
  if (!dirty && !superblock.has(format::Incompat::recover)) return {};
  if (device.properties().read_only && dirty) {
    refuse(refusal, "cannot mount: the journal must be replayed and the device cannot be written");
    return fail(Error::user(EROFS, "journal: needs recovery on a read-only device"));
  }
  // A read-only mount sees the replayed state on whatever device it was given, and leaves the log for a later mount.
  const bool keep_log = options.read_only || (journal_device != nullptr && journal_device->properties().read_only);
  const bool internal = static_cast<bool>(superblock.journal_inode);
  FastCommitReplayer replayer(device, superblock, internal ? log : std::nullopt);
  open_report.recovery = TRY(jbd2::recover(*log, device, superblock.blocks_count, !keep_log, &replayer));
  open_report.fast_commits = replayer.commits();
  recovered = true;
  if (open_report.fast_commits != 0)
    outboard::log(LogLevel::info, "ext4: fast commits replayed: {}, {} blocks", open_report.fast_commits,
                  open_report.recovery.fast_commit_blocks);
  if (open_report.recovery.was_needed)
    outboard::log(LogLevel::info, "ext4: journal replayed: {} transactions, {} blocks, {} revoked", open_report.recovery.transactions,
                  open_report.recovery.blocks_written, open_report.recovery.blocks_revoked);

  const format::Superblock before = superblock;
  TRY(read_superblock());
  TRY(check_features(refusal));
  TRY(check_size());
  if (before.block_size != superblock.block_size || before.blocks_count != superblock.blocks_count ||
      before.journal_inode != superblock.journal_inode)
    return fail(Error::corrupt("journal: replay changed what the volume is"));
  if (open_report.recovery.errno_recorded != 0) {
    outboard::log(LogLevel::warning, "ext4: the journal was aborted with error {}: run e2fsck", open_report.recovery.errno_recorded);
    state |= format::kStateErrors;
  }
  // Mounted for reading only because of what it is: recovered for good all the same.
  if (read_only && !keep_log && !device.properties().read_only) {
    RawSuperblockBytes clean = raw;
    format::set_needs_recovery(clean, false);
    format::set_state(clean, state);
    TRY(write_superblock(clean));
  }
  return {};
}

Status Volume::Impl::write_superblock(RawSuperblockBytes &bytes) {
  format::seal_superblock(bytes);
  TRY(device.write(format::kSuperblockOffset, bytes));
  return device.flush();
}

Status Volume::Impl::mark_mounted() {
  const std::int64_t now = std::time(nullptr);
  if (log) {
    format::set_needs_recovery(raw, true);
    format::set_state(raw, state);
  } else {
    format::set_state(raw, state & static_cast<std::uint16_t>(~format::kStateClean));
  }
  format::set_mount_count(raw, static_cast<std::uint16_t>(superblock.mount_count + 1));
  format::set_mount_time(raw, now);
  format::set_write_time(raw, now);
  return write_superblock(raw);
}

// Nothing has been changed since mark_mounted(), and the cache is not in use. Best effort.
void Volume::Impl::unmark_mounted() {
  if (read_only) return;
  format::set_needs_recovery(raw, false);
  format::set_state(raw, state);
  static_cast<void>(write_superblock(raw));
}

Status Volume::Impl::build(Volume &volume) {
  if ((state & format::kStateErrors) != 0)
    outboard::log(LogLevel::warning, "ext4: mounting a file system with recorded errors: run e2fsck");
  else if (!recovered && (state & format::kStateClean) == 0)
    outboard::log(LogLevel::warning, "ext4: mounting a file system that was not unmounted: run e2fsck");
  if (!read_only && !replaying) TRY(mark_mounted());

  types.emplace(superblock);
  cache::BufferCache::Options cache_options;
  cache_options.max_bytes = options.cache_bytes;
  cache.emplace(device, superblock.block_size, superblock.blocks_count, cache_options);
  superblock_buffer = TRY(cache->read(geometry.super_block(), types->superblock()));
  {
    MutexLock lock(superblock_lock);
    // Not what parse_superblock() clamped: what stands there.
    const auto &bytes = view_as<format::RawSuperblock>(raw_superblock());
    written_free_blocks = superblock.has(format::Incompat::bit64) ? join(bytes.s_free_blocks_count_lo, bytes.s_free_blocks_count_hi)
                                                                  : bytes.s_free_blocks_count_lo.get();
    written_free_inodes = bytes.s_free_inodes_count.get();
    written_large_file = superblock.has(format::RoCompat::large_file);
  }
  const bool internal = log && superblock.journal_inode;
  fast_commits = std::make_unique<FastCommits>(volume, log && !read_only && !replaying && options.fast_commit &&
                                                           superblock.has(format::Compat::fast_commit) &&
                                                           superblock.has(format::Incompat::extents));
  groups = std::make_unique<GroupTable>(volume, internal ? std::span<const BlockRun>(log->runs()) : std::span<const BlockRun>());
  blocks = std::make_unique<BlockAllocator>(volume);
  inodes = std::make_unique<InodeAllocator>(volume);
  xattr_blocks = std::make_unique<XattrBlocks>(volume);
  orphans = std::make_unique<Orphans>(volume);

  jbd2::JournalOptions journal_options;
  journal_options.commit_interval = options.commit_interval;
  journal_options.checksum_v3 = superblock.has_metadata_checksums();
  journal_options.wide_blocks = superblock.has(format::Incompat::bit64);
  journal_options.read_only = read_only;
  journal_options.before_commit = [this](jbd2::Handle &handle) { return before_commit(handle); };
  journal_options.before_commit_credits = credits::kSuperblock;
  journal_options.on_abort = [this](const Error &) { failed = true; };
  if (fast_commits->enabled())
    journal_options.fast_commit = [this](jbd2::Tid tid, bool first, std::uint32_t room) {
      return fast_commits->encode(tid, first, room);
    };
  if (replaying) journal_options.unlogged_limit = kReplayBuffers;
  journal = TRY(jbd2::Journal::open(*cache, read_only || replaying ? std::nullopt : log, std::move(journal_options)));
  return {};
}

Status Volume::Impl::start_using(Volume &volume) {
  const bool trusted = !recovered && (state & format::kStateClean) != 0 && (state & format::kStateErrors) == 0;
  if (!trusted || geometry.descriptor_blocks() <= kCheapDescriptorBlocks) groups->sum_descriptors();
  const Inode root = TRY(inodes->load(format::kRootInode));
  if (!root.is_directory() || root.fields.links == 0)
    return fail(Error::corrupt("root inode: not a directory").of_inode(root.number.value()));
  if (read_only) return {};
  {
    jbd2::Handle handle = TRY(journal->start(credits::kSuperblock));
    Status begun = orphans->begin_use(handle);
    handle.finish();
    TRY(std::move(begun));
  }
  const Orphans::Cleaned cleaned = TRY(orphans->clean_up());
  open_report.orphans_deleted = cleaned.deleted;
  open_report.orphans_truncated = cleaned.truncated;
  if (cleaned.deleted + cleaned.truncated != 0)
    outboard::log(LogLevel::info, "ext4: orphans: {} deleted, {} truncated", cleaned.deleted, cleaned.truncated);
  return volume.check_writable();
}

Status Volume::Impl::mark_clean() {
  RawSuperblockBytes bytes;
  std::uint16_t final_state = state;
  {
    MutexLock lock(superblock_lock);
    std::ranges::copy(raw_superblock(), bytes.begin());
  }
  final_state = static_cast<std::uint16_t>(final_state | (format::state(bytes) & format::kStateErrors));
  if (auto pending = take_pending_error()) {
    put_error(bytes, *pending);
    final_state |= format::kStateErrors;
  }
  format::set_needs_recovery(bytes, false);
  format::set_state(bytes, final_state);
  format::set_write_time(bytes, std::time(nullptr));
  return write_superblock(bytes);
}

Status Volume::Impl::write_state(bool clean) {
  RawSuperblockBytes bytes;
  {
    MutexLock lock(superblock_lock);
    std::ranges::copy(raw_superblock(), bytes.begin());
  }
  if (clean) {
    format::set_needs_recovery(bytes, false);
    format::set_state(bytes, static_cast<std::uint16_t>(state | (format::state(bytes) & format::kStateErrors)));
    // What stays open without a name is on record, and whoever mounts a copy deletes it.
    if (superblock.has(format::Compat::orphan_file) && orphans->none_recorded()) format::set_orphan_present(bytes, false);
  }
  format::set_write_time(bytes, std::time(nullptr));
  return write_superblock(bytes);
}

Status Volume::mark_frozen() {
  if (impl_->read_only) return {};
  TRY(impl_->journal->check());
  return impl_->write_state(true);
}

Status Volume::mark_in_use() {
  // An aborted journal never changes anything any more: what is on disk stays true (and holds the record of the error).
  if (impl_->read_only || impl_->journal->aborted()) return {};
  return impl_->write_state(false);
}

Status Volume::close() {
  Impl &impl = *impl_;
  if (std::exchange(impl.closed, true)) return {};
  if (impl.read_only) return impl.journal->close();
  if (!impl.journal->aborted()) {
    jbd2::Handle handle = TRY(impl.journal->start(credits::kSuperblock));
    Status ended = impl.orphans->end_use(handle);
    handle.finish();
    TRY(std::move(ended));
  }
  TRY(impl.journal->close());
  return impl.mark_clean();
}

}  // namespace outboard::ext4

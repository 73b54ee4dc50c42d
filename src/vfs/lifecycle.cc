// From open to unmount, sync, and the end of inodes.
#include "base/log.h"
#include "base/thread_role.h"
#include "ext4/inode_alloc.h"
#include "ext4/truncate.h"
#include "vfs/mounted_volume.h"
#include "vfs/trace.h"

namespace outboard::vfs {

Result<std::unique_ptr<MountedVolume>> MountedVolume::open(device::BlockDevice &device, const MountedVolumeOptions &options,
                                                           device::BlockDevice *journal_device, std::string *refusal) {
  auto gates = std::make_unique<Gates>(device);
  if (journal_device != nullptr) gates->journal.emplace(*journal_device);
  std::unique_ptr<ext4::Volume> volume = TRY(
      ext4::Volume::open(gates->main, options.volume, gates->journal ? &*gates->journal : nullptr, refusal));
  std::unique_ptr<MountedVolume> mounted(new MountedVolume(std::move(gates), std::move(volume), options));
  // The root is always there: a volume without one is no file system.
  InodeRef root = TRY(mounted->inodes_->get(InodeNumber(kRootInode)));
  {
    ReadLock lock(root->lock);
    if (!root->disk.is_directory()) return fail(Error::corrupt("root inode: not a directory").of_inode(kRootInode));
    mounted->inodes_->count_lookup(*root);
  }
  if (options.watch_memory) mounted->watch_memory();
  return mounted;
}

MountedVolume::MountedVolume(std::unique_ptr<Gates> gates, std::unique_ptr<ext4::Volume> volume,
                             const MountedVolumeOptions &options)
    : gates_(std::move(gates)), volume_(std::move(volume)), options_(options), memory_(options.memory) {
  freezer_ = std::make_unique<Freezer>(freezing());
  reaper_ = std::make_unique<Reaper>([this](InodeNumber number) {
    const ChangeGate::Pass pass = begin_own_work("deletion", number);
    retire(number);
  });
  inodes_ = std::make_unique<InodeTable>(*volume_, memory_, options.idle_inodes,
                                         [this](InodeNumber number) { reaper_->queue(number); });
  flusher_ = std::make_unique<Flusher>(*inodes_, memory_,
                                       Flusher::Work{.write_back =
                                                         [this](Inode &inode) {
                                                           const auto pass = begin_own_work("write-back", inode.number);
                                                           write_back(inode);
                                                         },
                                                     .settle =
                                                         [this](Inode &inode) {
                                                           const auto pass = begin_own_work("write-back", inode.number);
                                                           settle(inode);
                                                         }},
                                       options.flusher);
}

// What can be had again goes when the system is short of memory; a kernel that cannot tell is no reason not to mount.
void MountedVolume::watch_memory() {
  Result<std::unique_ptr<PressureSource>> source = open_pressure_source();
  if (!source) {
    log(LogLevel::debug, "memory pressure is not watched: {}", source.error().message());
    return;
  }
  pressure_ = std::make_unique<MemoryPressure>(std::move(*source), MemoryPressureOptions{});
  shrinkers_.push_back(pressure_->add(ShrinkCost::spare, [this](std::size_t) { return memory_.shrink(); }));
  shrinkers_.push_back(pressure_->add(ShrinkCost::rebuilt, [this](std::size_t bytes) { return mappings_.shrink(bytes); }));
  shrinkers_.push_back(pressure_->add(ShrinkCost::reparsed, [this](std::size_t bytes) { return inodes_->shrink(bytes); }));
}

MountedVolume::~MountedVolume() {
  shrinkers_.clear();
  const ThreadRoleScope role(ThreadRole::unmount);
  freezer_->stop();  // those below wait for the thaw
  // Their threads use the table and the volume; what the flusher lets go of may go to the reaper.
  flusher_->stop();
  reaper_->stop();
}

Status MountedVolume::unmount() {
  if (unmounted_) return {};
  const ThreadRoleScope role(ThreadRole::unmount);
  unmounted_ = true;
  freezer_->stop();
  inodes_->forget_everything();
  flusher_->release_all();
  reaper_->drain();
  if (is_shut_down()) {
    // Nothing may be written, so there is nothing to end well: the disk stays as the shutdown left it.
    flusher_->stop();
    reaper_->stop();
    return {};
  }
  Status first = {};
  if (lost_data_.exchange(false)) first = fail(Error::system(EIO, "data that could not be written was lost"));
  inodes_->for_each_dirty([&](InodeRef inode) {
    if (Status status = store_times(*inode); !status && first) first = status;
  });
  flusher_->stop();
  reaper_->stop();
  if (Status status = volume_->close(); !status && first) first = status;
  return first;
}

void MountedVolume::retire(InodeNumber number) {
  if (InodeRef unlinked = inodes_->take_for_deletion(number)) return destroy(std::move(unlinked));
  if (InodeRef dirty = inodes_->take_if_dirty(number))
    if (Status status = reported(store_times(*dirty)); !status)
      log(LogLevel::warning, "inode {}: access time not written: {}", number.value(), status.error().message());
}

void MountedVolume::destroy(InodeRef inode) {
  const InodeNumber number = inode->number;
  // Nobody may be given the number before its object has left the table.
  volume_->inodes().hold_number(number);
  const outboard::trace::Stopwatch watch;
  Status status;
  {
    WriteLock io(inode->io);
    discard_data(*inode);
    WriteLock lock(inode->lock);
    // Read-only: it stays on the orphan list; the next read-write mount deletes it.
    if (!volume_->read_only()) status = ext4::truncate::delete_inode(*volume_, inode->disk);
  }
  inodes_->drop_deleted(std::move(inode));
  volume_->inodes().release_number(number);
  trace::inode_reap(number, status, watch);
  if (!status) {
    log(LogLevel::error, "inode {}: not deleted: {}", number.value(), status.error().message());
    if (!status.error().is(EROFS) && !is_shut_down()) volume_->report_error(status.error());
  }
}

void MountedVolume::reclaim_space() {
  // Promises are for the worst case; what has been written needs none.
  flusher_->release_all();
  reaper_->drain();
  if (Status status = volume_->journal().commit_running(); !status)
    log(LogLevel::warning, "commit for want of space: {}", status.error().message());
}

Status MountedVolume::sync(NodeId node, bool data_only) {
  TRY(check_running());
  InodeRef inode = TRY(find(node));
  // While frozen there is nothing to write: the freeze has written it.
  if (const auto pass = freezer_->gate().try_enter(ChangeGate::Level::background, "fsync", inode->number)) {
    write_back(*inode);
    TRY(record_written(*inode));
    if (inode->times_dirty.load() && !data_only) TRY(store_times(*inode));
  }
  jbd2::Tid tid;
  {
    ReadLock lock(inode->lock);
    tid = data_only ? inode->disk.datasync_tid : inode->disk.sync_tid;
  }
  const outboard::trace::Stopwatch watch;
  trace::sync_begin(inode->number, data_only, tid);
  // Cleared before the flush: a write that comes during it sets it again.
  const bool unflushed = inode->data_unflushed.exchange(false);
  const bool committed = !jbd2::tid_before(volume_->journal().committed_tid(), tid);
  Status status = reported(volume_->journal().commit_and_wait(tid));
  if (status && committed && unflushed) status = reported(volume_->device().flush());
  if (!status) inode->data_unflushed = true;
  // A shutdown that came meanwhile has thrown away what was dirty; the commit may have succeeded without it.
  if (status) status = check_running();
  trace::sync_end(inode->number, data_only, tid, status, watch);
  TRY(std::move(status));
  if (const int lost = inode->write_error.load(); lost != 0)
    return fail(Error::system(lost, "data that could not be written was lost").of_inode(inode->number.value()));
  return {};
}

Status MountedVolume::sync_all() {
  TRY(check_running());
  if (volume_->read_only()) return volume_->journal().check();
  Status first = {};
  // While frozen there is nothing to write: the freeze has written it.
  std::optional<ChangeGate::Pass> pass = freezer_->gate().try_enter(ChangeGate::Level::background, "sync of everything");
  if (pass) flusher_->for_each([&](Inode &inode) {
    // No data integrity is owed to what nobody finds after a crash: its data is the flusher's business, however long that
    // takes. Whoever gives it a name writes it first (link).
    if (inodes_->is_nameless(inode)) return;
    write_back(inode);
    if (Status status = record_written(inode); !status && first) first = status;
  });
  if (pass) inodes_->for_each_dirty([&](InodeRef inode) {
    if (Status status = store_times(*inode); !status && first) first = status;
  });
  pass.reset();
  TRY(first);
  const outboard::trace::Stopwatch watch;
  Status synced = reported(volume_->sync());
  if (synced) synced = check_running();
  trace::sync_all(synced, watch);
  TRY(std::move(synced));
  if (lost_data_.exchange(false)) return fail(Error::system(EIO, "data that could not be written was lost"));
  return {};
}

Result<Statistics> MountedVolume::statistics() {
  const ext4::Counts counts = volume_->counts();
  return Statistics{.blocks = counts.blocks,
                    .free_blocks = counts.free_blocks,
                    .available_blocks = counts.available_blocks,
                    .inodes = counts.inodes,
                    .free_inodes = counts.free_inodes,
                    .block_size = volume_->block_size(),
                    .name_max = 255};
}

}  // namespace outboard::vfs

// What a freeze does to a mount; when, and how it is undone, is the Freezer's.
#include "base/log.h"
#include "vfs/mounted_volume.h"

namespace outboard::vfs {

Status MountedVolume::freeze(std::chrono::milliseconds timeout, Frozen &frozen) {
  TRY(check_running());
  Status status = freezer_->freeze(timeout, frozen);
  // A shutdown that came meanwhile has the last word.
  if (status) status = check_running();
  return status;
}

Status MountedVolume::thaw(std::uint64_t ticket) { return freezer_->thaw(ticket); }

Result<ChangeGate::Pass> MountedVolume::begin_write(NodeId node) {
  TRY(check_writable());
  ChangeGate::Pass pass = TRY(freezer_->gate().enter(ChangeGate::Level::operation, "write", number_of(node)));
  // It may have waited long.
  TRY(check_writable());
  return pass;
}

Result<ChangeGate::Pass> MountedVolume::begin_change(const char *what, NodeId node) {
  TRY(check_writable());
  ChangeGate::Pass pass = TRY(freezer_->gate().enter(ChangeGate::Level::operation, what, number_of(node)));
  wait_for_journal();
  TRY(check_writable());
  return pass;
}

ChangeGate::Pass MountedVolume::begin_own_work(const char *what, InodeNumber inode) {
  // Only a transport's threads refuse to wait, and they do none of this at the top of an operation: an operation under way keeps
  // the second level open.
  return std::move(*freezer_->gate().enter(ChangeGate::Level::background, what, inode));
}

void MountedVolume::write_everything() {
  flusher_->release_all();
  reaper_->drain();
  inodes_->for_each_dirty([&](InodeRef inode) {
    if (Status status = store_times(*inode); !status)
      log(LogLevel::warning, "inode {}: times not written: {}", inode->number.value(), status.error().message());
  });
}

// Data that could not be written is no reason not to freeze: it is lost with or without, and fsync and sync say so.
Freezer::Work MountedVolume::freezing() {
  return {.write_everything =
              [this]() -> Status {
                write_everything();
                return check_running();
              },
          .commit =
              [this]() -> Status {
                if (volume_->read_only()) return volume_->journal().check();
                return reported(volume_->journal().checkpoint_all());
              },
          .mark_frozen = [this] { return reported(volume_->mark_frozen()); },
          .mark_in_use =
              [this]() -> Status {
                if (is_shut_down()) return {};
                Status status = reported(volume_->mark_in_use());
                // The disk says clean, so nothing may be changed any more.
                if (!status) volume_->journal().abort(status.error());
                return status;
              }};
}

}  // namespace outboard::vfs

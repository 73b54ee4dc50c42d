// Shutdown: the disk as a crash would leave it, at a moment that somebody chose, without a crash.
//
// Order: what is to reach the disk; then new operations are refused; then the journal stops, so that whoever is in the middle
// of a change ends with an error; last the gate below everything is shut. Up to there operations under way may still write,
// as in any crash; from there on nobody can, neither a late thread nor unmount() nor the record of an abort.
#include "base/log.h"
#include "vfs/mounted_volume.h"
#include "vfs/trace.h"

#include <chrono>

namespace outboard::vfs {

namespace {

// For requests that the device was given before: it may be stuck, and a shutdown is then the way out.
constexpr std::chrono::seconds kPatience{5};

const char *name_of(ShutdownMode mode) {
  switch (mode) {
  case ShutdownMode::flush: return "everything flushed first";
  case ShutdownMode::log: return "the journal committed first";
  case ShutdownMode::now: return "at once";
  }
  return "";
}

}  // namespace

// What the server holds back: dirty pages, what delayed allocation has put off, times, the running transaction.
//
// What is dirty afterwards is dropped by whoever comes to write it back (write_back() sees the shutdown), the flusher
// within its delay: so nobody here waits for a file whose write-back is stuck in the device.
Status MountedVolume::flush_dirty_data() { return sync_all(); }

// Holds no lock: while one shutdown waits for a device that does not answer, another (`now`) cuts it short.
Status MountedVolume::shutdown(ShutdownMode mode) {
  if (gates_->main.is_shut()) return {};
  // What goes before would have to wait for the thaw. At once is at once: the disk stays clean.
  if (mode != ShutdownMode::now && is_frozen()) return fail(Error::user(EBUSY, "shutdown: frozen"));
  log(LogLevel::warning, "shutdown asked for, {}", name_of(mode));
  trace::shutdown(mode);
  if (mode == ShutdownMode::flush) {
    Status flushed = flush_dirty_data();
    if (!flushed && !is_shut_down()) return flushed;
  }
  shut_down_ = true;
  // Best effort, as ext4's: a journal that cannot commit has stopped already.
  if (mode == ShutdownMode::log && !volume_->read_only()) static_cast<void>(volume_->journal().commit_running());
  volume_->journal().abort(Error::user(ESHUTDOWN, "shut down"));
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  bool ended = true;
  if (gates_->journal) ended = gates_->journal->shut(deadline);
  ended = gates_->main.shut(deadline) && ended;
  freezer_->give_up();
  if (!ended) log(LogLevel::warning, "shutdown: what the device was given before has not ended yet");
  return {};
}

std::vector<NodeId> MountedVolume::known_nodes() {
  std::vector<NodeId> nodes;
  for (InodeNumber number : inodes_->looked_up()) nodes.push_back(node_of(number));
  return nodes;
}

}  // namespace outboard::vfs

// An ext4 volume as a Filesystem: who may do what when, and which locks an operation holds.
//
// Every operation: find the inodes in the table (references), lock them (docs/locking.md: several at once in order of
// number), call one function of ext4, tell the table about links, drop everything. No I/O policy lives here but sync.
// Files: lifecycle.cc (open, sync, unmount, deletion), shutdown.cc, freeze.cc, attributes.cc, names.cc, data.cc, write_back.cc,
// attributes_extended.cc, listing.cc, ioctl.cc.
#pragma once

#include "base/memory_pressure.h"
#include "device/gated_device.h"
#include "ext4/volume.h"
#include "pagecache/folio_memory.h"
#include "vfs/filesystem.h"
#include "vfs/flusher.h"
#include "vfs/freezer.h"
#include "vfs/inode_table.h"
#include "vfs/reaper.h"

#include <atomic>
#include <memory>
#include <thread>

namespace outboard::vfs {

namespace format = ext4::format;

enum class AtimePolicy : std::uint8_t { relative, never, strict };

struct MountedVolumeOptions {
  ext4::VolumeOptions volume;
  AtimePolicy atime = AtimePolicy::relative;
  std::size_t idle_inodes = 16384;  // kept parsed though nobody uses them
  pagecache::MemoryLimits memory;
  bool watch_memory = false;  // give clean state back when the system is short of memory (opens files of /proc)
  FlusherOptions flusher;
};

class MountedVolume final : public Filesystem {
public:
  // The devices must outlive the file system. `refusal`: see ext4::Volume::open.
  static Result<std::unique_ptr<MountedVolume>> open(device::BlockDevice &device, const MountedVolumeOptions &options,
                                                     device::BlockDevice *journal_device = nullptr,
                                                     std::string *refusal = nullptr);
  ~MountedVolume() override;  // without unmount(): as a crash

  ext4::Volume &volume() { return *volume_; }
  // Parsed inodes in memory, those in use included.
  std::size_t inodes_in_memory() const { return inodes_->size(); }
  // For tests and for whoever watches: lives of inodes, memory of dirty pages.
  const InodeTable &inode_table() const { return *inodes_; }
  const pagecache::FolioMemory &folio_memory() const { return memory_; }

  Result<Entry> lookup(NodeId parent, std::string_view name) override;
  void forget(NodeId node, std::uint64_t count) override;
  Result<Attributes> get_attributes(NodeId node) override;
  Result<Attributes> set_attributes(NodeId node, const SetAttributes &changes) override;
  Result<std::string> read_link(NodeId node) override;
  Result<Entry> make_node(NodeId parent, std::string_view name, std::uint32_t mode, std::uint64_t device,
                          const Caller &caller) override;
  Result<Entry> make_directory(NodeId parent, std::string_view name, std::uint32_t mode, const Caller &caller) override;
  Result<Entry> make_symlink(NodeId parent, std::string_view name, std::string_view target, const Caller &caller) override;
  Result<Entry> make_temporary(NodeId parent, std::uint32_t mode, const Caller &caller) override;
  Result<Entry> link(NodeId node, NodeId new_parent, std::string_view new_name) override;
  Status unlink(NodeId parent, std::string_view name) override;
  Status remove_directory(NodeId parent, std::string_view name) override;
  Status rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name, std::uint32_t flags,
                const Caller &caller) override;
  Result<std::size_t> read(NodeId node, std::uint64_t offset, std::span<std::byte> into) override;
  Result<std::size_t> write(NodeId node, std::uint64_t offset, std::span<const std::byte> data, WriteFlags flags) override;
  Status allocate(NodeId node, std::uint64_t offset, std::uint64_t length, int mode) override;
  Result<std::uint64_t> seek(NodeId node, std::uint64_t offset, Seek what) override;
  Result<std::size_t> copy_range(NodeId from, std::uint64_t from_offset, NodeId to, std::uint64_t to_offset,
                                 std::size_t length) override;
  Status sync(NodeId node, bool data_only) override;
  Status sync_all() override;
  Status shutdown(ShutdownMode mode) override;
  bool is_shut_down() const override { return shut_down_.load(); }
  Status freeze(std::chrono::milliseconds timeout, Frozen &frozen) override;
  Status thaw(std::uint64_t ticket = 0) override;
  bool is_frozen() const override { return freezer_->is_frozen(); }
  std::vector<NodeId> known_nodes() override;
  Result<std::size_t> get_xattr(NodeId node, std::string_view name, std::span<std::byte> into) override;
  Result<std::size_t> list_xattrs(NodeId node, std::span<std::byte> into) override;
  Status set_xattr(NodeId node, std::string_view name, std::span<const std::byte> value, int flags,
                   bool clear_setgid) override;
  Status remove_xattr(NodeId node, std::string_view name) override;
  Status read_directory(NodeId node, std::uint64_t offset, bool plus, DirectorySink &sink) override;
  Result<std::size_t> ioctl(NodeId node, std::uint32_t command, std::span<const std::byte> in, std::span<std::byte> out,
                            const Caller &caller) override;
  Result<std::uint64_t> map_block(NodeId node, std::uint64_t block, std::uint32_t block_size) override;
  Result<Statistics> statistics() override;
  Status unmount() override;

private:
  // What stands between the volume and its devices: below everything, so that a shutdown holds for everybody.
  struct Gates {
    explicit Gates(device::BlockDevice &file_system) : main(file_system) {}
    device::GatedDevice main;
    std::optional<device::GatedDevice> journal;  // of an external journal
  };
  MountedVolume(std::unique_ptr<Gates> gates, std::unique_ptr<ext4::Volume> volume, const MountedVolumeOptions &options);

  // EIO once shut down. For every operation that reads or writes contents or changes anything.
  Status check_running() const {
    if (shut_down_.load(std::memory_order_relaxed)) return fail(Error::user(EIO, "shut down"));
    return {};
  }
  // ... and EROFS when the volume takes no changes.
  Status check_writable() const {
    TRY(check_running());
    return volume_->check_writable();
  }
  // What an operation that changes something starts with, before it holds anything: waits while the mount is frozen, and for the
  // journal, unless it only puts data into memory. The operation is under way, as a freeze sees it, while the pass lives.
  Result<ChangeGate::Pass> begin_change(const char *what, NodeId node);
  Result<ChangeGate::Pass> begin_write(NodeId node);
  // Before an inode's lock is taken in order to change something on record: who waits for the device in between holds up readers.
  void wait_for_journal() { volume_->journal().wait_until_open(); }
  // For work of the second level (change_gate.h) on a thread that has nothing else to do: waits.
  ChangeGate::Pass begin_own_work(const char *what, InodeNumber inode);
  Freezer::Work freezing();   // freeze.cc
  void write_everything();    // all that is dirty, files without a name included
  Status flush_dirty_data();  // shutdown.cc

  Result<InodeRef> find(NodeId node);
  // The inode of a file that data operations make sense for; EISDIR, EINVAL otherwise.
  Result<InodeRef> find_file(NodeId node);
  // The child as the directory says now, referenced; EUCLEAN when that is no inode in use. The directory's lock is not held on return.
  Result<InodeRef> child(Inode &directory, std::string_view name);
  Result<Entry> entry_of(Inode &inode);  // counts a lookup
  Attributes attributes_of(const Inode &inode) const REQUIRES_SHARED(inode.lock);
  Result<Attributes> locked_attributes(Inode &inode) EXCLUDES(inode.lock);
  Result<Entry> make(NodeId parent, std::string_view name, std::uint32_t mode, std::uint64_t device,
                     std::string_view target, const Caller &caller);
  Status remove_name(NodeId parent, std::string_view name, bool directory);
  // EINVAL when `directory` lies below `source` (or is it). Under rename_mutex_.
  Status check_not_below(InodeNumber directory, InodeNumber source);

  Result<std::size_t> write_once(Inode &inode, std::uint64_t offset, std::span<const std::byte> data, WriteFlags flags);
  Status check_write(Inode &inode, std::uint64_t offset, std::span<const std::byte> &data, WriteFlags flags) REQUIRES(inode.lock);
  Result<std::size_t> write_direct(Inode &inode, std::uint64_t offset, std::span<const std::byte> data, WriteFlags flags);
  void watch_memory();
  Result<bool> overwrite(Inode &inode, std::uint64_t offset, std::span<const std::byte> data);

  // The inode's lock, exclusively, with no page dirty and everything written recorded: the map says it all. Write-back runs
  // before, again if somebody was quicker; Inode::io is held.
  class SCOPED_CAPABILITY CleanLock {
  public:
    CleanLock(MountedVolume &volume, Inode &inode) ACQUIRE(inode.lock);
    ~CleanLock() RELEASE();
    CleanLock(const CleanLock &) = delete;
    CleanLock &operator=(const CleanLock &) = delete;
    const Status &status() const { return status_; }  // of the recording

  private:
    Inode &inode_;
    Status status_;
  };

  // write_back.cc. Failures to write data are kept in the inode, not returned.
  void write_back(Inode &inode) EXCLUDES(inode.io, inode.lock);
  void write_back_locked(Inode &inode) REQUIRES(inode.io) EXCLUDES(inode.lock);
  void lose(Inode &inode, ByteRange range, const Error &error) EXCLUDES(inode.lock);
  void discard_data(Inode &inode) REQUIRES(inode.io) EXCLUDES(inode.lock);
  void settle(Inode &inode) EXCLUDES(inode.io, inode.lock);
  Status record_written(Inode &inode) EXCLUDES(inode.io, inode.lock);
  Status resize(Inode &inode, std::uint64_t size) EXCLUDES(inode.io, inode.lock);
  Status change_ownership_and_mode(Inode &inode, const SetAttributes &changes) REQUIRES(inode.lock);
  Status clear_privileges(Inode &inode, std::uint32_t writer_gid) REQUIRES(inode.lock);
  void touch_atime(Inode &inode);
  Status store_times(Inode &inode);

  Result<std::size_t> inode_ioctl(Inode &inode, std::uint32_t command, std::span<const std::byte> in,
                                  std::span<std::byte> out, const Caller &caller);
  Status set_flags(Inode &inode, std::uint32_t wanted, const Caller &caller) EXCLUDES(inode.io, inode.lock);
  Result<std::size_t> trim(std::span<const std::byte> in, std::span<std::byte> out);

  // On the reaper's thread: deletes an unlinked inode; writes the times of one that is idle and in the way.
  void retire(InodeNumber number);
  void destroy(InodeRef inode);
  // When space is short: what deleted files hold comes back once they are reaped and their transaction is durable.
  void reclaim_space();
  // Passes every result of an operation: a corrupt or failed device is the volume's business too.
  template <class T> Result<T> reported(Result<T> result) {
    // An operation that was under way when the journal stopped: what it met is the shutdown.
    if (!result && result.error().is(EROFS)) TRY(check_running());
    if (!result && (result.error().is_corrupt() || result.error().kind() == ErrorKind::io)) volume_->report_error(result.error());
    return result;
  }

  const std::unique_ptr<Gates> gates_;  // the volume uses them
  std::unique_ptr<ext4::Volume> volume_;
  const MountedVolumeOptions options_;
  std::atomic<bool> shut_down_{false};  // set before the gates are shut
  Mutex rename_mutex_{Rank::rename};
  pagecache::FolioMemory memory_;
  iomap::MappingCache mappings_;
  std::unique_ptr<InodeTable> inodes_;
  std::unique_ptr<Freezer> freezer_;
  std::unique_ptr<Reaper> reaper_;
  std::unique_ptr<Flusher> flusher_;
  std::atomic<bool> lost_data_{false};  // since the last sync_all: it has to say so
  bool unmounted_ = false;
  // Last: they call what is above from a thread of their own.
  std::unique_ptr<MemoryPressure> pressure_;
  std::vector<MemoryPressure::Registration> shrinkers_;
};

// Node ids are inode numbers, but for the root.
inline constexpr std::uint32_t kRootInode = 2;
inline InodeNumber number_of(NodeId node) {
  return InodeNumber(node == kRootNode ? kRootInode : node > 0xffffffffu ? 0u : static_cast<std::uint32_t>(node));
}
inline NodeId node_of(InodeNumber number) { return number.value() == kRootInode ? kRootNode : number.value(); }

}  // namespace outboard::vfs

// Dirty pages on their way to the device, and what becomes of them when they cannot get there.
#include "base/log.h"
#include "ext4/delayed.h"
#include "ext4/mapper.h"
#include "iomap/write_back.h"
#include "ext4/truncate.h"
#include "vfs/mounted_volume.h"

namespace outboard::vfs {
namespace {

// Folios in one pass over the map; the device splits what is too large for it.
constexpr std::uint64_t kBatchBytes = std::uint64_t{8} << 20;

// The mapper, with the inode's lock for as long as each of its calls takes: while the device works, readers and writers of
// the file go on. Nothing else changes the map meanwhile: Inode::io is held.
class LockedMapper final : public iomap::MappingSource {
public:
  LockedMapper(ext4::Volume &volume, Inode &inode) : volume_(volume), inode_(inode), mapper_(volume, disk_of(inode)) {}
  std::uint64_t inode_number() const override { return inode_.number.value(); }
  Result<iomap::Mapping> begin(ByteRange range, iomap::Operation operation) override {
    volume_.journal().wait_until_open();
    WriteLock lock(inode_.lock);
    return mapper_.begin(range, operation);
  }
  Status ioend(ByteRange written, const iomap::Mapping &mapping) override {
    volume_.journal().wait_until_open();
    WriteLock lock(inode_.lock);
    return mapper_.ioend(written, mapping);
  }
  Status end(ByteRange range, std::uint64_t moved, iomap::Operation operation, const iomap::Mapping &mapping) override {
    WriteLock lock(inode_.lock);
    return mapper_.end(range, moved, operation, mapping);
  }
  bool is_current(const iomap::Mapping &mapping) const override {
    ReadLock lock(inode_.lock);
    return mapper_.is_current(mapping);
  }

private:
  static ext4::Inode &disk_of(Inode &inode) NO_THREAD_SAFETY_ANALYSIS { return inode.disk; }
  ext4::Volume &volume_;
  Inode &inode_;
  ext4::Mapper mapper_;
};

}  // namespace

void MountedVolume::write_back(Inode &inode) {
  if (inode.pages.empty()) return;
  WriteLock io(inode.io);
  // After a shutdown what is dirty has nowhere to go: memory that writers wait for is given back.
  if (inodes_->is_doomed(inode) || is_shut_down()) return discard_data(inode);
  write_back_locked(inode);
}

void MountedVolume::write_back_locked(Inode &inode) {
  if (inode.pages.empty()) return;
  const std::uint32_t block_size = volume_->block_size();
  LockedMapper source(*volume_, inode);
  inode.data_unflushed = true;
  Status end_lost;  // why the block of the recorded end could not be written
  for (std::uint64_t at = 0;;) {
    pagecache::FileCache::Batch batch;
    std::uint64_t end_of_file = 0;
    {
      // No writer is half-way through a folio.
      ReadLock lock(inode.lock);
      batch = inode.pages.take(at, kBatchBytes);
      end_of_file = inode.disk.fields.size;
    }
    if (batch.empty()) return;
    at = batch.folios.back()->end();
    iomap::WriteBackCount done;
    const Status status = end_lost ? iomap::write_back(source, batch, volume_->device(), block_size, done) : fail(end_lost.error());
    if (!status) {
      const ByteRange lost{batch.range.offset + done.bytes, at - batch.range.offset - done.bytes};
      lose(inode, lost, status.error());
      // What follows would record a size that exposes what the device has behind the old end.
      if (end_of_file % block_size != 0 && lost.offset < round_up<std::uint64_t>(end_of_file, block_size) && lost.end() > end_of_file)
        end_lost = fail(status.error());
    }
    inode.pages.finish(batch);
  }
}

// As the kernel does: what could not be written is dropped, or memory would fill with it; whoever may have lost data is told.
void MountedVolume::lose(Inode &inode, ByteRange range, const Error &error) {
  inode.write_error = EIO;
  lost_data_ = true;
  const bool asked_for = is_shut_down();
  if (!asked_for)
    log(LogLevel::error, "inode {}: bytes {} to {} are lost: {}", inode.number.value(), range.offset, range.end(), error.message());
  if (!asked_for && (error.is_corrupt() || error.kind() == ErrorKind::io)) volume_->report_error(error);
  const std::uint64_t block_size = volume_->block_size();
  WriteLock lock(inode.lock);
  ext4::delayed::withdraw(*volume_, inode.disk, range.offset / block_size, divide_up(range.end(), block_size));
}

void MountedVolume::discard_data(Inode &inode) {
  WriteLock lock(inode.lock);
  inode.pages.drop({0, ~std::uint64_t{0}});
  ext4::delayed::give_up(*volume_, inode.disk);
}

void MountedVolume::settle(Inode &inode) {
  if (volume_->read_only()) return;
  WriteLock io(inode.io);
  wait_for_journal();
  WriteLock lock(inode.lock);
  if (Status status = reported(ext4::delayed::record_written(*volume_, inode.disk)); !status) inode.write_error = EIO;
  ext4::delayed::release_ahead(*volume_, inode.disk);
  // Promises that nothing came of: a write that failed half-way.
  if (inode.pages.empty()) ext4::delayed::withdraw(*volume_, inode.disk, 0, ~std::uint64_t{0});
}

Status MountedVolume::record_written(Inode &inode) {
  WriteLock io(inode.io);
  wait_for_journal();
  WriteLock lock(inode.lock);
  return reported(ext4::delayed::record_written(*volume_, inode.disk));
}

MountedVolume::CleanLock::CleanLock(MountedVolume &volume, Inode &inode) NO_THREAD_SAFETY_ANALYSIS : inode_(inode) {
  for (;;) {
    volume.write_back_locked(inode);
    volume.wait_for_journal();
    inode.lock.lock();
    if (inode.pages.empty()) break;
    inode.lock.unlock();
  }
  if (!volume.volume_->read_only()) status_ = volume.reported(ext4::delayed::record_written(*volume.volume_, inode.disk));
}

MountedVolume::CleanLock::~CleanLock() NO_THREAD_SAFETY_ANALYSIS { inode_.lock.unlock(); }

// A new size, with whatever is dirty inside it on the device first, so that the map on disk and what clients see agree.
Status MountedVolume::resize(Inode &inode, std::uint64_t size) {
  const std::uint64_t block_size = volume_->block_size();
  WriteLock io(inode.io);
  {
    WriteLock lock(inode.lock);
    if (size < inode.pages.size()) {
      // What is cut off need not be written.
      const std::uint64_t cut = round_up(size, block_size);
      inode.pages.drop({cut, ~std::uint64_t{0}});
      ext4::delayed::withdraw(*volume_, inode.disk, cut / block_size, ~std::uint64_t{0});
      TRY(inode.pages.zero({size, cut - size}));
      inode.pages.set_size(size);
    }
  }
  CleanLock lock(*this, inode);
  TRY(lock.status());
  inode.data_unflushed = true;  // the tail of the last block may be zeroed in place
  Status status = reported(ext4::truncate::set_size(*volume_, inode.disk, size));
  inode.pages.set_size(inode.disk.fields.size);
  return status;
}

}  // namespace outboard::vfs

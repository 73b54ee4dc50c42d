#include "ext4/orphans.h"

#include "base/log.h"
#include "ext4/credits.h"
#include "ext4/fast_commit_tracker.h"
#include "ext4/inode_alloc.h"
#include "ext4/orphan_file.h"
#include "ext4/orphan_list.h"
#include "ext4/truncate.h"

#include <atomic>
#include <optional>

namespace outboard::ext4 {

struct Orphans::Impl {
  explicit Impl(Volume &v) : volume(v), list(v) {}

  // An orphan found on disk, held to be one: of this volume, in use, and something that can be deleted or truncated.
  Result<Inode> load(std::uint32_t number);
  // Deletes or truncates it; takes it off the record in any case but a dead journal.
  Status process(Inode &inode, Cleaned &cleaned);
  Status clean_list(Cleaned &cleaned, std::uint32_t &budget);
  Status clean_file(Cleaned &cleaned, std::uint32_t &budget);
  Status clear_record(OrphanFile::Slot slot);
  Status drop_list();
  void recount() REQUIRES(lock) { recorded.store(list.size() + (file ? file->size() : 0), std::memory_order_release); }

  Volume &volume;
  mutable Mutex lock{Rank::orphan_list};
  OrphanList list GUARDED_BY(lock);
  std::optional<OrphanFile> file GUARDED_BY(lock);
  std::atomic<std::size_t> recorded{0};  // so that contains() need not lock in the usual case
};

Orphans::Orphans(Volume &volume) : impl_(std::make_unique<Impl>(volume)) {}
Orphans::~Orphans() = default;

bool Orphans::contains(InodeNumber number) const {
  if (impl_->recorded.load(std::memory_order_acquire) == 0) return false;
  MutexLock lock(impl_->lock);
  return impl_->list.contains(number) || (impl_->file && impl_->file->contains(number));
}

Status Orphans::add(jbd2::Handle &handle, Inode &inode) {
  if (inode.on_orphan_list) return {};
  impl_->volume.fast_commits().orphaned(handle, inode);
  MutexLock lock(impl_->lock);
  if (impl_->list.contains(inode.number) || (impl_->file && impl_->file->contains(inode.number))) {
    inode.on_orphan_list = true;
    return impl_->volume.inodes().store(handle, inode);
  }
  if (impl_->file && TRY(impl_->file->insert(handle, inode.number))) {
    inode.fields.dtime = 0;
    Status stored = impl_->volume.inodes().store(handle, inode);
    if (!stored) {
      TRY(impl_->file->remove(handle, inode.number));
      return stored;
    }
    inode.on_orphan_list = true;
  } else {
    TRY(impl_->list.push(handle, inode));
  }
  impl_->recount();
  return {};
}

Status Orphans::remove(jbd2::Handle &handle, Inode &inode) {
  MutexLock lock(impl_->lock);
  if (impl_->list.contains(inode.number)) {
    TRY(impl_->list.remove(handle, inode));
  } else if (impl_->file && impl_->file->contains(inode.number)) {
    TRY(impl_->file->remove(handle, inode.number));
    inode.on_orphan_list = false;
    inode.fields.dtime = 0;
    TRY(impl_->volume.inodes().store(handle, inode));
  } else {
    inode.on_orphan_list = false;
    return {};
  }
  impl_->recount();
  return {};
}

Status Orphans::begin_use(jbd2::Handle &handle) {
  if (!impl_->volume.superblock().has(format::Compat::orphan_file)) return {};
  {
    OrphanFile file = TRY(OrphanFile::open(impl_->volume));  // loads an inode, which asks contains()
    MutexLock lock(impl_->lock);
    impl_->file.emplace(std::move(file));
  }
  return impl_->volume.edit_superblock(handle,
                                       [](std::span<std::byte> bytes) { format::set_orphan_present(bytes, true); });
}

bool Orphans::none_recorded() const { return impl_->recorded.load() == 0; }

Status Orphans::end_use(jbd2::Handle &handle) {
  if (!impl_->volume.superblock().has(format::Compat::orphan_file) || impl_->recorded.load() != 0) return {};
  return impl_->volume.edit_superblock(handle,
                                       [](std::span<std::byte> bytes) { format::set_orphan_present(bytes, false); });
}

// --- After a crash ---

Result<std::vector<InodeNumber>> Orphans::on_record() {
  std::vector<InodeNumber> numbers;
  const std::uint32_t most = impl_->volume.superblock().inodes_count;
  // A list that is broken ends where clean_up() will cut it.
  for (std::uint32_t number = impl_->volume.last_orphan(); number != 0 && numbers.size() < most;) {
    const Result<Inode> inode = impl_->load(number);
    if (!inode) break;
    numbers.push_back(inode->number);
    number = inode->fields.dtime;
  }
  MutexLock guard(impl_->lock);
  OrphanFile::Slot from;
  while (impl_->file && numbers.size() < 2 * std::size_t{most}) {
    const std::optional<OrphanFile::Record> record = TRY(impl_->file->next_record(from));
    if (!record) break;
    numbers.push_back(record->number);
    from = record->slot;
    ++from.index;
  }
  return numbers;
}

Result<Orphans::Cleaned> Orphans::clean_up() {
  Cleaned cleaned;
  if ((impl_->volume.superblock().state & format::kStateErrors) != 0) {
    if (impl_->volume.last_orphan() != 0) {
      log(LogLevel::warning,
          "ext4: errors on the file system: the orphan list is dropped, e2fsck will find what it held");
      TRY(impl_->drop_list());
    }
    return cleaned;
  }
  // Every orphan is an inode: more records than inodes are repetitions.
  std::uint32_t budget = impl_->volume.superblock().inodes_count;
  TRY(impl_->clean_list(cleaned, budget));
  TRY(impl_->clean_file(cleaned, budget));
  return cleaned;
}

Result<Inode> Orphans::Impl::load(std::uint32_t number) {
  const format::Superblock &superblock = volume.superblock();
  if (number < superblock.first_ino.value() || number > superblock.inodes_count)
    return fail(Error::corrupt("orphan: inode number").of_inode(number));
  if (superblock.has(format::Compat::orphan_file) && InodeNumber(number) == superblock.orphan_file_inode)
    return fail(Error::corrupt("orphan: is the orphan file").of_inode(number));
  Inode inode = TRY(volume.inodes().load(InodeNumber(number)));
  if (inode.fields.mode == 0) return fail(Error::corrupt("orphan: inode not in use").of_inode(number));
  // Something with names can only be a file that was being truncated; other types would stay as they are.
  if (inode.fields.links != 0 && !inode.is_regular())
    return fail(Error::corrupt("orphan: has names and is no file").of_inode(number));
  return inode;
}

Status Orphans::Impl::process(Inode &inode, Cleaned &cleaned) {
  const bool deletes = inode.fields.links == 0;
  Status done = deletes ? truncate::delete_inode(volume, inode) : truncate::set_size(volume, inode, inode.fields.size);
  if (done) {
    ++(deletes ? cleaned.deleted : cleaned.truncated);
  } else {
    TRY(volume.journal().check());
    log(LogLevel::error, "ext4: orphan inode {} left as it is: {}", inode.number.value(), done.error().message());
    volume.report_error(done.error());
  }
  // A file has its size again, or something could not be cleaned and must not be met for ever.
  jbd2::Handle handle = TRY(volume.journal().start(kCredits));
  TRY(volume.orphans().remove(handle, inode));
  handle.finish();
  return {};
}

// From the front: the superblock always names what is left, so that a crash now loses nothing. A loop ends because the
// link of whatever was processed is cleared.
Status Orphans::Impl::clean_list(Cleaned &cleaned, std::uint32_t &budget) {
  while (const std::uint32_t number = volume.last_orphan()) {
    Result<Inode> inode =
        budget == 0 ? fail(Error::corrupt("orphan list: longer than there are inodes")) : load(number);
    if (inode && inode->fields.dtime > volume.superblock().inodes_count)
      inode = fail(Error::corrupt("orphan list: link").of_inode(number));
    if (!inode) {
      log(LogLevel::error, "ext4: orphan list cut at inode {}: {}", number, inode.error().message());
      if (inode.error().is_corrupt()) volume.report_error(inode.error());
      return drop_list();
    }
    --budget;
    {
      MutexLock guard(lock);
      list.adopt_head(inode->number, inode->fields.dtime);
      recount();
    }
    inode->on_orphan_list = true;
    TRY(process(*inode, cleaned));
  }
  return {};
}

Status Orphans::Impl::clean_file(Cleaned &cleaned, std::uint32_t &budget) {
  OrphanFile::Slot from;
  for (;;) {
    std::optional<OrphanFile::Record> record;
    {
      MutexLock guard(lock);
      if (!file) return {};
      record = TRY(file->next_record(from));
    }
    if (!record) return {};
    from = record->slot;
    Result<Inode> inode =
        budget == 0 ? fail(Error::corrupt("orphan file: more orphans than inodes")) : load(record->number.value());
    if (!inode) {
      log(LogLevel::error, "ext4: orphan file: record of inode {} dropped: {}", record->number.value(),
          inode.error().message());
      if (inode.error().is_corrupt()) volume.report_error(inode.error());
      TRY(clear_record(record->slot));
      continue;
    }
    --budget;
    {
      MutexLock guard(lock);
      file->adopt(*record);
      recount();
    }
    inode->on_orphan_list = true;
    TRY(process(*inode, cleaned));
  }
}

Status Orphans::Impl::clear_record(OrphanFile::Slot slot) {
  jbd2::Handle handle = TRY(volume.journal().start(kCredits));
  {
    MutexLock guard(lock);
    TRY(file->clear(handle, slot));
  }
  handle.finish();
  return {};
}

Status Orphans::Impl::drop_list() {
  jbd2::Handle handle = TRY(volume.journal().start(credits::kSuperblock));
  {
    MutexLock guard(lock);
    TRY(list.drop(handle));
    recount();
  }
  handle.finish();
  return {};
}

}  // namespace outboard::ext4

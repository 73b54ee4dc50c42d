#include "sample/sample_filesystem.h"

#include <algorithm>
#include <dirent.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

namespace outboard::sample {
namespace {

vfs::Timestamp now() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)};
}

vfs::Attributes root_attributes(std::uint32_t block_size) {
  vfs::Attributes root;
  root.inode = vfs::kRootNode;
  root.mode = S_IFDIR | 0755;
  root.links = 2;
  root.uid = ::getuid();
  root.gid = ::getgid();
  root.block_size = block_size;
  return root;
}

// ENOSYS would tell the kernel that nothing here can do it, ever; EPERM is about this object.
std::unexpected<Error> never() { return fail(Error::user(EPERM, "a sample has no such thing")); }

}  // namespace

SampleFilesystem::SampleFilesystem(std::unique_ptr<Volume> volume, const SampleOptions &options)
    : volume_(std::move(volume)), options_(options), memory_(options.memory) {
  for (Volume::Name &name : volume_->names()) {
    FileRef file = make(name.file, std::move(name.name));
    MutexLock lock(mutex_);
    files_[name.file] = std::move(file);
  }
}

SampleFilesystem::~SampleFilesystem() {
  MutexLock lock(mutex_);
  files_.clear();
}

// --- files by node and name -------------------------------------------------------------------------------------------

SampleFilesystem::FileRef SampleFilesystem::make(unsigned number, std::string name) {
  FileRef file = std::make_shared<File>(*this, number);
  file->name = std::move(name);
  file->accessed = file->modified = file->changed = now();
  return file;
}

Result<SampleFilesystem::FileRef> SampleFilesystem::find(vfs::NodeId node) const {
  if (node == vfs::kRootNode) return fail(Error::user(EISDIR));
  MutexLock lock(mutex_);
  auto found = files_.find(static_cast<unsigned>(node - kFirstNode));
  if (found == files_.end()) return fail(Error::user(ESTALE));
  return found->second;
}

Result<SampleFilesystem::FileRef> SampleFilesystem::find_to_change(vfs::NodeId node) const {
  if (options_.read_only) return fail(Error::user(EROFS));
  return find(node);
}

SampleFilesystem::FileRef SampleFilesystem::named(std::string_view name) const {
  if (name.empty()) return nullptr;
  const auto found = std::ranges::find_if(files_, [&](const auto &entry) { return entry.second->name == name; });
  return found == files_.end() ? nullptr : found->second;
}

std::vector<SampleFilesystem::FileRef> SampleFilesystem::all() const {
  std::vector<FileRef> out;
  MutexLock lock(mutex_);
  for (const auto &[number, file] : files_) out.push_back(file);
  return out;
}

vfs::Attributes SampleFilesystem::attributes(const File &file) const {
  vfs::Attributes out = root_attributes(volume_->block_size());
  out.inode = kFirstNode + file.number;
  out.mode = S_IFREG | 0644;
  out.links = file.name.empty() ? 0 : 1;
  out.size = file.bytes.size();
  out.sectors = divide_up<std::uint64_t>(out.size, 512);
  out.accessed = file.accessed;
  out.modified = file.modified;
  out.changed = file.changed;
  return out;
}

vfs::Entry SampleFilesystem::hand_out(File &file) {
  ++file.lookups;
  vfs::Entry entry;
  entry.node = kFirstNode + file.number;
  entry.attributes = attributes(file);
  return entry;
}

Result<vfs::Entry> SampleFilesystem::lookup(vfs::NodeId parent, std::string_view name) {
  if (parent != vfs::kRootNode) return fail(Error::user(ENOTDIR));
  MutexLock lock(mutex_);
  const FileRef file = named(name);
  if (!file) return fail(Error::user(ENOENT));
  return hand_out(*file);
}

// The last user of an unlinked file has gone: so do its contents.
void SampleFilesystem::forget(vfs::NodeId node, std::uint64_t count) {
  if (node == vfs::kRootNode) return;
  const Result<FileRef> found = find(node);
  if (!found) return;
  {
    MutexLock lock(mutex_);
    (*found)->lookups -= std::min((*found)->lookups, count);
    if ((*found)->lookups > 0 || !(*found)->name.empty()) return;
    files_.erase((*found)->number);
  }
  // No node leads here any more, so no request is under way.
  (*found)->bytes.discard();
  volume_->erase((*found)->number);
}

Result<vfs::Attributes> SampleFilesystem::get_attributes(vfs::NodeId node) {
  if (node == vfs::kRootNode) return root_attributes(volume_->block_size());
  const FileRef file = TRY(find(node));
  MutexLock lock(mutex_);
  return attributes(*file);
}

Result<vfs::Attributes> SampleFilesystem::set_attributes(vfs::NodeId node, const vfs::SetAttributes &changes) {
  if (node == vfs::kRootNode || changes.mode || changes.uid || changes.gid) return never();
  const FileRef file = TRY(find_to_change(node));
  if (changes.size) TRY(file->bytes.set_size(*changes.size));
  MutexLock lock(mutex_);
  const vfs::Timestamp time = now();
  if (changes.accessed) file->accessed = *changes.accessed;
  if (changes.accessed_now) file->accessed = time;
  if (changes.modified) file->modified = *changes.modified;
  if (changes.modified_now || changes.size) file->modified = time;
  file->changed = changes.changed.value_or(time);
  return attributes(*file);
}

// --- names ------------------------------------------------------------------------------------------------------------

Result<vfs::Entry> SampleFilesystem::make_node(vfs::NodeId parent, std::string_view name, std::uint32_t mode, std::uint64_t,
                                               const vfs::Caller &) {
  if (parent != vfs::kRootNode) return fail(Error::user(ENOTDIR));
  if (options_.read_only) return fail(Error::user(EROFS));
  if (!S_ISREG(mode)) return never();
  MutexLock names(names_mutex_);
  {
    MutexLock lock(mutex_);
    if (named(name)) return fail(Error::user(EEXIST));
  }
  const unsigned number = TRY(volume_->create(name));
  const FileRef file = make(number, std::string(name));
  MutexLock lock(mutex_);
  files_[number] = file;
  return hand_out(*file);
}

Status SampleFilesystem::unlink(vfs::NodeId parent, std::string_view name) {
  if (parent != vfs::kRootNode) return fail(Error::user(ENOTDIR));
  if (options_.read_only) return fail(Error::user(EROFS));
  MutexLock names(names_mutex_);
  FileRef file;
  {
    MutexLock lock(mutex_);
    file = named(name);
    if (!file) return fail(Error::user(ENOENT));
    ++file->lookups;
  }
  Status done;
  {
    WriteLock held(file->bytes.lock);
    done = volume_->unlink(file->number);
  }
  if (done) {
    MutexLock lock(mutex_);
    file->name.clear();
  }
  forget(kFirstNode + file->number, 1);
  return done;
}

Status SampleFilesystem::read_directory(vfs::NodeId node, std::uint64_t offset, bool plus, vfs::DirectorySink &sink) {
  if (node != vfs::kRootNode) return fail(Error::user(ENOTDIR));
  // Positions: the dots, then a file's number plus 3, behind it.
  if (offset < 1 && !sink.add({".", vfs::kRootNode, DT_DIR, 1}, nullptr)) return {};
  if (offset < 2 && !sink.add({"..", vfs::kRootNode, DT_DIR, 2}, nullptr)) return {};
  MutexLock lock(mutex_);
  for (auto file = files_.lower_bound(static_cast<unsigned>(std::max<std::uint64_t>(offset, 2) - 2)); file != files_.end(); ++file) {
    if (file->second->name.empty()) continue;
    vfs::Entry entry;
    if (plus) entry = hand_out(*file->second);
    const vfs::DirectoryEntry name{file->second->name, kFirstNode + file->first, DT_REG, file->first + 3};
    if (sink.add(name, plus ? &entry : nullptr)) continue;
    if (plus) --file->second->lookups;
    return {};
  }
  return {};
}

// --- bytes ------------------------------------------------------------------------------------------------------------

Result<std::size_t> SampleFilesystem::read(vfs::NodeId node, std::uint64_t offset, std::span<std::byte> into) {
  const FileRef file = TRY(find(node));
  return options_.direct ? file->bytes.read_direct(offset, into) : file->bytes.read(offset, into);
}

Result<std::size_t> SampleFilesystem::write(vfs::NodeId node, std::uint64_t offset, std::span<const std::byte> data,
                                            vfs::WriteFlags flags) {
  const FileRef file = TRY(find_to_change(node));
  const std::size_t done =
      TRY(options_.direct || flags.direct ? file->bytes.write_direct(offset, data) : file->bytes.write(offset, data));
  if (!flags.from_page_cache) touch(*file);
  make_room(*file);
  return done;
}

void SampleFilesystem::touch(File &file) {
  MutexLock lock(mutex_);
  file.modified = file.changed = now();
}

// Whoever fills the memory empties it: a sample has no thread of its own. An error is the next fsync's.
void SampleFilesystem::make_room(File &file) {
  if (memory_.in_use() < memory_.limit() / 2) return;
  (void)file.bytes.write_back();
  if (memory_.in_use() < memory_.limit() / 2) return;
  for (const FileRef &other : all()) (void)other->bytes.write_back();
}

Status SampleFilesystem::allocate(vfs::NodeId node, std::uint64_t offset, std::uint64_t length, int mode) {
  const FileRef file = TRY(find_to_change(node));
  if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) TRY(file->bytes.punch({offset, length}));
  else if (mode == (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)) TRY(file->bytes.zero({offset, length}));
  else return fail(Error::user(EOPNOTSUPP));
  touch(*file);
  return {};
}

Result<std::uint64_t> SampleFilesystem::seek(vfs::NodeId node, std::uint64_t offset, vfs::Seek what) {
  const FileRef file = TRY(find(node));
  return what == vfs::Seek::data ? file->bytes.seek_data(offset) : file->bytes.seek_hole(offset);
}

Result<std::uint64_t> SampleFilesystem::map_block(vfs::NodeId node, std::uint64_t block, std::uint32_t block_size) {
  const FileRef file = TRY(find(node));
  if (block_size == 0 || block >= divide_up<std::uint64_t>(file->bytes.size(), block_size)) return std::uint64_t{0};
  const iomap::Report report = TRY(file->bytes.report({block * block_size, block_size}, 1));
  if (report.extents.empty()) return std::uint64_t{0};
  const iomap::Mapping &mapping = report.extents[0].mapping;
  if (mapping.type != iomap::MappingType::mapped || mapping.offset > block * block_size) return std::uint64_t{0};
  return (mapping.address + (block * block_size - mapping.offset)) / block_size;
}

Status SampleFilesystem::sync(vfs::NodeId node, bool) {
  if (node == vfs::kRootNode) return volume_->sync();
  return TRY(find(node))->bytes.flush();
}

Status SampleFilesystem::sync_all() {
  Status status;
  for (const FileRef &file : all())
    if (Status flushed = file->bytes.flush(); !flushed && status) status = std::move(flushed);
  const Status synced = volume_->sync();
  return status ? synced : status;
}

Result<vfs::Statistics> SampleFilesystem::statistics() {
  const Volume::Space space = volume_->space();
  vfs::Statistics out;
  out.blocks = space.blocks;
  out.free_blocks = out.available_blocks = space.free_blocks;
  out.inodes = space.files;
  out.free_inodes = space.free_files;
  out.block_size = volume_->block_size();
  return out;
}

// Names that went while somebody used the file: nobody does any more.
Status SampleFilesystem::unmount() {
  for (const FileRef &file : all()) {
    bool gone = false;
    {
      MutexLock lock(mutex_);
      gone = file->name.empty();
    }
    if (gone) forget(kFirstNode + file->number, ~std::uint64_t{0});
  }
  return options_.read_only ? Status{} : sync_all();
}

// --- what no sample can -----------------------------------------------------------------------------------------------

Result<std::string> SampleFilesystem::read_link(vfs::NodeId) { return fail(Error::user(EINVAL)); }
Result<vfs::Entry> SampleFilesystem::make_directory(vfs::NodeId, std::string_view, std::uint32_t, const vfs::Caller &) {
  return never();
}
Result<vfs::Entry> SampleFilesystem::make_symlink(vfs::NodeId, std::string_view, std::string_view, const vfs::Caller &) {
  return never();
}
Result<vfs::Entry> SampleFilesystem::make_temporary(vfs::NodeId, std::uint32_t, const vfs::Caller &) {
  return fail(Error::user(EOPNOTSUPP));
}
Result<vfs::Entry> SampleFilesystem::link(vfs::NodeId, vfs::NodeId, std::string_view) { return never(); }
Status SampleFilesystem::remove_directory(vfs::NodeId, std::string_view) { return fail(Error::user(ENOTDIR)); }
Status SampleFilesystem::rename(vfs::NodeId, std::string_view, vfs::NodeId, std::string_view, std::uint32_t,
                                const vfs::Caller &) {
  return never();
}
Result<std::size_t> SampleFilesystem::copy_range(vfs::NodeId, std::uint64_t, vfs::NodeId, std::uint64_t, std::size_t) {
  return fail(Error::user(EOPNOTSUPP));
}
Result<std::size_t> SampleFilesystem::get_xattr(vfs::NodeId, std::string_view, std::span<std::byte>) {
  return fail(Error::user(EOPNOTSUPP));
}
Result<std::size_t> SampleFilesystem::list_xattrs(vfs::NodeId, std::span<std::byte>) { return std::size_t{0}; }
Status SampleFilesystem::set_xattr(vfs::NodeId, std::string_view, std::span<const std::byte>, int, bool) {
  return fail(Error::user(EOPNOTSUPP));
}
Status SampleFilesystem::remove_xattr(vfs::NodeId, std::string_view) { return fail(Error::user(EOPNOTSUPP)); }
Result<std::size_t> SampleFilesystem::ioctl(vfs::NodeId, std::uint32_t, std::span<const std::byte>, std::span<std::byte>,
                                            const vfs::Caller &) {
  return fail(Error::user(ENOTTY));
}

}  // namespace outboard::sample

#include "exerciser/library_subject.h"

#include <algorithm>
#include <sys/stat.h>

namespace outboard::exerciser {

namespace {
constexpr std::uint64_t kPage = 4096;
std::string name_of(unsigned file) { return "file" + std::to_string(file); }
}  // namespace

Result<std::unique_ptr<LibrarySubject>> LibrarySubject::open(const std::string &image, unsigned files) {
  std::unique_ptr<LibrarySubject> subject(new LibrarySubject(TRY(device::MemoryDevice::from_file(image))));
  TRY(subject->start(files, true));
  return subject;
}

LibrarySubject::~LibrarySubject() = default;

Result<vfs::NodeId> LibrarySubject::look_up(unsigned file) {
  return TRY(volume_->lookup(vfs::kRootNode, name_of(file))).node;
}

Status LibrarySubject::start(unsigned files, bool make) {
  vfs::MountedVolumeOptions options;
  options.volume.cache_bytes = std::size_t{1} << 20;  // small, so that metadata comes and goes
  volume_ = TRY(vfs::MountedVolume::open(*device_, options));
  nodes_.clear();
  for (unsigned file = 0; file < files; ++file) {
    if (make) nodes_.push_back(TRY(volume_->make_node(vfs::kRootNode, name_of(file), S_IFREG | 0644, 0, {})).node);
    else nodes_.push_back(TRY(look_up(file)));
  }
  return make ? volume_->sync_all() : Status{};
}

Status LibrarySubject::stop() {
  for (const vfs::NodeId node : nodes_) volume_->forget(node, 1);
  Status done = volume_->unmount();
  volume_.reset();
  return done;
}

Status LibrarySubject::unmount_to(const std::string &image) {
  TRY(stop());
  return device_->save(image);
}

Status LibrarySubject::remount() {
  TRY(stop());
  return start(static_cast<unsigned>(nodes_.size()), false);
}

Status LibrarySubject::crash() {
  volume_.reset();
  return start(static_cast<unsigned>(nodes_.size()), false);
}

Result<std::size_t> LibrarySubject::read(unsigned file, Way, std::uint64_t offset, std::span<std::byte> into) {
  return volume_->read(nodes_[file], offset, into);
}

Result<std::size_t> LibrarySubject::write(unsigned file, Way way, std::uint64_t offset,
                                          std::span<const std::byte> data) {
  if (way == Way::mapped) return write_pages(file, offset, data);
  vfs::WriteFlags flags;
  flags.from_page_cache = way == Way::second;
  return volume_->write(nodes_[file], offset, data, flags);
}

// As a kernel's write-back does it: whole pages, up to the end of the file.
Result<std::size_t> LibrarySubject::write_pages(unsigned file, std::uint64_t offset, std::span<const std::byte> data) {
  const std::uint64_t start = round_down(offset, kPage);
  const std::uint64_t end = std::min(round_up(offset + data.size(), kPage), TRY(size(file)));
  std::vector<std::byte> pages(end - start);
  const std::size_t got = TRY(volume_->read(nodes_[file], start, pages));
  if (got != pages.size()) return fail(Error::user(EIO, "a read inside the file was short"));
  std::copy(data.begin(), data.end(), pages.begin() + static_cast<std::ptrdiff_t>(offset - start));
  vfs::WriteFlags flags;
  flags.from_page_cache = true;
  const std::size_t put = TRY(volume_->write(nodes_[file], start, pages, flags));
  const std::uint64_t lead = offset - start;
  return put <= lead ? 0 : std::min<std::size_t>(put - lead, data.size());
}

Result<std::size_t> LibrarySubject::append(unsigned file, std::span<const std::byte> data) {
  return volume_->write(nodes_[file], TRY(size(file)), data, {});
}

Status LibrarySubject::truncate(unsigned file, std::uint64_t size) {
  vfs::SetAttributes changes;
  changes.size = size;
  TRY(volume_->set_attributes(nodes_[file], changes));
  return {};
}

Status LibrarySubject::allocate(unsigned file, int mode, std::uint64_t offset, std::uint64_t length) {
  return volume_->allocate(nodes_[file], offset, length, mode);
}

Result<std::size_t> LibrarySubject::copy(unsigned from, std::uint64_t offset, unsigned to, std::uint64_t target,
                                         std::size_t length) {
  return volume_->copy_range(nodes_[from], offset, nodes_[to], target, length);
}

Result<std::uint64_t> LibrarySubject::seek(unsigned file, std::uint64_t offset, Seek what) {
  return volume_->seek(nodes_[file], offset, what == Seek::data ? vfs::Seek::data : vfs::Seek::hole);
}

Result<std::uint64_t> LibrarySubject::size(unsigned file) { return TRY(volume_->get_attributes(nodes_[file])).size; }

Status LibrarySubject::sync(unsigned file, bool data_only) { return volume_->sync(nodes_[file], data_only); }
Status LibrarySubject::sync_all() { return volume_->sync_all(); }

// The last close and the next open: the kernel forgets the inode and looks it up again.
Status LibrarySubject::reopen(unsigned file) {
  volume_->forget(nodes_[file], 1);
  nodes_[file] = TRY(look_up(file));
  return {};
}

Status LibrarySubject::drop_cache(unsigned) { return {}; }

}  // namespace outboard::exerciser

#include "exerciser/mount_subject.h"

#include "base/units.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace outboard::exerciser {

namespace {
constexpr std::uint64_t kPage = 4096;

std::unexpected<Error> last_error(const char *what) { return fail(Error::user(errno, what)); }

Status checked(int result, const char *what) {
  if (result != 0) return last_error(what);
  return {};
}

// The whole range, unless the end of the file or an error comes first.
template <class Call> Result<std::size_t> repeated(std::size_t length, const char *what, Call &&call) {
  std::size_t done = 0;
  while (done < length) {
    const ssize_t count = call(done);
    if (count < 0) return last_error(what);
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}
}  // namespace

MountSubject::MountSubject(const std::string &image, const std::string &directory, unsigned files)
    : image_(image), directory_(directory), files_(files),
      mount_(std::make_unique<tests::OutboardMount>(image, directory)) {
  ready_ = mount_->mounted() && open_all(O_CREAT) && sync_all();
}

MountSubject::~MountSubject() {
  files_.clear();
  mount_.reset();
}

std::string MountSubject::path_of(unsigned file) const { return directory_ + "/file" + std::to_string(file); }

Status MountSubject::reopen(unsigned file) {
  files_[file] = {};
  Descriptors &f = files_[file];
  f.buffered = UniqueFd(::open(path_of(file).c_str(), O_RDWR | O_CLOEXEC));
  f.second = UniqueFd(::open(path_of(file).c_str(), O_RDWR | O_CLOEXEC));
  f.direct = UniqueFd(::open(path_of(file).c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  f.append = UniqueFd(::open(path_of(file).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!f.buffered || !f.second || !f.direct || !f.append) return last_error("open");
  return {};
}

Status MountSubject::open_all(int extra_flags) {
  for (unsigned file = 0; file < files_.size(); ++file) {
    const UniqueFd made(::open(path_of(file).c_str(), O_RDWR | O_CLOEXEC | extra_flags, 0644));
    if (!made) return last_error("open");
    TRY(reopen(file));
  }
  return {};
}

int MountSubject::descriptor(unsigned file, Way way) const {
  const Descriptors &f = files_[file];
  return way == Way::second ? f.second.get() : way == Way::direct ? f.direct.get() : f.buffered.get();
}

std::span<std::byte> MountSubject::aligned(std::size_t bytes) {
  if (bytes > memory_size_) {
    memory_size_ = round_up<std::size_t>(bytes, kPage);
    memory_.reset(static_cast<std::byte *>(std::aligned_alloc(kPage, memory_size_)));
  }
  return {memory_.get(), bytes};
}

// Reads into `into` or writes `data`, whichever is there. The range lies inside the file.
Result<std::size_t> MountSubject::through_mapping(unsigned file, std::uint64_t offset, std::span<std::byte> into,
                                                  std::span<const std::byte> data) const {
  const std::size_t length = std::max(into.size(), data.size());
  const std::uint64_t start = round_down(offset, kPage);
  const std::size_t mapped = static_cast<std::size_t>(offset - start) + length;
  const int fd = files_[file].buffered.get();
  const int protection = data.empty() ? PROT_READ : PROT_READ | PROT_WRITE;
  void *memory = ::mmap(nullptr, mapped, protection, MAP_SHARED, fd, static_cast<off_t>(start));
  if (memory == MAP_FAILED) return last_error("mmap");
  std::byte *bytes = static_cast<std::byte *>(memory) + (offset - start);
  if (data.empty()) std::memcpy(into.data(), bytes, length);
  else std::memcpy(bytes, data.data(), length);
  if (::munmap(memory, mapped) != 0) return last_error("munmap");
  return length;
}

Result<std::size_t> MountSubject::read(unsigned file, Way way, std::uint64_t offset, std::span<std::byte> into) {
  if (way == Way::mapped) {
    const std::uint64_t end = TRY(size(file));
    if (offset >= end) return std::size_t{0};
    return through_mapping(file, offset, into.first(std::min<std::uint64_t>(into.size(), end - offset)), {});
  }
  const int fd = descriptor(file, way);
  const std::span<std::byte> memory = way == Way::direct ? aligned(into.size()) : into;
  const std::size_t got = TRY(repeated(into.size(), "pread", [&](std::size_t done) {
    return ::pread(fd, memory.data() + done, memory.size() - done, static_cast<off_t>(offset + done));
  }));
  if (way == Way::direct) std::memcpy(into.data(), memory.data(), got);
  return got;
}

Result<std::size_t> MountSubject::write(unsigned file, Way way, std::uint64_t offset, std::span<const std::byte> data) {
  if (way == Way::mapped) return through_mapping(file, offset, {}, data);
  const int fd = descriptor(file, way);
  if (way == Way::direct) {
    const std::span<std::byte> memory = aligned(data.size());
    std::memcpy(memory.data(), data.data(), data.size());
    data = memory;
  }
  return repeated(data.size(), "pwrite", [&](std::size_t done) {
    return ::pwrite(fd, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
  });
}

Result<std::size_t> MountSubject::append(unsigned file, std::span<const std::byte> data) {
  const int fd = files_[file].append.get();
  return repeated(data.size(), "append",
                  [&](std::size_t done) { return ::write(fd, data.data() + done, data.size() - done); });
}

Status MountSubject::truncate(unsigned file, std::uint64_t size) {
  return checked(::ftruncate(files_[file].buffered.get(), static_cast<off_t>(size)), "ftruncate");
}

Status MountSubject::allocate(unsigned file, int mode, std::uint64_t offset, std::uint64_t length) {
  const int fd = files_[file].second.get();
  return checked(::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length)), "fallocate");
}

Result<std::size_t> MountSubject::copy(unsigned from, std::uint64_t offset, unsigned to, std::uint64_t target,
                                       std::size_t length) {
  const int in = files_[from].buffered.get(), out = files_[to].second.get();
  // What is there now. A copy to behind the end of the same file makes more of it, which a second round would copy too.
  const std::uint64_t end = TRY(size(from));
  length = offset < end ? std::min<std::uint64_t>(length, end - offset) : 0;
  return repeated(length, "copy_file_range", [&](std::size_t done) {
    off_t at = static_cast<off_t>(offset + done), into = static_cast<off_t>(target + done);
    return ::copy_file_range(in, &at, out, &into, length - done, 0);
  });
}

Result<std::uint64_t> MountSubject::seek(unsigned file, std::uint64_t offset, Seek what) {
  const off_t found =
      ::lseek(files_[file].buffered.get(), static_cast<off_t>(offset), what == Seek::data ? SEEK_DATA : SEEK_HOLE);
  if (found < 0) return last_error("lseek");
  return static_cast<std::uint64_t>(found);
}

Result<std::uint64_t> MountSubject::size(unsigned file) {
  struct stat status {};
  if (::fstat(files_[file].buffered.get(), &status) != 0) return last_error("fstat");
  return static_cast<std::uint64_t>(status.st_size);
}

Status MountSubject::sync(unsigned file, bool data_only) {
  const int fd = files_[file].second.get();
  return checked(data_only ? ::fdatasync(fd) : ::fsync(fd), "fsync");
}

Status MountSubject::sync_all() { return checked(::syncfs(files_[0].buffered.get()), "syncfs"); }

// Pages that are dirty stay.
Status MountSubject::drop_cache(unsigned file) {
  const int code = ::posix_fadvise(files_[file].buffered.get(), 0, 0, POSIX_FADV_DONTNEED);
  if (code != 0) return fail(Error::user(code, "posix_fadvise"));
  return {};
}

std::string MountSubject::unmount() {
  for (Descriptors &file : files_) file = {};
  return mount_->unmount();
}

Status MountSubject::mount_again() {
  mount_ = std::make_unique<tests::OutboardMount>(image_, directory_);
  if (!mount_->mounted()) return fail(Error::user(EIO, "the mount does not come up again"));
  return open_all(0);
}

Status MountSubject::remount() {
  if (!unmount().empty()) return fail(Error::user(EIO, "the mount does not go"));
  return mount_again();
}

Status MountSubject::crash() {
  mount_->kill();
  for (Descriptors &file : files_) file = {};
  return mount_again();
}

}  // namespace outboard::exerciser

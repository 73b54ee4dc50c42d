// Carrying operations out on a real tree.
#include "base/checksum.h"
#include "base/unique_fd.h"
#include "differential/operation.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace outboard::tests {

using Kind = Operation::Kind;

namespace {

std::string outcome(long result) { return result >= 0 ? fmt::format("ok {}", result) : fmt::format("{}", strerrorname_np(errno)); }
std::string failed() { return outcome(-1); }

std::vector<char> data_of(std::uint32_t seed, std::size_t length) {
  std::vector<char> data(length);
  std::uint32_t state = seed | 1;
  for (char &c : data) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(state >> 24);
  }
  return data;
}

std::uint32_t checksum(const char *data, std::size_t size) { return crc32c(~0u, data, size); }

std::string stat_text(const struct stat &s) {
  return fmt::format("mode={:o} links={} uid={} gid={} size={} rdev={:#x}", s.st_mode, s.st_nlink, s.st_uid, s.st_gid,
                     S_ISDIR(s.st_mode) ? 0 : s.st_size, s.st_rdev);
}

// The calling thread acts as an ordinary user for the file system.
class ActAs {
public:
  explicit ActAs(std::uint32_t user) : changed_(user != 0) {
    if (!changed_) return;
    ::setfsgid(user);
    ::setfsuid(user);
  }
  ~ActAs() {
    if (!changed_) return;
    ::setfsuid(0);
    ::setfsgid(0);
  }

private:
  bool changed_;
};

// A POSIX ACL in the form setxattr(2) takes: version 2; user::, user:1000:, group::, mask::, other::.
std::vector<char> acl_of(std::uint32_t seed) {
  struct Entry {
    std::uint16_t tag, perm;
    std::uint32_t id;
  };
  const auto perm = [seed](unsigned shift) { return static_cast<std::uint16_t>((seed >> shift) & 7); };
  const Entry entries[] = {{1, perm(0), ~0u}, {2, perm(3), 1000}, {4, perm(6), ~0u}, {0x10, perm(9), ~0u}, {0x20, perm(12), ~0u}};
  std::vector<char> bytes(4 + sizeof entries);
  const std::uint32_t version = 2;
  std::memcpy(bytes.data(), &version, 4);
  std::memcpy(bytes.data() + 4, entries, sizeof entries);
  // Sometimes the minimal one, which is no more than a mode.
  if (seed % 5 == 0) {
    const Entry minimal[] = {{1, perm(0), ~0u}, {4, perm(6), ~0u}, {0x20, perm(12), ~0u}};
    bytes.resize(4 + sizeof minimal);
    std::memcpy(bytes.data() + 4, minimal, sizeof minimal);
  }
  return bytes;
}

}  // namespace

Tree::Tree(std::string root) : root_(std::move(root)) { std::fill(std::begin(slots_), std::end(slots_), -1); }
Tree::~Tree() { close_slots(); }

void Tree::close_slots() {
  for (int &slot : slots_) {
    if (slot >= 0) ::close(slot);
    slot = -1;
  }
}

std::string Tree::perform(const Operation &o) {
  ActAs user(o.as_user);
  switch (o.kind) {
  case Kind::create: case Kind::make_directory: case Kind::remove_directory: case Kind::unlink: case Kind::rename: case Kind::link:
  case Kind::symlink: case Kind::read_link: case Kind::make_fifo: case Kind::make_device: case Kind::list:
  case Kind::temporary_and_link:
    return on_names(o);
  case Kind::change_mode: case Kind::change_owner: case Kind::set_times: case Kind::stat: case Kind::set_flags: case Kind::get_flags:
    return on_attributes(o);
  case Kind::truncate: case Kind::write: case Kind::append: case Kind::read: case Kind::allocate: case Kind::seek:
  case Kind::copy_range: case Kind::map_write: case Kind::sync_file:
    return on_data(o);
  case Kind::set_xattr: case Kind::get_xattr: case Kind::remove_xattr: case Kind::list_xattrs: case Kind::set_acl:
    return on_xattrs(o);
  default: return on_slots(o);
  }
}

std::string Tree::on_names(const Operation &o) {
  const std::string path = at(o.path), other = at(o.other);
  switch (o.kind) {
  case Kind::create: {
    const UniqueFd fd(::open(path.c_str(), O_CREAT | O_WRONLY | O_NONBLOCK | ((o.seed & 1) != 0 ? O_EXCL : 0), o.mode & 0777));
    return fd ? "ok" : failed();
  }
  case Kind::make_directory: return outcome(::mkdir(path.c_str(), (o.mode & 01777) | 0700));
  case Kind::remove_directory: return outcome(::rmdir(path.c_str()));
  case Kind::unlink: return outcome(::unlink(path.c_str()));
  case Kind::rename: return outcome(::syscall(SYS_renameat2, AT_FDCWD, path.c_str(), AT_FDCWD, other.c_str(), o.flags));
  case Kind::link: return outcome(::link(path.c_str(), other.c_str()));
  case Kind::symlink: {
    const std::string target = (o.seed & 7) == 0 ? std::string(60 + o.seed % 3000, 't') : o.path;
    return outcome(::symlink(target.c_str(), other.c_str()));
  }
  case Kind::read_link: {
    char target[4096];
    const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
    return length < 0 ? failed() : "ok " + std::string(target, static_cast<std::size_t>(length));
  }
  case Kind::make_fifo: return outcome(::mkfifo(path.c_str(), o.mode & 0777));
  case Kind::make_device: return outcome(::mknod(path.c_str(), S_IFCHR | (o.mode & 0777), makedev(o.seed % 4096, o.seed % 1048576)));
  case Kind::temporary_and_link: {
    const UniqueFd fd(::open(path.c_str(), O_TMPFILE | O_RDWR, o.mode & 0777));
    if (!fd) return failed();
    const std::vector<char> data = data_of(o.seed, o.length);
    if (::pwrite(fd.get(), data.data(), data.size(), static_cast<off_t>(o.offset % 100000)) < 0) return "write " + failed();
    if ((o.seed & 1) != 0) return "ok";  // it vanishes
    const std::string self = fmt::format("/proc/self/fd/{}", fd.get());
    return outcome(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, other.c_str(), AT_SYMLINK_FOLLOW));
  }
  default: {  // list
    DIR *const directory = ::opendir(path.c_str());
    if (directory == nullptr) return failed();
    std::vector<std::string> names;
    while (const dirent *entry = ::readdir(directory)) names.push_back(fmt::format("{}:{}", entry->d_name, entry->d_type));
    ::closedir(directory);
    std::sort(names.begin(), names.end());
    return fmt::format("ok {}", fmt::join(names, " "));
  }
  }
}

std::string Tree::on_attributes(const Operation &o) {
  const std::string path = at(o.path);
  switch (o.kind) {
  case Kind::change_mode: return outcome(::chmod(path.c_str(), o.mode));
  case Kind::change_owner: return outcome(::lchown(path.c_str(), o.uid, o.gid));
  case Kind::set_times: {
    const timespec times[2] = {{static_cast<time_t>(o.seed), static_cast<long>(o.seed % 1000000000)},
                               {static_cast<time_t>(o.offset), static_cast<long>(o.length)}};
    return outcome(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW));
  }
  case Kind::set_flags: {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK));
    if (!fd) return failed();
    struct stat s {};
    if (::fstat(fd.get(), &s) != 0 || !(S_ISREG(s.st_mode) || S_ISDIR(s.st_mode))) return "other";
    int flags = 0;
    if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) return failed();
    flags = (flags & ~(FS_NODUMP_FL | FS_NOATIME_FL)) | ((o.seed & 1) != 0 ? FS_NODUMP_FL : 0) | ((o.seed & 2) != 0 ? FS_NOATIME_FL : 0);
    return outcome(::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags));
  }
  case Kind::get_flags: {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK));
    if (!fd) return failed();
    struct stat s {};
    if (::fstat(fd.get(), &s) != 0 || !(S_ISREG(s.st_mode) || S_ISDIR(s.st_mode))) return "other";
    int flags = 0;
    if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) return failed();
    return fmt::format("ok {:#x}", flags & ~FS_INDEX_FL);
  }
  default: {
    struct stat s {};
    if (::lstat(path.c_str(), &s) != 0) return failed();
    return "ok " + stat_text(s);
  }
  }
}

std::string Tree::on_data(const Operation &o) {
  const std::string path = at(o.path);
  const int access = o.kind == Kind::read || o.kind == Kind::seek ? O_RDONLY : O_RDWR;
  if (o.kind == Kind::truncate) return outcome(::truncate(path.c_str(), static_cast<off_t>(o.offset)));
  const UniqueFd fd(::open(path.c_str(), access | O_NONBLOCK | (o.kind == Kind::append ? O_APPEND : 0)));
  if (!fd) return failed();
  struct stat s {};
  if (::fstat(fd.get(), &s) != 0) return failed();
  if (!S_ISREG(s.st_mode)) return "not a file";
  const off_t offset = static_cast<off_t>(o.offset);
  switch (o.kind) {
  case Kind::write:
  case Kind::append: {
    const std::vector<char> data = data_of(o.seed, o.length);
    return outcome(o.kind == Kind::append ? ::write(fd.get(), data.data(), data.size())
                                          : ::pwrite(fd.get(), data.data(), data.size(), offset));
  }
  case Kind::read: {
    std::vector<char> data(o.length);
    const ssize_t got = ::pread(fd.get(), data.data(), data.size(), offset);
    return got < 0 ? failed() : fmt::format("ok {} {:#x}", got, checksum(data.data(), static_cast<std::size_t>(got)));
  }
  case Kind::allocate: return outcome(::fallocate(fd.get(), o.flags, offset, static_cast<off_t>(o.length)));
  case Kind::seek: {
    // Where holes lie is each file system's choice; that asking works, and that past the end it does not, is not.
    const off_t found = ::lseek(fd.get(), offset, o.flags);
    if (found < 0) return errno == ENXIO && o.flags == SEEK_DATA && offset < s.st_size ? "ok" : failed();
    return "ok";
  }
  case Kind::copy_range: {
    const UniqueFd to(::open(at(o.other).c_str(), O_WRONLY | O_NONBLOCK));
    if (!to) return failed();
    struct stat t {};
    if (::fstat(to.get(), &t) != 0 || !S_ISREG(t.st_mode)) return "not a file";
    loff_t from_offset = offset, to_offset = static_cast<loff_t>(o.seed % 100000);
    return outcome(::copy_file_range(fd.get(), &from_offset, to.get(), &to_offset, o.length, 0));
  }
  case Kind::map_write: {
    if (s.st_size == 0) return "empty";
    const std::size_t size = static_cast<std::size_t>(std::min<off_t>(s.st_size, 1 << 20));
    void *const map = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (map == MAP_FAILED) return failed();
    const std::size_t at_byte = o.offset % size;
    const std::vector<char> data = data_of(o.seed, std::min<std::size_t>(size - at_byte, 5000));
    std::memcpy(static_cast<char *>(map) + at_byte, data.data(), data.size());
    ::munmap(map, size);
    return "ok";
  }
  default: return outcome(::fsync(fd.get()));
  }
}

std::string Tree::on_xattrs(const Operation &o) {
  const std::string path = at(o.path);
  const std::string name = fmt::format("user.{}", o.seed % 6);
  switch (o.kind) {
  case Kind::set_xattr: {
    const std::vector<char> value = data_of(o.seed, o.length);
    return outcome(::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), o.flags));
  }
  case Kind::get_xattr: {
    char value[4096];
    const ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), value, sizeof value);
    return size < 0 ? failed() : fmt::format("ok {} {:#x}", size, checksum(value, static_cast<std::size_t>(size)));
  }
  case Kind::remove_xattr: return outcome(::lremovexattr(path.c_str(), name.c_str()));
  case Kind::set_acl: {
    const std::vector<char> acl = acl_of(o.seed);
    const char *which = (o.seed & 16) != 0 ? "system.posix_acl_default" : "system.posix_acl_access";
    return outcome(::setxattr(path.c_str(), which, acl.data(), acl.size(), 0));
  }
  default: {
    char list[8192];
    const ssize_t size = ::llistxattr(path.c_str(), list, sizeof list);
    if (size < 0) return failed();
    std::vector<std::string> names;
    for (const char *at_name = list; at_name < list + size; at_name += std::strlen(at_name) + 1) names.emplace_back(at_name);
    std::sort(names.begin(), names.end());
    return fmt::format("ok {}", fmt::join(names, " "));
  }
  }
}

std::string Tree::on_slots(const Operation &o) {
  int &slot = slots_[o.slot];
  if (o.kind == Kind::open_slot) {
    if (slot >= 0) ::close(slot);
    slot = ::open(at(o.path).c_str(), o.flags | O_NONBLOCK, o.mode & 0777);
    if (slot < 0) return failed();
    struct stat s {};
    if (::fstat(slot, &s) == 0 && S_ISREG(s.st_mode)) return "ok";
    ::close(std::exchange(slot, -1));
    return "not a file";
  }
  if (slot < 0) return "closed";
  switch (o.kind) {
  case Kind::close_slot: return outcome(::close(std::exchange(slot, -1)));
  case Kind::write_slot: {
    const std::vector<char> data = data_of(o.seed, o.length);
    return outcome(::pwrite(slot, data.data(), data.size(), static_cast<off_t>(o.offset)));
  }
  case Kind::read_slot: {
    std::vector<char> data(o.length);
    const ssize_t got = ::pread(slot, data.data(), data.size(), static_cast<off_t>(o.offset));
    return got < 0 ? failed() : fmt::format("ok {} {:#x}", got, checksum(data.data(), static_cast<std::size_t>(got)));
  }
  case Kind::truncate_slot: return outcome(::ftruncate(slot, static_cast<off_t>(o.offset)));
  default: return outcome(::fsync(slot));
  }
}

std::string Tree::line(const std::string &path) const {
  const std::string full = at(path);
  struct stat s {};
  if (::lstat(full.c_str(), &s) != 0) return failed();
  char names[8192], value[8192];
  const ssize_t size = ::llistxattr(full.c_str(), names, sizeof names);
  std::vector<std::string> xattrs;
  for (const char *name = names; name < names + size; name += std::strlen(name) + 1) {
    const ssize_t length = ::lgetxattr(full.c_str(), name, value, sizeof value);
    xattrs.push_back(fmt::format("{}={:#x}", name, length < 0 ? 0 : checksum(value, static_cast<std::size_t>(length))));
  }
  std::sort(xattrs.begin(), xattrs.end());
  return fmt::format("{} {}", stat_text(s), fmt::join(xattrs, " "));
}

std::vector<std::string> Tree::dump() const {
  namespace fs = std::filesystem;
  std::vector<std::string> lines;
  const auto one = [&](const fs::path &path) {
    const std::string relative = path.lexically_relative(root_).string();
    std::string text = relative + " " + line(relative == "." ? "" : relative);
    struct stat s {};
    if (::lstat(path.c_str(), &s) == 0 && S_ISREG(s.st_mode)) {
      std::uint32_t sum = ~0u;
      const UniqueFd fd(::open(path.c_str(), O_RDONLY));
      std::vector<char> data(1 << 20);
      ssize_t got;
      while ((got = ::read(fd.get(), data.data(), data.size())) > 0) sum = crc32c(sum, data.data(), static_cast<std::size_t>(got));
      text += got < 0 ? " unreadable " + failed() : fmt::format(" data={:#x}", sum);
    } else if (S_ISLNK(s.st_mode)) {
      text += " -> " + fs::read_symlink(path).string();
    }
    lines.push_back(std::move(text));
  };
  one(root_);
  std::error_code error;
  for (fs::recursive_directory_iterator entry(root_, error), end; !error && entry != end; entry.increment(error)) one(entry->path());
  if (error) lines.push_back("unlistable: " + error.message());
  std::sort(lines.begin(), lines.end());
  return lines;
}

}  // namespace outboard::tests

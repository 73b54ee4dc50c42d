#include "conformance/sample_tree.h"

#include "base/checksum.h"
#include "base/unique_fd.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace outboard::tests {

namespace fs = std::filesystem;

namespace {

Status check(long result, const char *what) {
  if (result < 0) return fail(Error::system(errno, what));
  return {};
}

Status put(const std::string &path, std::uint64_t offset, const std::string &data) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0640));
  TRY(check(fd ? 0 : -1, "open"));
  const ssize_t written = ::pwrite(fd.get(), data.data(), data.size(), static_cast<off_t>(offset));
  TRY(check(written, "write"));
  if (static_cast<std::size_t>(written) != data.size()) return fail(Error::system(EIO, "short write"));
  return {};
}

std::string text(std::size_t size, unsigned seed) {
  std::string data(size, '\0');
  for (std::size_t i = 0; i < size; ++i) data[i] = static_cast<char>((i * 31 + seed * 7 + i / 251) & 0xff);
  return data;
}

// Version 2 of the form that setxattr(2) takes: user::rwx, user:1000:r--, group::r-x, mask::r-x, other::---.
std::string acl() {
  struct Entry {
    std::uint16_t tag, perm;
    std::uint32_t id;
  };
  constexpr Entry kEntries[] = {{1, 7, ~0u}, {2, 4, 1000}, {4, 5, ~0u}, {0x10, 5, ~0u}, {0x20, 0, ~0u}};
  std::string bytes(4 + sizeof kEntries, '\0');
  bytes[0] = 2;
  std::memcpy(bytes.data() + 4, kEntries, sizeof kEntries);
  return bytes;
}

Status set_xattr(const std::string &path, const char *name, const std::string &value) {
  return check(::lsetxattr(path.c_str(), name, value.data(), value.size(), 0), name);
}

Status make_directories(const std::string &root) {
  std::string deep = root + "/deep";
  for (int depth = 0; depth < 40; ++depth) {
    TRY(check(::mkdir(deep.c_str(), 0755), "mkdir"));
    deep += "/" + std::string(20, static_cast<char>('a' + depth % 26));
  }
  TRY(put(deep, 0, "at the bottom"));
  const std::string many = root + "/many";
  TRY(check(::mkdir(many.c_str(), 0700), "mkdir"));
  // As many as give an index, then holes in it.
  for (int i = 0; i < 300; ++i)
    TRY(check(::mknod(fmt::format("{}/{:04}{}", many, i, std::string(40, 'm')).c_str(), S_IFREG | 0600, 0), "mknod"));
  for (int i = 0; i < 300; i += 7)
    TRY(check(::unlink(fmt::format("{}/{:04}{}", many, i, std::string(40, 'm')).c_str()), "unlink"));
  return {};
}

Status make_special(const std::string &root, std::uint32_t block_size) {
  TRY(check(::symlink("../short/target", (root + "/fast-link").c_str()), "symlink"));
  TRY(check(::symlink(std::string(59, 'f').c_str(), (root + "/longest-fast-link").c_str()), "symlink"));
  TRY(check(::symlink(std::string(60, 's').c_str(), (root + "/shortest-slow-link").c_str()), "symlink"));
  TRY(check(
      ::symlink(std::string(std::min<std::uint32_t>(block_size, 4096) - 1, 'l').c_str(), (root + "/slow-link").c_str()),
      "symlink"));
  TRY(check(::mknod((root + "/character").c_str(), S_IFCHR | 0620, makedev(4, 64)), "mknod"));
  TRY(check(::mknod((root + "/block").c_str(), S_IFBLK | 0660, makedev(259, 700000)), "mknod"));
  TRY(check(::mknod((root + "/fifo").c_str(), S_IFIFO | 0600, 0), "mknod"));
  return check(::mknod((root + "/socket").c_str(), S_IFSOCK | 0755, 0), "mknod");
}

Status make_files(const std::string &root, std::uint32_t block_size) {
  TRY(put(root + "/" + std::string(255, 'n'), 0, "the longest name"));
  TRY(put(root + "/small", 0, text(100, 1)));
  TRY(put(root + "/large", 0, text(3 << 20, 2)));
  // Blocks reached directly, through one, two and (with blocks of 1k) three levels of a block map.
  const std::uint64_t far = block_size == 1024 ? 70'000'003 : 9'000'003;
  for (const std::uint64_t offset : {std::uint64_t{5}, std::uint64_t{300'000}, far})
    TRY(put(root + "/sparse", offset, text(5000, 3)));
  TRY(check(::truncate((root + "/sparse").c_str(), static_cast<off_t>(far + 1'000'000)), "truncate"));
  TRY(put(root + "/cut", 0, text(50000, 4)));
  TRY(check(::truncate((root + "/cut").c_str(), 12345), "truncate"));
  TRY(put(root + "/linked", 0, "three names"));
  TRY(check(::link((root + "/linked").c_str(), (root + "/linked-again").c_str()), "link"));
  TRY(check(::link((root + "/linked").c_str(), (root + "/deep/linked").c_str()), "link"));
  TRY(check(::chown((root + "/small").c_str(), 70000, 80000), "chown"));
  TRY(check(::chmod((root + "/small").c_str(), 06755), "chmod"));
  TRY(put(root + "/renamed-before", 0, "moved"));
  return check(::rename((root + "/renamed-before").c_str(), (root + "/deep/renamed").c_str()), "rename");
}

Status make_attributes(const std::string &root) {
  for (const char *name : {"/small", "/many"}) {
    TRY(set_xattr(root + name, "user.short", "value"));
    TRY(set_xattr(root + name, "user.empty", ""));
    TRY(set_xattr(root + name, "trusted.longer", text(400, 5)));
  }
  TRY(set_xattr(root + "/large", "user.removed", "x"));
  TRY(check(::removexattr((root + "/large").c_str(), "user.removed"), "removexattr"));
  TRY(set_xattr(root + "/fast-link", "trusted.on-a-link", "x"));
  TRY(set_xattr(root + "/large", "system.posix_acl_access", acl()));
  TRY(set_xattr(root + "/deep", "system.posix_acl_default", acl()));
  TRY(put(root + "/deep/heir", 0, "has the directory's ACL"));
  return {};
}

}  // namespace

Status make_sample(const std::string &root, const SampleOptions &options) {
  TRY(make_directories(root));
  TRY(make_special(root, options.block_size));
  TRY(make_files(root, options.block_size));
  TRY(make_attributes(root));
  const timespec times[2] = {{1'234'567'890, 123'456'789},
                             {options.nanoseconds ? 4'000'000'000 : 1'000'000'000, 987'654'321}};
  return check(::utimensat(AT_FDCWD, (root + "/large").c_str(), times, 0), "utimensat");
}

namespace {

std::uint32_t contents_sum(const std::string &path, std::string &trouble) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) trouble += fmt::format(" open: {}", std::strerror(errno));
  std::uint32_t sum = ~0u;
  std::vector<char> data(1 << 20);
  ssize_t got = 0;
  while (fd && (got = ::read(fd.get(), data.data(), data.size())) > 0)
    sum = crc32c(sum, data.data(), static_cast<std::size_t>(got));
  if (got < 0) trouble += fmt::format(" read: {}", std::strerror(errno));
  return sum;
}

std::string xattrs_of(const std::string &path) {
  std::vector<char> names(65536), value(65536);
  const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  if (size < 0) return fmt::format(" listxattr: {}", std::strerror(errno));
  std::vector<std::string> all;
  for (const char *name = names.data(); name < names.data() + size; name += std::strlen(name) + 1) {
    const ssize_t length = ::lgetxattr(path.c_str(), name, value.data(), value.size());
    all.push_back(length < 0 ? fmt::format("{}: {}", name, std::strerror(errno))
                             : fmt::format("{}={}:{:08x}", name, length,
                                           crc32c(~0u, value.data(), static_cast<std::size_t>(length))));
  }
  std::sort(all.begin(), all.end());
  return fmt::format(" [{}]", fmt::join(all, " "));
}

// Calls `visit` with each path, the root first.
template <class Visit> void walk(const std::string &root, const Visit &visit) {
  visit(root, std::string("/"));
  std::error_code error;
  for (fs::recursive_directory_iterator entry(root, error), end; !error && entry != end; entry.increment(error))
    visit(entry->path().string(), "/" + entry->path().lexically_relative(root).string());
  if (error) visit(root, "unlistable: " + error.message());
}

}  // namespace

std::vector<std::string> snapshot(const std::string &root, const SampleOptions &options) {
  std::vector<std::string> lines;
  walk(root, [&](const std::string &path, const std::string &name) {
    struct stat s {};
    if (::lstat(path.c_str(), &s) != 0) {
      lines.push_back(fmt::format("{} {}", name, std::strerror(errno)));
      return;
    }
    std::string line =
        fmt::format("{} mode={:o} links={} uid={} gid={} rdev={:#x} changed={}.{:09}", name, s.st_mode, s.st_nlink,
                    s.st_uid, s.st_gid, s.st_rdev, s.st_mtim.tv_sec, options.nanoseconds ? s.st_mtim.tv_nsec : 0);
    if (!S_ISDIR(s.st_mode)) line += fmt::format(" size={}", s.st_size);
    if (S_ISREG(s.st_mode)) line += fmt::format(" crc={:08x}", contents_sum(path, line));
    std::error_code ignored;
    if (S_ISLNK(s.st_mode)) line += " -> " + fs::read_symlink(path, ignored).string();
    lines.push_back(line + xattrs_of(path));
  });
  std::sort(lines.begin(), lines.end());
  return lines;
}

std::string as_debugfs_dumps(const std::string &root) {
  std::vector<std::pair<std::string, std::string>> lines;
  walk(root, [&](const std::string &path, const std::string &name) {
    struct stat s {};
    if (::lstat(path.c_str(), &s) != 0) return;
    const char type = S_ISDIR(s.st_mode)    ? 'd'
                      : S_ISREG(s.st_mode)  ? '-'
                      : S_ISLNK(s.st_mode)  ? 'l'
                      : S_ISCHR(s.st_mode)  ? 'c'
                      : S_ISBLK(s.st_mode)  ? 'b'
                      : S_ISFIFO(s.st_mode) ? 'p'
                                            : 's';
    std::string line = fmt::format("{} {}{:04o} links={} uid={} gid={}", name, type, s.st_mode & 07777, s.st_nlink,
                                   s.st_uid, s.st_gid);
    std::string trouble;
    if (type == '-') line += fmt::format(" size={} crc={:08x}", s.st_size, contents_sum(path, trouble));
    std::error_code ignored;
    if (type == 'l') line += " -> " + fs::read_symlink(path, ignored).string();
    lines.emplace_back(name, line + trouble + "\n");
  });
  std::sort(lines.begin(), lines.end());
  std::string all;
  for (const auto &[name, line] : lines) all += line;
  return all;
}

}  // namespace outboard::tests

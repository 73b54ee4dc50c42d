// What is in a file system, seen through the library and through a mount.
#include "crash_explorer/tree.h"
#include "testing/image_builder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <vector>

namespace outboard::crash_explorer {

namespace {

constexpr std::uint64_t kLargest = std::uint64_t{8} << 20;  // no file of ours is larger

class Names final : public vfs::DirectorySink {
public:
  std::size_t room() const override { return std::size_t{1} << 30; }
  std::size_t cost(std::string_view name) const override { return name.size(); }
  bool add(const vfs::DirectoryEntry &entry, const vfs::Entry *) override {
    if (entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
    return true;
  }
  std::vector<std::string> names;
};

Kind kind_of(std::uint32_t mode) {
  return S_ISDIR(mode) ? Kind::directory : S_ISLNK(mode) ? Kind::symlink : Kind::file;
}

// What link counts must be, by the names that were found.
std::string wrong_links(const Tree &tree) {
  std::map<std::uint64_t, std::uint32_t> names;
  std::map<std::string, std::uint32_t> below;
  for (const auto &[path, node] : tree) {
    ++names[node.identity];
    const std::size_t slash = path.rfind('/');
    if (node.kind == Kind::directory && slash != std::string::npos) ++below[path.substr(0, slash)];
  }
  for (const auto &[path, node] : tree) {
    const std::uint32_t expected = node.kind == Kind::directory ? 2 + below[path] : names[node.identity];
    if (node.links != expected) return fmt::format("{} has {} links, and the names say {}", path, node.links, expected);
  }
  return {};
}

class LibraryLook {
public:
  LibraryLook(vfs::Filesystem &filesystem, Found &found) : filesystem_(filesystem), found_(found) {}

  Status directory(vfs::NodeId node, const std::string &prefix) {
    Names listed;
    TRY(filesystem_.read_directory(node, 0, false, listed));
    for (const std::string &name : listed.names) {
      if (prefix.empty() && name == "lost+found") continue;
      const vfs::Entry entry = TRY(filesystem_.lookup(node, name));
      Status looked = one(entry, prefix + name);
      filesystem_.forget(entry.node, 1);
      TRY(std::move(looked));
    }
    return {};
  }

private:
  Status one(const vfs::Entry &entry, const std::string &path) {
    Node node{.identity = entry.node,
              .kind = kind_of(entry.attributes.mode),
              .mode = entry.attributes.mode & 07777,
              .links = entry.attributes.links};
    if (found_.tree.size() > 10000) return fail(Error::corrupt("more names than any workload makes"));
    TRY(xattrs(entry.node, node));
    if (node.kind == Kind::symlink) node.target = TRY(filesystem_.read_link(entry.node));
    if (node.kind == Kind::file) {
      std::string &bytes = found_.contents[path];
      if (entry.attributes.size > kLargest) return fail(Error::corrupt("a file larger than any workload makes"));
      bytes.resize(entry.attributes.size);
      const std::size_t got = TRY(filesystem_.read(entry.node, 0, std::as_writable_bytes(std::span(bytes))));
      if (got != bytes.size()) found_.complaint = fmt::format("{}: size {}, but {} bytes", path, bytes.size(), got);
    }
    found_.tree[path] = node;
    return node.kind == Kind::directory ? directory(entry.node, path + "/") : Status{};
  }

  Status xattrs(vfs::NodeId inode, Node &node) {
    std::string names(TRY(filesystem_.list_xattrs(inode, {})), '\0');
    if (names.empty()) return {};
    names.resize(TRY(filesystem_.list_xattrs(inode, std::as_writable_bytes(std::span(names)))));
    for (std::size_t at = 0; at < names.size(); at += std::char_traits<char>::length(names.c_str() + at) + 1) {
      const std::string name = names.c_str() + at;
      std::string value(TRY(filesystem_.get_xattr(inode, name, {})), '\0');
      value.resize(TRY(filesystem_.get_xattr(inode, name, std::as_writable_bytes(std::span(value)))));
      node.xattrs[name] = value;
    }
    return {};
  }

  vfs::Filesystem &filesystem_;
  Found &found_;
};

Status mount_xattrs(const std::string &path, Node &node) {
  std::string names(65536, '\0');
  const ssize_t length = ::llistxattr(path.c_str(), names.data(), names.size());
  if (length < 0) return fail(Error::system(errno, "llistxattr"));
  names.resize(static_cast<std::size_t>(length));
  for (std::size_t at = 0; at < names.size(); at += std::char_traits<char>::length(names.c_str() + at) + 1) {
    const std::string name = names.c_str() + at;
    std::string value(65536, '\0');
    const ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (size < 0) return fail(Error::system(errno, "lgetxattr"));
    value.resize(static_cast<std::size_t>(size));
    node.xattrs[name] = value;
  }
  return {};
}

Status mount_directory(const std::string &root, const std::string &prefix, Found &found) {
  std::vector<std::string> names;
  DIR *directory = ::opendir((root + "/" + prefix).c_str());
  if (directory == nullptr) return fail(Error::system(errno, "opendir"));
  errno = 0;
  while (const dirent *entry = ::readdir(directory)) names.emplace_back(entry->d_name);
  const int broken = errno;
  ::closedir(directory);
  if (broken != 0) return fail(Error::system(broken, "readdir"));
  for (const std::string &name : names) {
    if (name == "." || name == ".." || (prefix.empty() && name == "lost+found")) continue;
    const std::string path = prefix + name, full = root + "/" + path;
    struct stat status {};
    if (::lstat(full.c_str(), &status) != 0) return fail(Error::system(errno, "lstat"));
    Node node{.identity = status.st_ino,
              .kind = kind_of(status.st_mode),
              .mode = status.st_mode & 07777,
              .links = static_cast<std::uint32_t>(status.st_nlink)};
    TRY(mount_xattrs(full, node));
    if (node.kind == Kind::symlink) {
      node.target.resize(4096);
      const ssize_t length = ::readlink(full.c_str(), node.target.data(), node.target.size());
      if (length < 0) return fail(Error::system(errno, "readlink"));
      node.target.resize(static_cast<std::size_t>(length));
    }
    if (node.kind == Kind::file) {
      found.contents[path] = TRY(testing::read_file(full));
      if (found.contents[path].size() != static_cast<std::uint64_t>(status.st_size))
        found.complaint = path + ": not as many bytes as its size says";
    }
    found.tree[path] = node;
    if (node.kind == Kind::directory) TRY(mount_directory(root, path + "/", found));
  }
  return {};
}

}  // namespace

Result<Found> look_at(vfs::Filesystem &filesystem) {
  Found found;
  found.free_inodes = TRY(filesystem.statistics()).free_inodes;
  TRY(LibraryLook(filesystem, found).directory(vfs::kRootNode, ""));
  if (found.complaint.empty()) found.complaint = wrong_links(found.tree);
  return found;
}

Result<Found> look_at(const std::string &mount) {
  Found found;
  TRY(mount_directory(mount, "", found));
  if (found.complaint.empty()) found.complaint = wrong_links(found.tree);
  return found;
}

}  // namespace outboard::crash_explorer

// cp SRC:PATH DEST: out of an image, without mounting it.
#include "base/unique_fd.h"
#include "service/node_path.h"
#include "service/source.h"
#include "tools/commands.h"
#include "tools/image_access.h"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <fmt/format.h>
#include <map>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace outboard::tools {

namespace {

struct CopyOptions {
  std::string from, destination;
  MountWords words;
  bool recursive = false, preserve = false;
};

class Copier {
public:
  Copier(vfs::Filesystem &filesystem, const CopyOptions &options) : fs_(filesystem), options_(options) {}

  Status copy(const vfs::Entry &entry, const std::string &to) {
    const vfs::Attributes &a = entry.attributes;
    if (!S_ISDIR(a.mode) && a.links > 1) {
      // Names of one file stay names of one file.
      auto [first, fresh] = linked_.emplace(a.inode, to);
      if (!fresh) {
        if (::link(first->second.c_str(), to.c_str()) == 0) return {};
        return host_error(to);
      }
    }
    switch (a.mode & S_IFMT) {
    case S_IFDIR: return copy_directory(entry, to);
    case S_IFREG: return copy_file(entry, to);
    case S_IFLNK: {
      const std::string target = TRY(fs_.read_link(entry.node));
      if (::symlink(target.c_str(), to.c_str()) != 0) return host_error(to);
      break;
    }
    default:
      if (::mknod(to.c_str(), a.mode, makedev(a.device_major, a.device_minor)) != 0) return host_error(to);
    }
    return keep_attributes(entry, to);
  }

private:
  Status copy_directory(const vfs::Entry &entry, const std::string &to) {
    if (!options_.recursive) return fail(Error::user(EISDIR, "a directory is copied with -r"));
    if (::mkdir(to.c_str(), 0700) != 0 && errno != EEXIST) return host_error(to);
    for (const ListedName &item : TRY(list_directory(fs_, entry.node))) {
      if (item.name == "." || item.name == "..") continue;
      // A name from the image becomes one path component of ours and nothing else.
      if (item.name.find('/') != std::string::npos) return fail(Error::corrupt("directory entry: name with a slash").of_inode(item.inode));
      service::NodeHold child(fs_, TRY(fs_.lookup(entry.node, item.name)));
      TRY(copy(*child, to + "/" + item.name));
    }
    if (!options_.preserve && ::chmod(to.c_str(), entry.attributes.mode & 0777u & ~umask_) != 0) return host_error(to);
    return keep_attributes(entry, to);
  }

  Status copy_file(const vfs::Entry &entry, const std::string &to) {
    UniqueFd out(::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, entry.attributes.mode & 0777u));
    if (!out) return host_error(to);
    const std::uint64_t size = entry.attributes.size;
    std::vector<std::byte> buffer(std::size_t{1} << 20);
    // Holes stay holes.
    for (std::uint64_t at = 0; at < size;) {
      Result<std::uint64_t> data = fs_.seek(entry.node, at, vfs::Seek::data);
      if (!data && data.error().is(ENXIO)) break;
      const std::uint64_t begin = TRY(data);
      const std::uint64_t end = TRY(fs_.seek(entry.node, begin, vfs::Seek::hole));
      for (at = begin; at < end;) {
        const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), end - at));
        const std::size_t got = TRY(fs_.read(entry.node, at, std::span(buffer).first(want)));
        if (got == 0) break;
        TRY(write_at(out.get(), at, std::span(buffer).first(got), to));
        at += got;
      }
      at = std::max(at, end);
    }
    if (::ftruncate(out.get(), static_cast<off_t>(size)) != 0) return host_error(to);
    out.reset();
    return keep_attributes(entry, to);
  }

  static Status write_at(int fd, std::uint64_t at, std::span<const std::byte> bytes, const std::string &to) {
    while (!bytes.empty()) {
      const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (put < 0) return host_error(to);
      bytes = bytes.subspan(static_cast<std::size_t>(put));
      at += static_cast<std::uint64_t>(put);
    }
    return {};
  }

  Status keep_attributes(const vfs::Entry &entry, const std::string &to) {
    if (!options_.preserve) return {};
    const vfs::Attributes &a = entry.attributes;
    if (::lchown(to.c_str(), a.uid, a.gid) != 0) return host_error(to);
    if (!S_ISLNK(a.mode) && ::chmod(to.c_str(), a.mode & 07777u) != 0) return host_error(to);
    TRY(keep_xattrs(entry, to));
    const auto spec = [](vfs::Timestamp t) { return timespec{.tv_sec = t.seconds, .tv_nsec = static_cast<long>(t.nanoseconds)}; };
    const std::array<timespec, 2> times = {spec(a.accessed), spec(a.modified)};
    if (::utimensat(AT_FDCWD, to.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0) return host_error(to);
    return {};
  }

  Status keep_xattrs(const vfs::Entry &entry, const std::string &to) {
    std::vector<std::byte> names(TRY(fs_.list_xattrs(entry.node, {})));
    if (names.empty()) return {};
    names.resize(TRY(fs_.list_xattrs(entry.node, names)));
    std::string_view rest(reinterpret_cast<const char *>(names.data()), names.size());
    while (!rest.empty()) {
      const std::string name(rest.substr(0, rest.find('\0')));
      rest.remove_prefix(std::min(rest.size(), name.size() + 1));
      std::vector<std::byte> value(TRY(fs_.get_xattr(entry.node, name, {})));
      if (!value.empty()) value.resize(TRY(fs_.get_xattr(entry.node, name, value)));
      if (::lsetxattr(to.c_str(), name.c_str(), value.data(), value.size(), 0) != 0) return host_error(to);
    }
    return {};
  }

  static std::unexpected<Error> host_error(const std::string &to) {
    const int code = errno;
    complain(fmt::format("{}: {}", to, std::strerror(code)));
    return fail(Error::user(code, "copying to the host"));
  }

  static mode_t current_umask() {
    const mode_t mask = ::umask(0);
    ::umask(mask);
    return mask;
  }

  vfs::Filesystem &fs_;
  const CopyOptions &options_;
  const mode_t umask_ = current_umask();
  std::map<std::uint64_t, std::string> linked_;
};

int copy(const CopyOptions &options) {
  const std::size_t colon = options.from.find(':');
  if (colon == std::string::npos || colon == 0) {
    complain(fmt::format("cp: '{}' is not SRC:PATH", options.from));
    return service::kExitUsage;
  }
  const std::string source = options.from.substr(0, colon);
  std::string path = options.from.substr(colon + 1);
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return with_image(source, options.words, [&](vfs::Filesystem &fs) -> Result<void> {
    service::NodeHold node = TRY(service::walk(fs, path, false));
    std::string to = options.destination;
    struct stat there {};
    const std::string name = path.substr(path.rfind('/') + 1);
    if (::stat(to.c_str(), &there) == 0 && S_ISDIR(there.st_mode) && !name.empty()) to += "/" + name;
    return Copier(fs, options).copy(*node, to);
  });
}

}  // namespace

void add_copy_command(CLI::App &app, Outcome &outcome) {
  auto options = std::make_shared<CopyOptions>();
  CLI::App *command = app.add_subcommand("cp", "Copy out of an image without mounting it");
  command->add_option("SRC:PATH", options->from, "Image and path inside it")->required();
  command->add_option("DEST", options->destination, "Where to, on this machine")->required();
  command->add_flag("-r,-R", options->recursive, "Directories with all they contain");
  command->add_flag("-p", options->preserve, "Keep modes, owners, times and extended attributes");
  options->words.add_to(*command);
  command->callback([options, &outcome] { outcome.exit_status = copy(*options); });
}

}  // namespace outboard::tools

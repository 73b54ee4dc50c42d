// ls, cat, stat: looking into an image that is not mounted.
#include "service/node_path.h"
#include "service/source.h"
#include "tools/commands.h"
#include "tools/image_access.h"

#include <cstdio>
#include <ctime>
#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

namespace outboard::tools {

std::string mode_string(std::uint32_t mode) {
  std::string text = "?rwxrwxrwx";
  switch (mode & S_IFMT) {
  case S_IFREG: text[0] = '-'; break;
  case S_IFDIR: text[0] = 'd'; break;
  case S_IFLNK: text[0] = 'l'; break;
  case S_IFCHR: text[0] = 'c'; break;
  case S_IFBLK: text[0] = 'b'; break;
  case S_IFIFO: text[0] = 'p'; break;
  case S_IFSOCK: text[0] = 's'; break;
  default: break;
  }
  for (unsigned bit = 0; bit < 9; ++bit)
    if ((mode & (0400u >> bit)) == 0) text[bit + 1] = '-';
  if ((mode & S_ISUID) != 0) text[3] = text[3] == 'x' ? 's' : 'S';
  if ((mode & S_ISGID) != 0) text[6] = text[6] == 'x' ? 's' : 'S';
  if ((mode & S_ISVTX) != 0) text[9] = text[9] == 'x' ? 't' : 'T';
  return text;
}

namespace {

std::string time_string(vfs::Timestamp time, bool nanoseconds) {
  const std::time_t seconds = time.seconds;
  std::tm broken{};
  localtime_r(&seconds, &broken);
  char text[64];
  std::strftime(text, sizeof text, nanoseconds ? "%Y-%m-%d %H:%M:%S" : "%Y-%m-%d %H:%M", &broken);
  if (!nanoseconds) return text;
  char zone[16];
  std::strftime(zone, sizeof zone, "%z", &broken);
  return fmt::format("{}.{:09} {}", text, time.nanoseconds, zone);
}

std::string long_line(vfs::Filesystem &fs, const vfs::Entry &entry, const std::string &name) {
  const vfs::Attributes &a = entry.attributes;
  const bool device = S_ISCHR(a.mode) || S_ISBLK(a.mode);
  std::string line = fmt::format("{} {:>3} {:>5} {:>5} {:>10} {} {}", mode_string(a.mode), a.links, a.uid, a.gid,
                                 device ? fmt::format("{}, {}", a.device_major, a.device_minor) : fmt::format("{}", a.size),
                                 time_string(a.modified, false), name);
  if (S_ISLNK(a.mode))
    if (auto target = fs.read_link(entry.node)) line += " -> " + *target;
  return line;
}

struct ListOptions {
  std::string source, path = "/";
  MountWords words;
  bool long_form = false, all = false, itself = false;
};

int list(const ListOptions &options) {
  return with_image(options.source, options.words, [&](vfs::Filesystem &fs) -> Result<void> {
    service::NodeHold node = TRY(service::walk(fs, options.path, !options.itself));
    if (!S_ISDIR(node->attributes.mode) || options.itself) {
      std::puts((options.long_form ? long_line(fs, *node, options.path) : options.path).c_str());
      return {};
    }
    std::vector<ListedName> names = TRY(list_directory(fs, node->node));
    for (const ListedName &item : names) {
      if (item.name.starts_with('.') && !options.all) continue;
      if (!options.long_form) {
        std::puts(item.name.c_str());
        continue;
      }
      service::NodeHold child(fs, TRY(fs.lookup(node->node, item.name)));
      std::puts(long_line(fs, *child, item.name).c_str());
    }
    return {};
  });
}

struct CatOptions {
  std::string source;
  std::vector<std::string> paths;
  MountWords words;
};

int cat(const CatOptions &options) {
  return with_image(options.source, options.words, [&](vfs::Filesystem &fs) -> Result<void> {
    for (const std::string &path : options.paths) {
      service::NodeHold node = TRY(service::walk(fs, path, true));
      TRY(read_whole(fs, node->node, [](std::span<const std::byte> bytes) -> Status {
        if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) return fail(Error::system(errno, "standard output"));
        return {};
      }));
    }
    if (std::fflush(stdout) != 0) return fail(Error::system(errno, "standard output"));
    return {};
  });
}

struct StatOptions {
  std::string source, path;
  MountWords words;
  bool follow = false;
};

int stat_one(const StatOptions &options) {
  return with_image(options.source, options.words, [&](vfs::Filesystem &fs) -> Result<void> {
    service::NodeHold node = TRY(service::walk(fs, options.path, options.follow));
    const vfs::Attributes &a = node->attributes;
    fmt::print("  File: {}", options.path);
    if (S_ISLNK(a.mode)) fmt::print(" -> {}", TRY(fs.read_link(node->node)));
    fmt::print("\n  Size: {:<12} Sectors: {:<10} Block size: {}\n", a.size, a.sectors, a.block_size);
    fmt::print(" Inode: {:<12} Links: {:<12} Generation: {}", a.inode, a.links, node->generation);
    if (S_ISCHR(a.mode) || S_ISBLK(a.mode)) fmt::print("  Device: {},{}", a.device_major, a.device_minor);
    fmt::print("\nAccess: ({:04o}/{})  Uid: {}  Gid: {}\n", a.mode & 07777u, mode_string(a.mode), a.uid, a.gid);
    fmt::print("Access: {}\nModify: {}\nChange: {}\n Birth: {}\n", time_string(a.accessed, true), time_string(a.modified, true),
               time_string(a.changed, true), time_string(a.born, true));
    const std::size_t size = TRY(fs.list_xattrs(node->node, {}));
    if (size > 0) {
      std::vector<std::byte> names(size);
      const std::size_t got = TRY(fs.list_xattrs(node->node, names));
      std::string_view rest(reinterpret_cast<const char *>(names.data()), got);
      while (!rest.empty()) {
        const std::string_view name = rest.substr(0, rest.find('\0'));
        fmt::print(" Xattr: {}\n", name);
        rest.remove_prefix(std::min(rest.size(), name.size() + 1));
      }
    }
    return {};
  });
}

}  // namespace

void add_reading_commands(CLI::App &app, Outcome &outcome) {
  {
    auto options = std::make_shared<ListOptions>();
    CLI::App *command = app.add_subcommand("ls", "List a directory of an image without mounting it");
    command->add_option("SRC", options->source, "Image file or block device")->required();
    command->add_option("PATH", options->path, "Path inside the image")->capture_default_str();
    command->add_flag("-l", options->long_form, "Modes, owners, sizes, times");
    command->add_flag("-a", options->all, "Names that begin with a dot too");
    command->add_flag("-d", options->itself, "The path itself, not what it contains");
    options->words.add_to(*command);
    command->callback([options, &outcome] { outcome.exit_status = list(*options); });
  }
  {
    auto options = std::make_shared<CatOptions>();
    CLI::App *command = app.add_subcommand("cat", "Write files of an image to standard output without mounting it");
    command->add_option("SRC", options->source, "Image file or block device")->required();
    command->add_option("PATH", options->paths, "Files inside the image")->required();
    options->words.add_to(*command);
    command->callback([options, &outcome] { outcome.exit_status = cat(*options); });
  }
  {
    auto options = std::make_shared<StatOptions>();
    CLI::App *command = app.add_subcommand("stat", "Show an inode of an image without mounting it");
    command->add_option("SRC", options->source, "Image file or block device")->required();
    command->add_option("PATH", options->path, "Path inside the image")->required();
    command->add_flag("-L", options->follow, "Follow a symbolic link at the end");
    options->words.add_to(*command);
    command->callback([options, &outcome] { outcome.exit_status = stat_one(*options); });
  }
}

}  // namespace outboard::tools

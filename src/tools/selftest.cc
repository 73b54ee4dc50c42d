// selftest IMAGE DIR: the main job without a mount, through the library: a child process copies DIR into the image, makes that
// durable, goes on writing and is killed; then the journal is replayed and everything compared.
#include "base/unique_fd.h"
#include "service/node_path.h"
#include "service/source.h"
#include "tools/commands.h"
#include "tools/image_access.h"

#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace outboard::tools {

namespace {

namespace fs = std::filesystem;

std::vector<std::byte> contents_of(const fs::path &path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<std::byte> bytes(fs::file_size(path));
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t got = ::read(fd.get(), bytes.data() + done, bytes.size() - done);
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

Status copy_in(vfs::Filesystem &filesystem, vfs::NodeId parent, const fs::path &from) {
  for (const fs::directory_entry &item : fs::directory_iterator(from)) {
    const std::string name = item.path().filename();
    if (item.is_directory() && !item.is_symlink()) {
      service::NodeHold made(filesystem, TRY(filesystem.make_directory(parent, name, 0755, {})));
      TRY(copy_in(filesystem, made->node, item.path()));
    } else if (item.is_regular_file() && !item.is_symlink()) {
      service::NodeHold made(filesystem, TRY(filesystem.make_node(parent, name, S_IFREG | 0644, 0, {})));
      const std::vector<std::byte> bytes = contents_of(item.path());
      TRY(filesystem.write(made->node, 0, bytes, {}));
    }
  }
  return {};
}

// How many files were compared.
Result<unsigned> compare(vfs::Filesystem &filesystem, const std::string &path, const fs::path &with) {
  unsigned files = 0;
  for (const fs::directory_entry &item : fs::directory_iterator(with)) {
    const std::string inside = path + "/" + item.path().filename().string();
    if (item.is_directory() && !item.is_symlink()) {
      files += TRY(compare(filesystem, inside, item.path()));
    } else if (item.is_regular_file() && !item.is_symlink()) {
      service::NodeHold found = TRY(service::walk(filesystem, inside, false));
      std::vector<std::byte> bytes;
      TRY(read_whole(filesystem, found->node, [&](std::span<const std::byte> piece) -> Status {
        bytes.insert(bytes.end(), piece.begin(), piece.end());
        return {};
      }));
      if (bytes != contents_of(item.path())) return fail(Error::corrupt("a file came back different").of_inode(found->attributes.inode));
      ++files;
    }
  }
  return files;
}

int with_volume(const std::string &image, const std::function<Status(vfs::MountedVolume &)> &work) {
  const service::MountOptions options;
  auto source = service::open_source(image, options, false, false);
  auto volume = source ? service::open_volume(*source, options) : std::unexpected(source.error());
  if (!volume) {
    complain(volume.error().text);
    return volume.error().exit_status;
  }
  Status done = work(**volume);
  if (!done) complain(fmt::format("{}: {}", image, done.error().message()));
  return done ? 0 : service::kExitSystem;
}

// Never returns an unmounted volume: it is killed at work.
[[noreturn]] void write_and_die(const std::string &image, const std::string &directory) {
  const int status = with_volume(image, [&](vfs::MountedVolume &volume) -> Status {
    TRY(copy_in(volume, vfs::kRootNode, directory));
    TRY(volume.sync_all());
    fmt::print("   copied {} in and synced; writing on\n", directory);
    std::fflush(stdout);
    for (unsigned i = 0;; ++i) {
      if (i == 500) ::kill(::getpid(), SIGKILL);
      TRY(volume.make_node(vfs::kRootNode, fmt::format("unsynced-{}", i), S_IFREG | 0644, 0, {}));
    }
  });
  ::_exit(status);
}

int selftest(const std::string &image, const std::string &directory) {
  const pid_t child = ::fork();
  if (child == 0) write_and_die(image, directory);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSIGNALED(status)) return WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : service::kExitSystem;
  fmt::print("   the writer was killed; opening the image again\n");
  return with_volume(image, [&](vfs::MountedVolume &volume) -> Status {
    const unsigned files = TRY(compare(volume, "", directory));
    fmt::print("   journal replayed; {} files are what was synced, byte for byte\n", files);
    return volume.unmount();
  });
}

}  // namespace

void add_selftest_command(CLI::App &app, Outcome &outcome) {
  auto places = std::make_shared<std::pair<std::string, std::string>>();
  CLI::App *command = app.add_subcommand(
      "selftest", "Copy a directory into a fresh image without mounting it, kill the writer, replay the journal, compare");
  command->add_option("IMAGE", places->first, "A new, empty image: it is written to")->required();
  command->add_option("DIR", places->second, "What to copy in")->required()->check(CLI::ExistingDirectory);
  command->callback([places, &outcome] { outcome.exit_status = selftest(places->first, places->second); });
}

}  // namespace outboard::tools

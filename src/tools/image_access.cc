#include "tools/image_access.h"

#include "service/source.h"
#include "tools/commands.h"

#include <algorithm>
#include <fmt/format.h>

namespace outboard::tools {

void MountWords::add_to(CLI::App &command) {
  command.add_option("-o", lists, "Mount options that matter here: offset=, sizelimit=, noload, journal_path=")->type_name("OPTIONS");
}

int with_image(const std::string &source, const MountWords &words, const std::function<Result<void>(vfs::MountedVolume &)> &work) {
  service::MountOptions options;
  options.volume.volume.read_only = true;
  for (const std::string &list : words.lists) {
    if (auto parsed = service::parse_mount_options(list, options); !parsed) {
      complain(parsed.error());
      return service::kExitUsage;
    }
  }
  options.volume.volume.read_only = true;
  options.volume.atime = vfs::AtimePolicy::never;
  auto opened = service::open_source(source, options, false, true);
  if (!opened) {
    complain(opened.error().text);
    return opened.error().exit_status;
  }
  auto volume = service::open_volume(*opened, options);
  if (!volume) {
    complain(volume.error().text);
    return volume.error().exit_status;
  }
  Result<void> done = work(**volume);
  if (!done) complain(fmt::format("{}: {}", source, done.error().message()));
  if (Status closed = (*volume)->unmount(); !closed && done) {
    complain(fmt::format("{}: {}", source, closed.error().message()));
    return service::kExitSystem;
  }
  return done ? 0 : service::kExitSystem;
}

namespace {
// Takes everything; readdir has no buffer to fill here.
class Collector final : public vfs::DirectorySink {
public:
  static constexpr std::size_t kBatch = 1 << 16;
  std::size_t room() const override { return kBatch; }
  std::size_t cost(std::string_view name) const override { return name.size() + 24; }
  bool add(const vfs::DirectoryEntry &entry, const vfs::Entry *) override {
    names.push_back({std::string(entry.name), entry.inode, entry.type});
    next = entry.next;
    return true;
  }
  std::vector<ListedName> names;
  std::uint64_t next = 0;
};
}  // namespace

Result<std::vector<ListedName>> list_directory(vfs::Filesystem &filesystem, vfs::NodeId node) {
  Collector collector;
  for (;;) {
    const std::size_t before = collector.names.size();
    TRY(filesystem.read_directory(node, collector.next, false, collector));
    if (collector.names.size() == before) break;
  }
  std::sort(collector.names.begin(), collector.names.end(),
            [](const ListedName &a, const ListedName &b) { return a.name < b.name; });
  return std::move(collector.names);
}

Status read_whole(vfs::Filesystem &filesystem, vfs::NodeId node, const std::function<Status(std::span<const std::byte>)> &take) {
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  for (std::uint64_t offset = 0;;) {
    const std::size_t got = TRY(filesystem.read(node, offset, buffer));
    if (got == 0) return {};
    TRY(take(std::span(buffer).first(got)));
    offset += got;
  }
}

}  // namespace outboard::tools

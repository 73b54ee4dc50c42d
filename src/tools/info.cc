// info SRC: what a file system is, without mounting it; info --extents SRC PATH: where its files are.
#include "ext4/format/features.h"
#include "ext4/format/superblock.h"
#include "service/release.h"
#include "service/source.h"
#include "tools/commands.h"
#include "tools/extents.h"
#include "tools/image_access.h"
#include "vfs/mounted_volume.h"

#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fmt/format.h>

namespace outboard::tools {

namespace {

namespace format = ext4::format;

std::string size_string(std::uint64_t bytes) {
  constexpr const char *kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string uuid_string(const std::array<std::byte, 16> &uuid) {
  std::string text;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", std::to_integer<unsigned>(uuid[i]));
  }
  return text;
}

std::string time_string(std::int64_t seconds) {
  if (seconds == 0) return "never";
  const std::time_t time = seconds;
  std::tm broken{};
  localtime_r(&time, &broken);
  char text[64];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z", &broken);
  return text;
}

const char *kind_of(const format::Superblock &sb) {
  if (sb.has(format::Incompat::extents) || sb.has(format::Incompat::bit64) || sb.has(format::Incompat::flex_bg)) return "ext4";
  return sb.has(format::Compat::has_journal) ? "ext3" : "ext2";
}

std::string state_of(const format::Superblock &sb) {
  std::string text = (sb.state & format::kStateClean) != 0 ? "clean" : "not cleanly unmounted";
  if (sb.has(format::Incompat::recover)) text = "the journal needs to be replayed (a mount does that)";
  if ((sb.state & format::kStateErrors) != 0) text += fmt::format(", with {} errors recorded: run e2fsck", sb.error_count);
  if (sb.last_orphan) text += ", with orphans to delete";
  return text;
}

void line(const char *name, const std::string &value) { fmt::print("{:<14}{}\n", name, value); }

void show(const service::MountReport &mount) {
  line("mount", mount.target);
  line("source", mount.source);
  line("type", mount.type + (mount.read_only ? ", read-only" : ", read-write"));
  line("server", fmt::format("process {}", mount.server_pid));
  fmt::print("requests since the mount\n");
  std::uint64_t sum = 0;
  for (const service::RequestCount &count : mount.requests) {
    fmt::print("  {:<16}{:>14}\n", count.operation, count.received);
    sum += count.received;
  }
  fmt::print("  {:<16}{:>14}\n", "in all", sum);
}

void show(const std::string &source, const format::Superblock &sb) {
  line("source", source);
  line("type", kind_of(sb));
  line("label", sb.label.empty() ? "(none)" : sb.label);
  line("uuid", uuid_string(sb.uuid));
  line("state", state_of(sb));
  line("size", fmt::format("{} in blocks of {}", size_string(sb.blocks_count * sb.block_size), sb.block_size));
  line("free", fmt::format("{} ({} kept for root)", size_string(sb.free_blocks * sb.block_size),
                           size_string(sb.reserved_blocks * sb.block_size)));
  line("inodes", fmt::format("{} of {} bytes, {} free", sb.inodes_count, sb.inode_size, sb.free_inodes));
  line("groups", fmt::format("{} of {} blocks", sb.group_count, sb.blocks_per_group));
  line("features", format::feature_names(sb.features));
  line("made", time_string(sb.mkfs_time));
  line("last mounted", fmt::format("{}{}", time_string(sb.mount_time), sb.last_mounted.empty() ? "" : " on " + sb.last_mounted));
  const std::string no_mount = format::unsupported_incompat(sb.features);
  const std::string no_write = format::unsupported_ro_compat(sb.features);
  if (!no_mount.empty()) line("mounts", "no: features not supported: " + no_mount);
  else if (!no_write.empty()) line("mounts", "read-only: features not supported for writing: " + no_write);
  else line("mounts", "read-write");
}

struct InfoOptions {
  std::string source, path;
  bool extents = false;
  MountWords words;
};

int mount_info(const std::string &directory) {
  const auto report = service::describe_mount(directory);
  if (!report) {
    complain(report.error().text);
    return report.error().exit_status;
  }
  show(*report);
  return 0;
}

int info(const InfoOptions &chosen) {
  if (chosen.extents) return show_extents(chosen.source, chosen.path.empty() ? "/" : chosen.path, chosen.words);
  std::error_code ignored;
  if (std::filesystem::is_directory(chosen.source, ignored)) return mount_info(chosen.source);
  if (!chosen.path.empty()) {
    complain("info: a path inside the image goes with --extents");
    return service::kExitUsage;
  }
  service::MountOptions options;
  for (const std::string &list : chosen.words.lists) {
    if (auto parsed = service::parse_mount_options(list, options); !parsed) {
      complain(parsed.error());
      return service::kExitUsage;
    }
  }
  // Looking at the superblock claims nothing: it works on what is mounted, too.
  auto superblock = service::read_superblock(chosen.source, options);
  if (!superblock) {
    complain(superblock.error().text);
    return superblock.error().exit_status;
  }
  show(chosen.source, *superblock);
  return 0;
}

}  // namespace

void add_info_command(CLI::App &app, Outcome &outcome) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App *command = app.add_subcommand("info", "Show what a file system is: size, state, features; of a mount: its server and what it has been asked for");
  command->add_option("SRC", options->source, "Image file or block device, or a directory in a mount")->required();
  command->add_option("PATH", options->path, "With --extents: a file, or a directory for all files below it (default /)");
  command->add_flag("--extents", options->extents, "List where the blocks of files are, and count the extents");
  options->words.add_to(*command);
  command->callback([options, &outcome] { outcome.exit_status = info(*options); });
}

}  // namespace outboard::tools

// What the commands that work without a mount share: opening read-only (a dirty journal is replayed in memory, the image
// stays untouched), listing, reading.
#pragma once

#include "service/mount_options.h"
#include "vfs/mounted_volume.h"

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace outboard::tools {

// -o as the mount command has it.
struct MountWords {
  std::vector<std::string> lists;
  void add_to(CLI::App &command);
};

// Opens SRC read-only, calls `work`, and turns any failure into one line and an exit status.
int with_image(const std::string &source, const MountWords &words, const std::function<Result<void>(vfs::MountedVolume &)> &work);

struct ListedName {
  std::string name;
  std::uint64_t inode = 0;
  std::uint8_t type = 0;
};
// Sorted by name, with "." and "..".
Result<std::vector<ListedName>> list_directory(vfs::Filesystem &filesystem, vfs::NodeId node);

// The whole file, in pieces.
Status read_whole(vfs::Filesystem &filesystem, vfs::NodeId node, const std::function<Status(std::span<const std::byte>)> &take);

std::string mode_string(std::uint32_t mode);

}  // namespace outboard::tools

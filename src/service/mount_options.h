// What comes after -o: ext4's names where ext4 has one, and mount(8)'s generic ones.
#pragma once

#include "base/result.h"
#include "vfs/mounted_volume.h"

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace outboard::service {

struct MountOptions {
  vfs::MountedVolumeOptions volume;
  std::uint64_t offset = 0;                  // bytes into the file or device where the file system starts
  std::optional<std::uint64_t> size_limit;   // bytes of it that belong to the file system
  bool direct_io = true;                     // below us: O_DIRECT on the image
  std::string journal_path;                  // of an external journal
  std::chrono::milliseconds io_timeout{30000};  // of a device request; 0: none
  unsigned threads = 0;                      // 0: as many as suit the machine
  bool writeback_cache = true;
  // Passed to the kernel's mount.
  bool no_suid = false, no_dev = false, no_exec = false, no_atime = false, synchronous = false, dir_sync = false;
  std::optional<bool> allow_other;           // default: as root yes
  bool plain = false;                        // a plain fuse mount even where fuseblk would be possible
};

// Adds one comma-separated list. A word nobody knows is an error whose text names it.
std::expected<void, std::string> parse_mount_options(std::string_view list, MountOptions &options);

// Name and meaning of each option, for --help and the manual page.
struct OptionHelp {
  const char *name;
  const char *meaning;
};
const std::vector<OptionHelp> &mount_option_help();

// "512", "4k", "1M", "2GiB" (powers of 1024).
std::optional<std::uint64_t> parse_size(std::string_view text);

}  // namespace outboard::service

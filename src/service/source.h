// Opening what a person named as SRC: the image file or block device, its journal device, and plain words when it is
// not what it should be.
#pragma once

#include "device/deadline_device.h"
#include "device/file_device.h"
#include "device/overlay_device.h"
#include "service/mount_options.h"

#include <memory>
#include <string>

namespace outboard::service {

// Why a command failed, for people, and with which status it exits.
struct Failure {
  int exit_status = 1;
  std::string text;
};
template <class T> using Outcome = std::expected<T, Failure>;
inline std::unexpected<Failure> failure(int exit_status, std::string text) {
  return std::unexpected(Failure{exit_status, std::move(text)});
}
inline constexpr int kExitUsage = 1;
inline constexpr int kExitSystem = 2;
inline constexpr int kExitMount = 32;  // as mount(8): the mount failed

struct Source {
  std::string path;  // canonical
  bool is_block_device = false;
  // Shared with requests that their device has not ended when all else is gone.
  std::shared_ptr<device::FileDevice> file;
  std::shared_ptr<device::FileDevice> journal_file;
  std::unique_ptr<device::DeadlineDevice> timed, timed_journal;  // over them; none with io_timeout=0
  std::unique_ptr<device::OverlayDevice> overlay;  // read-only use: what the journal's replay writes stays in memory

  // What the volume works on.
  device::BlockDevice &device() const {
    if (overlay) return *overlay;
    return timed ? static_cast<device::BlockDevice &>(*timed) : *file;
  }
  device::BlockDevice *journal_device() const {
    return timed_journal ? static_cast<device::BlockDevice *>(timed_journal.get()) : journal_file.get();
  }
};

// Opens and claims. `kernel_claims`: the source is about to be mounted as fuseblk, whose mount is the claim.
// `overlay`: wrap it so that a read-only user can replay a dirty journal in memory.
Outcome<Source> open_source(const std::string &path, const MountOptions &options, bool kernel_claims, bool overlay);

// The superblock alone, nothing claimed: of what may be in use by others.
Outcome<ext4::format::Superblock> read_superblock(const std::string &path, const MountOptions &options);

// A volume on it. Refusals and "this is not ext4 but ..." become a Failure with exit status 32.
Outcome<std::unique_ptr<vfs::MountedVolume>> open_volume(const Source &source, const MountOptions &options);

}  // namespace outboard::service

#include "testing/kernel_mount.h"

#include "base/log.h"
#include "testing/command.h"

#include <sys/stat.h>
#include <unistd.h>

namespace outboard::testing {

std::string why_no_kernel_mounts() {
  if (::geteuid() != 0) return "kernel mounts: not root";
  if (::access("/dev/loop-control", R_OK | W_OK) != 0) return "kernel mounts: no loop devices";
  const Result<CommandResult> listed = run_command({"grep", "-qw", "ext4", "/proc/filesystems"});
  if (!listed || listed->exit != 0) return "kernel mounts: the kernel has no ext4";
  return {};
}

Result<std::unique_ptr<KernelMount>> KernelMount::mount(const std::string &image, const std::string &directory,
                                                        const std::string &options) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return fail(Error::system(errno, "mount point"));
  const std::string all = options.empty() ? "loop" : "loop," + options;
  const CommandResult result = TRY(run_command({"mount", "-t", "ext4", "-o", all, image, directory}));
  if (result.exit != 0) {
    log(LogLevel::error, "mount {}: {}", image, result.err);
    return fail(Error::user(EINVAL, "the kernel does not mount the image"));
  }
  return std::unique_ptr<KernelMount>(new KernelMount(directory));
}

Status KernelMount::unmount() {
  if (!mounted_) return {};
  const CommandResult result = TRY(run_command({"umount", directory_}));
  if (result.exit != 0) {
    log(LogLevel::error, "umount {}: {}", directory_, result.err);
    return fail(Error::user(EBUSY, "the image does not unmount"));
  }
  mounted_ = false;
  return {};
}

KernelMount::~KernelMount() {
  if (mounted_ && !unmount()) {
    // A failed test may have left a file open; the image must not stay mounted after it.
    [[maybe_unused]] const Result<CommandResult> lazy = run_command({"umount", "-l", directory_});
  }
}

}  // namespace outboard::testing

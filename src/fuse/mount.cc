#include "fuse/mount.h"

#include "fuse/channel.h"
#include "fuse/fusermount.h"

#include <climits>
#include <cstdlib>
#include <fcntl.h>
#include <fmt/format.h>
#include <memory>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace outboard::fuse {

namespace {

Result<std::string> canonical_directory(const std::string &path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
  if (!real) return fail(Error::system(errno, "mount point"));
  struct stat status;
  if (::stat(real.get(), &status) != 0) return fail(Error::system(errno, "mount point"));
  if (!S_ISDIR(status.st_mode)) return fail(Error::system(ENOTDIR, "mount point"));
  return std::string(real.get());
}

unsigned long mount_flags(const MountRequest &request) {
  unsigned long flags = 0;
  const auto set = [&flags](bool wanted, unsigned long flag) { flags |= wanted ? flag : 0; };
  set(request.read_only, MS_RDONLY);
  set(request.nosuid, MS_NOSUID);
  set(request.nodev, MS_NODEV);
  set(request.noexec, MS_NOEXEC);
  set(request.noatime, MS_NOATIME);
  set(request.nodiratime, MS_NODIRATIME);
  set(request.strictatime, MS_STRICTATIME);
  set(request.synchronous, MS_SYNCHRONOUS);
  set(request.dirsync, MS_DIRSYNC);
  return flags;
}

const char *reason(int code) {
  switch (code) {
  case ENODEV: return "mount: the kernel has no FUSE (fuseblk)";
  case ENOTBLK: return "mount: the source is not a block device";
  case EBUSY: return "mount: the source or the mount point is in use";
  case EINVAL: return "mount: the kernel refused an option";
  default: return "mount";
  }
}

Result<UniqueFd> mount_directly(const MountRequest &request, const std::string &target) {
  UniqueFd descriptor = TRY(Channel::open_device());
  std::string options = fmt::format("fd={},rootmode={:o},user_id={},group_id={}", descriptor.get(),
                                    static_cast<unsigned>(S_IFDIR), ::getuid(), ::getgid());
  if (request.default_permissions) options += ",default_permissions";
  if (request.allow_other) options += ",allow_other";
  if (request.block_device) options += fmt::format(",blksize={}", request.block_size);
  const std::string type = (request.block_device ? "fuseblk." : "fuse.") + request.subtype;
  if (::mount(request.source.c_str(), target.c_str(), type.c_str(), mount_flags(request), options.c_str()) != 0)
    return fail(Error::system(errno, reason(errno)));
  return descriptor;
}

bool is_refusal(const Error &error) { return error.is(EPERM) || error.is(EACCES); }

}  // namespace

Result<Mounted> mount(const MountRequest &request, std::string *explanation) {
  const std::string target = TRY(canonical_directory(request.target));
  Result<UniqueFd> direct = mount_directly(request, target);
  if (direct) return Mounted{*std::move(direct), target, false};
  if (!is_refusal(direct.error()) || request.block_device) return fail(std::move(direct).error());
  return Mounted{TRY(fusermount::mount(request, target, explanation)), target, true};
}

Status unmount(const std::string &target, bool lazy, std::string *explanation) {
  if (::umount2(target.c_str(), (lazy ? MNT_DETACH : 0) | UMOUNT_NOFOLLOW) == 0) return {};
  if (errno != EPERM) return fail(Error::system(errno, "unmount"));
  return fusermount::unmount(target, lazy, explanation);
}

namespace {

Status write_setting(const std::string &path, std::string_view value, const char *what) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return fail(Error::system(errno, what));
  if (::write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
    return fail(Error::system(errno, what));
  return {};
}

}  // namespace

Status raise_read_ahead(const MountTableEntry &mount, std::uint32_t kibibytes) {
  // The kernel marks the backing device of fuseblk, whose number is also that of the disk's own.
  const char *suffix = mount.type.starts_with("fuseblk") ? "-fuseblk" : "";
  return write_setting(
      fmt::format("/sys/class/bdi/{}:{}{}/read_ahead_kb", mount.device_major, mount.device_minor, suffix),
      fmt::format("{}", kibibytes), "read-ahead of the mount");
}

Status abort_connection(const MountTableEntry &mount) {
  // Connections are named by the kernel's own device number: 12 bits of major above 20 of minor.
  const std::uint32_t number = (mount.device_major << 20) | mount.device_minor;
  return write_setting(fmt::format("/sys/fs/fuse/connections/{}/abort", number), "1", "aborting the connection");
}

}  // namespace outboard::fuse

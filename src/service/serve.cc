#include "service/serve.h"

#include "base/log.h"
#include "device/loop.h"
#include "ext4/format/features.h"
#include "service/connection_guard.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

namespace outboard::service {

namespace {

constexpr std::uint32_t kReadAheadKibibytes = 4096;

// fuseblk can be mounted by the machine's own root only.
bool may_mount_fuseblk() {
  if (::geteuid() != 0) return false;
  const UniqueFd map(::open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC));
  char text[64] = {};
  unsigned inside = 1, outside = 1, count = 0;
  return map && ::read(map.get(), text, sizeof text - 1) > 0 && std::sscanf(text, "%u %u %u", &inside, &outside, &count) == 3 &&
         inside == 0 && outside == 0 && count == ~0u;
}

// An image file gets a block device for the mount table and for nothing else.
std::optional<device::LoopDevice> loop_over(const Source &source, const MountOptions &options) {
  Result<device::LoopDevice> loop = device::LoopDevice::attach(source.file->fd(), {.offset = options.offset,
                                                                                   .size_limit = options.size_limit.value_or(0),
                                                                                   .read_only = options.volume.volume.read_only,
                                                                                   .shown_path = source.path});
  if (loop) return std::move(*loop);
  log(LogLevel::info, "no loop device for the mount table ({}): mounting as plain fuse, so sync(2) does not reach the disk",
      loop.error().message());
  return std::nullopt;
}

fuse::MountRequest request_for(const MountSpec &spec, const MountOptions &options) {
  fuse::MountRequest request;
  request.target = spec.target;
  request.read_only = options.volume.volume.read_only;
  request.allow_other = options.allow_other.value_or(::geteuid() == 0);
  request.nosuid = options.no_suid;
  request.nodev = options.no_dev;
  request.noexec = options.no_exec;
  request.noatime = options.no_atime;
  request.synchronous = options.synchronous;
  request.dirsync = options.dir_sync;
  return request;
}

struct Prepared {
  Source source;
  MountOptions options;
  fuse::Mounted mounted;
};

// Claimed and mounted; nothing of the volume has been used yet.
Outcome<Prepared> prepare(const MountSpec &spec) {
  Prepared prepared;
  MountOptions &options = prepared.options = spec.options;
  struct stat target {};
  if (::stat(spec.target.c_str(), &target) != 0) return failure(kExitMount, fmt::format("{}: {}", spec.target, std::strerror(errno)));
  if (!S_ISDIR(target.st_mode)) return failure(kExitMount, fmt::format("{}: not a directory", spec.target));
  struct stat s {};
  if (::stat(spec.source.c_str(), &s) != 0) return failure(kExitMount, fmt::format("{}: {}", spec.source, std::strerror(errno)));

  const bool fuseblk = !options.plain && may_mount_fuseblk();
  // A look at the superblock, claiming nothing: for words before anything is mounted.
  Outcome<ext4::format::Superblock> superblock = read_superblock(spec.source, options);
  if (!superblock) return std::unexpected(superblock.error());
  if (!options.volume.volume.read_only) {
    if (std::string features = ext4::format::unsupported_ro_compat(superblock->features); !features.empty()) {
      log(LogLevel::warning, "{}: mounted read-only: features not supported for writing: {}", spec.source, features);
      options.volume.volume.read_only = true;
    }
  }
  const ext4::VolumeOptions &volume = options.volume.volume;
  Outcome<Source> source = open_source(spec.source, options, fuseblk && S_ISBLK(s.st_mode), volume.read_only && !volume.no_recovery);
  if (!source) return std::unexpected(source.error());
  prepared.source = std::move(*source);

  fuse::MountRequest request = request_for(spec, options);
  request.source = prepared.source.path;
  request.block_size = std::min<std::uint32_t>(superblock->block_size, 4096);
  std::optional<device::LoopDevice> loop;
  if (fuseblk) {
    if (!prepared.source.is_block_device) loop = loop_over(prepared.source, options);
    if (loop) request.source = loop->path();
    request.block_device = prepared.source.is_block_device || loop;
  }
  std::string explanation;
  Result<fuse::Mounted> mounted = fuse::mount(request, &explanation);
  if (!mounted)
    return failure(kExitMount, fmt::format("{}: cannot mount: {}{}{}", spec.target, mounted.error().message(), explanation.empty() ? "" : ": ",
                                           explanation));
  prepared.mounted = std::move(*mounted);
  return prepared;
}

// What the kernel needs memory for on our behalf may not wait for pages that only we can write, nor are our writes held back for what
// others have made dirty. Threads inherit it. Only for the machine's root: everybody else does without.
void be_an_io_flusher() {
  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0 && errno != EPERM)
    log(LogLevel::warning, "the kernel does not know this process as one that writes dirty pages: {}", std::strerror(errno));
}

// Each thread that talks to the device has a descriptor for it, and there may be many threads that wait.
void allow_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) log(LogLevel::warning, "the limit of descriptors stays at its default: {}", std::strerror(errno));
}

// We ask for no time-out of the kernel's, since its end is the end of the whole connection. The administrator may impose one.
void log_imposed_timeout() {
  unsigned shortest = 0;
  for (const char *name : {"/proc/sys/fs/fuse/default_request_timeout", "/proc/sys/fs/fuse/max_request_timeout"}) {
    const UniqueFd setting(::open(name, O_RDONLY | O_CLOEXEC));
    char text[32] = {};
    unsigned seconds = 0;
    if (!setting || ::read(setting.get(), text, sizeof text - 1) <= 0 || std::sscanf(text, "%u", &seconds) != 1 || seconds == 0) continue;
    shortest = shortest == 0 ? seconds : std::min(shortest, seconds);
  }
  if (shortest != 0)
    log(LogLevel::warning, "the kernel aborts the whole mount when a request takes {} s (fs.fuse.*_request_timeout)", shortest);
}

// The mount is there and nobody will serve it.
void take_back(const std::string &target) {
  if (Status gone = fuse::unmount(target, true); !gone) log(LogLevel::warning, "{}: {}", target, gone.error().message());
}

void unmount_on_signal(const std::string &target, int signal) {
  log(LogLevel::info, "{}: signal {}: unmounting", target, signal);
  Status gone = fuse::unmount(target, false);
  if (!gone && gone.error().is(EBUSY)) {
    log(LogLevel::warning, "{}: in use; detached, and served until the last user has gone", target);
    gone = fuse::unmount(target, true);
  }
  if (!gone) log(LogLevel::error, "{}: {}", target, gone.error().message());
}

}  // namespace

Outcome<void> serve(const MountSpec &spec, const std::function<void()> &ready) {
  be_an_io_flusher();
  allow_descriptors();
  // Before any thread exists: all of them leave these signals to the watcher.
  SignalWatcher signals;
  Outcome<Prepared> prepared = prepare(spec);
  if (!prepared) return std::unexpected(prepared.error());
  const std::string target = prepared->mounted.target;
  if (Result<fuse::MountTableEntry> entry = fuse::find_mount(target)) start_connection_guard(*entry);
  log_imposed_timeout();
  Outcome<std::unique_ptr<vfs::MountedVolume>> volume = open_volume(prepared->source, prepared->options);
  if (!volume) {
    take_back(target);
    return std::unexpected(volume.error());
  }
  const fuse::SessionOptions session_options{.threads = prepared->options.threads,
                                             .writeback_cache = prepared->options.writeback_cache,
                                             .read_only = (*volume)->volume().read_only(),
                                             .owner_uid = ::getuid()};
  return serve_mounted(std::move(prepared->mounted), **volume, session_options, prepared->source.path, signals, ready);
}

Outcome<void> serve_mounted(fuse::Mounted mounted, vfs::Filesystem &filesystem, const fuse::SessionOptions &options,
                            const std::string &source, SignalWatcher &signals, const std::function<void()> &ready) {
  const std::string target = mounted.target;
  auto session = fuse::Session::create(std::move(mounted.descriptor), filesystem, options);
  Status negotiated = session ? (*session)->negotiate() : Status(fail(session.error()));
  if (!negotiated) {
    take_back(target);
    (void)filesystem.unmount();
    return failure(kExitMount, fmt::format("{}: {}", target, negotiated.error().message()));
  }
  if (Result<fuse::MountTableEntry> entry = fuse::find_mount(target)) (void)fuse::raise_read_ahead(*entry, kReadAheadKibibytes);
  signals.start([&target, &filesystem](int signal) {
    // What the kernel still has to write would wait for it.
    if (filesystem.thaw(0)) log(LogLevel::warning, "{}: was frozen: thawed", target);
    unmount_on_signal(target, signal);
  });
  ready();
  Status served = (*session)->serve();
  signals.stop();
  Status unmounted = (*session)->filesystem_unmounted() ? (*session)->unmount_result() : filesystem.unmount();
  if (!unmounted) {
    log(LogLevel::error, "{}: not unmounted cleanly: {}", source, unmounted.error().message());
    return failure(kExitSystem, fmt::format("{}: not unmounted cleanly: {}", source, unmounted.error().message()));
  }
  if (!served) return failure(kExitSystem, fmt::format("{}: {}", target, served.error().message()));
  return {};
}

namespace {

// The background process tells its parent how the mount went: one byte of status, then text.
void tell(int pipe, int status, const std::string &text) {
  std::string message(1, static_cast<char>(status));
  message += text;
  // A parent that has gone does not need to know.
  [[maybe_unused]] const ssize_t ignored = ::write(pipe, message.data(), message.size());
}

void go_quiet() {
  ::openlog("outboard", LOG_PID, LOG_DAEMON);
  set_log_sink([](LogLevel level, std::string_view line) {
    constexpr int kPriorities[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERR};
    ::syslog(kPriorities[static_cast<int>(level)], "%.*s", static_cast<int>(line.size()), line.data());
  });
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int standard = 0; standard <= 2; ++standard) ::dup2(null.get(), standard);
}

[[noreturn]] void run_in_background(const Server &server, UniqueFd pipe) {
  ::setsid();
  bool told = false;
  Outcome<void> served = server([&] {
    if (::chdir("/") != 0) log(LogLevel::warning, "chdir /: {}", std::strerror(errno));
    tell(pipe.get(), 0, "");
    pipe.reset();
    go_quiet();
    told = true;
  });
  if (!served && !told) tell(pipe.get(), served.error().exit_status, served.error().text);
  ::_exit(served ? 0 : served.error().exit_status);
}

}  // namespace

Outcome<void> in_background(const Server &server) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failure(kExitSystem, fmt::format("pipe: {}", std::strerror(errno)));
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return failure(kExitSystem, fmt::format("fork: {}", std::strerror(errno)));
  if (child == 0) {
    read_end.reset();
    run_in_background(server, std::move(write_end));
  }
  write_end.reset();
  std::string message;
  char piece[4096];
  // Ends when the mount is usable, or the child has said why not, or died.
  for (ssize_t got; (got = ::read(read_end.get(), piece, sizeof piece)) != 0;) {
    if (got > 0) message.append(piece, static_cast<std::size_t>(got));
    else if (errno != EINTR) break;
  }
  if (message.empty()) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return failure(kExitSystem, fmt::format("the server ended before the mount was usable (status {:#x})", status));
  }
  if (message[0] == 0) return {};
  return failure(message[0], message.substr(1));
}

Outcome<void> serve_in_background(const MountSpec &spec) {
  return in_background([&spec](const std::function<void()> &ready) { return serve(spec, ready); });
}

}  // namespace outboard::service

#include "service/source.h"

#include "base/log.h"
#include "device/claim.h"
#include "device/probe.h"

#include <climits>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

namespace outboard::service {

namespace {

namespace format = ext4::format;
constexpr std::uint64_t kSuperblockOffset = 1024;
constexpr std::size_t kSuperblockSize = 1024;

Failure because(const std::string &path, const Error &error) { return {kExitMount, fmt::format("{}: {}", path, error.message())}; }

Outcome<std::unique_ptr<device::FileDevice>> open_device(const std::string &path, const MountOptions &options, bool read_only,
                                                         device::ClaimMode mode, const std::shared_ptr<device::DeviceHealth> &health) {
  const device::OpenOptions open_options{.read_only = read_only,
                                         .offset = options.offset,
                                         .size_limit = options.size_limit,
                                         .direct_io = options.direct_io,
                                         .claim = false,
                                         .health = health};
  if (mode == device::ClaimMode::none) {
    auto opened = device::FileDevice::open(path, open_options);
    if (!opened) return std::unexpected(because(path, opened.error()));
    return std::move(*opened);
  }
  std::string refusal;
  Result<UniqueFd> fd = device::open_claimed(path, {.mode = mode,
                                                    .read_only = read_only,
                                                    .offset = options.offset,
                                                    .length = options.size_limit.value_or(0),
                                                    .own_loop = std::nullopt,
                                                    .refusal = &refusal});
  if (!fd && fd.error().is(EBUSY)) return failure(kExitMount, fmt::format("{}: already in use: {}", path, refusal));
  if (!fd) return std::unexpected(because(path, fd.error()));
  auto opened = device::FileDevice::adopt(std::move(*fd), open_options);
  if (!opened) return std::unexpected(because(path, opened.error()));
  return std::move(*opened);
}

std::shared_ptr<device::DeviceHealth> health_of_a_device(const MountOptions &options) {
  if (options.io_timeout.count() == 0) return nullptr;
  return std::make_shared<device::DeviceHealth>(options.io_timeout, device::DeadlineOptions{}.grace);
}

std::unique_ptr<device::DeadlineDevice> with_deadlines(const std::shared_ptr<device::FileDevice> &file,
                                                       const std::shared_ptr<device::DeviceHealth> &health) {
  if (!health || file->in_memory()) return nullptr;
  return std::make_unique<device::DeadlineDevice>(file, device::DeadlineOptions{}, health);
}

// One line on what the thing is, when it is not ext4.
std::string not_ext4(const std::string &path, device::BlockDevice &device) {
  const Result<device::Probe> probed = device::probe(device);
  if (!probed) return fmt::format("{}: not an ext4 file system", path);
  return fmt::format("{}: not an ext4 file system: {}", path, probed->message());
}

Outcome<format::Superblock> parse(const std::string &path, device::BlockDevice &device) {
  if (device.properties().size < kSuperblockOffset + kSuperblockSize)
    return failure(kExitMount, fmt::format("{}: not an ext4 file system: {} bytes are too few", path, device.properties().size));
  std::array<std::byte, kSuperblockSize> raw;
  if (Status read = device.read(kSuperblockOffset, raw); !read) return std::unexpected(because(path, read.error()));
  if (!format::looks_like_ext(raw)) return failure(kExitMount, not_ext4(path, device));
  auto superblock = format::parse_superblock(raw);
  if (!superblock) return std::unexpected(because(path, superblock.error()));
  return *superblock;
}

}  // namespace

Outcome<Source> open_source(const std::string &path, const MountOptions &options, bool kernel_claims, bool overlay) {
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) return failure(kExitMount, fmt::format("{}: {}", path, std::strerror(errno)));
  Source source;
  source.path = resolved;
  struct stat s {};
  if (::stat(resolved, &s) != 0) return failure(kExitMount, fmt::format("{}: {}", path, std::strerror(errno)));
  source.is_block_device = S_ISBLK(s.st_mode);
  const bool read_only = options.volume.volume.read_only;
  const auto health = health_of_a_device(options);
  auto file = open_device(path, options, read_only,
                          kernel_claims ? device::ClaimMode::test_then_share : device::ClaimMode::exclusive, health);
  if (!file) return std::unexpected(file.error());
  source.file = std::move(*file);
  source.timed = with_deadlines(source.file, health);
  if (!options.journal_path.empty()) {
    MountOptions journal_options;
    journal_options.direct_io = options.direct_io;
    const auto journal_health = health_of_a_device(options);
    auto journal = open_device(options.journal_path, journal_options, read_only, device::ClaimMode::exclusive, journal_health);
    if (!journal) return std::unexpected(journal.error());
    source.journal_file = std::move(*journal);
    source.timed_journal = with_deadlines(source.journal_file, journal_health);
  }
  if (overlay) source.overlay = std::make_unique<device::OverlayDevice>(source.device());
  return source;
}

Outcome<format::Superblock> read_superblock(const std::string &path, const MountOptions &options) {
  const auto health = health_of_a_device(options);
  auto opened = open_device(path, options, true, device::ClaimMode::none, health);
  if (!opened) return std::unexpected(opened.error());
  const std::shared_ptr<device::FileDevice> device = std::move(*opened);
  const auto timed = with_deadlines(device, health);
  return parse(path, timed ? static_cast<device::BlockDevice &>(*timed) : *device);
}

Outcome<std::unique_ptr<vfs::MountedVolume>> open_volume(const Source &source, const MountOptions &options) {
  if (auto superblock = parse(source.path, source.device()); !superblock) return std::unexpected(superblock.error());
  std::string refusal;
  vfs::MountedVolumeOptions wanted = options.volume;
  wanted.watch_memory = true;
  auto volume = vfs::MountedVolume::open(source.device(), wanted, source.journal_device(), &refusal);
  if (!volume)
    return failure(kExitMount, fmt::format("{}: {}", source.path, refusal.empty() ? volume.error().message() : refusal));
  const ext4::OpenReport &report = (*volume)->volume().report();
  if (!report.read_only_reason.empty()) log(LogLevel::warning, "{}: {}", source.path, report.read_only_reason);
  return std::move(*volume);
}

}  // namespace outboard::service

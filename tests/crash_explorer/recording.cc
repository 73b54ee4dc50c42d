// The image that every recording starts from, and the recordings.
#include "crash_explorer/explorer.h"
#include "crash_explorer/tagged_bytes.h"

#include <fmt/format.h>
#include <linux/falloc.h>
#include <sys/stat.h>

namespace outboard::crash_explorer {

using namespace std::chrono_literals;
using device::MemoryDevice;
using testing::WriteLogDevice;
using vfs::MountedVolume;

Result<std::unique_ptr<Explorer>> Explorer::make(const Configuration &configuration) {
  std::unique_ptr<Explorer> explorer(new Explorer(configuration));
  TRY(explorer->make_base());
  return explorer;
}

// By themselves nothing is written back or committed, unless there are timers.
vfs::MountedVolumeOptions Explorer::options(bool timers) const {
  vfs::MountedVolumeOptions options;
  options.flusher.delay = options.flusher.linger = timers ? 2ms : 1h;
  options.flusher.eager = timers ? 16384 : ~std::uint64_t{0};
  options.volume.commit_interval = timers ? 1s : 3600s;
  options.volume.cache_bytes = std::size_t{1} << 20;
  options.volume.discard = configuration_.discard;
  return options;
}

Status Explorer::make_base() {
  const std::string path = directory_.file("base");
  std::vector<std::string> arguments = {"-m", "0"};
  arguments.insert(arguments.end(), configuration_.mkfs.begin(), configuration_.mkfs.end());
  TRY(testing::make_image(path, configuration_.megabytes << 20, arguments, configuration_.block_size));
  base_ = TRY(MemoryDevice::from_file(path));
  vfs::MountedVolumeOptions plain = options(false);
  plain.volume.discard = false;
  {
    auto volume = TRY(MountedVolume::open(*base_, plain));
    const vfs::Entry file = TRY(volume->make_node(vfs::kRootNode, "stale", S_IFREG | 0600, 0, {}));
    const std::size_t piece = 16 * configuration_.block_size;
    for (std::uint64_t at = 0;; at += piece) {
      const std::string stale = tagged(kStale, 0, at, piece);
      const auto put = volume->write(file.node, at, std::as_bytes(std::span(stale)), {});
      if (!put && put.error().is(ENOSPC)) break;
      TRY(std::move(put));
    }
    TRY(volume->sync_all());
    TRY(volume->unlink(vfs::kRootNode, "stale"));
    volume->forget(file.node, 1);
    TRY(volume->unmount());
  }
  auto volume = TRY(MountedVolume::open(*base_->clone(), plain));
  free_inodes_ = TRY(volume->statistics()).free_inodes;
  return {};
}

Result<Explorer::Recording> Explorer::record(const Workload &workload, Fault fault) {
  Recording recording{.name = workload.name, .log = std::make_unique<WriteLogDevice>(base_->clone()), .promises = {}};
  WriteLogDevice &log = *recording.log;
  BrokenDevice broken(log, fault, configuration_.block_size);
  device::BlockDevice &device = fault == Fault::none ? static_cast<device::BlockDevice &>(log) : broken;
  auto volume = TRY(MountedVolume::open(device, options(workload.timers)));
  Script script(*volume, log, recording.promises,
                {.remount = [&]() -> Result<vfs::Filesystem *> {
                   TRY(volume->unmount());
                   volume.reset();
                   volume = TRY(MountedVolume::open(device, options(workload.timers)));
                   return volume.get();
                 },
                 .sync_directories = fault != Fault::directories_not_synced});
  workload.run(script);
  if (!script.status()) {
    tally_.violations.push_back(fmt::format("{}, {}: {} failed: {}", configuration_.name, workload.name, script.doing(),
                                            script.status().error().message()));
    return fail(Error::user(EIO, "a workload failed"));
  }
  TRY(volume->unmount());
  recording.promises.all_synced(log.position());
  tally_.faults += broken.faults();
  tally_.promises += recording.promises.acknowledgements();
  return recording;
}

}  // namespace outboard::crash_explorer

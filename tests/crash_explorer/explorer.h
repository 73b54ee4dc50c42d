// Records workloads on a volume, builds the states that crashes may have left, recovers each and holds it against what was
// promised by then.
#pragma once

#include "crash_explorer/broken_device.h"
#include "crash_explorer/promises.h"
#include "crash_explorer/workloads.h"
#include "device/memory_device.h"
#include "testing/image_builder.h"
#include "vfs/mounted_volume.h"

#include <memory>
#include <string>
#include <vector>

namespace outboard::crash_explorer {

struct Configuration {
  std::string name;
  std::uint64_t megabytes = 8;
  std::uint32_t block_size = 1024;
  std::vector<std::string> mkfs;
  bool discard = false;       // tell the device about freed blocks
  bool e2fsck_replays = true;  // not where its replay is known to be wrong (docs/jbd2.md: fast commits)
};

// One in so many states; 0: never. Our own recovery looks at every state.
struct Judges {
  std::uint64_t fsck = 20;           // e2fsck -fn after our recovery and unmount
  std::uint64_t interrupted = 40;    // our recovery crashes, too, and runs again
  std::uint64_t e2fsck_replay = 150;  // instead of ours
  std::uint64_t kernel = 400;        // instead of ours; never for the image of a broken variant
};

// The primary superblock is two sectors with the checksum in the second and what changes at every mount in the first. Nobody
// reads it when it is torn (the kernel refuses, too), and it is needed to find the log, so no log protects it: the format
// trusts the device to write it whole, and so do the states.
inline constexpr ByteRange kSuperblock{1024, 1024};

struct Tally {
  std::uint64_t workloads = 0, points = 0, states = 0, prefixes = 0, subsets = 0, sampled = 0;
  std::uint64_t by_us = 0, interrupted = 0, by_kernel = 0, by_e2fsck = 0, fscks = 0;
  std::uint64_t promises = 0, faults = 0;
  std::vector<std::string> violations;
};

class Explorer {
public:
  // Makes the image; what is free on it holds stale bytes.
  static Result<std::unique_ptr<Explorer>> make(const Configuration &configuration);

  // Runs the workload and looks at about `states` states of it. An error: the workload itself failed. `most_violations`:
  // the search ends there.
  Status explore(const Workload &workload, std::uint64_t states, std::uint64_t seed, const Judges &judges,
                 Fault fault = Fault::none, std::size_t most_violations = 3);
  const Tally &tally() const { return tally_; }

private:
  struct Recording {
    std::string name;
    std::unique_ptr<testing::WriteLogDevice> log;
    Promises promises;
  };
  struct Case {  // one state
    const Recording &recording;
    std::uint64_t position = 0, seed = 0;
    std::string how;  // it was made
  };
  explicit Explorer(Configuration configuration) : configuration_(std::move(configuration)) {}

  Status make_base();
  vfs::MountedVolumeOptions options(bool timers) const;
  Result<Recording> record(const Workload &workload, Fault fault);
  void judge(const Case &which, device::MemoryDevice &state, const Judges &judges);
  Status recover_by_us(const Case &which, device::MemoryDevice &state, bool fsck);
  Status interrupt_recovery(device::MemoryDevice &state, std::uint64_t seed, std::unique_ptr<device::MemoryDevice> &left);
  Status recover_by_kernel(const Case &which, const device::MemoryDevice &state);
  Status recover_by_e2fsck(const Case &which, const device::MemoryDevice &state);
  void hold_against_promises(const Case &which, const std::string &judge, const Found &found);
  void violation(const Case &which, const std::string &judge, const std::string &what);

  const Configuration configuration_;
  testing::TemporaryDirectory directory_;
  std::unique_ptr<device::MemoryDevice> base_;
  std::uint64_t free_inodes_ = 0;  // of the base
  const device::MemoryDevice *state_ = nullptr;  // as it was before any recovery, to be kept when it shows a violation
  Tally tally_;
};

}  // namespace outboard::crash_explorer

// Who recovers a state, and what is asked of what they leave.
#include "crash_explorer/explorer.h"
#include "testing/crash_states.h"
#include "testing/fsck_oracle.h"
#include "testing/kernel_mount.h"

#include <cstdlib>
#include <fmt/format.h>
#include <random>
#include <sstream>
#include <string_view>

namespace outboard::crash_explorer {

using device::MemoryDevice;
using testing::WriteLogDevice;
using vfs::MountedVolume;

namespace {
bool turn(std::uint64_t state, std::uint64_t one_in, std::uint64_t offset) {
  return one_in != 0 && state % one_in == offset % one_in;
}
}  // namespace

void Explorer::violation(const Case &which, const std::string &judge, const std::string &what) {
  tally_.violations.push_back(fmt::format("{}, {}, position {}, {} (seed {}), {}: {}", configuration_.name,
                                          which.recording.name, which.position, which.how, which.seed, judge, what));
  const char *keep = std::getenv("OUTBOARD_CRASH_KEEP");
  if (keep == nullptr || state_ == nullptr) return;
  const std::string path = fmt::format("{}/crash-{}-{}.img", keep, which.position, tally_.violations.size());
  if (state_->save(path)) tally_.violations.back() += "\n  kept as " + path;
}

void Explorer::hold_against_promises(const Case &which, const std::string &judge, const Found &found) {
  std::string broken = which.recording.promises.broken_by(found, which.position);
  if (!broken.empty()) violation(which, judge, broken);
}

void Explorer::judge(const Case &which, MemoryDevice &state, const Judges &judges) {
  const std::uint64_t number = tally_.states;
  const auto untouched = state.clone();
  state_ = untouched.get();
  const auto ask = [&](const std::string &judge, const Status &status) {
    if (!status) violation(which, judge, status.error().message());
  };
  if (turn(number, judges.kernel, 7)) ask("recovered by the kernel", recover_by_kernel(which, *untouched));
  if (configuration_.e2fsck_replays && turn(number, judges.e2fsck_replay, 3))
    ask("recovered by e2fsck", recover_by_e2fsck(which, *untouched));
  const bool fsck = turn(number, judges.fsck, 1);
  if (turn(number, judges.interrupted, 2)) {
    std::unique_ptr<MemoryDevice> left;
    ask("the recovery that is interrupted", interrupt_recovery(*untouched, number, left));
    if (left) ask("recovered by us at the second attempt", recover_by_us(which, *left, true));
    ++tally_.interrupted;
  } else {
    ask("recovered by us", recover_by_us(which, state, fsck));
  }
  state_ = nullptr;
}

Status Explorer::recover_by_us(const Case &which, MemoryDevice &state, bool fsck) {
  ++tally_.by_us;
  auto volume = TRY(MountedVolume::open(state, options(false)));
  const Found found = TRY(look_at(*volume));
  hold_against_promises(which, "recovered by us", found);
  const std::uint64_t expected = free_inodes_ - Promises::inodes_of(found.tree);
  if (found.free_inodes != expected)
    violation(which, "recovered by us", fmt::format("{} inodes free, expected {}", found.free_inodes, expected));
  if (!fsck) return {};
  TRY(volume->unmount());
  volume.reset();
  ++tally_.fscks;
  const testing::FsckReport report = testing::fsck(state);
  if (!report.clean) violation(which, "e2fsck -fn after our recovery", report.text);
  return {};
}

// A power loss in the middle of the recovery, or just behind it.
Status Explorer::interrupt_recovery(MemoryDevice &state, std::uint64_t seed, std::unique_ptr<MemoryDevice> &left) {
  WriteLogDevice log(state.clone());
  TRY(MountedVolume::open(log, options(false))).reset();
  std::mt19937_64 random(seed);
  const std::vector<std::uint64_t> points = log.crash_points();
  testing::CrashStates crashes(log, kSuperblock);
  TRY(crashes.move_to(points[random() % points.size()]));
  left = TRY(crashes.sample(random()));
  return {};
}

Status Explorer::recover_by_kernel(const Case &which, const MemoryDevice &state) {
  ++tally_.by_kernel;
  const std::string image = directory_.file("kernel");
  TRY(state.save(image));
  auto mount = TRY(testing::KernelMount::mount(image, directory_.file("mount")));
  const Found found = TRY(look_at(mount->path()));
  TRY(mount->unmount());
  hold_against_promises(which, "recovered by the kernel", found);
  ++tally_.fscks;
  const testing::FsckReport report = testing::fsck(image);
  if (!report.clean) violation(which, "e2fsck -fn after the kernel's recovery", report.text);
  return {};
}

// What e2fsck may say of a recovery: journal and orphans. Any other line is a repair.
bool is_recovery(std::string_view line) {
  for (const std::string_view part : {"recovering journal", "Clearing orphaned inode", "Truncating orphaned inode", "Orphan file (inode",
                                      "Feature orphan_present is set but orphan file is clean", "files (", "clean, "})
    if (line.find(part) != line.npos) return true;
  return line.empty() || line == "CLEARED.";
}

// The journal and the orphans; at anything else it would stop. What is left over in an orphan file (with images that the
// kernel wrote, too) is cleared by the whole check, which e2fsck of itself makes or leaves to the next time.
Status Explorer::recover_by_e2fsck(const Case &which, const MemoryDevice &state) {
  ++tally_.by_e2fsck;
  const std::string image = directory_.file("e2fsck");
  TRY(state.save(image));
  const testing::CommandResult done = TRY(testing::run_command({"e2fsck", "-fp", image}));
  bool repaired = false;
  std::istringstream lines(done.out);
  for (std::string line; std::getline(lines, line);) repaired |= !is_recovery(line);
  if (done.exit > 1 || repaired) violation(which, "e2fsck -fp", done.out + done.err);
  ++tally_.fscks;
  const testing::FsckReport report = testing::fsck(image);
  if (!report.clean) violation(which, "e2fsck -fn after its recovery", report.text);
  const auto after = TRY(MemoryDevice::from_file(image));
  auto volume = TRY(MountedVolume::open(*after, options(false)));
  hold_against_promises(which, "recovered by e2fsck", TRY(look_at(*volume)));
  return {};
}

}  // namespace outboard::crash_explorer

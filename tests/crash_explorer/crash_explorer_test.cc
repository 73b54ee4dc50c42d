// Every state after a crash keeps every promise; and what the explorer is worth: it finds the faults that it is given.
#include "base/log.h"
#include "crash_explorer/explorer.h"
#include "testing/expect.h"
#include "testing/kernel_mount.h"

#include <cstdlib>
#include <fmt/format.h>

namespace outboard::crash_explorer {
namespace {

#ifdef NDEBUG
constexpr std::uint64_t kStates = 20000;
#else
constexpr std::uint64_t kStates = 2000;
#endif
constexpr unsigned kMixes = 6;

std::uint64_t knob(const char *name, std::uint64_t otherwise) {
  const char *text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::vector<Configuration> configurations() {
  return {{.name = "Blocks1k", .mkfs = {"-O", "^orphan_file"}},
          {.name = "Blocks4kOrphanFile", .megabytes = 16, .block_size = 4096, .mkfs = {"-O", "orphan_file"}},
          {.name = "FastCommit1k", .megabytes = 16, .mkfs = {"-O", "fast_commit", "-J", "size=4,fast_commit_size=256"},
           .e2fsck_replays = false},
          {.name = "FastCommit4kOrphanFile", .megabytes = 16, .block_size = 4096,
           .mkfs = {"-O", "fast_commit,orphan_file", "-J", "size=4,fast_commit_size=256"}, .e2fsck_replays = false},
          {.name = "Ext3Discard", .mkfs = {"-O", "^extents,^metadata_csum,^64bit,^flex_bg"}, .discard = true}};
}

// Twenty thousand replays are no news.
class CrashExplorer : public ::testing::TestWithParam<Configuration> {
protected:
  void SetUp() override { set_log_level(LogLevel::error); }
  void TearDown() override { set_log_level(LogLevel::info); }
};

TEST_P(CrashExplorer, EveryStateAfterACrashKeepsEveryPromise) {
  const std::uint64_t seed = knob("OUTBOARD_SEED", 1);
  const std::uint64_t states = knob("OUTBOARD_CRASH_STATES", kStates) / configurations().size() + 1;
  Judges judges;
  const std::string no_kernel = testing::why_no_kernel_mounts();
  if (!no_kernel.empty()) judges.kernel = 0;
  ASSIGN_OK(auto explorer, Explorer::make(GetParam()));

  std::vector<Workload> workloads = patterns();
  for (unsigned i = 0; i < kMixes; ++i) workloads.push_back(random_mix(seed * 1000 + i, 60, i % 3 == 2));
  for (std::size_t i = 0; i < workloads.size(); ++i) {
    const std::uint64_t done = explorer->tally().states, due = states * (i + 1) / workloads.size();
    const Status status = explorer->explore(workloads[i], due > done ? due - done : 1, seed, judges);
    EXPECT_OK(status) << workloads[i].name;
  }
  const Tally &tally = explorer->tally();
  for (const std::string &violation : tally.violations) ADD_FAILURE() << violation;
  fmt::print("crash explorer: {}: workloads {}, promises {}, moments {}, states {} (prefixes {}, subsets {}, sampled {}), recoveries by us {} "
             "(twice {}), by the kernel {}{}, by e2fsck {}, e2fsck -fn {}, violations {}\n",
             GetParam().name, tally.workloads, tally.promises, tally.points, tally.states, tally.prefixes, tally.subsets, tally.sampled,
             tally.by_us, tally.interrupted, tally.by_kernel, no_kernel.empty() ? "" : " (" + no_kernel + ")",
             tally.by_e2fsck, tally.fscks, tally.violations.size());
  // It did look: states enough, promises at stake, and each judge had its turn.
  EXPECT_GE(tally.states, states * 9 / 10);
  EXPECT_GT(tally.promises, 100u);
  EXPECT_GT(tally.subsets + tally.sampled, 0u);
  EXPECT_GT(tally.fscks, 0u);
}

INSTANTIATE_TEST_SUITE_P(, CrashExplorer, ::testing::ValuesIn(configurations()),
                         [](const auto &test) { return test.param.name; });

// Not one of these images is shown to the kernel. What the file system says to them is not the question.
struct Variant {
  Fault fault;
  std::string workload;  // in which it does harm
  std::string name;
};

class BrokenVariant : public ::testing::TestWithParam<Variant> {
protected:
  void SetUp() override { set_log_sink([](LogLevel, std::string_view) {}); }
  void TearDown() override { set_log_sink({}); }
};

TEST_P(BrokenVariant, IsCaught) {
  const Fault fault = GetParam().fault;
  ASSIGN_OK(auto explorer, Explorer::make(configurations().front()));
  const Judges judges{.fsck = 20, .interrupted = 0, .e2fsck_replay = 0, .kernel = 0};
  for (const Workload &workload : patterns()) {
    if (workload.name != GetParam().workload) continue;
    ASSERT_OK(explorer->explore(workload, 600, knob("OUTBOARD_SEED", 1), judges, fault, 1));
  }
  const Tally &tally = explorer->tally();
  ASSERT_FALSE(tally.violations.empty()) << name_of(fault) << " was not caught";
  if (fault != Fault::directories_not_synced) { EXPECT_GT(tally.faults, 0u); }
  fmt::print("crash explorer: broken variant \"{}\" caught after {} states: {}\n", name_of(fault), tally.states,
             tally.violations.front().substr(0, tally.violations.front().find('\n')));
}

INSTANTIATE_TEST_SUITE_P(
    , BrokenVariant,
    ::testing::Values(
        Variant{Fault::no_flush_before_commit, "create, write, fsync, rename", "NoFlushBeforeTheCommitBlock"},
        Variant{Fault::data_after_commit, "create, write, fsync, rename", "DataNotOrderedBeforeItsMetadata"},
        Variant{Fault::tail_not_zeroed, "truncate down and up", "TailNotZeroed"},
        Variant{Fault::no_revokes, "metadata blocks become data", "RevokeLeftOut"},
        Variant{Fault::directories_not_synced, "directory fsync", "FsyncThatForgetsTheDirectory"}),
    [](const auto &test) { return test.param.name; });

}  // namespace
}  // namespace outboard::crash_explorer

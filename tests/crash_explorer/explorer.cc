#include "crash_explorer/explorer.h"

#include "testing/crash_states.h"

#include <algorithm>
#include <fmt/format.h>

namespace outboard::crash_explorer {

using device::MemoryDevice;
using testing::CrashStates;

namespace {

// Every prefix first; then all subsets where they are few, or torn and random ones where they are not. `count` states.
// `skip_prefix`: there is no room for every prefix, and some of the others are wanted, too.
class Chooser {
public:
  Chooser(const CrashStates &states, std::uint64_t count, std::uint64_t seed, bool skip_prefix)
      : states_(states), skip_prefix_(skip_prefix && states.loose() > 1), count_(states.loose() == 0 ? std::min<std::uint64_t>(count, 1) : count), seed_(seed),
        // Half of the rest for subsets that are whole.
        subsets_(states.distinct() - 1 <= (count_ - std::min<std::uint64_t>(count_, 1)) / 2 ? states.distinct() - 1 : 0) {}

  std::uint64_t count() const { return count_; }
  Result<std::unique_ptr<MemoryDevice>> make(std::uint64_t i, std::string &how, Tally &tally) const {
    if (i == 0 && !skip_prefix_) {
      how = "prefix";
      ++tally.prefixes;
      return states_.prefix();
    }
    if (i > 0 && i <= subsets_) {
      how = fmt::format("subset {}", i - 1);
      ++tally.subsets;
      return states_.subset(i - 1);
    }
    how = fmt::format("sample {}", seed_ + i);
    ++tally.sampled;
    return states_.sample(seed_ + i);
  }

private:
  const CrashStates &states_;
  const bool skip_prefix_;
  const std::uint64_t count_;
  const std::uint64_t seed_;
  const std::uint64_t subsets_;
};

}  // namespace

Status Explorer::explore(const Workload &workload, std::uint64_t states, std::uint64_t seed, const Judges &judges,
                         Fault fault, std::size_t most_violations) {
  const Recording recording = TRY(record(workload, fault));
  ++tally_.workloads;
  CrashStates crashes(*recording.log, kSuperblock);
  const std::vector<std::uint64_t> points = recording.log->crash_points();
  tally_.points += points.size();
  const std::size_t allowed = tally_.violations.size() + most_violations;
  std::uint64_t made = 0;
  for (std::size_t i = 0; i < points.size(); ++i) {
    TRY(crashes.move_to(points[i]));
    // What one point does not need is the next ones'.
    const std::uint64_t due = states * (i + 1) / points.size();
    const Chooser choice(crashes, due > made ? due - made : 0, seed, states < points.size() * 3 / 2 && i % 2 == 1);
    for (std::uint64_t k = 0; k < choice.count(); ++k) {
      Case which{.recording = recording, .position = points[i], .seed = seed, .how = {}};
      const auto state = TRY(choice.make(k, which.how, tally_));
      ++made;
      ++tally_.states;
      judge(which, *state, judges);
      if (tally_.violations.size() >= allowed) return {};
    }
  }
  return {};
}

}  // namespace outboard::crash_explorer

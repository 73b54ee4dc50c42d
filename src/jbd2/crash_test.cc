// Crashes at every write. The device records what the journal does; the disk is then rebuilt as it may look when the
// machine stops after n of these events: all that was written before the last flush, and any choice of what came later.
// Recovery must find exactly the state of the last acknowledged commit or of the one in progress, and must not touch
// what was revoked and given to data.
#include "jbd2/journal_test_support.h"
#include "jbd2/probe_device.h"
#include "jbd2/replay.h"

#include <algorithm>
#include <map>
#include <random>

namespace outboard::jbd2 {
namespace {

using testing_support::Bench;
using testing_support::BenchOptions;
using testing_support::ProbeDevice;
using Event = ProbeDevice::Event;

constexpr std::uint64_t kFirst = 2000;
constexpr std::uint64_t kBlocks = 24;
constexpr std::uint64_t kDataMark = 0xDA7A'0000'0000'0000;  // a block that holds file data has this in its value

// The value of every block after a commit; a block that is data then has the mark.
using State = std::map<std::uint64_t, std::uint64_t>;

struct Variant {
  const char *name;
  std::uint32_t compat = 0, incompat = 0;
  bool checksum_v3 = false, wide = false;
  std::uint32_t block_size = 1024;
};

// `home`: the state of the blocks on the disk itself.
std::uint64_t value_at(device::BlockDevice &disk, std::uint32_t size, std::uint64_t block) {
  std::vector<std::byte> bytes(size);
  EXPECT_OK(disk.read(block * size, bytes));
  const std::uint64_t value = testing_support::value_in(bytes);
  const bool is_data = (value & kDataMark) == kDataMark;
  EXPECT_TRUE(is_data || testing_support::ValueType::is_sealed(BlockNumber(block), bytes)) << block;
  return value;
}

class CrashTest : public ::testing::TestWithParam<Variant> {
protected:
  // Random commits, some of which free a block, which then becomes data, or make a data block metadata again.
  void run_history(Bench &bench, ProbeDevice &probe) {
    const std::uint32_t size = bench.options.block_size;
    std::mt19937 random(7);
    State state;
    for (std::uint64_t i = 0; i < kBlocks; ++i) state[kFirst + i] = 0;
    states_.push_back(state);
    for (std::uint64_t round = 1; round <= 60; ++round) {
      std::vector<std::uint64_t> freed;
      {
        ASSIGN_OK(Handle handle, bench.journal->start(8));
        for (int k = 0; k < 6; ++k) {
          const std::uint64_t block = kFirst + random() % kBlocks;
          if ((state[block] & kDataMark) == kDataMark) {
            // Data so far (freed, in the ext4 sense, by a transaction before this one).
            ASSIGN_OK(cache::BufferRef buffer, bench.cache->create(BlockNumber(block), bench.type));
            ASSIGN_OK(std::span<std::byte> bytes, buffer->writable(handle));
            edit_as<le64>(bytes).set(round);
            state[block] = round;
          } else if (random() % 5 == 0 && std::ranges::find(freed, block) == freed.end()) {
            ASSERT_OK(handle.revoke(BlockNumber(block)));
            freed.push_back(block);
          } else if (std::ranges::find(freed, block) == freed.end()) {
            ASSERT_NO_FATAL_FAILURE(bench.put(handle, block, round));
            state[block] = round;
          }
        }
        handle.finish();
      }
      for (std::uint64_t block : freed) state[block] = kDataMark;  // whatever is there now belongs to nobody
      ASSERT_OK(bench.journal->commit_running());
      states_.push_back(state);
      probe.mark(states_.size() - 1);
      for (std::uint64_t block : freed) {
        std::vector<std::byte> data(size, std::byte{0x5A});
        edit_as<le64>(data).set(kDataMark | round);
        ASSERT_OK(probe.write(block * size, data));
        state[block] = kDataMark | round;
      }
      if (!freed.empty()) {
        // Acknowledged data: from here on it has to stay.
        ASSERT_OK(probe.flush());
        states_.push_back(state);
        probe.mark(states_.size() - 1);
      }
      if (round % 17 == 0) {
        ASSERT_OK(bench.journal->checkpoint_all());
      }
    }
    ASSERT_OK(bench.journal->close());
  }

  // A block of unknown contents matches anything that is data or that was there before.
  static bool matches(const State &state, const State &found) {
    for (const auto &[block, value] : state) {
      if (value == kDataMark) continue;
      if (found.at(block) != value) return false;
    }
    return true;
  }

  std::vector<State> states_;
};

TEST_P(CrashTest, EveryStateAfterACrashIsTheLastCommitOrTheOneInProgress) {
  const Variant &variant = GetParam();
  BenchOptions options{.block_size = variant.block_size,
                       .log_blocks = 80,
                       .journal = {.commit_interval = std::chrono::hours(1),
                                   .checksum_v3 = variant.checksum_v3,
                                   .wide_blocks = variant.wide,
                                   .before_commit_credits = 0},
                       .compat = variant.compat,
                       .incompat = variant.incompat};
  Bench bench(options);
  ProbeDevice &probe = bench.interpose();
  ASSERT_NO_FATAL_FAILURE(bench.open(&probe));
  const std::unique_ptr<device::MemoryDevice> initial = bench.device->clone();
  probe.record();
  ASSERT_NO_FATAL_FAILURE(run_history(bench, probe));
  const std::vector<Event> events = probe.take_events();
  const std::uint32_t size = options.block_size;

  std::mt19937 random(11);
  std::unique_ptr<device::MemoryDevice> durable = initial->clone();  // as of the last flush
  std::vector<const Event *> loose;                                  // written since
  std::size_t acknowledged = 0;
  int recovered_transactions = 0;
  for (std::size_t n = 0; n <= events.size(); ++n) {
    // Three crashes at this point: everything since the flush arrived in order, or random parts of it did.
    for (int choice = 0; choice < 3; ++choice) {
      std::unique_ptr<device::MemoryDevice> disk = durable->clone();
      for (const Event *event : loose) {
        if (choice > 0 && random() % 2 == 0) continue;
        std::span<const std::byte> data = event->data;
        // A write of several blocks may have arrived in part.
        if (choice == 2 && data.size() > size) data = data.subspan(0, random() % (data.size() / size) * size);
        ASSERT_OK(disk->write(event->offset, data));
      }
      const LogArea log(*disk, size, testing_support::log_runs(options.log_blocks));
      const Result<RecoveryReport> report = recover(log, *disk, options.blocks);
      ASSERT_OK(report) << "after event " << n << " choice " << choice;
      recovered_transactions += static_cast<int>(report->transactions);
      State found;
      for (std::uint64_t i = 0; i < kBlocks; ++i) found[kFirst + i] = value_at(*disk, size, kFirst + i);
      const bool is_last = matches(states_[acknowledged], found);
      const bool is_next = acknowledged + 1 < states_.size() && matches(states_[acknowledged + 1], found);
      ASSERT_TRUE(is_last || is_next) << "after event " << n << " of " << events.size() << ", choice " << choice
                                      << ", state " << acknowledged;
    }
    if (n == events.size()) break;
    const Event &event = events[n];
    switch (event.kind) {
    case Event::Kind::write: loose.push_back(&event); break;
    case Event::Kind::flush:
      for (const Event *earlier : loose) ASSERT_OK(durable->write(earlier->offset, earlier->data));
      loose.clear();
      break;
    case Event::Kind::mark: acknowledged = event.mark; break;
    }
  }
  EXPECT_EQ(acknowledged, states_.size() - 1);
  EXPECT_GT(recovered_transactions, 100);
}

INSTANTIATE_TEST_SUITE_P(Formats, CrashTest,
                         ::testing::Values(Variant{.name = "plain"}, Variant{.name = "wide", .wide = true},
                                           Variant{.name = "v1", .compat = 1},
                                           Variant{.name = "v2", .incompat = 8},
                                           Variant{.name = "v3_wide", .checksum_v3 = true, .wide = true},
                                           Variant{.name = "v3_4k", .checksum_v3 = true, .block_size = 4096}),
                         [](const auto &instance) { return instance.param.name; });

}  // namespace
}  // namespace outboard::jbd2

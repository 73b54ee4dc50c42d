// The running journal over memory: handles, commit, checkpoint, revoke, abort. What e2fsck says of our logs is in
// interchange_test.cc, what survives a crash at any write in crash_test.cc.
#include "jbd2/journal.h"

#include "jbd2/journal_test_support.h"
#include "jbd2/probe_device.h"
#include "jbd2/replay.h"

#include <atomic>
#include <random>
#include <thread>

namespace outboard::jbd2 {
namespace {

using namespace std::chrono_literals;
using testing_support::Bench;
using testing_support::BenchOptions;
using testing_support::ProbeDevice;

template <class Condition> bool eventually(Condition condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

// What a machine that stops now would find after recovery.
std::unique_ptr<device::MemoryDevice> recovered(const Bench &bench) {
  std::unique_ptr<device::MemoryDevice> disk = bench.device->clone();
  const LogArea log(*disk, bench.options.block_size, testing_support::log_runs(bench.options.log_blocks));
  EXPECT_OK(recover(log, *disk, bench.options.blocks));
  EXPECT_FALSE(*needs_recovery(log));
  return disk;
}

TEST(JournalTest, ACommittedChangeIsInTheLogAndGoesHomeWithCheckpoint) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  ASSIGN_OK(Handle handle, bench.journal->start(3));
  const Tid tid = handle.tid();
  EXPECT_EQ(tid, bench.journal->running_tid());
  ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2000, 1));
  ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2001, 2));
  ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2001, 3));
  EXPECT_EQ(handle.credits(), 1U);
  handle.finish();
  ASSERT_OK(bench.journal->commit_and_wait(tid));
  EXPECT_EQ(bench.journal->committed_tid(), tid);
  EXPECT_EQ(bench.home(2000), 0U);
  EXPECT_EQ(bench.home_on(*recovered(bench), 2001), 3U);
  ASSERT_OK(bench.journal->checkpoint_all());
  EXPECT_EQ(bench.home(2000), 1U);
  EXPECT_EQ(bench.home(2001), 3U);
  EXPECT_FALSE(*needs_recovery(*bench.log));
  ASSERT_OK(bench.journal->close());
  EXPECT_ERROR(bench.journal->start(1), EROFS);
}

TEST(JournalTest, WithoutALogACommitWritesHome) {
  Bench bench({.logged = false});
  ASSERT_NO_FATAL_FAILURE(bench.open());
  ASSIGN_OK(Handle handle, bench.journal->start(3));
  ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2000, 1));
  ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2001, 2));
  ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2002, 3));
  ASSERT_OK(handle.revoke(BlockNumber(2002)));
  handle.finish();
  EXPECT_EQ(bench.home(2000), 0U);
  ASSERT_OK(bench.journal->commit_running());
  EXPECT_EQ(bench.home(2000), 1U);
  EXPECT_EQ(bench.home(2001), 2U);
  EXPECT_EQ(bench.home(2002), 0U);
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 7));
  ASSERT_OK(bench.journal->close());
  EXPECT_EQ(bench.home(2000), 7U);
}

TEST(JournalTest, AnUncommittedChangeIsNowhereAfterACrash) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  ASSERT_OK(bench.journal->commit_running());
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 2));
  bench.journal.reset();  // no close()
  EXPECT_EQ(bench.home_on(*recovered(bench), 2000), 1U);
}

TEST(JournalTest, CreditsAreCountedReturnedAndRefusedBeyondALog) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  const std::uint32_t most = bench.journal->max_credits();
  EXPECT_GT(most, 30U);
  EXPECT_LT(most, 64U);
  EXPECT_ERROR(bench.journal->start(most + 1), E2BIG);
  ASSIGN_OK(Handle whole, bench.journal->start(most));
  EXPECT_FALSE(whole.extend(1));
  whole.finish();
  ASSIGN_OK(Handle small, bench.journal->start(2));
  EXPECT_TRUE(small.extend(5));
  EXPECT_EQ(small.credits(), 7U);
  ASSIGN_OK(const bool restarted, small.ensure(4));
  EXPECT_FALSE(restarted);
  small.finish();
}

TEST(JournalTest, AFullTransactionMakesTheHandleRestartInTheNext) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  const std::uint32_t most = bench.journal->max_credits();
  ASSIGN_OK(Handle handle, bench.journal->start(1));
  const Tid first = handle.tid();
  for (std::uint32_t i = 0; i < most * 3; ++i) {
    ASSERT_OK(handle.ensure(1));
    ASSERT_NO_FATAL_FAILURE(bench.put(handle, 1000 + i, i));
  }
  EXPECT_TRUE(tid_before(first, handle.tid()));
  handle.finish();
  ASSERT_OK(bench.journal->close());
  for (std::uint32_t i = 0; i < most * 3; ++i) ASSERT_EQ(bench.home(1000 + i), i);
}

TEST(JournalTest, TheTimerCommitsWithoutBeingAsked) {
  Bench bench({.journal = {.commit_interval = 50ms}});
  ASSERT_NO_FATAL_FAILURE(bench.open());
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 5));
  const Tid tid = bench.journal->running_tid();
  EXPECT_TRUE(eventually([&] { return !tid_before(bench.journal->committed_tid(), tid); }));
  EXPECT_EQ(bench.home_on(*recovered(bench), 2000), 5U);
}

TEST(JournalTest, ManyWaitersShareOneCommit) {
  Bench bench;
  ProbeDevice &probe = bench.interpose();
  ASSERT_NO_FATAL_FAILURE(bench.open(&probe));
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  const std::uint64_t log_start = 64 * 1024;
  probe.close_gate([=](std::uint64_t offset) { return offset >= log_start; });
  std::vector<std::jthread> threads;
  threads.emplace_back([&] { EXPECT_OK(bench.journal->commit_running()); });
  ASSERT_TRUE(eventually([&] { return probe.waiting() == 1; }));
  std::atomic<int> changed{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      Result<Handle> handle = bench.journal->start(1);
      ASSERT_OK(handle);
      bench.put(*handle, 2001 + static_cast<std::uint64_t>(i), 9);
      const Tid tid = handle->tid();
      handle->finish();
      ++changed;
      EXPECT_OK(bench.journal->commit_and_wait(tid));
    });
  }
  ASSERT_TRUE(eventually([&] { return changed == 8; }));
  probe.open_gate();
  threads.clear();
  EXPECT_EQ(bench.journal->counters().commits, 2U);
  EXPECT_EQ(bench.home_on(*recovered(bench), 2008), 9U);
}

TEST(JournalTest, ACommitInProgressLogsTheBytesAsItsTransactionLeftThem) {
  Bench bench({.log_blocks = 2048, .blocks = 8192});
  ProbeDevice &probe = bench.interpose();
  ASSERT_NO_FATAL_FAILURE(bench.open(&probe));
  // More than one group of tags, so that the commit stops at the gate with buffers not yet copied.
  constexpr std::uint64_t kCount = 400;
  ASSERT_GT(bench.journal->max_credits(), kCount);
  const auto put_all = [&](std::uint64_t value) {
    ASSIGN_OK(Handle handle, bench.journal->start(kCount));
    for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_NO_FATAL_FAILURE(bench.put(handle, 4000 + i, value + i));
    handle.finish();
  };
  ASSERT_NO_FATAL_FAILURE(put_all(1000));
  probe.close_gate([](std::uint64_t) { return true; });
  std::jthread committer([&] { EXPECT_OK(bench.journal->commit_running()); });
  ASSERT_TRUE(eventually([&] { return probe.waiting() == 1; }));
  ASSERT_NO_FATAL_FAILURE(put_all(2000));
  probe.open_gate();
  committer.join();
  const auto disk = recovered(bench);
  for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_EQ(bench.home_on(*disk, 4000 + i), 1000 + i);
  ASSERT_OK(bench.journal->close());
  for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_EQ(bench.home(4000 + i), 2000 + i);
}

// The same race without luck: threads change a counter in every block of a pair under one handle; whatever is recovered
// at any commit, the pair is equal.
TEST(JournalTest, PairsChangedTogetherAreNeverSeenApart) {
  Bench bench({.journal = {.commit_interval = 1ms}});
  ASSERT_NO_FATAL_FAILURE(bench.open());
  std::atomic<bool> stop{false};
  std::vector<std::jthread> threads;
  for (std::uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t value = 1; !stop; ++value) {
        Result<Handle> handle = bench.journal->start(2);
        ASSERT_OK(handle);
        bench.put(*handle, 2000 + t, value);
        bench.put(*handle, 3000 + t, value);
        handle->finish();
      }
    });
  }
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t before = bench.journal->counters().handles;
    ASSERT_TRUE(eventually([&] { return bench.journal->counters().handles > before + 20; }));
    ASSERT_OK(bench.journal->commit_running());
    if (i % 8 == 7) {
      ASSERT_OK(bench.journal->checkpoint_all());
    }
  }
  stop = true;
  threads.clear();
  bench.journal.reset();
  const auto disk = recovered(bench);
  for (std::uint64_t t = 0; t < 3; ++t) {
    EXPECT_GT(bench.home_on(*disk, 2000 + t), 0U);
    EXPECT_EQ(bench.home_on(*disk, 2000 + t), bench.home_on(*disk, 3000 + t));
  }
}

TEST(JournalTest, CheckpointNeverWritesHomeWhatIsNotCommitted) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  for (std::uint64_t round = 1; round < 200; ++round) {
    for (std::uint64_t i = 0; i < 10; ++i) ASSERT_NO_FATAL_FAILURE(bench.put_one(2000 + i, round));
    ASSERT_NO_FATAL_FAILURE(bench.put_one(3000 + round % 50, round));
    ASSERT_OK(bench.journal->commit_running());
    ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, round + 1'000'000));
    for (std::uint64_t i = 0; i < 10; ++i) ASSERT_LE(bench.home(2000 + i), round);
    ASSERT_EQ(bench.home_on(*recovered(bench), 2000), round);
    ASSERT_EQ(bench.home_on(*recovered(bench), 2009), round);
  }
  EXPECT_GT(bench.journal->counters().checkpointed_blocks, 0U);  // the log was filled many times over
}

TEST(JournalTest, StartWaitsForLogSpaceAndTheLogWrapsAround) {
  Bench bench({.log_blocks = 128});
  ASSERT_NO_FATAL_FAILURE(bench.open());
  std::mt19937 random(1);
  std::vector<std::uint64_t> model(300);
  for (std::uint64_t round = 1; round < 400; ++round) {
    ASSIGN_OK(Handle handle, bench.journal->start(15));
    for (int i = 0; i < 15; ++i) {
      const std::uint64_t block = random() % model.size();
      ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2000 + block, round));
      model[block] = round;
    }
    const Tid tid = handle.tid();
    handle.finish();
    if (round % 3 == 0) {
      ASSERT_OK(bench.journal->commit_and_wait(tid));
    }
  }
  ASSERT_OK(bench.journal->commit_running());
  const auto disk = recovered(bench);
  for (std::size_t i = 0; i < model.size(); ++i) ASSERT_EQ(bench.home_on(*disk, 2000 + i), model[i]);
  ASSERT_OK(bench.journal->close());
  for (std::size_t i = 0; i < model.size(); ++i) ASSERT_EQ(bench.home(2000 + i), model[i]);
}

TEST(JournalTest, ARevokedBlockIsNeitherReplayedNorWrittenHome) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2001, 1));
  ASSERT_OK(bench.journal->commit_running());
  bool durable = false;
  {
    ASSIGN_OK(Handle handle, bench.journal->start(2));
    ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2000, 2));
    ASSERT_OK(handle.revoke(BlockNumber(2000)));
    handle.after_commit([&] { durable = true; });
    handle.finish();
  }
  // Not committed: the old contents still belong to the block.
  EXPECT_EQ(bench.home_on(*recovered(bench), 2000), 1U);
  EXPECT_FALSE(durable);
  ASSERT_OK(bench.journal->commit_running());
  EXPECT_TRUE(durable);
  // The block is reused for data now.
  std::vector<std::byte> data(1024, std::byte{0xDD});
  ASSERT_OK(bench.device->write(2000 * 1024, data));
  std::vector<std::byte> found(1024);
  const auto disk = recovered(bench);
  ASSERT_OK(disk->read(2000 * 1024, found));
  EXPECT_EQ(found, data);
  EXPECT_EQ(bench.home_on(*disk, 2001), 1U);
  ASSERT_OK(bench.journal->close());
  ASSERT_OK(bench.device->read(2000 * 1024, found));
  EXPECT_EQ(found, data);
  EXPECT_EQ(bench.home(2001), 1U);
  EXPECT_EQ(bench.journal->counters().revokes, 1U);
}

TEST(JournalTest, ARevokedBlockThatIsMetadataAgainIsReplayed) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  const auto create = [&](Handle &handle, std::uint64_t block, std::uint64_t value) {
    ASSIGN_OK(cache::BufferRef buffer, bench.cache->create(BlockNumber(block), bench.type));
    ASSIGN_OK(std::span<std::byte> bytes, buffer->writable(handle));
    edit_as<le64>(bytes).set(value);
  };
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2001, 1));
  ASSERT_OK(bench.journal->commit_running());
  {
    ASSIGN_OK(Handle handle, bench.journal->start(4));
    ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2001, 5));
    ASSERT_OK(handle.revoke(BlockNumber(2000)));
    ASSERT_OK(handle.revoke(BlockNumber(2001)));
    ASSERT_NO_FATAL_FAILURE(create(handle, 2001, 2));  // at once, in the same transaction
    handle.finish();
  }
  ASSERT_OK(bench.journal->commit_running());
  {
    ASSIGN_OK(Handle handle, bench.journal->start(4));
    ASSERT_NO_FATAL_FAILURE(create(handle, 2000, 3));  // in a later one
    handle.finish();
  }
  ASSERT_OK(bench.journal->commit_running());
  const auto disk = recovered(bench);
  EXPECT_EQ(bench.home_on(*disk, 2000), 3U);
  EXPECT_EQ(bench.home_on(*disk, 2001), 2U);
  ASSERT_OK(bench.journal->close());
  EXPECT_EQ(bench.home(2000), 3U);
  EXPECT_EQ(bench.home(2001), 2U);
}

TEST(JournalTest, ACommittedRevokeWaitsForTheCheckpointThatWritesTheBlock) {
  Bench bench;
  ProbeDevice &probe = bench.interpose();
  ASSERT_NO_FATAL_FAILURE(bench.open(&probe));
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  ASSERT_OK(bench.journal->commit_running());
  probe.close_gate([](std::uint64_t offset) { return offset == 2000 * 1024; });
  std::jthread checkpointer([&] { EXPECT_OK(bench.journal->checkpoint_all()); });
  ASSERT_TRUE(eventually([&] { return probe.waiting() == 1; }));
  std::atomic<bool> reusable{false};
  {
    ASSIGN_OK(Handle handle, bench.journal->start(1));
    ASSERT_OK(handle.revoke(BlockNumber(2000)));
    handle.after_commit([&] { reusable = true; });
    handle.finish();
  }
  std::jthread committer([&] { EXPECT_OK(bench.journal->commit_running()); });
  std::this_thread::sleep_for(100ms);
  EXPECT_FALSE(reusable);
  probe.open_gate();
  committer.join();
  EXPECT_TRUE(reusable);
}

TEST(JournalTest, TheHookRunsInTheTransactionThatCommits) {
  int calls = 0;
  Bench *where = nullptr;
  Bench bench({.journal = {.commit_interval = std::chrono::hours(1),
                           .before_commit =
                               [&](Handle &handle) -> Status {
                                 EXPECT_EQ(handle.credits(), 4U);
                                 where->put(handle, 2500, static_cast<std::uint64_t>(++calls));
                                 return {};
                               }}});
  where = &bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  ASSERT_OK(bench.journal->commit_running());
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(bench.home_on(*recovered(bench), 2500), 1U);
  ASSERT_OK(bench.journal->commit_running());
  EXPECT_EQ(calls, 1);  // nothing changed: nothing to hook
  ASSERT_OK(bench.journal->close());
}

TEST(JournalTest, AnEmptyCommitWritesNothingButFlushes) {
  Bench bench;
  ProbeDevice &probe = bench.interpose();
  ASSERT_NO_FATAL_FAILURE(bench.open(&probe));
  const Tid tid = bench.journal->running_tid();
  bool heard = false;
  {
    ASSIGN_OK(Handle handle, bench.journal->start(5));
    handle.after_commit([&] { heard = true; });
    handle.finish();
  }
  ASSERT_OK(bench.journal->commit_running());
  EXPECT_TRUE(heard);
  EXPECT_EQ(probe.writes, 0);
  EXPECT_EQ(probe.flushes, 1);
  ASSERT_OK(bench.journal->commit_running());
  ASSERT_OK(bench.journal->commit_and_wait(bench.journal->running_tid()));
  EXPECT_EQ(probe.writes, 0);
  EXPECT_EQ(probe.flushes, 3);
  EXPECT_EQ(bench.journal->running_tid(), tid);
  EXPECT_EQ(bench.journal->counters().commits, 0U);
  ASSERT_OK(bench.journal->commit_and_wait(bench.journal->committed_tid()));
  EXPECT_EQ(probe.flushes, 3);
}

TEST(JournalTest, AnExternalLogIsWrittenAfterTheDataDeviceIsFlushed) {
  Bench bench({.separate_log = true});
  ProbeDevice &probe = bench.interpose();
  ASSERT_NO_FATAL_FAILURE(bench.open(&probe));
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  ASSERT_OK(bench.journal->commit_running());
  EXPECT_EQ(probe.writes, 0);
  EXPECT_EQ(probe.flushes, 1);
  auto disk = bench.device->clone();
  auto log_disk = bench.log_device->clone();
  const LogArea log(*log_disk, 1024, testing_support::log_runs(256));
  ASSIGN_OK(const RecoveryReport report, recover(log, *disk, bench.options.blocks));
  EXPECT_EQ(report.transactions, 1U);
  EXPECT_EQ(bench.home_on(*disk, 2000), 1U);
  ASSERT_OK(bench.journal->close());
  EXPECT_EQ(bench.home(2000), 1U);
}

TEST(JournalTest, AFailedWriteAbortsAndNothingReachesTheFileSystemAfterwards) {
  std::atomic<int> told{0};
  Bench bench({.journal = {.commit_interval = std::chrono::hours(1), .on_abort = [&](const Error &error) {
                             EXPECT_EQ(error.code(), EIO);
                             ++told;
                           }}});
  ProbeDevice &probe = bench.interpose();
  ASSERT_NO_FATAL_FAILURE(bench.open(&probe));
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  ASSERT_OK(bench.journal->commit_running());
  ASSIGN_OK(Handle open_handle, bench.journal->start(2));
  ASSERT_NO_FATAL_FAILURE(bench.put(open_handle, 2000, 2));
  std::jthread waiter([&] { EXPECT_ERROR(bench.journal->commit_running(), EIO); });
  std::this_thread::sleep_for(20ms);
  probe.failing_writes = true;
  open_handle.finish();
  waiter.join();
  EXPECT_TRUE(eventually([&] { return told == 1; }));
  EXPECT_TRUE(bench.journal->aborted());
  EXPECT_ERROR(bench.journal->check(), EROFS);
  EXPECT_ERROR(bench.journal->start(1), EROFS);
  EXPECT_ERROR(bench.journal->commit_running(), EROFS);
  EXPECT_ERROR(bench.journal->checkpoint_all(), EROFS);
  probe.failing_writes = false;
  EXPECT_ERROR(bench.journal->close(), EROFS);
  EXPECT_EQ(bench.home(2000), 0U);
  EXPECT_EQ(told, 1);
  EXPECT_EQ(bench.home_on(*recovered(bench), 2000), 1U);
}

TEST(JournalTest, AFailedFlushAbortsTheCommitAndItsListenersAreDropped) {
  Bench bench;
  ProbeDevice &probe = bench.interpose();
  ASSERT_NO_FATAL_FAILURE(bench.open(&probe));
  auto token = std::make_shared<int>(0);
  bool heard = false;
  {
    ASSIGN_OK(Handle handle, bench.journal->start(1));
    ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2000, 2));
    handle.after_commit([&heard, token] { heard = true; });
    handle.finish();
  }
  probe.failing_flushes = true;
  EXPECT_ERROR(bench.journal->commit_running(), EIO);
  EXPECT_TRUE(eventually([&] { return token.use_count() == 1; }));
  EXPECT_FALSE(heard);
}

TEST(JournalTest, AbortIsRecordedInTheLogAndReportedByRecovery) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  ASSERT_OK(bench.journal->commit_running());
  bench.journal->abort(Error::corrupt("test"));
  bench.journal.reset();
  ASSIGN_OK(const RecoveryReport report, recover(*bench.log, *bench.device, bench.options.blocks));
  EXPECT_EQ(report.errno_recorded, static_cast<std::uint32_t>(EUCLEAN));
  EXPECT_EQ(report.transactions, 1U);
  EXPECT_EQ(bench.home(2000), 1U);
}

TEST(JournalTest, AHandleThatEndsHalfWayAborts) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  {
    ASSIGN_OK(Handle unused, bench.journal->start(1));
  }
  EXPECT_FALSE(bench.journal->aborted());
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  ASSERT_OK(bench.journal->commit_running());
  {
    ASSIGN_OK(Handle handle, bench.journal->start(1));
    ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2000, 2));
  }
  EXPECT_TRUE(bench.journal->aborted());
  bench.journal.reset();
  EXPECT_EQ(bench.home_on(*recovered(bench), 2000), 1U);
}

TEST(JournalTest, ChangesInAnAbortedJournalAreRefusedOnOpenHandlesToo) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  ASSIGN_OK(Handle handle, bench.journal->start(2));
  ASSIGN_OK(cache::BufferRef buffer, bench.cache->read(BlockNumber(2000), bench.type));
  bench.journal->abort(Error::system(EIO, "test"));
  EXPECT_ERROR(buffer->writable(handle), EROFS);
  EXPECT_ERROR(handle.revoke(BlockNumber(2001)), EROFS);
  handle.finish();
}

TEST(JournalTest, AReadOnlyJournalWritesNothing) {
  Bench bench({.journal = {.read_only = true}});
  ProbeDevice &probe = bench.interpose();
  ASSERT_NO_FATAL_FAILURE(bench.open(&probe));
  EXPECT_ERROR(bench.journal->start(1), EROFS);
  ASSERT_OK(bench.journal->close());
  EXPECT_EQ(probe.writes, 0);
}

TEST(JournalTest, ALogThatNeedsRecoveryIsNotOpened) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, 1));
  ASSERT_OK(bench.journal->commit_running());
  bench.journal.reset();
  ASSERT_TRUE(*needs_recovery(*bench.log));
  EXPECT_ERROR(Journal::open(*bench.cache, bench.log, {}), EINVAL);
  ASSERT_OK(recover(*bench.log, *bench.device, bench.options.blocks));
  EXPECT_OK(Journal::open(*bench.cache, bench.log, {}));
}

TEST(JournalTest, TheLargestBlocksHaveManyGroupsInATransaction) {
  Bench bench({.block_size = 65536, .log_blocks = 600, .blocks = 2100, .journal = {.commit_interval = std::chrono::hours(1), .checksum_v3 = true}});
  ASSERT_NO_FATAL_FAILURE(bench.open());
  for (std::uint64_t round = 1; round <= 8; ++round) {
    ASSIGN_OK(Handle handle, bench.journal->start(100));
    for (std::uint64_t i = 0; i < 100; ++i) ASSERT_NO_FATAL_FAILURE(bench.put(handle, 2000 + i, round));
    handle.finish();
    ASSERT_OK(bench.journal->commit_running());
  }
  const auto disk = recovered(bench);
  for (std::uint64_t i = 0; i < 100; ++i) ASSERT_EQ(bench.home_on(*disk, 2000 + i), 8U);
}

TEST(JournalTest, SequenceNumbersGoOnOverReopeningAndWrapAround) {
  Bench bench;
  ASSERT_NO_FATAL_FAILURE(bench.open());
  ASSERT_OK(bench.journal->close());
  std::vector<std::byte> block(1024);
  ASSERT_OK(bench.log->read(0, block));
  edit_as<DiskSuperblock>(block).sequence.set(0xFFFFFFF8);
  ASSERT_OK(bench.log->write(0, block));
  for (std::uint64_t round = 1; round <= 8; ++round) {
    ASSERT_NO_FATAL_FAILURE(bench.open_journal(*bench.device));
    for (int i = 0; i < 3; ++i) {
      ASSERT_NO_FATAL_FAILURE(bench.put_one(2000, round * 10 + static_cast<std::uint64_t>(i)));
      const Tid tid = bench.journal->running_tid();
      ASSERT_OK(bench.journal->commit_and_wait(tid));
      EXPECT_EQ(bench.journal->committed_tid(), tid);
    }
    bench.journal.reset();
    ASSIGN_OK(const RecoveryReport report, recover(*bench.log, *bench.device, bench.options.blocks));
    EXPECT_EQ(report.transactions, 3U);
    EXPECT_EQ(bench.home(2000), round * 10 + 2);
  }
}

// A history that is checked against a model: random handles of several threads, each owning its blocks, with commits,
// checkpoints, revokes and creations in between.
// A handle that was open before the barrier and changes its first block behind it keeps that block from going home.
TEST(JournalTest, CheckpointAllWaitsForHandlesThatHaveChangedNothingYet) {
  Bench bench;
  ProbeDevice &probe = bench.interpose();
  ASSERT_NO_FATAL_FAILURE(bench.open(&probe));
  bench.put_one(2000, 1);
  ASSERT_OK(bench.journal->commit_running());

  std::atomic<bool> opened{false}, joined{false}, behind_barrier{false};
  std::jthread late;
  const auto checkpointer = std::this_thread::get_id();
  int turn = 0;
  probe.on_flush = [&] {
    if (std::this_thread::get_id() != checkpointer) return;
    ++turn;
    if (turn == 2) {  // the bulk is home: block 2000 is committed once more, and a handle opened, before the barrier is up
      late = std::jthread([&] {
        bench.put_one(2000, 2);
        ASSERT_OK(bench.journal->commit_running());
        ASSIGN_OK(Handle handle, bench.journal->start(1));
        opened = true;
        for (int i = 0; i < 200 && !behind_barrier; ++i) std::this_thread::sleep_for(1ms);
        bench.put(handle, 2000, 3);
        joined = true;
        handle.finish();
      });
      while (!opened) std::this_thread::sleep_for(1ms);
    } else if (turn == 4) {  // the first flush behind the barrier
      behind_barrier = true;
      while (!joined) std::this_thread::sleep_for(1ms);
    }
  };
  ASSERT_OK(bench.journal->checkpoint_all());
  probe.on_flush = nullptr;
  ASSERT_GE(turn, 4);
  late.join();
  EXPECT_EQ(bench.home(2000), 3u);
}

TEST(JournalTest, RandomHandlesOfManyThreadsEndUpAsTheModelSays) {
  Bench bench({.log_blocks = 200, .journal = {.commit_interval = 3ms}});
  ASSERT_NO_FATAL_FAILURE(bench.open());
  constexpr std::uint64_t kThreads = 4, kEach = 100;
  std::array<std::array<std::uint64_t, kEach>, kThreads> model{};
  std::vector<std::jthread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (std::uint64_t i = 1; i < 1500; ++i) {
        Result<Handle> handle = bench.journal->start(4);
        ASSERT_OK(handle);
        const Tid tid = handle->tid();
        for (int k = 0; k < 4; ++k) {
          const std::uint64_t index = random() % kEach;
          const std::uint64_t block = 2000 + t * kEach + index;
          if (random() % 16 == 0) {
            // Freed and allocated again in one operation.
            ASSERT_OK(handle->revoke(BlockNumber(block)));
            Result<cache::BufferRef> buffer = bench.cache->create(BlockNumber(block), bench.type);
            ASSERT_OK(buffer);
            Result<std::span<std::byte>> bytes = (*buffer)->writable(*handle);
            ASSERT_OK(bytes);
            edit_as<le64>(*bytes).set(i);
          } else {
            bench.put(*handle, block, i);
          }
          model[t][index] = i;
        }
        if (random() % 50 == 0) {
          ASSERT_OK(handle->restart(1));
        }
        handle->finish();
        if (random() % 100 == 0) {
          ASSERT_OK(bench.journal->commit_and_wait(tid));
        }
        if (random() % 400 == 0) {
          ASSERT_OK(bench.journal->checkpoint_all());
        }
      }
    });
  }
  threads.clear();
  ASSERT_OK(bench.journal->commit_running());
  const auto disk = recovered(bench);
  ASSERT_OK(bench.journal->close());
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    for (std::uint64_t i = 0; i < kEach; ++i) {
      ASSERT_EQ(bench.home(2000 + t * kEach + i), model[t][i]);
      ASSERT_EQ(bench.home_on(*disk, 2000 + t * kEach + i), model[t][i]);
    }
  }
}

}  // namespace
}  // namespace outboard::jbd2

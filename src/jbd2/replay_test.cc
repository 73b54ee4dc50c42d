// Recovery against damaged and hostile logs. Logs that others wrote are in interchange_test.cc.
#include "jbd2/replay.h"

#include "jbd2/journal_test_support.h"
#include "jbd2/probe_device.h"

#include <algorithm>
#include <random>

namespace outboard::jbd2 {
namespace {

using testing_support::Bench;
using testing_support::BenchOptions;
using testing_support::ProbeDevice;

// Three committed transactions, nothing at home: block 2000+t has value t+1, block 2010 the number of the transaction.
class ReplayTest : public ::testing::Test {
protected:
  void make(BenchOptions options) {
    options.journal.commit_interval = std::chrono::hours(1);
    bench_ = std::make_unique<Bench>(std::move(options));
    ASSERT_NO_FATAL_FAILURE(bench_->open());
    for (std::uint64_t t = 0; t < 3; ++t) {
      ASSERT_NO_FATAL_FAILURE(bench_->put_one(2000 + t, t + 1));
      ASSERT_NO_FATAL_FAILURE(bench_->put_one(2010, t + 1));
      ASSERT_OK(bench_->journal->commit_running());
    }
    bench_->journal.reset();
  }
  // Log blocks of such a transaction t: 1+4t descriptor, +1 and +2 data, +3 commit.
  static std::uint32_t at(std::uint32_t transaction, std::uint32_t block) { return 1 + transaction * 4 + block; }

  void damage(std::uint32_t log_block, std::size_t byte) {
    std::vector<std::byte> bytes(1024);
    ASSERT_OK(bench_->log->read(log_block, bytes));
    bytes[byte] ^= std::byte{0x40};
    ASSERT_OK(bench_->log->write(log_block, bytes));
  }
  void edit_superblock(const std::function<void(DiskSuperblock &)> &edit) {
    std::vector<std::byte> bytes(1024);
    ASSERT_OK(bench_->log->read(0, bytes));
    edit(edit_as<DiskSuperblock>(bytes));
    seal_superblock(bytes);
    ASSERT_OK(bench_->log->write(0, bytes));
  }
  Result<RecoveryReport> run() { return recover(*bench_->log, *bench_->device, bench_->options.blocks); }

  // Nothing at home and the log as it was.
  void expect_untouched() {
    EXPECT_EQ(bench_->home(2000), 0U);
    EXPECT_EQ(bench_->home(2010), 0U);
    const Result<bool> needed = needs_recovery(*bench_->log);
    EXPECT_TRUE(!needed || *needed);
  }

  std::unique_ptr<Bench> bench_;
};

const BenchOptions kV3{.journal = {.checksum_v3 = true}};

TEST_F(ReplayTest, EveryCompleteTransactionIsReplayedOnce) {
  ASSERT_NO_FATAL_FAILURE(make(kV3));
  ASSIGN_OK(const RecoveryReport report, run());
  EXPECT_TRUE(report.was_needed);
  EXPECT_EQ(report.transactions, 3U);
  EXPECT_EQ(report.blocks_written, 4U);
  EXPECT_EQ(report.next_sequence, 5U);  // 1, 2 and 3 are used, 4 may have been begun
  EXPECT_EQ(bench_->home(2002), 3U);
  EXPECT_EQ(bench_->home(2010), 3U);
  ASSIGN_OK(const RecoveryReport again, run());
  EXPECT_FALSE(again.was_needed);
  EXPECT_EQ(again.next_sequence, 5U);
}

TEST_F(ReplayTest, TheLogStaysAsItIsWhenAsked) {
  ASSERT_NO_FATAL_FAILURE(make(kV3));
  ProbeDevice &probe = bench_->interpose();
  const LogArea log(probe, 1024, testing_support::log_runs(256));
  auto overlay = bench_->device->clone();
  ASSERT_OK(recover(log, *overlay, bench_->options.blocks, false));
  EXPECT_EQ(probe.writes, 0);
  EXPECT_EQ(bench_->home_on(*overlay, 2010), 3U);
  EXPECT_TRUE(*needs_recovery(*bench_->log));
}

TEST_F(ReplayTest, ATornLastCommitBlockEndsTheLogBeforeIt) {
  ASSERT_NO_FATAL_FAILURE(make(kV3));
  ASSERT_NO_FATAL_FAILURE(damage(at(2, 3), 0x10));
  ASSIGN_OK(const RecoveryReport report, run());
  EXPECT_EQ(report.transactions, 2U);
  EXPECT_EQ(bench_->home(2010), 2U);
  EXPECT_EQ(bench_->home(2002), 0U);
}

TEST_F(ReplayTest, AnUnfinishedTransactionEndsTheLogBeforeIt) {
  ASSERT_NO_FATAL_FAILURE(make(kV3));
  ASSERT_NO_FATAL_FAILURE(damage(at(2, 3), 0));       // no commit block at all
  ASSERT_NO_FATAL_FAILURE(damage(at(2, 0), 0x20));    // and a torn descriptor
  ASSIGN_OK(const RecoveryReport report, run());
  EXPECT_EQ(report.transactions, 2U);
}

TEST_F(ReplayTest, ABadCommitBlockBeforeAGoodTransactionIsCorrupt) {
  ASSERT_NO_FATAL_FAILURE(make(kV3));
  ASSERT_NO_FATAL_FAILURE(damage(at(1, 3), 0x10));
  EXPECT_ERROR(run(), EUCLEAN);
  expect_untouched();
}

TEST_F(ReplayTest, ABadDescriptorOrDataBlockOfACommittedTransactionIsCorrupt) {
  for (const std::uint32_t block : {0U, 1U, 2U}) {
    for (const std::uint32_t transaction : {0U, 1U, 2U}) {
      ASSERT_NO_FATAL_FAILURE(make(kV3));
      ASSERT_NO_FATAL_FAILURE(damage(at(transaction, block), 900));
      EXPECT_ERROR(run(), EUCLEAN) << transaction << " " << block;
      expect_untouched();
    }
  }
}

TEST_F(ReplayTest, ChecksumsOfVersion2SeeTheSame) {
  ASSERT_NO_FATAL_FAILURE(make({.incompat = 8}));
  ASSERT_NO_FATAL_FAILURE(damage(at(0, 1), 900));
  EXPECT_ERROR(run(), EUCLEAN);
  ASSERT_NO_FATAL_FAILURE(damage(at(0, 1), 900));
  EXPECT_OK(run());
}

TEST_F(ReplayTest, AsynchronousCommitsMayBeTornAtTheEndButNotBefore) {
  ASSERT_NO_FATAL_FAILURE(make({.journal = {.checksum_v3 = true}, .incompat = 4}));
  ASSERT_NO_FATAL_FAILURE(damage(at(2, 1), 900));
  ASSIGN_OK(const RecoveryReport report, run());
  EXPECT_EQ(report.transactions, 2U);
  ASSERT_NO_FATAL_FAILURE(make({.journal = {.checksum_v3 = true}, .incompat = 4}));
  ASSERT_NO_FATAL_FAILURE(damage(at(1, 1), 900));
  EXPECT_ERROR(run(), EUCLEAN);
}

TEST_F(ReplayTest, ChecksumVersion1CoversTheWholeTransaction) {
  ASSERT_NO_FATAL_FAILURE(make({.compat = 1}));
  ASSERT_NO_FATAL_FAILURE(damage(at(2, 1), 900));
  ASSIGN_OK(const RecoveryReport report, run());
  EXPECT_EQ(report.transactions, 2U);
  ASSERT_NO_FATAL_FAILURE(make({.compat = 1}));
  ASSERT_NO_FATAL_FAILURE(damage(at(0, 2), 900));
  EXPECT_ERROR(run(), EUCLEAN);
  expect_untouched();
}

TEST_F(ReplayTest, ABlockOutsideTheFileSystemIsCorruptAndNothingIsWritten) {
  ASSERT_NO_FATAL_FAILURE(make({}));
  EXPECT_ERROR(recover(*bench_->log, *bench_->device, 2010), EUCLEAN);
  expect_untouched();
}

TEST_F(ReplayTest, ABlockInsideTheLogIsCorruptAndNothingIsWritten) {
  ASSERT_NO_FATAL_FAILURE(make({}));
  std::vector<std::byte> bytes(1024);
  ASSERT_OK(bench_->log->read(at(2, 0), bytes));
  edit_as<be32>(bytes, 12).set(64 + 5);
  ASSERT_OK(bench_->log->write(at(2, 0), bytes));
  EXPECT_ERROR(run(), EUCLEAN);
  expect_untouched();
}

TEST_F(ReplayTest, GeometryAndFeaturesOfTheSuperblockAreChecked) {
  const auto refused = [this](const std::function<void(DiskSuperblock &)> &edit) {
    EXPECT_NO_FATAL_FAILURE(make(kV3));
    EXPECT_NO_FATAL_FAILURE(edit_superblock(edit));
    const Result<RecoveryReport> report = run();
    EXPECT_FALSE(report);
    EXPECT_EQ(bench_->home(2000), 0U);
    return report ? ErrorKind::user : report.error().kind();
  };
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.header.magic.set(1); }), ErrorKind::corrupt);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.header.type.set(2); }), ErrorKind::corrupt);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.block_size.set(4096); }), ErrorKind::corrupt);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.max_length.set(257); }), ErrorKind::corrupt);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.max_length.set(1); }), ErrorKind::corrupt);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.first.set(0); }), ErrorKind::corrupt);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.first.set(256); }), ErrorKind::corrupt);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.first.set(0xFFFFFFFF); }), ErrorKind::corrupt);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.start.set(256); }), ErrorKind::corrupt);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.first.set(3); }), ErrorKind::corrupt);  // start is 1
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.incompat.set(disk.incompat.get() | 0x40); }), ErrorKind::unsupported);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.ro_compat.set(1); }), ErrorKind::unsupported);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.users_count.set(2); }), ErrorKind::unsupported);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.incompat.set(0x18); }), ErrorKind::corrupt);
  EXPECT_EQ(refused([](DiskSuperblock &disk) { disk.incompat.set(disk.incompat.get() | 0x20); }), ErrorKind::corrupt);
  ASSERT_NO_FATAL_FAILURE(make(kV3));
  ASSERT_NO_FATAL_FAILURE(damage(0, 0x61));
  EXPECT_ERROR(run(), EUCLEAN);
}

TEST_F(ReplayTest, ALogFullOfOneEndlessTransactionEnds) {
  ASSERT_NO_FATAL_FAILURE(make({}));
  // Revoke blocks with the right number in every block of the ring: no commit ever.
  std::vector<std::byte> bytes(1024);
  put_header(bytes, LogBlockType::revoke, 1);
  edit_as<be32>(bytes, 12).set(16);
  for (std::uint32_t block = 1; block < 256; ++block) ASSERT_OK(bench_->log->write(block, bytes));
  ASSIGN_OK(const RecoveryReport report, run());
  EXPECT_EQ(report.transactions, 0U);
}

TEST_F(ReplayTest, ARevokeBlockThatClaimsMoreThanItHoldsIsCorrupt) {
  ASSERT_NO_FATAL_FAILURE(make({}));
  std::vector<std::byte> bytes(1024);
  put_header(bytes, LogBlockType::revoke, 4);
  edit_as<be32>(bytes, 12).set(1025);
  ASSERT_OK(bench_->log->write(at(3, 0), bytes));
  std::ranges::fill(bytes, std::byte{0});
  put_header(bytes, LogBlockType::commit, 4);
  ASSERT_OK(bench_->log->write(at(3, 1), bytes));
  EXPECT_ERROR(run(), EUCLEAN);
  expect_untouched();
}

TEST_F(ReplayTest, AReadErrorInTheLogIsReportedAndNothingIsWritten) {
  ASSERT_NO_FATAL_FAILURE(make(kV3));
  // The area claims more blocks than its device has.
  const LogArea beyond(*bench_->device, 1024, {{BlockNumber(64), 3}, {BlockNumber(1'000'000), 253}});
  EXPECT_ERROR(recover(beyond, *bench_->device, bench_->options.blocks), EIO);
  expect_untouched();
}

// Whatever stands in the log: no crash, no endless loop, no write outside the file system or into the log's own blocks.
TEST_F(ReplayTest, RandomDamageNeverDoesHarm) {
  std::mt19937 random(2024);
  int replayed = 0, refused = 0;
  for (int round = 0; round < 2000; ++round) {
    if (round % 500 == 0) {
      BenchOptions options;
      options.journal.checksum_v3 = round == 0;
      options.journal.wide_blocks = round == 500;
      options.compat = round == 1000 ? 1 : 0;
      options.incompat = round == 1500 ? 8 : 0;
      ASSERT_NO_FATAL_FAILURE(make(options));
    }
    auto disk = bench_->device->clone();
    const LogArea log(*disk, 1024, testing_support::log_runs(256));
    std::vector<std::byte> bytes(1024);
    const int hits = 1 + static_cast<int>(random() % 6);
    for (int hit = 0; hit < hits; ++hit) {
      const auto block = static_cast<std::uint32_t>(random() % 14);
      ASSERT_OK(log.read(block, bytes));
      // Mostly in the part that carries meaning.
      const std::size_t place = random() % 3 == 0 ? random() % 1024 : random() % 96;
      switch (random() % 4) {
      case 0: bytes[place] = static_cast<std::byte>(random()); break;
      case 1: bytes[place] ^= static_cast<std::byte>(1U << (random() % 8)); break;
      case 2: put_header(bytes, static_cast<LogBlockType>(1 + random() % 6), 1 + random() % 4); break;
      default:
        for (std::size_t i = 12; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(random());
      }
      if (block == 0 && random() % 2 == 0) seal_superblock(bytes);
      ASSERT_OK(log.write(block, bytes));
    }
    const auto before = disk->clone();
    const std::uint64_t block_count = 2500;
    const Result<RecoveryReport> report = recover(log, *disk, block_count);
    report ? ++replayed : ++refused;
    // [first, end): blocks before and in the log, and beyond what recovery was told is the file system.
    for (const auto &[first, end] : {std::pair{0U, 64U}, {65U, 64U + 128U}, {64U + 128U + 16U, 64U + 256U + 16U}, {2500U, 2800U}}) {
      if (first == 0 && report) continue;  // blocks before the log are the file system's
      std::vector<std::byte> now((end - first) * 1024), then(now.size());
      ASSERT_OK(disk->read(first * 1024, now));
      ASSERT_OK(before->read(first * 1024, then));
      ASSERT_EQ(now, then) << "blocks from " << first << ", round " << round;
    }
  }
  EXPECT_GT(replayed, 500);
  EXPECT_GT(refused, 300);
}

}  // namespace
}  // namespace outboard::jbd2

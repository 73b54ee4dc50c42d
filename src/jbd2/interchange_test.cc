// Logs pass between e2fsprogs and us: written by debugfs and replayed by us, written by us and replayed by e2fsck. Both
// replays must leave the same bytes.
#include "device/memory_device.h"
#include "jbd2/journal_test_support.h"
#include "jbd2/replay.h"
#include "testing/fsck_oracle.h"
#include "testing/image_builder.h"
#include "testing/kernel_mount.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <map>
#include <random>
#include <sstream>
#include <thread>

namespace outboard::jbd2 {
namespace {

using outboard::testing::TemporaryDirectory;

// Any contents; nothing to seal.
class PlainType final : public cache::BlockType {
public:
  const char *name() const override { return "plain"; }
  Status verify(BlockNumber, std::uint32_t, std::span<const std::byte>) const override { return {}; }
};

struct Variant {
  const char *name;
  std::uint32_t block_size;
  std::vector<std::string> mkfs;
  std::uint32_t checksum = 0;  // of the journal: 0, 1, 2, 3
  bool wide = false;
};

// "(0-11):24-35, (IND):36, (12-267):37-292 ..." and "(0-1023):2049-3072 ..." of debugfs's stat.
std::vector<BlockRun> parse_runs(const std::string &stat) {
  std::vector<BlockRun> runs;
  std::size_t at = stat.find("EXTENTS:");
  if (at == std::string::npos) at = stat.find("BLOCKS:");
  while (at != std::string::npos && (at = stat.find('(', at)) != std::string::npos) {
    const std::size_t colon = stat.find("):", at);
    if (colon == std::string::npos) break;
    if (std::isdigit(static_cast<unsigned char>(stat[at + 1])) != 0) {
      std::istringstream in(stat.substr(colon + 2));
      std::uint64_t first = 0, last = 0;
      char dash = 0;
      in >> first;
      last = first;
      if (in.peek() == '-') in >> dash >> last;
      runs.push_back({BlockNumber(first), static_cast<std::uint32_t>(last - first + 1)});
    }
    at = colon;
  }
  return runs;
}

class InterchangeTest : public ::testing::TestWithParam<Variant> {
protected:
  void SetUp() override {
    const Variant &variant = GetParam();
    image_ = directory_.file("image");
    ASSERT_OK(outboard::testing::make_image(image_, std::uint64_t{48} << 20, variant.mkfs, variant.block_size));
    ASSIGN_OK(const std::string stat, outboard::testing::debugfs(image_, "stat <8>"));
    runs_ = parse_runs(stat);
    ASSERT_FALSE(runs_.empty()) << stat;
    ASSIGN_OK(const std::string free, outboard::testing::debugfs(image_, "ffb 400 3000"));
    std::istringstream in(free.substr(free.find(':') + 1));
    for (std::uint64_t block = 0; in >> block;) free_.push_back(block);
    ASSERT_EQ(free_.size(), 400U) << free;
    block_count_ = (std::uint64_t{48} << 20) / variant.block_size;
    if (variant.checksum == 2) {
      ASSERT_OK(outboard::testing::debugfs_write(image_, {"jo -c -v 2", "jc"}));
    }
    if (variant.checksum == 1) {
      ASSERT_NO_FATAL_FAILURE(set_checksum_v1());
    }
  }

  // No tool turns on the oldest checksums any more.
  void set_checksum_v1() {
    ASSIGN_OK(auto device, device::MemoryDevice::from_file(image_));
    const LogArea log(*device, GetParam().block_size, runs_);
    std::vector<std::byte> block(GetParam().block_size);
    ASSERT_OK(log.read(0, block));
    edit_as<DiskSuperblock>(block).compat.set(1);
    ASSERT_OK(log.write(0, block));
    ASSERT_OK(device->save(image_));
  }

  // Replays `image_` twice, with e2fsck and with us, and compares all blocks but the superblocks (e2fsck updates its
  // fields) and the log. Gives our result.
  void replay_both_ways(std::unique_ptr<device::MemoryDevice> &ours, RecoveryReport &report) {
    const std::uint32_t size = GetParam().block_size;
    ASSIGN_OK(ours, device::MemoryDevice::from_file(image_));
    const LogArea log(*ours, size, runs_);
    ASSERT_TRUE(*needs_recovery(log));
    ASSIGN_OK(report, recover(log, *ours, block_count_));
    ASSERT_FALSE(*needs_recovery(log));

    ASSERT_OK(outboard::testing::replay_with_e2fsck(image_));
    ASSIGN_OK(auto theirs, device::MemoryDevice::from_file(image_));
    std::vector<std::byte> a(size), b(size);
    for (std::uint64_t block = 0; block < block_count_; ++block) {
      if (log.contains(BlockNumber(block)) || block == 1024 / size) continue;
      ASSERT_OK(ours->read(block * size, a));
      ASSERT_OK(theirs->read(block * size, b));
      ASSERT_EQ(a, b) << "block " << block;
    }
    // What we leave behind is consistent in e2fsck's eyes, journal included.
    const std::string replayed = directory_.file("replayed");
    ASSERT_OK(ours->save(replayed));
    ASSERT_OK(outboard::testing::debugfs_write(replayed, {"feature -needs_recovery"}));
    const auto fsck = outboard::testing::fsck(replayed);
    EXPECT_TRUE(fsck.clean) << fsck.text;
  }

  std::string random_block(std::mt19937 &random) const {
    std::string block(GetParam().block_size, '\0');
    for (char &c : block) c = static_cast<char>(random());
    if (random() % 4 == 0) block.replace(0, 4, "\xC0\x3B\x39\x98", 4);  // has to be escaped in the log
    return block;
  }

  // A log of many transactions of ours in `image_`, none of it home for certain. `model`: what must be there after replay.
  void write_our_log(std::map<std::uint64_t, std::string> &model) {
    const Variant &variant = GetParam();
    ASSERT_OK(outboard::testing::debugfs_write(image_, {"feature needs_recovery"}));
    std::mt19937 random(5);
    const PlainType type;
    {
      ASSIGN_OK(auto device, device::MemoryDevice::from_file(image_));
      cache::BufferCache cache(*device, variant.block_size, block_count_);
      ASSIGN_OK(auto journal, Journal::open(cache, LogArea(*device, variant.block_size, runs_),
                                            {.commit_interval = std::chrono::hours(1),
                                             .checksum_v3 = variant.checksum == 3,
                                             .wide_blocks = variant.wide}));
      // Many times around the log; the last transactions are small, so that a checkpoint on its way leaves them in it.
      const std::uint32_t log_blocks = LogArea(*device, variant.block_size, runs_).block_count();
      std::uint64_t last = 0;
      for (int small_ones = 0; small_ones < 5;) {
        const bool small = journal->counters().logged_blocks > log_blocks * 3 + 100;
        ASSIGN_OK(Handle handle, journal->start(150));
        if (last != 0) {
          ASSERT_OK(handle.revoke(BlockNumber(last)));
          model.erase(last);
        }
        const int count = small ? 12 : 1 + static_cast<int>(random() % 140);
        for (int i = 0; i < count; ++i) {
          const std::uint64_t block = free_[random() % free_.size()];
          if (block == last) continue;
          const std::string bytes = random_block(random);
          ASSIGN_OK(cache::BufferRef buffer, cache.create(BlockNumber(block), type));
          ASSIGN_OK(const std::span<std::byte> data, buffer->writable(handle));
          std::ranges::copy(std::as_bytes(std::span(bytes)), data.begin());
          model[block] = bytes;
          if (i == 0) last = block;
        }
        handle.finish();
        ASSERT_OK(journal->commit_running());
        small_ones += small ? 1 : 0;
      }
      ASSIGN_OK(Handle lost, journal->start(1));
      ASSIGN_OK(cache::BufferRef buffer, cache.read(BlockNumber(free_[0]), type));
      ASSERT_OK(buffer->writable(lost));  // never committed
      lost.finish();
      journal.reset();
      ASSERT_OK(device->save(image_));
    }
  }

  void expect_contents(device::BlockDevice &disk, const std::map<std::uint64_t, std::string> &model) {
    std::string found(GetParam().block_size, '\0');
    for (const auto &[block, bytes] : model) {
      ASSERT_OK(disk.read(block * GetParam().block_size, std::as_writable_bytes(std::span(found))));
      ASSERT_EQ(found, bytes) << "block " << block;
    }
  }

  TemporaryDirectory directory_;
  std::string image_;
  std::vector<BlockRun> runs_;
  std::vector<std::uint64_t> free_;
  std::uint64_t block_count_ = 0;
};

TEST_P(InterchangeTest, ALogWrittenByDebugfsIsReplayedAsE2fsckDoes) {
  const Variant &variant = GetParam();
  std::mt19937 random(3);
  const std::string open = variant.checksum >= 2 ? fmt::format("jo -c -v {}", variant.checksum) : "jo";
  std::map<std::uint64_t, std::string> model;
  std::uint64_t revoked = 0;
  for (int transaction = 0; transaction < 6; ++transaction) {
    std::string contents, list;
    const int count = 1 + static_cast<int>(random() % 12);
    for (int i = 0; i < count; ++i) {
      const std::uint64_t block = free_[random() % 40];
      const std::string bytes = random_block(random);
      model[block] = bytes;
      contents += bytes;
      list += fmt::format("{}{}", list.empty() ? "" : ",", block);
    }
    const std::string file = directory_.file(fmt::format("blocks{}", transaction));
    ASSERT_OK(outboard::testing::write_file(file, contents));
    std::string command = fmt::format("jw -b {} ", list);
    // debugfs counts revoke blocks into checksum v1, which recovery does not.
    if (transaction == 3 && variant.checksum != 1) {
      revoked = model.begin()->first;
      command += fmt::format("-r {} ", revoked);
    }
    ASSERT_OK(outboard::testing::debugfs_write(image_, {open, command + file, "jc"}));
    if (transaction == 3 && revoked != 0) model.erase(revoked);
    // A block that is logged again after its revoke counts again.
  }
  std::unique_ptr<device::MemoryDevice> ours;
  RecoveryReport report;
  ASSERT_NO_FATAL_FAILURE(replay_both_ways(ours, report));
  EXPECT_EQ(report.transactions, 6U);
  EXPECT_EQ(report.blocks_written, model.size());
  EXPECT_EQ(report.blocks_revoked > 0, revoked != 0);
  std::string found(variant.block_size, '\0');
  for (const auto &[block, bytes] : model) {
    ASSERT_OK(ours->read(block * variant.block_size, std::as_writable_bytes(std::span(found))));
    ASSERT_EQ(found, bytes) << "block " << block;
  }
}

TEST_P(InterchangeTest, AnUncommittedTransactionOfDebugfsIsNotReplayed) {
  const std::string open = GetParam().checksum >= 2 ? fmt::format("jo -c -v {}", GetParam().checksum) : "jo";
  const std::string file = directory_.file("blocks");
  ASSERT_OK(outboard::testing::write_file(file, std::string(GetParam().block_size, 'x')));
  ASSERT_OK(outboard::testing::debugfs_write(image_, {open, fmt::format("jw -b {} {}", free_[0], file), "jc"}));
  ASSERT_OK(outboard::testing::debugfs_write(image_, {open, fmt::format("jw -c -b {} {}", free_[1], file), "jc"}));
  std::unique_ptr<device::MemoryDevice> ours;
  RecoveryReport report;
  ASSERT_NO_FATAL_FAILURE(replay_both_ways(ours, report));
  EXPECT_EQ(report.transactions, 1U);
  EXPECT_EQ(report.blocks_written, 1U);
}

TEST_P(InterchangeTest, OurLogIsReplayedByE2fsckAsByUs) {
  std::map<std::uint64_t, std::string> model;
  ASSERT_NO_FATAL_FAILURE(write_our_log(model));
  std::unique_ptr<device::MemoryDevice> ours;
  RecoveryReport report;
  ASSERT_NO_FATAL_FAILURE(replay_both_ways(ours, report));
  EXPECT_GT(report.transactions, 1U);
  EXPECT_GT(report.blocks_revoked, 0U);
  ASSERT_NO_FATAL_FAILURE(expect_contents(*ours, model));
}

TEST_P(InterchangeTest, OurLogIsReplayedByTheKernel) {
  if (const std::string reason = outboard::testing::why_no_kernel_mounts(); !reason.empty()) GTEST_SKIP() << reason;
  std::map<std::uint64_t, std::string> model;
  ASSERT_NO_FATAL_FAILURE(write_our_log(model));
  {
    ASSIGN_OK(auto mount, outboard::testing::KernelMount::mount(image_, directory_.file("mnt")));
    ASSERT_OK(mount->unmount());
  }
  ASSIGN_OK(auto theirs, device::MemoryDevice::from_file(image_));
  ASSERT_NO_FATAL_FAILURE(expect_contents(*theirs, model));
  const auto fsck = outboard::testing::fsck(image_);
  EXPECT_TRUE(fsck.clean) << fsck.text;
}

// The kernel at work, the image copied from under it as a crash would leave it.
TEST_P(InterchangeTest, ALogOfTheKernelIsReplayedAsE2fsckDoes) {
  if (const std::string reason = outboard::testing::why_no_kernel_mounts(); !reason.empty()) GTEST_SKIP() << reason;
  const std::string snapshot = directory_.file("snapshot");
  {
    ASSIGN_OK(auto mount, outboard::testing::KernelMount::mount(image_, directory_.file("mnt")));
    for (int round = 0; round < 8; ++round) {
      for (int i = 0; i < 40; ++i) {
        const std::string directory = mount->file(fmt::format("d{}-{}", round, i));
        std::filesystem::create_directory(directory);
        ASSERT_OK(outboard::testing::write_file(directory + "/f", std::string(static_cast<std::size_t>(i) * 100, 'k')));
        // Directory blocks that are freed are revoked.
        if (round > 0 && i % 2 == 0) std::filesystem::remove_all(mount->file(fmt::format("d{}-{}", round - 1, i)));
      }
      ASSIGN_OK(const auto synced, outboard::testing::run_command({"sync", "-f", mount->path()}));
      ASSERT_EQ(synced.exit, 0);
    }
    std::filesystem::copy_file(image_, snapshot);
    ASSERT_OK(mount->unmount());
  }
  image_ = snapshot;
  std::unique_ptr<device::MemoryDevice> ours;
  RecoveryReport report;
  ASSERT_NO_FATAL_FAILURE(replay_both_ways(ours, report));
  EXPECT_GT(report.transactions, 0U);
}

TEST_P(InterchangeTest, AClosedJournalLeavesACleanImage) {
  const Variant &variant = GetParam();
  {
    ASSIGN_OK(auto device, device::MemoryDevice::from_file(image_));
    cache::BufferCache cache(*device, variant.block_size, block_count_);
    ASSIGN_OK(auto journal, Journal::open(cache, LogArea(*device, variant.block_size, runs_),
                                          {.checksum_v3 = variant.checksum == 3, .wide_blocks = variant.wide}));
    const PlainType type;
    ASSIGN_OK(Handle handle, journal->start(1));
    ASSIGN_OK(cache::BufferRef buffer, cache.read(BlockNumber(free_[7]), type));
    ASSIGN_OK(const std::span<std::byte> data, buffer->writable(handle));
    data[5] = std::byte{77};
    handle.finish();
    buffer = cache::BufferRef();
    ASSERT_OK(journal->close());
    ASSERT_OK(device->save(image_));
  }
  const auto fsck = outboard::testing::fsck(image_);
  EXPECT_TRUE(fsck.clean) << fsck.text;
  ASSIGN_OK(const std::string dump, outboard::testing::debugfs(image_, "logdump"));
  EXPECT_NE(dump.find("Journal starts at block 0"), std::string::npos) << dump;
}

INSTANTIATE_TEST_SUITE_P(
    Formats, InterchangeTest,
    ::testing::Values(
        Variant{"v3_64bit_4k", 4096, {"-O", "64bit,metadata_csum"}, 3, true},
        Variant{"v3_64bit_1k", 1024, {"-O", "64bit,metadata_csum", "-J", "size=1"}, 3, true},
        Variant{"v3_32bit_1k", 1024, {"-O", "^64bit,metadata_csum", "-J", "size=1"}, 3, false},
        Variant{"v2_64bit_1k", 1024, {"-O", "64bit,metadata_csum", "-J", "size=1"}, 2, true},
        Variant{"v2_32bit_4k", 4096, {"-O", "^64bit,metadata_csum"}, 2, false},
        Variant{"plain_32bit_1k", 1024, {"-O", "^64bit,^metadata_csum", "-J", "size=1"}, 0, false},
        Variant{"plain_64bit_4k", 4096, {"-O", "64bit,^metadata_csum"}, 0, true},
        Variant{"plain_ext3_1k", 1024, {"-t", "ext3", "-J", "size=1"}, 0, false},
        Variant{"v1_32bit_1k", 1024, {"-O", "^64bit,^metadata_csum", "-J", "size=1"}, 1, false},
        Variant{"v1_64bit_4k", 4096, {"-O", "64bit,^metadata_csum"}, 1, true}),
    [](const auto &instance) { return std::string(instance.param.name); });

// --- the fast-commit area, journal superblocks of version 1 ---------------------------------------------------------

TEST(InterchangeFastCommitTest, TheAreaIsNeverWrittenAndItsContentsAreRefusedWhenTheyCount) {
  TemporaryDirectory directory;
  const std::string image = directory.file("image");
  ASSERT_OK(outboard::testing::make_image(image, std::uint64_t{64} << 20, {"-O", "fast_commit", "-J", "size=5"}, 4096));
  ASSIGN_OK(const std::string stat, outboard::testing::debugfs(image, "stat <8>"));
  const std::vector<BlockRun> runs = parse_runs(stat);
  ASSIGN_OK(auto device, device::MemoryDevice::from_file(image));
  const LogArea log(*device, 4096, runs);
  std::vector<std::byte> block(4096);
  ASSERT_OK(log.read(0, block));
  edit_as<DiskSuperblock>(block).incompat.set(edit_as<DiskSuperblock>(block).incompat.get() | 0x20);
  seal_superblock(block);
  ASSERT_OK(log.write(0, block));
  ASSIGN_OK(const LogFormat format, parse_superblock(block, 4096, log.block_count()));
  ASSERT_TRUE(format.fast_commit);
  ASSERT_LT(format.end, format.max_length);
  for (std::uint32_t i = format.end; i < format.max_length; ++i) {
    ASSERT_OK(log.write(i, std::vector<std::byte>(4096, std::byte{0x77})));
  }

  const PlainType type;
  cache::BufferCache cache(*device, 4096, (std::uint64_t{64} << 20) / 4096);
  ASSIGN_OK(auto journal, Journal::open(cache, log, {.commit_interval = std::chrono::hours(1), .checksum_v3 = true, .wide_blocks = true}));
  ASSIGN_OK(const std::string free, outboard::testing::debugfs(image, "ffb 100 3000"));
  std::vector<std::uint64_t> blocks;
  std::istringstream in(free.substr(free.find(':') + 1));
  for (std::uint64_t number = 0; in >> number;) blocks.push_back(number);
  for (std::uint64_t round = 0; journal->counters().logged_blocks < 3000; ++round) {
    ASSIGN_OK(Handle handle, journal->start(100));
    for (std::uint64_t number : blocks) {
      ASSIGN_OK(cache::BufferRef buffer, cache.read(BlockNumber(number), type));
      ASSIGN_OK(const std::span<std::byte> data, buffer->writable(handle));
      edit_as<le64>(data).set(round + 1);
    }
    handle.finish();
    ASSERT_OK(journal->commit_running());
  }
  // The checkpoint in the background may have taken all but the last transaction home. Once it is idle, two small ones stay in
  // the log: it is far from half full then.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  for (int more = 0; more < 2; ++more) {
    ASSIGN_OK(Handle handle, journal->start(4));
    ASSIGN_OK(cache::BufferRef buffer, cache.read(BlockNumber(blocks.front()), type));
    ASSIGN_OK(const std::span<std::byte> data, buffer->writable(handle));
    edit_as<le64>(data).set(1);
    handle.finish();
    ASSERT_OK(journal->commit_running());
  }
  const std::uint32_t end_sequence = journal->running_tid();
  journal.reset();
  std::vector<std::byte> found(4096);
  for (std::uint32_t i = format.end; i < format.max_length; ++i) {
    ASSERT_OK(log.read(i, found));
    ASSERT_EQ(found, std::vector<std::byte>(4096, std::byte{0x77})) << "log block " << i;
  }
  {
    const auto copy = device->clone();
    const LogArea its_log(*copy, 4096, runs);
    ASSIGN_OK(const RecoveryReport report, recover(its_log, *copy, cache.block_count()));
    EXPECT_GT(report.transactions, 1U);
  }
  // A fast commit of the transaction after the last: a head and a tail with the right CRC.
  std::ranges::fill(found, std::byte{0});
  edit_as<le16>(found, 0).set(9);
  edit_as<le16>(found, 2).set(8);
  edit_as<le32>(found, 8).set(end_sequence);
  edit_as<le16>(found, 12).set(8);
  edit_as<le16>(found, 14).set(8);
  edit_as<le32>(found, 16).set(end_sequence);
  edit_as<le32>(found, 20).set(crc32c(0, std::span(found).first(20)));
  ASSERT_OK(log.write(format.end + 1, found));
  const auto before = device->clone();
  Result<RecoveryReport> refused = recover(log, *device, cache.block_count());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind(), ErrorKind::unsupported);
  // Torn, it counts for nothing.
  edit_as<le32>(found, 20).set(1);
  ASSERT_OK(log.write(format.end + 1, found));
  EXPECT_OK(recover(log, *device, cache.block_count()));
}

TEST(InterchangeVersion1Test, AVersion1SuperblockIsReplayedAndBecomesVersion2WhenUsed) {
  TemporaryDirectory directory;
  const std::string image = directory.file("image");
  ASSERT_OK(outboard::testing::make_image(image, std::uint64_t{16} << 20, {"-t", "ext3", "-J", "size=1"}, 1024));
  ASSIGN_OK(const std::string stat, outboard::testing::debugfs(image, "stat <8>"));
  const std::vector<BlockRun> runs = parse_runs(stat);
  const std::string data = directory.file("data");
  ASSERT_OK(outboard::testing::write_file(data, std::string(1024, 'q')));
  ASSERT_OK(outboard::testing::debugfs_write(image, {"jo", "jw -b 9000 " + data, "jc"}));
  ASSIGN_OK(auto device, device::MemoryDevice::from_file(image));
  const LogArea log(*device, 1024, runs);
  std::vector<std::byte> block(1024);
  ASSERT_OK(log.read(0, block));
  edit_as<be32>(block, 4).set(3);
  std::ranges::fill(std::span(block).subspan(0x24), std::byte{0xEE});  // undefined in version 1
  ASSERT_OK(log.write(0, block));
  ASSIGN_OK(const RecoveryReport report, recover(log, *device, 16384));
  EXPECT_EQ(report.transactions, 1U);
  ASSERT_OK(device->read(9000 * 1024, block));
  EXPECT_EQ(block[0], std::byte{'q'});

  const PlainType type;
  cache::BufferCache cache(*device, 1024, 16384);
  ASSIGN_OK(auto journal, Journal::open(cache, log, {}));
  ASSIGN_OK(Handle handle, journal->start(1));
  ASSIGN_OK(cache::BufferRef buffer, cache.read(BlockNumber(9001), type));
  ASSERT_OK(buffer->writable(handle));
  ASSERT_OK(handle.revoke(BlockNumber(9002)));
  handle.finish();
  ASSERT_OK(journal->close());
  ASSERT_OK(device->save(image));
  ASSERT_OK(outboard::testing::debugfs_write(image, {"feature -needs_recovery"}));
  const auto fsck = outboard::testing::fsck(image);
  EXPECT_TRUE(fsck.clean) << fsck.text;
  ASSERT_OK(log.read(0, block));
  EXPECT_EQ(view_as<be32>(block, 4).get(), 4U);
}

}  // namespace
}  // namespace outboard::jbd2

// What direct writes into preallocated (unwritten) space cost beside direct writes into written space: requests to the
// device and transactions, counted. Conversion is put off and merged, so that there is next to no difference.
#include "testing/write_log_device.h"
#include "vfs/test_volume.h"

#include <random>

namespace outboard::vfs {
namespace {

using namespace std::chrono_literals;

struct Cost {
  std::uint64_t requests = 0;      // writes and flushes
  std::uint64_t transactions = 0;  // that had changes
  std::uint64_t logged_blocks = 0;
};

constexpr std::uint64_t kFileBytes = std::uint64_t{24} << 20;
constexpr std::size_t kPiece = 4096;
constexpr int kWrites = 4000;

Cost random_direct_writes(bool preallocated, int sync_every) {
  outboard::testing::TemporaryDirectory directory;
  const std::string path = directory.file("image");
  EXPECT_OK(outboard::testing::make_image(path, std::uint64_t{64} << 20, {}));
  auto memory = device::MemoryDevice::from_file(path);
  EXPECT_OK(memory);
  testing::WriteLogDevice log(*std::move(memory));
  MountedVolumeOptions options;
  options.volume.commit_interval = 1h;
  auto volume = MountedVolume::open(log, options);
  EXPECT_OK(volume);
  const auto made = (*volume)->make_node(kRootNode, "f", 0100644, 0, Caller{});
  EXPECT_OK(made);
  if (preallocated) {
    EXPECT_OK((*volume)->allocate(made->node, 0, kFileBytes, 0));
  } else {
    const std::string filler(1 << 20, 'x');
    for (std::uint64_t at = 0; at < kFileBytes; at += filler.size())
      EXPECT_EQ((*volume)->write(made->node, at, bytes_of(filler), {}).value_or(0), filler.size());
  }
  EXPECT_OK((*volume)->sync_all());

  const std::uint64_t from = log.position();
  const auto before = (*volume)->volume().journal().counters();
  std::mt19937 random(11);
  std::vector<int> newest(kFileBytes / kPiece, -1);
  for (int i = 0; i < kWrites; ++i) {
    const std::uint64_t block = random() % newest.size();
    const std::string piece(kPiece, static_cast<char>('a' + i % 26));
    EXPECT_EQ((*volume)->write(made->node, block * kPiece, bytes_of(piece), {.direct = true}).value_or(0), kPiece);
    newest[block] = i;
    if (i % sync_every == sync_every - 1) {
      EXPECT_OK((*volume)->sync(made->node, false));
    }
  }
  EXPECT_OK((*volume)->sync_all());
  const auto after = (*volume)->volume().journal().counters();
  const Cost cost{(log.position() - from) / 2, after.commits - before.commits + after.fast_commits - before.fast_commits,
                  after.logged_blocks - before.logged_blocks};

  // Nothing of it is for nothing: the file is what was written.
  std::string piece(kPiece, '\0');
  for (std::size_t block = 0; block < newest.size(); block += 7) {
    EXPECT_EQ((*volume)->read(made->node, block * kPiece, std::as_writable_bytes(std::span(piece))).value_or(0), kPiece);
    const char expected = newest[block] >= 0 ? static_cast<char>('a' + newest[block] % 26) : preallocated ? '\0' : 'x';
    EXPECT_EQ(piece, std::string(kPiece, expected)) << block;
  }
  EXPECT_OK((*volume)->unmount());
  volume->reset();
  const auto report = outboard::testing::fsck(log);
  EXPECT_TRUE(report.clean) << report.text;
  return cost;
}

void compare(int sync_every) {
  const Cost written = random_direct_writes(false, sync_every), unwritten = random_direct_writes(true, sync_every);
  SCOPED_TRACE(fmt::format("written: {} requests, {} transactions, {} logged blocks; unwritten: {}, {}, {}", written.requests,
                           written.transactions, written.logged_blocks, unwritten.requests, unwritten.transactions,
                           unwritten.logged_blocks));
  EXPECT_GE(written.requests, std::uint64_t{kWrites});
  EXPECT_LE(static_cast<double>(unwritten.requests), 1.15 * static_cast<double>(written.requests));
  EXPECT_LE(static_cast<double>(unwritten.transactions), 1.15 * static_cast<double>(written.transactions) + 1);
  std::puts(fmt::format("sync every {}: requests {:.3f}, transactions {} to {}", sync_every,
                        static_cast<double>(unwritten.requests) / static_cast<double>(written.requests),
                        unwritten.transactions, written.transactions)
                .c_str());
}

TEST(UnwrittenCost, RandomDirectWritesIntoPreallocatedSpaceCostWhatOverwritesCost) { compare(kWrites); }
TEST(UnwrittenCost, AlsoWhenSyncedEveryFewHundred) { compare(400); }

}  // namespace
}  // namespace outboard::vfs

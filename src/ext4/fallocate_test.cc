// Truncation and fallocate against an array of bytes, on extent files and, where they exist there, on block maps.
#include "ext4/map_test_support.h"

namespace outboard::ext4 {
namespace {

constexpr std::uint32_t kBlock = 1024;
constexpr std::uint64_t kMost = 300 * kBlock;

class Bytes {
public:
  std::vector<std::byte> bytes;
  void resize(std::uint64_t size) { bytes.resize(size); }
  void zero(std::uint64_t from, std::uint64_t end) {
    end = std::min<std::uint64_t>(end, bytes.size());
    if (from < end) std::fill(at(from), at(end), std::byte{0});
  }
  std::vector<std::byte>::iterator at(std::uint64_t n) { return bytes.begin() + static_cast<std::ptrdiff_t>(n); }
};

// One random operation on both. Returns its name.
std::string change(MapVolume &volume, Inode &inode, Bytes &model, Random &random, bool extents) {
  const std::uint64_t offset = random() % kMost, length = 1 + random() % (60 * kBlock);
  const std::uint64_t blocks_at = offset / kBlock * kBlock, blocks = (1 + random() % 20) * kBlock;
  const std::uint64_t size = model.bytes.size();
  const bool keep = random() % 2 == 0;
  const auto grow = [&](std::uint64_t end) {
    if (!keep && end > model.bytes.size()) model.resize(end);
  };
  switch (random() % (extents ? 8 : 4)) {
  case 0: {
    const auto data = random_bytes(length, random());
    EXPECT_EQ(volume.write(inode, offset, data).value_or(0), data.size());
    if (model.bytes.size() < offset + length) model.resize(offset + length);
    std::copy(data.begin(), data.end(), model.at(offset));
    return "write";
  }
  case 1: {
    const std::uint64_t new_size = random() % 10 == 0 ? 0 : offset;
    EXPECT_OK(truncate::set_size(*volume, inode, new_size));
    model.resize(new_size);
    return "set_size";
  }
  case 2: {
    const auto data = random_bytes(1 + length % 3000, random());
    EXPECT_EQ(volume.write(inode, size, data).value_or(0), data.size());
    model.resize(size + data.size());
    std::copy(data.begin(), data.end(), model.at(size));
    return "append";
  }
  case 3:
    EXPECT_OK(truncate::punch_hole(*volume, inode, {offset, length}));
    model.zero(offset, offset + length);
    return "punch";
  case 4:
    EXPECT_OK(truncate::preallocate(*volume, inode, {offset, length}, keep));
    grow(offset + length);
    return "preallocate";
  case 5:
    EXPECT_OK(truncate::zero_range(*volume, inode, {offset, length}, keep));
    grow(offset + length);
    model.zero(offset, offset + length);
    return "zero";
  case 6:
    if (blocks_at + blocks >= size) {
      EXPECT_ERROR(truncate::collapse_range(*volume, inode, {blocks_at, blocks}), EINVAL);
      return "no collapse";
    }
    EXPECT_OK(truncate::collapse_range(*volume, inode, {blocks_at, blocks}));
    model.bytes.erase(model.at(blocks_at), model.at(blocks_at + blocks));
    return "collapse";
  default:
    if (blocks_at >= size) {
      EXPECT_ERROR(truncate::insert_range(*volume, inode, {blocks_at, blocks}), EINVAL);
      return "no insert";
    }
    if (size > kMost) return "too large";
    EXPECT_OK(truncate::insert_range(*volume, inode, {blocks_at, blocks}));
    model.bytes.insert(model.at(blocks_at), blocks, std::byte{0});
    return "insert";
  }
}

class FallocateTest : public ::testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(Kinds, FallocateTest, ::testing::Values("ext2", "ext3", "ext4"),
                         [](const auto &parameter) { return std::string(parameter.param); });

TEST_P(FallocateTest, RandomOperationsAgreeWithAnArrayAndE2fsck) {
  const bool extents = std::string_view(GetParam()) == "ext4";
  for (unsigned seed = 1; seed <= 4; ++seed) {
    MapVolume volume(24 << 20, {"-t", GetParam()}, kBlock);
    ASSERT_TRUE(volume.open());
    Inode inode = volume.create("f");
    Bytes model;
    Random random(seed);
    for (unsigned round = 0; round < 250; ++round) {
      const std::string what = change(volume, inode, model, random, extents);
      ASSERT_FALSE(HasFailure()) << "seed " << seed << " round " << round << " " << what;
      ASSERT_EQ(inode.fields.size, model.bytes.size()) << "seed " << seed << " round " << round << " " << what;
      ASSERT_TRUE(volume.read(inode) == model.bytes) << "seed " << seed << " round " << round << " " << what;
    }
    volume.close_and_expect_clean();
    const std::string image = volume.saved(), out = volume.host_file("out");
    ASSERT_OK(testing::debugfs(image, "dump f " + out));
    const auto dumped = testing::read_file(out);
    ASSERT_OK(dumped);
    EXPECT_TRUE(bytes_of(*dumped) == model.bytes);
    ASSERT_TRUE(volume.open());
    inode = volume.find("f");
    EXPECT_TRUE(volume.read(inode) == model.bytes);
    volume.remove("f");
    volume.close_and_expect_clean();
  }
}

// Deep trees: thousands of extents, so that leaves and index nodes split, empty and shift.
TEST(FallocateDeepTest, CollapseAndInsertInAFragmentedFile) {
  MapVolume volume(64 << 20, {}, kBlock);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  std::vector<std::byte> model(8000 * kBlock);
  const auto piece = random_bytes(kBlock, 1);
  for (std::uint32_t n = 0; n < 4000; ++n) {
    auto mine = piece;
    mine[0] = std::byte(n);
    mine[1] = std::byte(n >> 8);
    ASSERT_EQ(volume.write(inode, std::uint64_t{2} * n * kBlock, mine).value_or(0), kBlock);
    std::copy(mine.begin(), mine.end(), model.begin() + static_cast<std::ptrdiff_t>(2 * n * kBlock));
  }
  model.resize(inode.fields.size);
  const auto at = [&](std::uint64_t n) { return model.begin() + static_cast<std::ptrdiff_t>(n); };
  Random random(3);
  for (unsigned round = 0; round < 40; ++round) {
    const std::uint64_t offset = random() % 7000 * kBlock, length = (1 + random() % 300) * kBlock;
    if (round % 2 == 0) {
      if (offset + length >= model.size()) continue;
      ASSERT_OK(truncate::collapse_range(*volume, inode, {offset, length}));
      model.erase(at(offset), at(offset + length));
    } else {
      ASSERT_OK(truncate::insert_range(*volume, inode, {offset, length}));
      model.insert(at(offset), length, std::byte{0});
    }
    ASSERT_EQ(inode.fields.size, model.size());
    if (round % 8 == 7) {
      ASSERT_TRUE(volume.read(inode) == model) << round;
    }
  }
  EXPECT_TRUE(volume.read(inode) == model);
  volume.close_and_expect_clean();
}

TEST(FallocateErrorsTest, LimitsAndMisalignment) {
  MapVolume volume(24 << 20, {}, kBlock);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  const auto data = random_bytes(10 * kBlock, 1);
  ASSERT_EQ(volume.write(inode, 0, data).value_or(0), data.size());
  const std::uint64_t most = volume->geometry().max_extent_file_size();
  EXPECT_ERROR(truncate::set_size(*volume, inode, most + 1), EFBIG);
  EXPECT_ERROR(truncate::preallocate(*volume, inode, {most, 5}, false), EFBIG);
  EXPECT_ERROR(truncate::preallocate(*volume, inode, {5, ~0ull}, false), EFBIG);
  EXPECT_ERROR(truncate::preallocate(*volume, inode, {5, 0}, false), EINVAL);
  EXPECT_ERROR(truncate::collapse_range(*volume, inode, {5, kBlock}), EINVAL);
  EXPECT_ERROR(truncate::collapse_range(*volume, inode, {0, 10 * kBlock}), EINVAL);
  EXPECT_ERROR(truncate::insert_range(*volume, inode, {0, 100}), EINVAL);
  EXPECT_ERROR(truncate::insert_range(*volume, inode, {0, most / kBlock * kBlock}), EFBIG);
  EXPECT_ERROR(volume.write(inode, most + 1, data), EFBIG);
  EXPECT_ERROR(truncate::preallocate(*volume, inode, {0, 1ull << 32}, false), ENOSPC);
  EXPECT_EQ(inode.fields.size, data.size());
  EXPECT_TRUE(volume.read(inode) == data);
  // A file may be as large as that, with its last block in use.
  ASSERT_OK(truncate::set_size(*volume, inode, most));
  EXPECT_EQ(volume.write(inode, most - 3, std::span(data).first(3)).value_or(0), 3u);
  EXPECT_ERROR(truncate::insert_range(*volume, inode, {0, kBlock}), EFBIG);
  Inode directory = *volume->inodes().load(format::kRootInode);
  EXPECT_ERROR(truncate::set_size(*volume, directory, 0), EISDIR);
  volume.close_and_expect_clean();
}

TEST(TruncateTest, BytesBehindTheEndNeverComeBack) {
  for (const char *kind : {"ext2", "ext4"}) {
    MapVolume volume(24 << 20, {"-t", kind}, kBlock);
    ASSERT_TRUE(volume.open());
    Inode inode = volume.create("f");
    const auto data = random_bytes(3 * kBlock, 1);
    ASSERT_EQ(volume.write(inode, 0, data).value_or(0), data.size());
    ASSERT_OK(truncate::set_size(*volume, inode, kBlock + 100));
    // The disk itself: another driver may extend without looking.
    const FileMapping last = *file_map::find(*volume, inode, FileBlock(1), 1);
    std::vector<std::byte> block(kBlock);
    ASSERT_OK(volume.device().read(last.start.value() * kBlock, block));
    EXPECT_TRUE(std::all_of(block.begin() + 100, block.end(), [](std::byte b) { return b == std::byte{0}; }));
    EXPECT_FALSE(inode.on_orphan_list);
    // Somebody leaves something there after all; growing by truncation, by a write further on, and by preallocation.
    const auto garbage = random_bytes(kBlock, 2);
    for (int way = 0; way < (std::string_view(kind) == "ext4" ? 4 : 2); ++way) {
      ASSERT_OK(truncate::set_size(*volume, inode, kBlock + 100));
      ASSERT_OK(volume.device().write(last.start.value() * kBlock + 100, std::span(garbage).first(kBlock - 100)));
      if (way == 0) {
        ASSERT_OK(truncate::set_size(*volume, inode, 5 * kBlock));
      } else if (way == 1) {
        ASSERT_EQ(volume.write(inode, kBlock + 300, std::span(data).first(10)).value_or(0), 10u);
      } else if (way == 2) {
        ASSERT_OK(truncate::preallocate(*volume, inode, {kBlock + 500, 2 * kBlock}, false));
      } else {
        ASSERT_OK(truncate::zero_range(*volume, inode, {2 * kBlock, kBlock}, false));
      }
      const auto bytes = volume.read(inode);
      for (std::uint64_t at = kBlock + 100; at < bytes.size(); ++at) {
        if (way == 1 && at >= kBlock + 300) break;
        ASSERT_EQ(bytes[at], std::byte{0}) << kind << way << " " << at;
      }
    }
    volume.close_and_expect_clean();
  }
}

TEST(TruncateTest, PreallocationBehindTheEndStaysUntilATruncation) {
  MapVolume volume(24 << 20, {}, kBlock);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  ASSERT_OK(truncate::preallocate(*volume, inode, {0, 100 * kBlock}, true));
  EXPECT_EQ(inode.fields.size, 0u);
  EXPECT_EQ(inode.fields.sectors, 200u);
  volume.close_and_expect_clean();
  ASSERT_TRUE(volume.open());
  inode = volume.find("f");
  const auto data = random_bytes(5000, 1);
  ASSERT_EQ(volume.write(inode, 0, data).value_or(0), data.size());
  EXPECT_EQ(inode.fields.sectors, 200u);
  EXPECT_TRUE(volume.read(inode) == data);
  ASSERT_OK(truncate::set_size(*volume, inode, 5000));
  EXPECT_EQ(inode.fields.sectors, 10u);
  volume.close_and_expect_clean();
}

}  // namespace
}  // namespace outboard::ext4

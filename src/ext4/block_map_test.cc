#include "ext4/block_map.h"

#include "ext4/map_test_support.h"

namespace outboard::ext4 {
namespace {

// With 1k blocks: where the single, double and triple indirect parts begin, and a stretch on both sides of each.
constexpr std::uint32_t kSingle = 12, kDouble = 12 + 256, kTriple = 12 + 256 + 256 * 256;
constexpr std::uint32_t kEnd = kTriple + 3 * 65536;

std::uint32_t somewhere(Random &random) {
  constexpr std::array<std::uint32_t, 8> kStarts{0,
                                                 kSingle - 5,
                                                 kDouble - 20,
                                                 kDouble + 3000,
                                                 kTriple - 300,
                                                 kTriple + 500,
                                                 kTriple + 65536 - 100,
                                                 kTriple + 2 * 65536 + 7};
  return kStarts[random() % kStarts.size()] + random() % 600;
}

class BlockMapTest : public ::testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(Kinds, BlockMapTest, ::testing::Values("ext2", "ext3"),
                         [](const auto &parameter) { return std::string(parameter.param); });

TEST_P(BlockMapTest, RandomChangesAgreeWithAModelAndE2fsck) {
  MapVolume volume(48 << 20, {"-t", GetParam()}, 1024);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  ASSERT_FALSE(inode.fields.uses_extents());
  ASSERT_OK(volume.set_size_field(inode, std::uint64_t{kEnd} * 1024));
  MapModel model(volume, inode);
  Random random(1);
  for (unsigned round = 0; round < 2500; ++round) {
    const std::uint32_t at = somewhere(random);
    if (random() % 4 == 0) {
      ASSERT_OK(model.remove(at, at + 1 + random() % (random() % 10 == 0 ? 70000 : 60)));
    } else if (!model.blocks().contains(at)) {
      ASSERT_OK(model.insert(at, 1 + random() % 30, false));
    }
    if (round % 500 == 0) model.expect_equal(kEnd);
    if (HasFatalFailure()) return;
  }
  model.expect_equal(kEnd);
  volume.close_and_expect_clean();
  ASSERT_TRUE(volume.open());
  inode = volume.find("f");
  model.expect_equal(kEnd);
  EXPECT_ERROR(file_map::find(*volume, inode, FileBlock(kTriple + 256 * 65536), 1), EFBIG);
  ASSERT_OK(model.remove(0, kEnd));
  EXPECT_EQ(inode.fields.sectors, 0u);
  EXPECT_TRUE(std::ranges::all_of(inode.fields.block, [](std::byte b) { return b == std::byte{0}; }));
  volume.close_and_expect_clean();
}

TEST_P(BlockMapTest, BytesWrittenEverywhereAreWhatDebugfsReads) {
  MapVolume volume(48 << 20, {"-t", GetParam()}, 1024);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  std::vector<std::byte> model;
  Random random(2);
  for (const std::uint64_t at : {std::uint64_t{3000}, std::uint64_t{kDouble} * 1024 - 5000,
                                 std::uint64_t{kTriple} * 1024 - 77777, std::uint64_t{200}}) {
    const auto data = random_bytes(200000 + random() % 5000, static_cast<unsigned>(at));
    ASSERT_EQ(volume.write(inode, at, data).value_or(0), data.size());
    if (model.size() < at + data.size()) model.resize(at + data.size());
    std::copy(data.begin(), data.end(), model.begin() + static_cast<std::ptrdiff_t>(at));
  }
  EXPECT_EQ(volume.read(inode), model);
  volume.close_and_expect_clean();
  const std::string image = volume.saved(), out = volume.host_file("out");
  ASSERT_OK(testing::debugfs(image, "dump f " + out));
  const auto dumped = testing::read_file(out);
  ASSERT_OK(dumped);
  EXPECT_TRUE(bytes_of(*dumped) == model);
}

TEST_P(BlockMapTest, WhatDebugfsWroteIsReadAndDeleted) {
  testing::TemporaryDirectory directory;
  const auto data = random_bytes(900000, 3);
  ASSERT_OK(testing::write_file(directory.file("in"), text_of(data)));
  MapVolume volume(48 << 20, {"-t", GetParam()}, 1024, {"write " + directory.file("in") + " f"});
  ASSERT_TRUE(volume.open());
  Inode inode = volume.find("f");
  EXPECT_TRUE(volume.read(inode) == data);
  volume.remove("f");
  volume.close_and_expect_clean();
}

TEST(BlockMapTest, PreallocationIsRefused) {
  MapVolume volume(16 << 20, {"-t", "ext3"}, 1024);
  ASSERT_TRUE(volume.open());
  Inode inode = volume.create("f");
  EXPECT_ERROR(truncate::preallocate(*volume, inode, {0, 10000}, false), EOPNOTSUPP);
  EXPECT_ERROR(truncate::zero_range(*volume, inode, {0, 10000}, false), EOPNOTSUPP);
  EXPECT_EQ(inode.fields.sectors, 0u);
  volume.close_and_expect_clean();
}

TEST(BlockMapTest, HostilePointersAreCorruptAndNothingElse) {
  MapVolume source(24 << 20, {"-t", "ext2"}, 1024);
  ASSERT_TRUE(source.open());
  Inode inode = source.create("f");
  const auto data = random_bytes(3 << 20, 4);
  ASSERT_EQ(source.write(inode, 0, data).value_or(0), data.size());
  ASSERT_EQ(source.write(inode, std::uint64_t{kTriple} * 1024, std::span(data).first(500000)).value_or(0), 500000u);
  source.close();
  const std::unique_ptr<device::MemoryDevice> pristine = source.device().clone();
  // Indirect blocks: ascending pointers in the first words.
  std::vector<std::uint64_t> nodes;
  std::vector<std::byte> block(1024);
  const auto word = [&](std::size_t n) { return view_as<le32>(block, n * 4).get(); };
  for (std::uint64_t at = 100; at < (24 << 10); ++at) {
    ASSERT_OK(pristine->read(at * 1024, block));
    if (word(0) > 100 && word(0) < (24 << 10) &&
        (word(1) == word(0) + 1 || (word(1) > word(0) && word(1) < (24 << 10) && word(200) == 0)))
      nodes.push_back(at);
  }
  ASSERT_GE(nodes.size(), 10u);
  Random random(8);
  unsigned corrupt = 0;
  set_log_level(LogLevel::error);
  for (unsigned round = 0; round < 100; ++round) {
    auto broken = pristine->clone();
    const std::uint64_t at = nodes[random() % nodes.size()];
    ASSERT_OK(broken->read(at * 1024, block));
    for (unsigned n = 0; n < 3; ++n) {
      auto &pointer = edit_as<le32>(block, 4 * (random() % 256));
      const std::array<std::uint32_t, 5> values{static_cast<std::uint32_t>(at), 2, 0xffffffff,
                                                static_cast<std::uint32_t>(random() % (24 << 10)), 0};
      pointer.set(values[random() % values.size()]);
    }
    ASSERT_OK(broken->write(at * 1024, block));
    MapVolume volume(std::move(broken));
    ASSERT_TRUE(volume.open({.errors = ErrorPolicy::continue_}));
    Inode victim = volume.find("f");
    for (std::uint32_t from = 0; from < kTriple + 1000;) {
      const Result<FileMapping> found = file_map::find(*volume, victim, FileBlock(from), 4000);
      if (!found) {
        EXPECT_TRUE(found.error().is_corrupt()) << found.error().message();
      }
      if (!found) ++corrupt;
      from += found ? found->count : 100;
    }
    for (const auto &attempt : {truncate::punch_hole(*volume, victim, {5000, 900000}),
                                truncate::set_size(*volume, victim, 70000), truncate::delete_inode(*volume, victim)})
      if (!attempt) {
        EXPECT_TRUE(attempt.error().is_corrupt() || attempt.error().is(EROFS)) << attempt.error().message();
      }
  }
  set_log_level(LogLevel::info);
  EXPECT_GT(corrupt, 10u);
}

}  // namespace
}  // namespace outboard::ext4

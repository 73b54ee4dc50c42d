// `outboard info --extents`: what debugfs says of the same maps.
#include "support/mounts.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace outboard::tests {
namespace {

class ExtentsCommand : public ::testing::Test {
protected:
  testing::CommandResult info(std::vector<std::string> words) {
    words.insert(words.begin(), {outboard_program(), "info"});
    auto result = testing::run_command(words);
    EXPECT_OK(result);
    return result.value_or(testing::CommandResult{});
  }
  // The device block behind a block of a file, as debugfs has it.
  std::string block_of(const std::string &path, unsigned block) {
    auto answer = testing::debugfs(image_, fmt::format("bmap {} {}", path, block));
    EXPECT_OK(answer);
    return answer ? answer->substr(0, answer->find('\n')) : "";
  }
  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
};

TEST_F(ExtentsCommand, ListsExtentsHolesAndUnwrittenBlocksAsDebugfsHasThem) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{16} << 20, {}, 1024));
  ASSERT_OK(testing::write_file(work_.file("whole"), std::string(10 * 1024, 'w')));
  ASSERT_OK(
      testing::debugfs_write(image_, {"write " + work_.file("whole") + " whole", "mkdir below",
                                      "write " + work_.file("whole") + " below/holed", "punch below/holed 3 4",
                                      "fallocate below/holed 20 24", "symlink link whole", "ln below/holed again"}));
  const auto one = info({"--extents", image_, "/whole"});
  EXPECT_EQ(one.exit, 0) << one.err;
  const std::string first = block_of("/whole", 0), last = block_of("/whole", 9);
  EXPECT_NE(one.out.find(fmt::format("0         0..         9 {:>11}..{:>12}       10  last\n", first, last)),
            std::string::npos)
      << one.out;
  EXPECT_NE(one.out.find("/whole: 1 extents\ntotal: 1 extents in 1 files\n"), std::string::npos) << one.out;

  const auto holed = info({"--extents", image_, "/below/holed"});
  EXPECT_NE(holed.out.find(fmt::format("0         0..         2 {:>11}..", block_of("/below/holed", 0))),
            std::string::npos)
      << holed.out;
  EXPECT_NE(holed.out.find(fmt::format("1         5..         9 {:>11}..", block_of("/below/holed", 5))),
            std::string::npos)
      << holed.out;
  EXPECT_NE(holed.out.find("2        20..        24"), std::string::npos) << holed.out;
  EXPECT_NE(holed.out.find("  unwritten,last\n"), std::string::npos) << holed.out;
  EXPECT_NE(holed.out.find("/below/holed: 3 extents\n"), std::string::npos) << holed.out;

  // A file counts once, whatever names it has; links and directories do not count.
  const auto all = info({"--extents", image_});
  EXPECT_EQ(all.exit, 0) << all.err;
  EXPECT_NE(all.out.find("total: 4 extents in 2 files\n"), std::string::npos) << all.out;
  EXPECT_NE(info({"--extents", image_, "/link"}).out.find("total: 1 extents in 1 files\n"), std::string::npos);
  EXPECT_NE(info({"--extents", image_, "/below"}).out.find("total: 3 extents in 1 files\n"), std::string::npos);
}

TEST_F(ExtentsCommand, ListsBlockMapsAndFilesOfManyExtents) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{64} << 20, {"-t", "ext3"}, 1024));
  ASSERT_OK(testing::write_file(work_.file("large"), std::string(600 * 1024, 'w')));
  std::vector<std::string> requests = {"write " + work_.file("large") + " large"};
  for (unsigned block = 1; block < 500; block += 2) requests.push_back(fmt::format("punch large {} {}", block, block));
  ASSERT_OK(testing::debugfs_write(image_, requests));
  const auto result = info({"--extents", image_, "/large"});
  EXPECT_EQ(result.exit, 0) << result.err;
  EXPECT_NE(result.out.find(fmt::format("    7        14..        14 {:>11}..", block_of("/large", 14))),
            std::string::npos)
      << result.out;
  EXPECT_NE(result.out.find("last\n"), std::string::npos) << result.out;
  // 250 single blocks, and the rest in as many pieces as indirect blocks make of it.
  unsigned count = 0;
  ASSERT_EQ(std::sscanf(result.out.c_str() + result.out.rfind("total:"), "total: %u extents", &count), 1);
  EXPECT_GE(count, 250u);
  EXPECT_LE(count, 256u);
}

TEST_F(ExtentsCommand, WhatIsNotThereOrNotAskedForIsOneLine) {
  ASSERT_OK(testing::make_image(image_, std::uint64_t{16} << 20));
  const auto missing = info({"--extents", image_, "/nothing"});
  EXPECT_EQ(missing.exit, 2);
  EXPECT_EQ(std::count(missing.err.begin(), missing.err.end(), '\n'), 1) << missing.err;
  const auto without = info({image_, "/nothing"});
  EXPECT_EQ(without.exit, 1);
  EXPECT_NE(without.err.find("--extents"), std::string::npos) << without.err;
  EXPECT_NE(info({"--help"}).out.find("--extents"), std::string::npos);
}

}  // namespace
}  // namespace outboard::tests

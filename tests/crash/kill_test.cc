// The server is killed at any instant: the next mount -- ours or the kernel's -- replays the journal, e2fsck is content,
// and everything acknowledged by fsync is there.
#include "crash/promises.h"
#include "support/mounts.h"
#include "testing/expect.h"

#include <chrono>
#include <cstdlib>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <random>
#include <thread>

namespace outboard::tests {
namespace {

struct Variant {
  const char *name;
  std::vector<std::string> mkfs;
  std::vector<std::string> options = {};  // of our mounts
};

class Kill : public ::testing::TestWithParam<Variant> {};

TEST_P(Kill, NothingAcknowledgedIsLostWhenTheServerIsKilled) {
  if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
  const char *asked = std::getenv("OUTBOARD_KILL_ROUNDS");
  const unsigned rounds = asked != nullptr ? static_cast<unsigned>(std::strtoul(asked, nullptr, 10)) : 30;
  testing::TemporaryDirectory work;
  const std::string image = work.file("disk.img");
  ASSERT_OK(testing::make_image(image, std::uint64_t{512} << 20, GetParam().mkfs, 0));
  const std::string live = work.file("live");
  Workload load(live);
  std::mt19937_64 random(4711);
  for (unsigned round = 1; round <= rounds; ++round) {
    SCOPED_TRACE(fmt::format("round {}", round));
    {
      OutboardMount mount(image, live, GetParam().options);
      ASSERT_TRUE(mount.mounted());
      if (round == 1) load.prepare();
      load.start(round);
      std::this_thread::sleep_for(std::chrono::milliseconds(50 + random() % 400));
      mount.kill();
      load.stop();
    }
    if (round % 2 == 1) {
      KernelMount mount(image, work.file("kernel"));
      ASSERT_TRUE(mount.mounted());
      ASSERT_EQ(load.broken_promises(mount.path()), std::vector<std::string>{}) << "after the kernel's replay";
      ASSERT_EQ(mount.unmount(), "");
    } else {
      OutboardMount mount(image, work.file("ours"));
      ASSERT_TRUE(mount.mounted());
      ASSERT_EQ(load.broken_promises(mount.path()), std::vector<std::string>{}) << "after our replay: " << mount.log();
      ASSERT_EQ(mount.unmount(), "");
    }
    ASSERT_EQ(fsck_complaint(image), "");
  }
  fmt::print("kill {}: {} rounds, {} operations, {} promises, all kept\n", GetParam().name, rounds, load.operations(), load.promises());
  EXPECT_GT(load.promises(), rounds);
}

INSTANTIATE_TEST_SUITE_P(Images, Kill,
                         ::testing::Values(Variant{"ext4", {}}, Variant{"ext4_1k_orphan_file", {"-b", "1024", "-O", "orphan_file"}},
                                           Variant{"ext3", {"-t", "ext3"}}, Variant{"ext4_data_journal", {}, {"data=journal"}}),
                         [](const auto &param) { return param.param.name; });

}  // namespace
}  // namespace outboard::tests

#include "testing/crash_states.h"

#include "testing/expect.h"

#include <set>

namespace outboard::testing {
namespace {

using device::MemoryDevice;

constexpr std::size_t kBlock = 4096;

// One letter for each 512-byte sector; '.' for zeros.
std::string picture(device::BlockDevice &device, std::size_t sectors) {
  std::string letters;
  for (std::size_t i = 0; i < sectors; ++i) {
    std::byte first{};
    EXPECT_OK(device.read(i * 512, {&first, 1}));
    letters += first == std::byte{0} ? '.' : static_cast<char>(first);
  }
  return letters;
}

class CrashStatesTest : public ::testing::Test {
protected:
  void put(std::uint64_t sector, char letter, std::size_t sectors = 1) {
    const std::vector<std::byte> data(sectors * 512, static_cast<std::byte>(letter));
    ASSERT_OK(log_.write(sector * 512, data));
  }
  WriteLogDevice log_{std::make_unique<MemoryDevice>(16 * kBlock)};
};

TEST_F(CrashStatesTest, SubsetsAreAllThatHaveTheNewestChangeAndWhatIsDurable) {
  put(0, 'a');
  ASSERT_OK(log_.flush());
  put(1, 'b');
  put(2, 'c');
  put(3, 'd');
  CrashStates states(log_);
  ASSERT_OK(states.move_to(log_.position()));
  EXPECT_EQ(states.loose(), 3u);
  ASSERT_EQ(states.distinct(), 4u);
  std::set<std::string> seen;
  for (std::uint64_t i = 0; i < states.distinct(); ++i) {
    ASSIGN_OK(auto state, states.subset(i));
    seen.insert(picture(*state, 4));
  }
  EXPECT_EQ(seen, (std::set<std::string>{"a..d", "ab.d", "a.cd", "abcd"}));
  ASSIGN_OK(auto prefix, states.prefix());
  EXPECT_EQ(picture(*prefix, 4), "abcd");
}

TEST_F(CrashStatesTest, WalkingForwardMakesTheStatesThatTheRecordingMakes) {
  put(0, 'a', 8);
  const std::uint64_t first = log_.position();
  put(4, 'b', 8);
  ASSERT_OK(log_.zero(512, 512));
  ASSERT_OK(log_.flush());
  put(0, 'c');
  CrashStates states(log_);
  for (const std::uint64_t position : log_.crash_points()) {
    ASSERT_OK(states.move_to(position));
    EXPECT_EQ(states.loose(), log_.volatile_changes(position));
    ASSIGN_OK(auto walked, states.prefix());
    ASSIGN_OK(auto rebuilt, log_.image_at(position));
    EXPECT_EQ(picture(*walked, 12), picture(*rebuilt, 12)) << position;
  }
  EXPECT_ERROR(states.move_to(first), EINVAL);
}

TEST_F(CrashStatesTest, SamplesTearButNotWhatIsNeverTorn) {
  put(0, 'a', 8);
  CrashStates states(log_, {1024, 1024});
  ASSERT_OK(states.move_to(log_.position()));
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    ASSIGN_OK(auto state, states.sample(seed));
    const std::string letters = picture(*state, 8);
    EXPECT_EQ(letters[2], letters[3]) << letters;
    seen.insert(letters);
  }
  EXPECT_GT(seen.size(), 20u);
  EXPECT_TRUE(seen.contains("aaaaaaaa"));
}

}  // namespace
}  // namespace outboard::testing

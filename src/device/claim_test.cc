#include "device/claim.h"

#include "device/file_device.h"
#include "device/loop.h"
#include "testing/expect.h"
#include "testing/image_builder.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <sys/mount.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace outboard::device {
namespace {

class ClaimTest : public ::testing::Test {
protected:
  void SetUp() override {
    ASSERT_OK(testing::write_file(path_, ""));
    ASSERT_EQ(::truncate(path_.c_str(), 16 << 20), 0);
  }

  testing::TemporaryDirectory directory_;
  std::string path_ = directory_.file("image");
};

TEST_F(ClaimTest, AWriterKeepsEverybodyOut) {
  std::string refusal;
  ASSIGN_OK(UniqueFd first, open_claimed(path_, {}));
  EXPECT_ERROR(open_claimed(path_, {.refusal = &refusal}), EBUSY);
  EXPECT_EQ(refusal, "the image file is in use by another process");
  EXPECT_ERROR(open_claimed(path_, {.read_only = true}), EBUSY);
  EXPECT_OK(open_claimed(path_, {.mode = ClaimMode::none}));
  first.reset();
  EXPECT_OK(open_claimed(path_, {}));
}

// A server that was killed: its process is gone, and the kernel is still at its last requests.
TEST_F(ClaimTest, AHolderThatLetsGoSoonIsWaitedFor) {
  ASSIGN_OK(UniqueFd first, open_claimed(path_, {}));
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    first.reset();
  });
  EXPECT_OK(open_claimed(path_, {}));
}

TEST_F(ClaimTest, ReadersShareAndKeepWritersOut) {
  ASSIGN_OK(UniqueFd first, open_claimed(path_, {.read_only = true}));
  ASSIGN_OK(UniqueFd second, open_claimed(path_, {.read_only = true}));
  EXPECT_ERROR(open_claimed(path_, {}), EBUSY);
}

TEST_F(ClaimTest, FileSystemsBesideEachOtherInOneFileDoNotConflict) {
  ASSIGN_OK(UniqueFd first, open_claimed(path_, {.offset = 0, .length = 4 << 20}));
  ASSIGN_OK(UniqueFd second, open_claimed(path_, {.offset = 4 << 20, .length = 4 << 20}));
  EXPECT_ERROR(open_claimed(path_, {.offset = (4 << 20) - 1, .length = 1}), EBUSY);
  EXPECT_OK(open_claimed(path_, {.offset = 8 << 20}));
}

TEST_F(ClaimTest, ATraditionalLockIsNamedByItsProcess) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const int fd = ::open(path_.c_str(), O_RDWR);
    struct flock whole {};
    whole.l_type = F_WRLCK;
    const bool locked = fd >= 0 && ::fcntl(fd, F_SETLK, &whole) == 0;
    if (::write(ready[1], locked ? "y" : "n", 1) == 1) ::pause();
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  std::string refusal;
  EXPECT_ERROR(open_claimed(path_, {.refusal = &refusal}), EBUSY);
  EXPECT_EQ(refusal, "the image file is in use by process " + std::to_string(child));
  // A killed process leaves no claim behind.
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_OK(open_claimed(path_, {}));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(ClaimTest, AClaimSurvivesItsMakerInAPassedDescriptorAndDiesWithTheLast) {
  ASSIGN_OK(UniqueFd first, open_claimed(path_, {}));
  UniqueFd passed(::dup(first.get()));
  first.reset();
  EXPECT_ERROR(open_claimed(path_, {}), EBUSY);
  EXPECT_OK(claim(passed.get(), {}));  // again, by whoever got it
  passed.reset();
  EXPECT_OK(open_claimed(path_, {}));
}

TEST_F(ClaimTest, AFileDeviceClaimsUnlessToldNotTo) {
  ASSIGN_OK(auto first, FileDevice::open(path_, {}));
  std::string refusal;
  EXPECT_ERROR(FileDevice::open(path_, {.refusal = &refusal}), EBUSY);
  EXPECT_FALSE(refusal.empty());
  EXPECT_OK(FileDevice::open(path_, {.claim = false}));
  UniqueFd second(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_ERROR(FileDevice::adopt(std::move(second), {}), EBUSY);
}

class ClaimLoopTest : public ClaimTest {
protected:
  void SetUp() override {
    ClaimTest::SetUp();
    if (::access("/dev/loop-control", R_OK | W_OK) != 0) GTEST_SKIP() << "no right to use loop devices";
    file_ = UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(file_);
  }
  UniqueFd file_;
};

TEST_F(ClaimLoopTest, AFileBehindALoopDeviceIsRefusedByTheDevicesName) {
  ASSIGN_OK(LoopDevice loop, LoopDevice::attach(file_.get(), {.offset = 8 << 20}));
  std::string refusal;
  EXPECT_ERROR(open_claimed(path_, {.refusal = &refusal}), EBUSY);
  EXPECT_EQ(refusal, "the image file is in use as " + loop.path());
  EXPECT_ERROR(open_claimed(path_, {.read_only = true}), EBUSY);
  EXPECT_OK(open_claimed(path_, {.own_loop = loop.number()}));
  EXPECT_ERROR(open_claimed(path_, {.own_loop = loop.number() + 1}), EBUSY);
  EXPECT_OK(open_claimed(path_, {.length = 8 << 20}));  // another part of the file
}

TEST_F(ClaimLoopTest, ABlockDeviceIsHeldExclusively) {
  ASSIGN_OK(LoopDevice loop, LoopDevice::attach(file_.get(), {}));
  std::string refusal;
  ASSIGN_OK(UniqueFd first, open_claimed(loop.path(), {}));
  EXPECT_ERROR(open_claimed(loop.path(), {.refusal = &refusal}), EBUSY);
  EXPECT_EQ(refusal, loop.path() + " is in use by another process");
  EXPECT_ERROR(open_claimed(loop.path(), {.mode = ClaimMode::test_then_share}), EBUSY);
  EXPECT_OK(open_claimed(loop.path(), {.mode = ClaimMode::none}));
  first.reset();
  ASSIGN_OK(UniqueFd shared, open_claimed(loop.path(), {.mode = ClaimMode::test_then_share}));
  EXPECT_OK(open_claimed(loop.path(), {}));  // as the mount would
}

TEST_F(ClaimLoopTest, AMountedBlockDeviceIsRefusedByItsMountPoint) {
  ASSERT_OK(testing::make_image(path_, 16 << 20));
  const std::string place = directory_.file("a place");
  ASSERT_TRUE(std::filesystem::create_directory(place));
  ASSIGN_OK(LoopDevice loop, LoopDevice::attach(file_.get(), {}));
  if (::mount(loop.path().c_str(), place.c_str(), "ext4", 0, nullptr) != 0)
    GTEST_SKIP() << "no right to mount: " << ::strerror(errno);
  std::string refusal;
  EXPECT_ERROR(FileDevice::open(loop.path(), {.mount_claims = true, .refusal = &refusal}), EBUSY);
  EXPECT_EQ(refusal, loop.path() + " is mounted on " + place);
  EXPECT_EQ(::umount2(place.c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace outboard::device

#include "ext4/inode_flags.h"

#include "ext4/namespace.h"
#include "ext4/test_image.h"
#include "testing/kernel_mount.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

namespace outboard::ext4 {
namespace {

using testing::KernelMount;
namespace flags = inode_flags;

TEST(InodeFlags, InheritedOnesFitTheType) {
  const std::uint32_t parent = flags::kNoDump | flags::kDirSync | flags::kProjectInherit | flags::kImmutable |
                               flags::kIndex | flags::kExtents | flags::kSync;
  EXPECT_EQ(flags::inherited(parent, 0040755),
            flags::kNoDump | flags::kDirSync | flags::kProjectInherit | flags::kSync);
  EXPECT_EQ(flags::inherited(parent, 0100644), flags::kNoDump | flags::kSync);
  EXPECT_EQ(flags::inherited(parent, 0010644), flags::kNoDump);
}

TEST(InodeFlags, LabelIsDurableAndLimited) {
  TestImage image(8 << 20, {"-L", "before"});
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().label(), "before");
  ASSERT_OK(flags::set_label(image.volume(), "sixteen bytes ok"));
  EXPECT_ERROR(flags::set_label(image.volume(), "seventeen bytes !"), EINVAL);
  image.crash();
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().label(), "sixteen bytes ok");
  ASSERT_OK(flags::set_label(image.volume(), ""));
  image.close();
  image.expect_clean();
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().label(), "");
}

TEST(InodeFlags, PrivilegedOnesAskForPrivilege) {
  TestImage image(8 << 20, {});
  ASSERT_TRUE(image.open());
  Inode root = image.find("/");
  ASSIGN_OK(Inode file, names::create(image.volume(), root, "f", {.mode = 0100644}));
  const std::uint32_t old = flags::get_flags(file);
  const flags::Privileges none{.may_set_immutable = false, .may_journal_data = false};
  EXPECT_ERROR(flags::set_flags(image.volume(), file, old | flags::kImmutable, none), EPERM);
  EXPECT_ERROR(flags::set_flags(image.volume(), file, old | flags::kAppend, none), EPERM);
  EXPECT_ERROR(flags::set_flags(image.volume(), file, old | flags::kJournalData, none), EPERM);
  EXPECT_EQ(flags::get_flags(file), old);
  EXPECT_OK(flags::set_flags(image.volume(), file, old | flags::kNoDump, none));
  ASSERT_OK(flags::set_flags(image.volume(), file, old | flags::kAppend, {}));
  EXPECT_ERROR(flags::check_changeable(file), EPERM);
  EXPECT_OK(flags::check_changeable(file, true));
  image.close();
  image.expect_clean();
}

// Sequences of words given to FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR: the same errors and the same result as the
// kernel's.
struct Step {
  bool extended;  // FSSETXATTR: word is fsx_xflags
  std::uint32_t word;
  std::uint32_t project;
};
constexpr std::uint32_t kExtentsWord = flags::kExtents;
const std::vector<Step> kSteps{{false, kExtentsWord | flags::kNoDump | flags::kNoAtime | flags::kSync, 0},
                               {false, kExtentsWord | flags::kIndex | flags::kNoDump, 0},
                               {false, kExtentsWord | flags::kDirSync | flags::kTopDirectory, 0},
                               {false, kExtentsWord | 0x80000000, 0},
                               {false, kExtentsWord | flags::kHugeFile, 0},
                               {false, kExtentsWord | flags::kVerity, 0},
                               {false, kExtentsWord | flags::kCaseFold, 0},
                               {false, kExtentsWord | flags::kEncrypted, 0},
                               {false, kExtentsWord | flags::kProjectInherit, 0},
                               {true, flags::kXflagNoDump | flags::kXflagSync, 0},
                               {true, flags::kXflagProjectInherit, 7},
                               {true, 0, 8},
                               {true, flags::kXflagAppend, 8},
                               {true, 0x4000, 8},
                               {true, 0x00400000, 8},
                               {false, kExtentsWord | flags::kImmutable, 0},
                               {false, kExtentsWord | flags::kImmutable | flags::kNoDump, 0},
                               {true, flags::kXflagImmutable, 9},
                               {true, flags::kXflagImmutable, 8},
                               {false, kExtentsWord | flags::kNoDump, 0}};

struct Answer {
  int error = 0;
  std::uint32_t flags = 0, xflags = 0, project = 0;
  friend bool operator==(const Answer &, const Answer &) = default;
};
std::ostream &operator<<(std::ostream &out, const Answer &a) {
  return out << "error " << a.error << ", flags " << std::hex << a.flags << ", xflags " << a.xflags << std::dec
             << ", project " << a.project;
}

Answer kernel_step(int fd, const Step &step) {
  Answer answer;
  fsxattr attributes{};
  if (step.extended) {
    ::ioctl(fd, FS_IOC_FSGETXATTR, &attributes);
    attributes.fsx_xflags = step.word;
    attributes.fsx_projid = step.project;
    answer.error = ::ioctl(fd, FS_IOC_FSSETXATTR, &attributes) == 0 ? 0 : errno;
  } else {
    auto word = static_cast<int>(step.word);
    answer.error = ::ioctl(fd, FS_IOC_SETFLAGS, &word) == 0 ? 0 : errno;
  }
  int word = 0;
  EXPECT_EQ(::ioctl(fd, FS_IOC_GETFLAGS, &word), 0);
  EXPECT_EQ(::ioctl(fd, FS_IOC_FSGETXATTR, &attributes), 0);
  answer.flags = static_cast<std::uint32_t>(word);
  answer.xflags = attributes.fsx_xflags;
  answer.project = attributes.fsx_projid;
  return answer;
}

Answer our_step(Volume &volume, Inode &inode, const Step &step) {
  const Status done = step.extended ? flags::set_attributes(volume, inode, {step.word, step.project}, {})
                                    : flags::set_flags(volume, inode, step.word, {});
  const flags::Attributes attributes = flags::get_attributes(inode);
  return {done ? 0 : done.error().code(), flags::get_flags(inode), attributes.xflags, attributes.project};
}

TEST(FlagsAgainstTheKernel, TheSameStepsHaveTheSameEnds) {
  if (const std::string reason = testing::why_no_kernel_mounts(); !reason.empty()) GTEST_SKIP() << reason;
  TestImage image(16 << 20, {"-O", "^project"});  // kernels without quotas mount no volume with projects
  std::vector<Answer> kernel_file, kernel_directory;
  {
    ASSIGN_OK(const auto kernel, KernelMount::mount(image.path(), image.file("mnt")));
    ASSERT_EQ(::mkdir(kernel->file("kd").c_str(), 0755), 0);
    const UniqueFd file(::open(kernel->file("kf").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
    const UniqueFd directory(::open(kernel->file("kd").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(file && directory);
    for (const Step &step : kSteps) {
      kernel_file.push_back(kernel_step(file.get(), step));
      kernel_directory.push_back(kernel_step(directory.get(), step));
    }
  }
  ASSERT_TRUE(image.open());
  Inode root = image.find("/");
  ASSIGN_OK(Inode file, names::create(image.volume(), root, "of", {.mode = 0100644}));
  ASSIGN_OK(Inode directory, names::create(image.volume(), root, "od", {.mode = 0040755}));
  for (std::size_t i = 0; i < kSteps.size(); ++i) {
    EXPECT_EQ(our_step(image.volume(), file, kSteps[i]), kernel_file[i]) << "file, step " << i;
    EXPECT_EQ(our_step(image.volume(), directory, kSteps[i]), kernel_directory[i]) << "directory, step " << i;
  }
  image.close();
  image.expect_clean();
}

TEST(InodeFlags, ProjectsAreKeptWhereTheVolumeHasThem) {
  TestImage image(16 << 20, {"-O", "project"});
  ASSERT_TRUE(image.open());
  ASSERT_FALSE(image.volume().read_only());
  Inode root = image.find("/");
  ASSIGN_OK(Inode directory, names::create(image.volume(), root, "d", {.mode = 0040755}));
  ASSIGN_OK(Inode other, names::create(image.volume(), root, "f", {.mode = 0100644}));
  ASSERT_OK(flags::set_attributes(image.volume(), directory, {flags::kXflagProjectInherit, 7}, {}));
  EXPECT_EQ(flags::get_attributes(directory).project, 7u);
  ASSIGN_OK(Inode inside, names::create(image.volume(), directory, "g", {.mode = 0100644}));
  EXPECT_EQ(inside.fields.projid, 7u);
  EXPECT_TRUE(flags::project_forbids_entry(image.volume(), directory, other));
  EXPECT_FALSE(flags::project_forbids_entry(image.volume(), directory, inside));
  EXPECT_ERROR(flags::set_attributes(image.volume(), other, {0, ~0u}, {}), EOVERFLOW);
  image.close();
  image.expect_clean();
}

}  // namespace
}  // namespace outboard::ext4

#include "ext4/xattrs.h"

#include "ext4/block_alloc.h"
#include "ext4/credits.h"
#include "ext4/namespace.h"
#include "ext4/test_image.h"
#include "testing/command.h"
#include "testing/kernel_mount.h"

#include <algorithm>
#include <atomic>
#include <fcntl.h>
#include <map>
#include <random>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <thread>
#include <unistd.h>

namespace outboard::ext4 {
namespace {

using testing::debugfs;
using testing::KernelMount;
using xattrs::SetMode;
using Attributes = std::map<std::string, std::string>;

Attributes read_all(Volume &volume, const Inode &inode) {
  Attributes all;
  const auto names = xattrs::list(volume, inode);
  EXPECT_OK(names);
  if (!names) return all;
  for (const std::string &name : *names) {
    const auto value = xattrs::get(volume, inode, name);
    EXPECT_OK(value) << name;
    const bool fresh = value && all.emplace(name, text_of(*value)).second;
    EXPECT_TRUE(fresh) << name << " is listed twice";
  }
  return all;
}

Attributes kernel_read_all(const std::string &path) {
  Attributes all;
  char names[65536];
  const ssize_t length = ::llistxattr(path.c_str(), names, sizeof names);
  EXPECT_GE(length, 0) << path;
  for (const char *name = names; name < names + length; name += std::strlen(name) + 1) {
    char value[65536];
    const ssize_t size = ::lgetxattr(path.c_str(), name, value, sizeof value);
    EXPECT_GE(size, 0) << path << " " << name;
    all[name] = std::string(value, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  }
  return all;
}

std::string printable(const Attributes &all) {
  std::string text;
  for (const auto &[name, value] : all) text += name + "(" + std::to_string(value.size()) + ") ";
  return text;
}

Status put(Volume &volume, Inode &inode, const std::string &name, const std::string &value,
           SetMode mode = SetMode::any) {
  return xattrs::set(volume, inode, name, bytes_of(value), mode);
}

Result<Inode> make_file(Volume &volume, Inode &directory, const std::string &name, std::uint32_t mode = 0100644,
                        std::uint32_t umask = 0) {
  return names::create(volume, directory, name, {.mode = mode, .umask = umask});
}

std::string random_bytes(std::mt19937 &random, std::size_t size) {
  std::string value(size, '\0');
  for (char &c : value) c = static_cast<char>(random());
  return value;
}

// --- Sets of attributes against a model ---

struct Shape {
  std::uint32_t block_size, inode_size;
  const char *features;
};
std::ostream &operator<<(std::ostream &out, const Shape &shape) {
  return out << shape.block_size << "-byte blocks, " << shape.inode_size << "-byte inodes, " << shape.features;
}

class RandomSets : public ::testing::TestWithParam<Shape> {};

// One random change of one file, to the volume and to the model; what fails must have changed nothing.
void change_one(std::mt19937 &random, Volume &volume, Inode &inode, Attributes &model) {
  static const char *const kPrefixes[] = {"user.", "trusted.", "security."};
  std::string name = kPrefixes[random() % 3];
  name += std::string(1 + random() % 12, static_cast<char>('a' + random() % 5));
  const auto known = model.find(name);
  const bool present = known != model.end();
  if (random() % 4 == 0) {
    const Status removed = xattrs::remove(volume, inode, name);
    if (present) {
      EXPECT_OK(removed);
      model.erase(known);
    } else {
      EXPECT_ERROR(removed, ENODATA);
    }
    return;
  }
  static constexpr std::size_t kSizes[] = {0, 1, 7, 20, 60, 150, 400, 900, 2500, 4000};
  const std::string value = random_bytes(random, kSizes[random() % std::size(kSizes)] + random() % 4);
  const auto mode = static_cast<SetMode>(random() % 3);
  const format::InodeFields before = inode.fields;
  const Status set = put(volume, inode, name, value, mode);
  if (set) {
    EXPECT_TRUE(mode == SetMode::any || present == (mode == SetMode::replace)) << name;
    model[name] = value;
    return;
  }
  const bool refused = (mode == SetMode::create && present) || (mode == SetMode::replace && !present);
  EXPECT_ERROR(set, refused ? (present ? EEXIST : ENODATA) : ENOSPC);
  EXPECT_EQ(inode.fields, before) << "a failure left its traces";
}

TEST_P(RandomSets, AgreeWithTheModelAndDebugfsAndE2fsck) {
  const Shape shape = GetParam();
  TestImage image(8 << 20, {"-I", std::to_string(shape.inode_size), "-O", shape.features}, shape.block_size);
  ASSERT_TRUE(image.open());
  std::mt19937 random(shape.block_size + shape.inode_size);
  constexpr int kFiles = 5;
  std::vector<Attributes> model(kFiles);
  std::vector<Inode> files;
  Inode root = image.find("/");
  for (int i = 0; i < kFiles; ++i) {
    ASSIGN_OK(Inode file, make_file(image.volume(), root, "f" + std::to_string(i)));
    files.push_back(file);
  }
  for (int round = 0; round < 600; ++round) {
    const std::size_t i = random() % kFiles;
    change_one(random, image.volume(), files[i], model[i]);
    if (round % 20 != 0) continue;
    ASSERT_EQ(read_all(image.volume(), files[i]), model[i]) << printable(model[i]);
  }
  image.close();
  image.expect_clean();

  for (int i = 0; i < kFiles; ++i) {
    const std::string name = "/f" + std::to_string(i);
    for (const auto &[attribute, value] : model[static_cast<std::size_t>(i)]) {
      const std::string out = image.file("value");
      ASSERT_OK(debugfs(image.path(), "ea_get -f " + out + " " + name + " " + attribute));
      ASSIGN_OK(const std::string read, testing::read_file(out));
      EXPECT_EQ(read, value) << name << " " << attribute;
    }
    ASSIGN_OK(const std::string listed, debugfs(image.path(), "ea_list " + name));
    const auto lines = static_cast<std::size_t>(std::ranges::count(listed, '\n'));
    EXPECT_EQ(lines, model[static_cast<std::size_t>(i)].empty() ? 0 : model[static_cast<std::size_t>(i)].size() + 1)
        << listed;
  }
  ASSERT_TRUE(image.open());
  for (int i = 0; i < kFiles; ++i)
    EXPECT_EQ(read_all(image.volume(), image.find("f" + std::to_string(i))), model[static_cast<std::size_t>(i)]);
}

INSTANTIATE_TEST_SUITE_P(Shapes, RandomSets,
                         ::testing::Values(Shape{1024, 128, "^metadata_csum"}, Shape{1024, 256, "metadata_csum"},
                                           Shape{4096, 128, "metadata_csum"}, Shape{4096, 256, "metadata_csum"},
                                           Shape{4096, 256, "^metadata_csum,^has_journal"},
                                           Shape{2048, 1024, "metadata_csum"}));

TEST(Xattrs, WhatDebugfsSetIsReadTheSame) {
  TestImage image(8 << 20, {});
  const std::string big(1500, 'b');
  ASSERT_OK(testing::write_file(image.file("big"), big));
  ASSERT_OK(testing::write_file(image.file("empty"), ""));
  ASSERT_OK(testing::debugfs_write(image.path(), {"write " + image.file("empty") + " f", "ea_set f user.small tiny",
                                                  "ea_set -f " + image.file("big") + " f user.big",
                                                  "ea_set f trusted.t value", "ea_set f security.s other"}));
  ASSERT_TRUE(image.open());
  const Attributes expected{{"user.small", "tiny"}, {"user.big", big}, {"trusted.t", "value"}, {"security.s", "other"}};
  EXPECT_EQ(read_all(image.volume(), image.find("f")), expected);
}

TEST(Xattrs, MoveBetweenInodeAndBlockAsTheyGrowAndShrink) {
  TestImage image(8 << 20, {});
  ASSERT_TRUE(image.open());
  Inode root = image.find("/");
  ASSIGN_OK(Inode file, make_file(image.volume(), root, "f"));
  const std::uint64_t free_before = image.volume().counts().free_blocks;
  ASSERT_OK(put(image.volume(), file, "user.a", "small"));
  EXPECT_FALSE(file.fields.file_acl);
  ASSERT_OK(put(image.volume(), file, "user.a", std::string(500, 'x')));
  EXPECT_TRUE(file.fields.file_acl);
  EXPECT_EQ(file.fields.sectors, 8u);
  ASSERT_OK(put(image.volume(), file, "user.b", "stays in the inode"));
  ASSERT_OK(put(image.volume(), file, "user.a", "small again"));
  EXPECT_FALSE(file.fields.file_acl) << "the last attribute left the block";
  EXPECT_EQ(file.fields.sectors, 0u);
  ASSERT_OK(put(image.volume(), file, "user.c", std::string(1000, 'c')));
  EXPECT_TRUE(file.fields.file_acl);
  ASSERT_OK(xattrs::remove(image.volume(), file, "user.c"));
  EXPECT_FALSE(file.fields.file_acl);
  ASSERT_OK(image.volume().sync());
  EXPECT_EQ(image.volume().counts().free_blocks, free_before);
  image.close();
  image.expect_clean();
}

TEST(Xattrs, RefusesWhatLinuxRefuses) {
  TestImage image(8 << 20, {});
  ASSERT_TRUE(image.open());
  Volume &volume = image.volume();
  Inode root = image.find("/");
  ASSIGN_OK(Inode file, make_file(volume, root, "f"));
  ASSIGN_OK(Inode link, names::create(volume, root, "l", {.mode = 0120777, .symlink_target = "f"}));
  ASSIGN_OK(Inode fifo, make_file(volume, root, "p", 0010644));
  EXPECT_ERROR(put(volume, file, "user." + std::string(251, 'n'), "v"), ERANGE);
  EXPECT_OK(put(volume, file, "user." + std::string(250, 'n'), "v"));
  EXPECT_ERROR(put(volume, file, "user.big", std::string(65537, 'v')), E2BIG);
  EXPECT_ERROR(put(volume, file, "user.big", std::string(5000, 'v')), ENOSPC);
  EXPECT_ERROR(put(volume, file, "unknown.name", "v"), EOPNOTSUPP);
  EXPECT_ERROR(put(volume, file, "user.", "v"), EINVAL);
  EXPECT_ERROR(put(volume, file, "system.data", "v"), EOPNOTSUPP);
  EXPECT_ERROR(put(volume, link, "user.a", "v"), EPERM);
  EXPECT_ERROR(put(volume, fifo, "user.a", "v"), EPERM);
  EXPECT_ERROR(xattrs::get(volume, fifo, "user.a"), ENODATA);
  EXPECT_OK(put(volume, link, "trusted.a", "v"));
  EXPECT_ERROR(put(volume, link, "system.posix_acl_access", ""), EOPNOTSUPP);
  EXPECT_ERROR(put(volume, file, "system.posix_acl_access", std::string("\2\0\0\0garbage", 11)), EINVAL);
  EXPECT_ERROR(xattrs::get(volume, file, "user.absent"), ENODATA);
  file.fields.flags |= format::kInodeFlagImmutable;
  EXPECT_ERROR(put(volume, file, "user.a", "v"), EPERM);
  image.close();
  image.expect_clean();
}

TEST(Xattrs, ChangeTheChangeTime) {
  TestImage image(8 << 20, {});
  ASSERT_TRUE(image.open());
  Inode root = image.find("/");
  ASSIGN_OK(Inode file, make_file(image.volume(), root, "f"));
  file.fields.ctime = {.sec = 1000, .nsec = 0};
  ASSERT_OK(put(image.volume(), file, "user.a", "v"));
  EXPECT_GT(file.fields.ctime.sec, 1000);
  ASSIGN_OK(const Inode stored, image.volume().inodes().load(file.number));
  EXPECT_EQ(stored.fields.ctime, file.fields.ctime);
}

TEST(Xattrs, FullDiskLeavesEverythingAsItWas) {
  TestImage image(2 << 20, {"-N", "16", "-O", "^has_journal", "-m", "0"}, 1024);
  ASSERT_TRUE(image.open());
  Volume &volume = image.volume();
  Inode root = image.find("/");
  ASSIGN_OK(Inode file, make_file(volume, root, "f"));
  ASSIGN_OK(Inode other, make_file(volume, root, "g"));
  ASSERT_OK(put(volume, file, "user.a", "in the inode"));
  ASSERT_OK(put(volume, file, "user.b", std::string(300, 'b')));
  ASSERT_OK(put(volume, other, "user.b", std::string(300, 'b')));
  ASSERT_EQ(file.fields.file_acl, other.fields.file_acl);
  // Everything, what is kept back for metadata included.
  std::vector<BlockNumber> hoard;
  for (;;) {
    ASSIGN_OK(jbd2::Handle handle, volume.journal().start(credits::kAllocateBlock));
    const Result<BlockNumber> block =
        volume.blocks().allocate(handle, {.near = BlockNumber(0), .group = GroupNumber(0)});
    handle.finish();
    if (!block) break;
    hoard.push_back(*block);
  }
  const Attributes before = read_all(volume, file);
  const format::InodeFields fields = file.fields;
  EXPECT_ERROR(put(volume, file, "user.b", std::string(301, 'c')), ENOSPC);  // shared: a change needs a new block
  EXPECT_ERROR(put(volume, file, "user.c", std::string(200, 'c')), ENOSPC);
  EXPECT_EQ(read_all(volume, file), before);
  EXPECT_EQ(file.fields, fields);
  for (const BlockNumber block : hoard) {
    ASSIGN_OK(jbd2::Handle handle, volume.journal().start(credits::kAllocateBlock));
    ASSERT_OK(volume.blocks().free(handle, {block, 1}, true));
    handle.finish();
  }
  ASSERT_OK(volume.sync());
  EXPECT_OK(put(volume, file, "user.c", std::string(200, 'c')));
  image.close();
  image.expect_clean();
}

// --- Shared blocks ---

TEST(XattrSharing, EqualSetsShareOneBlockUntilOneChanges) {
  TestImage image(16 << 20, {});
  ASSERT_TRUE(image.open());
  Volume &volume = image.volume();
  Inode root = image.find("/");
  std::vector<Inode> files;
  for (int i = 0; i < 50; ++i) {
    ASSIGN_OK(Inode file, make_file(volume, root, "f" + std::to_string(i)));
    ASSERT_OK(put(volume, file, "user.big", std::string(2000, 's')));
    files.push_back(file);
    EXPECT_EQ(file.fields.file_acl, files.front().fields.file_acl) << i;
  }
  // One leaves, one comes back, one goes.
  ASSERT_OK(put(volume, files[7], "user.big", std::string(2000, 't')));
  EXPECT_NE(files[7].fields.file_acl, files[0].fields.file_acl);
  EXPECT_EQ(xattrs::get(volume, files[8], "user.big").value(), bytes_of(std::string(2000, 's')));
  ASSERT_OK(put(volume, files[9], "user.big", std::string(2000, 't')));
  EXPECT_EQ(files[9].fields.file_acl, files[7].fields.file_acl);
  ASSERT_OK(put(volume, files[9], "user.big", std::string(2000, 's')));
  EXPECT_EQ(files[9].fields.file_acl, files[0].fields.file_acl);
  ASSERT_OK(xattrs::remove(volume, files[10], "user.big"));
  EXPECT_FALSE(files[10].fields.file_acl);
  image.close();
  image.expect_clean();  // counts users

  // After a new start the block is found again through whoever reads it.
  ASSERT_TRUE(image.open());
  root = image.find("/");
  const Inode known = image.find("f0");
  ASSERT_OK(xattrs::get(image.volume(), known, "user.big"));
  ASSIGN_OK(Inode late, make_file(image.volume(), root, "late"));
  ASSERT_OK(put(image.volume(), late, "user.big", std::string(2000, 's')));
  EXPECT_EQ(late.fields.file_acl, known.fields.file_acl);
  image.close();
  image.expect_clean();
}

TEST(XattrSharing, ABlockTakesNoMoreThan1024Users) {
  TestImage image(16 << 20, {"-N", "2048"});
  ASSERT_TRUE(image.open());
  Inode root = image.find("/");
  std::map<std::uint64_t, int> users;
  std::vector<Inode> files;
  for (int i = 0; i < 1100; ++i) {
    ASSIGN_OK(Inode file, make_file(image.volume(), root, "f" + std::to_string(i)));
    ASSERT_OK(put(image.volume(), file, "trusted.big", std::string(1000, 's')));
    ++users[file.fields.file_acl.value()];
    files.push_back(file);
  }
  ASSERT_EQ(users.size(), 2u);
  EXPECT_EQ(users[files.front().fields.file_acl.value()], 1024);
  // The first has room again when one leaves it.
  ASSERT_OK(xattrs::remove(image.volume(), files[0], "trusted.big"));
  EXPECT_FALSE(files[0].fields.file_acl);
  image.close();
  image.expect_clean();
}

TEST(XattrSharing, ThreadsShareAndPartWithoutLosingCount) {
  TestImage image(16 << 20, {});
  ASSERT_TRUE(image.open());
  Volume &volume = image.volume();
  Inode root = image.find("/");
  constexpr int kThreads = 4, kFiles = 8, kRounds = 150;
  std::vector<std::vector<Inode>> files(kThreads);
  for (std::size_t t = 0; t < kThreads; ++t) {
    for (int i = 0; i < kFiles; ++i) {
      ASSIGN_OK(Inode file, make_file(volume, root, "f" + std::to_string(t) + "-" + std::to_string(i)));
      files[t].push_back(file);
    }
  }
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int round = 0; round < kRounds; ++round) {
        Inode &file = files[t][random() % kFiles];
        const std::string value(1000 + random() % 3, 'v');
        const bool removes = random() % 5 == 0;
        const Status done = removes ? xattrs::remove(volume, file, "user.v") : put(volume, file, "user.v", value);
        if (!done && !done.error().is(ENODATA)) ++failures;
        if (!removes && text_of(xattrs::get(volume, file, "user.v").value_or(std::vector<std::byte>{})) != value)
          ++failures;
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  image.close();
  image.expect_clean();
}

// --- Against the kernel ---

class AgainstTheKernel : public ::testing::Test {
protected:
  void SetUp() override {
    if (const std::string reason = testing::why_no_kernel_mounts(); !reason.empty()) GTEST_SKIP() << reason;
  }
  std::unique_ptr<KernelMount> mount(TestImage &image) {
    auto mounted = KernelMount::mount(image.path(), image.file("mnt"));
    EXPECT_OK(mounted);
    return mounted ? *std::move(mounted) : nullptr;
  }
  static void touch(const std::string &path) {
    const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    ASSERT_GE(fd, 0) << path;
    ::close(fd);
  }
  static int kernel_put(const std::string &path, const std::string &name, const std::string &value) {
    return ::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) == 0 ? 0 : errno;
  }
};

TEST_F(AgainstTheKernel, EachReadsWhatTheOtherWrote) {
  TestImage image(16 << 20, {});
  std::map<std::string, Attributes> by_kernel;
  {
    auto kernel = mount(image);
    ASSERT_TRUE(kernel);
    std::mt19937 random(4711);
    for (int i = 0; i < 20; ++i) {
      const std::string name = "k" + std::to_string(i);
      touch(kernel->file(name));
      for (int j = 0; j < 4; ++j) {
        const std::string attribute = (j % 2 == 0 ? "user." : "trusted.") + std::string(1 + random() % 9, 'n');
        kernel_put(kernel->file(name), attribute, random_bytes(random, random() % 1200));
      }
      kernel_put(kernel->file(name), "security.capability",
                 std::string("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20));
      by_kernel[name] = kernel_read_all(kernel->file(name));
    }
    ASSERT_OK(kernel->unmount());
  }
  ASSERT_TRUE(image.open());
  for (const auto &[name, attributes] : by_kernel)
    EXPECT_EQ(read_all(image.volume(), image.find(name)), attributes) << name << ": " << printable(attributes);

  // The other way, on the kernel's files and on ours.
  std::mt19937 random(815);
  std::map<std::string, Attributes> by_us = by_kernel;
  Inode root = image.find("/");
  for (int i = 0; i < 20; ++i) {
    const std::string fresh = "o" + std::to_string(i);
    ASSERT_OK(make_file(image.volume(), root, fresh));
    for (const std::string &name : {fresh, "k" + std::to_string(i)}) {
      Inode file = image.find(name);
      for (int j = 0; j < 6; ++j) change_one(random, image.volume(), file, by_us[name]);
    }
  }
  image.close();
  image.expect_clean();
  auto kernel = mount(image);
  ASSERT_TRUE(kernel);
  for (const auto &[name, attributes] : by_us)
    EXPECT_EQ(kernel_read_all(kernel->file(name)), attributes) << name << ": " << printable(attributes);
}

TEST_F(AgainstTheKernel, SharesTheKernelsBlocksAndTheKernelSharesOurs) {
  TestImage image(16 << 20, {});
  const std::string value(1500, 'v');
  {
    auto kernel = mount(image);
    ASSERT_TRUE(kernel);
    for (const char *name : {"k1", "k2", "kfree"}) touch(kernel->file(name));
    for (const char *name : {"k1", "k2"}) ASSERT_EQ(kernel_put(kernel->file(name), "user.v", value), 0);
    ASSERT_OK(kernel->unmount());
  }
  ASSERT_TRUE(image.open());
  const Inode known = image.find("k1");
  ASSERT_OK(xattrs::get(image.volume(), known, "user.v"));
  Inode root = image.find("/");
  ASSIGN_OK(Inode ours, make_file(image.volume(), root, "ours"));
  ASSERT_OK(put(image.volume(), ours, "user.v", value));
  EXPECT_EQ(ours.fields.file_acl, known.fields.file_acl);
  image.close();
  image.expect_clean();
  {
    auto kernel = mount(image);
    ASSERT_TRUE(kernel);
    EXPECT_EQ(kernel_read_all(kernel->file("ours")), (Attributes{{"user.v", value}}));
    ASSERT_EQ(kernel_put(kernel->file("kfree"), "user.v", value), 0);
    ASSERT_OK(kernel->unmount());
  }
  image.expect_clean();
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.find("kfree").fields.file_acl, image.find("ours").fields.file_acl)
      << "the kernel found our block by its hash";
}

// POSIX ACLs in the text form of setfacl(1).
const char *const kAccessAcls[] = {"u::rwx,g::r-x,o::---", "u::rw-,u:1000:rwx,g::r--,m::rwx,o::r--",
                                   "u::rw-,u:1000:rwx,u:70000:r--,g::r--,g:5:rw-,m::r-x,o::---",
                                   "u::rwx,g::rwx,m::r--,o::r-x", "u::---,g::---,o::---"};

bool setfacl(const std::vector<std::string> &arguments) {
  std::vector<std::string> argv{"setfacl"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  const auto done = testing::run_command(argv);
  return done && done->exit == 0;
}

mode_t mode_of(const std::string &path) {
  struct stat st {};
  EXPECT_EQ(::lstat(path.c_str(), &st), 0) << path;
  return st.st_mode;
}

TEST_F(AgainstTheKernel, SettingAnAclHasTheSameBytesAndMode) {
  if (!testing::have_program("setfacl")) GTEST_SKIP() << "no setfacl";
  TestImage image(16 << 20, {});
  struct Seen {
    Attributes attributes;
    mode_t mode = 0;
  };
  std::map<std::string, Seen> kernel_made;
  {
    auto kernel = mount(image);
    ASSERT_TRUE(kernel);
    int i = 0;
    for (const char *acl : kAccessAcls) {
      const std::string file = "f" + std::to_string(i), directory = "d" + std::to_string(i++);
      touch(kernel->file(file));
      ASSERT_EQ(::mkdir(kernel->file(directory).c_str(), 0755), 0);
      ASSERT_TRUE(setfacl({"-n", "--set", acl, kernel->file(file)})) << acl;
      ASSERT_TRUE(setfacl({"-n", "-d", "--set", acl, kernel->file(directory)})) << acl;
      for (const std::string &name : {file, directory})
        kernel_made[name] = {kernel_read_all(kernel->file(name)), mode_of(kernel->file(name))};
    }
    ASSERT_OK(kernel->unmount());
  }
  ASSERT_TRUE(image.open());
  Volume &volume = image.volume();
  Inode root = image.find("/");
  for (const auto &[name, seen] : kernel_made) {
    EXPECT_EQ(read_all(volume, image.find(name)), seen.attributes) << name;
    const bool is_directory = name[0] == 'd';
    ASSIGN_OK(Inode ours, make_file(volume, root, "our" + name, is_directory ? 0040755 : 0100644));
    for (const auto &[attribute, value] : seen.attributes) ASSERT_OK(put(volume, ours, attribute, value)) << name;
    if (seen.attributes.empty()) continue;  // folded into the mode: nothing was left to hand on
    EXPECT_EQ(ours.fields.mode, seen.mode) << name;
    EXPECT_EQ(read_all(volume, ours), seen.attributes) << name;
  }
  image.close();
  image.expect_clean();
  auto kernel = mount(image);
  ASSERT_TRUE(kernel);
  for (const auto &[name, seen] : kernel_made) {
    if (seen.attributes.empty()) continue;
    EXPECT_EQ(kernel_read_all(kernel->file("our" + name)), seen.attributes) << name;
    EXPECT_EQ(mode_of(kernel->file("our" + name)), seen.mode) << name;
    const auto text = testing::run_command({"getfacl", "-n", "-c", "--absolute-names", kernel->file(name)});
    const auto ours = testing::run_command({"getfacl", "-n", "-c", "--absolute-names", kernel->file("our" + name)});
    ASSERT_TRUE(text && ours);
    EXPECT_EQ(ours->out, text->out) << name;
  }
}

std::string wire(std::initializer_list<std::array<std::uint32_t, 3>> entries) {
  std::string bytes("\2\0\0\0", 4);
  for (const auto &[tag, permissions, id] : entries) {
    bytes += static_cast<char>(tag);
    bytes += '\0';
    bytes += static_cast<char>(permissions);
    bytes += '\0';
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(id >> shift);
  }
  return bytes;
}

// Raw values straight to setxattr(2), good and bad, on files and directories.
TEST_F(AgainstTheKernel, RawAclValuesMeetTheSameFate) {
  constexpr std::uint32_t kNone = ~0u;
  const std::vector<std::string> values{
      wire({{1, 6, kNone}, {4, 4, kNone}, {32, 4, kNone}}),                  // a mode
      wire({{1, 7, kNone}, {4, 5, kNone}, {16, 4, kNone}, {32, 1, kNone}}),  // a mask and nobody named
      wire({{1, 7, kNone}, {2, 7, 0}, {4, 5, kNone}, {16, 7, kNone}, {32, 1, kNone}}),
      wire({{1, 7, kNone}, {2, 7, 0}, {4, 5, kNone}, {32, 1, kNone}}),  // named without a mask
      wire({{4, 5, kNone}, {1, 7, kNone}, {32, 1, kNone}}),             // order
      wire({{1, 8, kNone}, {4, 5, kNone}, {32, 1, kNone}}),             // permissions
      wire({{1, 7, kNone}, {32, 1, kNone}}),                            // owning group missing
      wire({}),
      std::string("\1\0\0\0", 4),
      std::string("\2\0\0\0\1", 5),
      std::string(),
  };
  TestImage image(16 << 20, {});
  struct Fate {
    int error = 0;
    mode_t mode = 0;
    Attributes attributes;
    bool operator==(const Fate &) const = default;
  };
  std::map<std::string, Fate> kernel_fates;
  const auto each = [&](auto &&function) {
    for (std::size_t i = 0; i < values.size(); ++i)
      for (const char *type : {"f", "d"})
        for (const char *which : {"access", "default"})
          function(std::string(type) + which + std::to_string(i), type[0] == 'd',
                   std::string("system.posix_acl_") + which, values[i]);
  };
  {
    auto kernel = mount(image);
    ASSERT_TRUE(kernel);
    each([&](const std::string &name, bool is_directory, const std::string &attribute, const std::string &value) {
      const std::string path = kernel->file(name);
      if (is_directory) {
        ASSERT_EQ(::mkdir(path.c_str(), 0750), 0);
      } else {
        touch(path);
      }
      ASSERT_EQ(::chmod(path.c_str(), 0750), 0);
      const int error = kernel_put(path, attribute, value);
      kernel_fates[name] = {error, mode_of(path), kernel_read_all(path)};
    });
    ASSERT_OK(kernel->unmount());
  }
  ASSERT_TRUE(image.open());
  Inode root = image.find("/");
  each([&](const std::string &name, bool is_directory, const std::string &attribute, const std::string &value) {
    ASSIGN_OK(Inode inode, make_file(image.volume(), root, "our" + name, is_directory ? 0040750 : 0100750));
    const Status set = put(image.volume(), inode, attribute, value);
    const Fate ours{set ? 0 : set.error().code(), inode.fields.mode, read_all(image.volume(), inode)};
    const Fate &kernel = kernel_fates[name];
    EXPECT_EQ(ours.error, kernel.error) << name;
    EXPECT_EQ(ours.mode, kernel.mode) << name;
    EXPECT_EQ(ours.attributes, kernel.attributes) << name;
  });
  image.close();
  image.expect_clean();
}

// The same creations in the same directories: by the kernel, then by us.
TEST_F(AgainstTheKernel, NewFilesInheritTheSame) {
  if (!testing::have_program("setfacl")) GTEST_SKIP() << "no setfacl";
  TestImage image(16 << 20, {});
  constexpr mode_t kModes[] = {0666, 0777, 0600, 0751, 04755, 0};
  constexpr mode_t kMasks[] = {0, 022, 077};
  struct Made {
    mode_t mode = 0;
    Attributes attributes;
  };
  std::map<std::string, Made> kernel_made;
  const auto each = [&](auto &&function) {
    for (std::size_t d = 0; d <= std::size(kAccessAcls); ++d)
      for (const mode_t mode : kModes)
        for (const mode_t mask : kMasks)
          for (const bool is_directory : {false, true}) {
            const std::string directory = "dir" + std::to_string(d);
            const std::string name = std::to_string(mode) + "-" + std::to_string(mask) + (is_directory ? "d" : "f");
            function(directory, name, is_directory ? mode & 0777 : mode, mask, is_directory);
          }
  };
  {
    auto kernel = mount(image);
    ASSERT_TRUE(kernel);
    for (std::size_t d = 0; d <= std::size(kAccessAcls); ++d) {
      const std::string path = kernel->file("dir" + std::to_string(d));
      ASSERT_EQ(::mkdir(path.c_str(), 0777), 0);
      if (d < std::size(kAccessAcls)) {
        ASSERT_TRUE(setfacl({"-n", "-d", "--set", kAccessAcls[d], path}));
      }
    }
    each([&](const std::string &directory, const std::string &name, mode_t mode, mode_t mask, bool is_directory) {
      const std::string path = kernel->file(directory + "/k" + name);
      const mode_t old = ::umask(mask);
      const int made =
          is_directory ? ::mkdir(path.c_str(), mode) : ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, mode);
      ::umask(old);
      ASSERT_GE(made, 0) << path;
      if (!is_directory) ::close(made);
      kernel_made[directory + "/" + name] = {mode_of(path), kernel_read_all(path)};
    });
    ASSERT_OK(kernel->unmount());
  }
  ASSERT_TRUE(image.open());
  each([&](const std::string &directory, const std::string &name, mode_t mode, mode_t mask, bool is_directory) {
    Inode parent = image.find(directory);
    ASSIGN_OK(const Inode ours,
              make_file(image.volume(), parent, "o" + name, (is_directory ? 0040000u : 0100000u) | mode, mask));
    const Made &kernel = kernel_made[directory + "/" + name];
    EXPECT_EQ(ours.fields.mode, kernel.mode) << directory << "/" << name;
    EXPECT_EQ(read_all(image.volume(), ours), kernel.attributes) << directory << "/" << name;
  });
  image.close();
  image.expect_clean();
}

TEST_F(AgainstTheKernel, ChmodChangesTheAclAlike) {
  if (!testing::have_program("setfacl")) GTEST_SKIP() << "no setfacl";
  TestImage image(16 << 20, {});
  std::map<std::string, Attributes> kernel_made;
  constexpr mode_t kModes[] = {0640, 0777, 0007, 04711};
  {
    auto kernel = mount(image);
    ASSERT_TRUE(kernel);
    for (std::size_t i = 0; i < std::size(kAccessAcls); ++i)
      for (const mode_t mode : kModes) {
        const std::string name = std::to_string(i) + "-" + std::to_string(mode);
        for (const std::string &path : {kernel->file("k" + name), kernel->file("o" + name)}) {
          touch(path);
          ASSERT_TRUE(setfacl({"-n", "--set", kAccessAcls[i], path}));
        }
        ASSERT_EQ(::chmod(kernel->file("k" + name).c_str(), mode), 0);
        kernel_made[name] = kernel_read_all(kernel->file("k" + name));
      }
    ASSERT_OK(kernel->unmount());
  }
  ASSERT_TRUE(image.open());
  Volume &volume = image.volume();
  for (const auto &[name, attributes] : kernel_made) {
    Inode inode = image.find("o" + name);
    const auto mode = static_cast<std::uint32_t>(std::stoul(name.substr(name.find('-') + 1)));
    ASSIGN_OK(jbd2::Handle handle, volume.journal().start(xattrs::set_credits(volume)));
    ASSERT_OK(xattrs::change_mode_in_acl(handle, volume, inode, 0100000 | mode));
    handle.finish();
    EXPECT_EQ(read_all(volume, inode), attributes) << name;
  }
  image.close();
  image.expect_clean();
}

}  // namespace
}  // namespace outboard::ext4

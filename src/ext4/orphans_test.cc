#include "ext4/orphans.h"

#include "ext4/credits.h"
#include "ext4/file_map.h"
#include "ext4/namespace.h"
#include "ext4/orphan_file.h"
#include "ext4/test_image.h"
#include "ext4/truncate.h"
#include "testing/command.h"
#include "testing/kernel_mount.h"

#include <algorithm>
#include <atomic>
#include <fcntl.h>
#include <random>
#include <thread>
#include <unistd.h>

namespace outboard::ext4 {
namespace {

using testing::debugfs_write;
using testing::KernelMount;

// The list's places: the superblock and inodes, or the orphan file.
struct Kind {
  const char *name;
  const char *features;
};
std::ostream &operator<<(std::ostream &out, const Kind &kind) { return out << kind.name; }

constexpr Kind kList{"List", "^orphan_file"};
constexpr Kind kFile{"File", "orphan_file"};

std::vector<std::string> mkfs_for(const Kind &kind) { return {"-O", kind.features, "-N", "4096"}; }

// `count` files with `size` bytes of data each, by debugfs: f0, f1 ...
void fill(TestImage &image, int count, std::size_t size) {
  ASSERT_OK(testing::write_file(image.file("data"), std::string(size, 'd')));
  std::vector<std::string> requests;
  for (int i = 0; i < count; ++i) requests.push_back("write " + image.file("data") + " f" + std::to_string(i));
  ASSERT_OK(debugfs_write(image.path(), requests));
}

std::string f(int i) { return "f" + std::to_string(i); }

Status unlink(TestImage &image, const std::string &name, Inode &target) {
  Inode root = image.find("/");
  return names::unlink(image.volume(), root, name, target);
}

// A truncate that began and did not end: on the record, with a smaller size and all of its blocks.
Status begin_truncate(Volume &volume, Inode &inode, std::uint64_t size) {
  jbd2::Handle handle = TRY(volume.journal().start(Orphans::kCredits + credits::kStoreInode));
  inode.fields.size = size;
  TRY(volume.orphans().add(handle, inode));
  TRY(volume.inodes().store(handle, inode));
  handle.finish();
  return {};
}

Status remove(Volume &volume, Inode &inode) {
  jbd2::Handle handle = TRY(volume.journal().start(Orphans::kCredits));
  TRY(volume.orphans().remove(handle, inode));
  handle.finish();
  return {};
}
Status add(Volume &volume, Inode &inode) {
  jbd2::Handle handle = TRY(volume.journal().start(Orphans::kCredits));
  TRY(volume.orphans().add(handle, inode));
  handle.finish();
  return {};
}

std::string copy_of(const TestImage &image, const std::string &name) {
  const std::string copy = image.file(name);
  EXPECT_OK(testing::run_command({"cp", "--sparse=always", image.path(), copy}));
  return copy;
}

// What the disk says, the list from the front and then the file: of an image that has been closed or recovered.
std::vector<std::uint32_t> list_on_disk(Volume &volume) {
  std::vector<std::uint32_t> members;
  std::uint32_t number = volume.last_orphan();
  while (number != 0 && members.size() < 10000) {
    members.push_back(number);
    const auto inode = volume.inodes().load(InodeNumber(number));
    EXPECT_OK(inode);
    if (!inode) break;
    number = inode->fields.dtime;
  }
  return members;
}

class OrphansAfterACrash : public ::testing::TestWithParam<Kind> {
protected:
  static constexpr int kUnlinked = 6, kTruncated = 3;

  // A crash with both sorts on record. The image needs recovery.
  void crash(TestImage &image) {
    fill(image, kUnlinked + kTruncated + 2, 200'000);
    ASSERT_TRUE(image.open());
    for (int i = 0; i < kUnlinked; ++i) {
      Inode file = image.find(f(i));
      ASSERT_OK(unlink(image, f(i), file));
      ASSERT_TRUE(file.on_orphan_list);
    }
    for (int i = kUnlinked; i < kUnlinked + kTruncated; ++i) {
      Inode file = image.find(f(i));
      ASSERT_OK(begin_truncate(image.volume(), file, 5000));
    }
    ASSERT_OK(image.volume().sync());
    image.crash();
  }
  void expect_cleaned(const std::string &path) {
    const testing::FsckReport report = testing::fsck(path);
    EXPECT_TRUE(report.clean) << report.text;
    for (int i = 0; i < kUnlinked; ++i) EXPECT_FALSE(testing::debugfs_read(path, "/" + f(i)).value_or("") != "") << i;
    for (int i = kUnlinked; i < kUnlinked + kTruncated; ++i)
      EXPECT_EQ(testing::debugfs_read(path, "/" + f(i)).value_or(""), std::string(5000, 'd')) << i;
    EXPECT_EQ(testing::debugfs_read(path, "/" + f(kUnlinked + kTruncated)).value_or(""), std::string(200'000, 'd'));
  }
};

TEST_P(OrphansAfterACrash, AreCleanedByUs) {
  TestImage image(32 << 20, mkfs_for(GetParam()));
  crash(image);
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().report().orphans_deleted, static_cast<unsigned>(kUnlinked));
  EXPECT_EQ(image.volume().report().orphans_truncated, static_cast<unsigned>(kTruncated));
  EXPECT_EQ(image.volume().last_orphan(), 0u);
  image.close();
  expect_cleaned(image.path());
  // Once and for all.
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().report().orphans_deleted + image.volume().report().orphans_truncated, 0u);
}

TEST_P(OrphansAfterACrash, AreCleanedByE2fsck) {
  TestImage image(32 << 20, mkfs_for(GetParam()));
  crash(image);
  const auto fixed = testing::run_command({"e2fsck", "-fy", image.path()});
  ASSERT_OK(fixed);
  EXPECT_LE(fixed->exit, 1) << fixed->out;
  EXPECT_EQ(fixed->out.find("UNEXPECTED"), std::string::npos) << fixed->out;
  EXPECT_EQ(fixed->out.find("Fix? yes"), std::string::npos) << "more than recovery was needed: " << fixed->out;
  expect_cleaned(image.path());
}

TEST_P(OrphansAfterACrash, AreCleanedByTheKernel) {
  if (const std::string reason = testing::why_no_kernel_mounts(); !reason.empty()) GTEST_SKIP() << reason;
  TestImage image(32 << 20, mkfs_for(GetParam()));
  crash(image);
  ASSIGN_OK(const auto kernel, KernelMount::mount(image.path(), image.file("mnt")));
  ASSERT_OK(kernel->unmount());
  expect_cleaned(image.path());
}

TEST_P(OrphansAfterACrash, SurviveACrashInTheMiddleOfTheCleanUp) {
  TestImage image(32 << 20, mkfs_for(GetParam()));
  crash(image);
  const std::string copy = copy_of(image, "copy");
  ASSERT_TRUE(image.open({}, copy));  // cleaned, and what was committed of it so far is all there is
  ASSERT_OK(image.volume().sync());
  image.crash();
  ASSERT_TRUE(image.open({}, copy));
  image.close();
  expect_cleaned(copy);
}

TEST_P(OrphansAfterACrash, WhatTheKernelLeftIsCleaned) {
  if (const std::string reason = testing::why_no_kernel_mounts(); !reason.empty()) GTEST_SKIP() << reason;
  TestImage image(32 << 20, mkfs_for(GetParam()));
  std::string copy;
  {
    ASSIGN_OK(const auto kernel, KernelMount::mount(image.path(), image.file("mnt")));
    std::vector<UniqueFd> open_files;
    for (int i = 0; i < 5; ++i) {
      const std::string path = kernel->file(f(i));
      open_files.emplace_back(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
      ASSERT_TRUE(open_files.back());
      const std::string data(100'000, 'k');
      ASSERT_EQ(::write(open_files.back().get(), data.data(), data.size()), static_cast<ssize_t>(data.size()));
      if (i == 4) break;
      ASSERT_EQ(::unlink(path.c_str()), 0);
    }
    ::sync();
    copy = copy_of(image, "copy");
    open_files.clear();
    ASSERT_OK(kernel->unmount());
  }
  ASSERT_TRUE(image.open({}, copy));
  EXPECT_EQ(image.volume().report().orphans_deleted, 4u);
  EXPECT_EQ(image.find(f(4)).fields.size, 100'000u);
  image.close();
  image.expect_clean(copy);
}

INSTANTIATE_TEST_SUITE_P(Kinds, OrphansAfterACrash, ::testing::Values(kList, kFile),
                         [](const auto &test) { return test.param.name; });

class OrphanRecord : public ::testing::TestWithParam<Kind> {};

TEST_P(OrphanRecord, LinkingANamelessFileTakesItOff) {
  TestImage image(16 << 20, mkfs_for(GetParam()));
  ASSERT_TRUE(image.open());
  Inode root = image.find("/");
  ASSIGN_OK(Inode kept, names::create_temporary(image.volume(), root, {.mode = 0100600}));
  ASSIGN_OK(Inode lost, names::create_temporary(image.volume(), root, {.mode = 0100600}));
  ASSERT_TRUE(image.volume().orphans().contains(kept.number));
  ASSERT_OK(names::link(image.volume(), root, "kept", kept));
  EXPECT_FALSE(image.volume().orphans().contains(kept.number));
  EXPECT_TRUE(image.volume().orphans().contains(lost.number));
  ASSERT_OK(image.volume().sync());
  image.crash();
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().report().orphans_deleted, 1u);
  image.close();
  image.expect_clean();
}

TEST_P(OrphanRecord, AddingTwiceIsAddingOnce) {
  TestImage image(16 << 20, mkfs_for(GetParam()));
  fill(image, 2, 10);
  ASSERT_TRUE(image.open());
  Volume &volume = image.volume();
  Inode first = image.find(f(0)), second = image.find(f(1));
  ASSERT_OK(add(volume, first));
  ASSERT_OK(add(volume, second));
  ASSERT_OK(add(volume, first));
  ASSIGN_OK(Inode another, volume.inodes().load(first.number));
  EXPECT_TRUE(another.on_orphan_list);
  another.on_orphan_list = false;  // an object that does not know
  ASSERT_OK(add(volume, another));
  ASSERT_OK(remove(volume, first));
  EXPECT_FALSE(volume.orphans().contains(first.number));
  ASSERT_OK(remove(volume, first));
  ASSERT_OK(remove(volume, second));
  EXPECT_EQ(volume.last_orphan(), 0u);
  image.close();
  image.expect_clean();
}

// Every member's object is alive and is stored now and then, with the link it knew when it was added.
TEST_P(OrphanRecord, StoresOfMembersKeepTheRecordWhole) {
  constexpr int kFiles = 24;
  TestImage image(16 << 20, mkfs_for(GetParam()));
  fill(image, kFiles, 3000);
  ASSERT_TRUE(image.open());
  Volume &volume = image.volume();
  std::vector<Inode> files;
  for (int i = 0; i < kFiles; ++i) files.push_back(image.find(f(i)));
  std::vector<std::uint32_t> front_first;
  std::mt19937 random(99);
  for (int round = 0; round < 400; ++round) {
    Inode &file = files[random() % kFiles];
    const bool member = file.on_orphan_list;
    switch (random() % 3) {
    case 0:
      if (!member) front_first.insert(front_first.begin(), file.number.value());
      ASSERT_OK(add(volume, file));
      break;
    case 1:
      std::erase(front_first, file.number.value());
      ASSERT_OK(remove(volume, file));
      break;
    default: {
      ASSIGN_OK(jbd2::Handle handle, volume.journal().start(credits::kStoreInode));
      file.fields.mtime = volume.now();
      ASSERT_OK(volume.inodes().store(handle, file));
      handle.finish();
    }
    }
    if (GetParam().name == kFile.name) continue;
    ASSERT_EQ(list_on_disk(volume), front_first) << round;
  }
  ASSERT_OK(volume.sync());
  image.crash();
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().report().orphans_truncated, front_first.size());
  EXPECT_EQ(image.volume().report().orphans_deleted, 0u);
  image.close();
  image.expect_clean();
}

TEST_P(OrphanRecord, ThreadsComeAndGo) {
  constexpr int kThreads = 4, kFiles = 8;
  TestImage image(16 << 20, mkfs_for(GetParam()));
  fill(image, kThreads * kFiles, 10);
  ASSERT_TRUE(image.open());
  Volume &volume = image.volume();
  std::vector<Inode> files;
  for (int i = 0; i < kThreads * kFiles; ++i) files.push_back(image.find(f(i)));
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int round = 0; round < 200; ++round) {
        Inode &file = files[static_cast<std::size_t>(t) * kFiles + random() % kFiles];
        if (!(file.on_orphan_list ? remove(volume, file) : add(volume, file))) ++failures;
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  const auto members = std::ranges::count_if(files, [](const Inode &inode) { return inode.on_orphan_list; });
  ASSERT_OK(volume.sync());
  image.crash();
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().report().orphans_truncated, static_cast<std::uint32_t>(members));
  image.close();
  image.expect_clean();
}

INSTANTIATE_TEST_SUITE_P(Kinds, OrphanRecord, ::testing::Values(kList, kFile),
                         [](const auto &test) { return test.param.name; });

// --- The orphan file ---

std::string features_of(const std::string &image) {
  const auto header = testing::run_command({"dumpe2fs", "-h", image});
  return header ? header->out : "";
}

TEST(OrphanFileUse, PresentFlagStandsWhileMountedAndNotAfter) {
  TestImage image(16 << 20, mkfs_for(kFile));
  EXPECT_EQ(features_of(image.path()).find("orphan_present"), std::string::npos);
  ASSERT_TRUE(image.open());
  ASSERT_OK(image.volume().sync());
  image.crash();
  ASSERT_OK(testing::replay_with_e2fsck(image.path()));
  EXPECT_NE(features_of(image.path()).find("orphan_present"), std::string::npos);
  ASSERT_TRUE(image.open());
  image.close();
  EXPECT_EQ(features_of(image.path()).find("orphan_present"), std::string::npos);
  image.expect_clean();
}

TEST(OrphanFileUse, WhenItIsFullTheListTakesOver) {
  TestImage image(16 << 20, {"-O", "orphan_file", "-N", "16384"}, 1024);
  ASSERT_TRUE(image.open());
  Inode root = image.find("/");
  const Inode file = image.volume().inodes().load(image.volume().superblock().orphan_file_inode).value();
  const std::uint64_t slots = file.fields.size / 1024 * format::orphan_slots(1024);
  ASSERT_LT(slots, 16000u);
  constexpr std::uint64_t kBeyond = 5;
  std::vector<Inode> made;
  for (std::uint64_t i = 0; i < slots + kBeyond; ++i) {
    ASSIGN_OK(Inode inode, names::create_temporary(image.volume(), root, {.mode = 0100600}));
    made.push_back(inode);
  }
  EXPECT_EQ(list_on_disk(image.volume()).size(), kBeyond);
  // A slot that becomes free is used again.
  ASSERT_OK(truncate::delete_inode(image.volume(), made[100]));
  ASSERT_OK(names::create_temporary(image.volume(), root, {.mode = 0100600}));
  EXPECT_EQ(list_on_disk(image.volume()).size(), kBeyond);
  ASSERT_OK(image.volume().sync());
  image.crash();
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().report().orphans_deleted, slots + kBeyond);
  image.close();
  image.expect_clean();
}

TEST(OrphanFileUse, ABadBlockIsRefused) {
  TestImage image(16 << 20, mkfs_for(kFile));
  ASSIGN_OK(const std::string block, testing::debugfs(image.path(), "blocks <12>"));
  const std::uint64_t number = std::stoull(block);
  {
    const UniqueFd fd(::open(image.path().c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_TRUE(fd);
    const char junk[] = {1, 2, 3, 4};
    ASSERT_EQ(::pwrite(fd.get(), junk, sizeof junk, static_cast<off_t>(number * 4096)), 4);
  }
  ASSIGN_OK(auto device, device::FileDevice::open(image.path(), {}));
  const auto volume = Volume::open(*device, {});
  // Either refused or readable only: never used.
  if (volume) EXPECT_TRUE((*volume)->read_only());
  else EXPECT_TRUE(volume.error().is_corrupt()) << volume.error().message();
}

// --- Hostile records ---

struct Lie {
  const char *name;
  std::vector<std::string> requests;  // of debugfs, on an image with f0 (inode 12) ... f3 (inode 15)
};
std::ostream &operator<<(std::ostream &out, const Lie &lie) { return out << lie.name; }

class HostileList : public ::testing::TestWithParam<Lie> {};

TEST_P(HostileList, OpensAndEndsAndKeepsFiles) {
  TestImage image(16 << 20, mkfs_for(kList));
  fill(image, 4, 9000);
  ASSERT_OK(debugfs_write(image.path(), GetParam().requests));
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().last_orphan(), 0u);
  EXPECT_EQ(image.volume().report().orphans_deleted, 0u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(image.find(f(i)).fields.size, 9000u);
  if (!image.volume().read_only()) image.close();
  else image.crash();
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(testing::debugfs_read(image.path(), "/" + f(i)).value_or(""), std::string(9000, 'd')) << i;
}

INSTANTIATE_TEST_SUITE_P(
    Lies, HostileList,
    ::testing::Values(Lie{"OwnSuccessor", {"ssv last_orphan 12", "sif <12> dtime 12"}},
                      Lie{"Loop", {"ssv last_orphan 12", "sif <12> dtime 13", "sif <13> dtime 12"}},
                      Lie{"LoopBehindTheFirst",
                          {"ssv last_orphan 12", "sif <12> dtime 13", "sif <13> dtime 14", "sif <14> dtime 13"}},
                      Lie{"ReservedInode", {"ssv last_orphan 8"}}, Lie{"Root", {"ssv last_orphan 2"}},
                      Lie{"FreeInode", {"ssv last_orphan 1000"}}, Lie{"BeyondTheLast", {"ssv last_orphan 99999999"}},
                      Lie{"LinkBeyondTheLast", {"ssv last_orphan 12", "sif <12> dtime 99999999"}},
                      Lie{"LinkToFree", {"ssv last_orphan 12", "sif <12> dtime 2000"}},
                      Lie{"LostAndFound", {"ssv last_orphan 11"}}),
    [](const auto &test) { return test.param.name; });

}  // namespace
}  // namespace outboard::ext4

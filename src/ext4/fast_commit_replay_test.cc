// Fast commits that the kernel has written, replayed by us: the same tree and a sound volume. And areas that nobody would
// write; and power cuts in the middle of our replay.
#include "ext4/fast_commit_replay.h"

#include "base/unique_fd.h"
#include "device/overlay_device.h"
#include "ext4/directory.h"
#include "ext4/journal_area.h"
#include "ext4/volume_test_support.h"
#include "jbd2/format.h"
#include "testing/command.h"
#include "testing/kernel_mount.h"
#include "testing/write_log_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <functional>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace outboard::ext4 {
namespace {

using format::FastCommitEncoder;
using format::FastCommitTag;

// --- what the kernel writes -----------------------------------------------------------------------------------------

// An image after a kernel's crash (a copy taken while it was mounted), and what it holds (after an unmount).
class KernelImage {
public:
  static constexpr std::uint64_t kSize = std::uint64_t{96} << 20;

  // `base` runs before a full commit, `work` after it; work ends with what was changed in fast commits.
  KernelImage(const std::vector<std::string> &arguments, std::uint32_t block_size,
              const std::function<void(const std::string &)> &base, const std::function<void(const std::string &)> &work) {
    // Any sync(2) on the machine, by a test beside this one, makes the kernel commit in full: then there is nothing to see.
    constexpr int kAttempts = 20;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      ok_ = false;
      make(arguments, block_size, base, work);
      if (!ok_ || has_fast_commits()) return;
    }
  }
  bool ok() const { return ok_; }
  std::string after() const { return directory_.file("after"); }
  std::string crashed() const { return directory_.file("crashed"); }
  std::string file(const std::string &name) const { return directory_.file(name); }
  std::string copy(const std::string &name) const {
    EXPECT_EQ(testing::run_command({"cp", "--sparse=always", crashed(), file(name)})->exit, 0);
    return file(name);
  }

private:
  void make(const std::vector<std::string> &arguments, std::uint32_t block_size,
            const std::function<void(const std::string &)> &base, const std::function<void(const std::string &)> &work) {
    std::vector<std::string> all{"-O", "fast_commit", "-J", "size=16,fast_commit_size=1024"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    EXPECT_OK(testing::make_image(after(), kSize, all, block_size));
    auto mount = testing::KernelMount::mount(after(), directory_.file("mount"), "commit=3600");
    EXPECT_OK(mount);
    if (!mount) return;
    base((*mount)->path());
    // Not sync(2), which would do the same to the tests beside this one.
    UniqueFd root(::open((*mount)->path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    EXPECT_TRUE(root && ::syncfs(root.get()) == 0);
    root.reset();  // or the mount is busy
    work((*mount)->path());
    EXPECT_EQ(testing::run_command({"cp", "--sparse=always", after(), crashed()})->exit, 0);
    EXPECT_OK((*mount)->unmount());
    ok_ = true;
  }
  // True also when it cannot be told: the test itself will say why.
  bool has_fast_commits() const {
    auto device = device::MemoryDevice::from_file(crashed());
    if (!device) return true;
    const auto volume = Volume::open(**device, {});
    return !volume || (*volume)->report().fast_commits > 0;
  }

  testing::TemporaryDirectory directory_;
  bool ok_ = false;
};

std::unique_ptr<device::MemoryDevice> load(const std::string &path) {
  auto memory = device::MemoryDevice::from_file(path);
  EXPECT_OK(memory);
  return memory ? *std::move(memory) : nullptr;
}

// Every stretch of blocks, neighbours joined: where one extent ends is nobody's business.
std::vector<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, bool>> map_of(Volume &volume, const Inode &inode) {
  std::vector<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, bool>> map;
  constexpr std::uint64_t kEnd = 1 << 20;
  for (std::uint64_t at = 0; at < kEnd;) {
    const auto found = file_map::find(volume, inode, FileBlock(static_cast<std::uint32_t>(at)), static_cast<std::uint32_t>(kEnd - at));
    EXPECT_OK(found);
    if (!found) break;
    if (found->state != FileMapping::State::hole) {
      const bool unwritten = found->state == FileMapping::State::unwritten;
      if (!map.empty()) {
        auto &[first, start, count, state] = map.back();
        if (first + count == at && start + count == found->start.value() && state == unwritten) {
          count += found->count;
          at += found->count;
          continue;
        }
      }
      map.emplace_back(at, found->start.value(), found->count, unwritten);
    }
    at += found->count;
  }
  return map;
}

// Every field of regular files that a replay must bring back.
void compare_inodes(Volume &ours, Volume &theirs, const Inode &our_directory, const Inode &their_directory) {
  std::vector<std::pair<std::string, InodeNumber>> names;
  Inode directory = our_directory;
  EXPECT_OK(Directory(ours, directory).iterate(0, [&](std::span<const Directory::Item> items, std::uint64_t) {
    for (const auto &item : items)
      if (item.name != "." && item.name != "..") names.emplace_back(item.name, item.inode);
    return true;
  }));
  for (const auto &[name, number] : names) {
    const auto match = Directory::find(theirs, their_directory, name);
    ASSERT_OK(match) << name;
    EXPECT_EQ(match->inode, number) << name;
    ASSIGN_OK(const Inode mine, ours.inodes().load(number));
    ASSIGN_OK(const Inode other, theirs.inodes().load(number));
    if (mine.is_directory()) {
      compare_inodes(ours, theirs, mine, other);
      continue;
    }
    format::InodeFields a = mine.fields, b = other.fields;
    if (a.uses_extents() && b.uses_extents()) {
      EXPECT_EQ(map_of(ours, mine), map_of(theirs, other)) << name;
      // Tree nodes may be other in number.
      const bool deep = format::ExtentNodeView(a.block).depth() != 0 || format::ExtentNodeView(b.block).depth() != 0;
      if (deep) a.sectors = b.sectors = 0;
      a.block = b.block = {};
    }
    a.version = b.version = 0;
    EXPECT_EQ(a.mtime, b.mtime) << name;
    EXPECT_EQ(a.ctime, b.ctime) << name;
    EXPECT_EQ(a.crtime, b.crtime) << name;
    a.atime = b.atime = {};
    EXPECT_TRUE(a == b) << name << " size " << a.size << "/" << b.size << " links " << a.links << "/" << b.links << " sectors "
                        << a.sectors << "/" << b.sectors << " flags " << a.flags << "/" << b.flags;
  }
}

enum class KernelReplay : std::uint8_t { same, may_fail };

void expect_same(const KernelImage &image, KernelReplay kernel) {
  ASSERT_TRUE(image.ok());
  ASSIGN_OK(const std::string expected, testing::debugfs_dump(image.after()));

  auto device = load(image.crashed());
  std::uint32_t replayed = 0;
  {
    ASSIGN_OK(auto volume, Volume::open(*device, {}));
    replayed = volume->report().fast_commits;
    EXPECT_OK(volume->close());
  }
  EXPECT_GT(replayed, 0U) << "the kernel has made no fast commits: this test shows nothing";
  ASSERT_OK(device->save(image.file("ours")));
  const testing::FsckReport report = testing::fsck(image.file("ours"));
  EXPECT_TRUE(report.clean) << report.text;
  ASSIGN_OK(const std::string ours, testing::debugfs_dump(image.file("ours")));
  EXPECT_EQ(ours, expected);
  {
    auto theirs_device = load(image.after());
    ASSIGN_OK(auto mine, Volume::open(*device, {.read_only = true}));
    ASSIGN_OK(auto theirs, Volume::open(*theirs_device, {.read_only = true}));
    ASSIGN_OK(const Inode root, mine->inodes().load(format::kRootInode));
    ASSIGN_OK(const Inode other, theirs->inodes().load(format::kRootInode));
    compare_inodes(*mine, *theirs, root, other);
  }

  // A read-only mount shows the same, and changes nothing.
  auto lower = load(image.crashed());
  const std::vector<std::byte> before = contents(*lower);
  {
    device::OverlayDevice overlay(*lower);
    ASSIGN_OK(auto volume, Volume::open(overlay, {.read_only = true}));
    EXPECT_EQ(volume->report().fast_commits, replayed);
    volume.reset();
    ASSERT_OK(testing::save_device(overlay, image.file("shown")));
  }
  EXPECT_TRUE(contents(*lower) == before);
  ASSIGN_OK(const std::string shown, testing::debugfs_dump(image.file("shown")));
  EXPECT_EQ(shown, expected);

  // And the kernel's own replay. It has bugs; where they are known to bite, it is not asked.
  if (kernel == KernelReplay::may_fail) return;
  const std::string theirs = image.copy("theirs");
  {
    ASSIGN_OK(auto mount, testing::KernelMount::mount(theirs, image.file("mount2")));
    EXPECT_OK(mount->unmount());
  }
  const testing::FsckReport kernel_report = testing::fsck(theirs);
  EXPECT_TRUE(kernel_report.clean) << kernel_report.text;
  ASSIGN_OK(const std::string kernel_dump, testing::debugfs_dump(theirs));
  EXPECT_EQ(kernel_dump, expected);
}

#define SKIP_WITHOUT_KERNEL()                                                       \
  if (const std::string why = testing::why_no_kernel_mounts(); !why.empty()) GTEST_SKIP() << why

class Fd {
public:
  explicit Fd(const std::string &path, int flags = O_RDWR | O_CREAT) : fd_(::open(path.c_str(), flags, 0644)) {
    EXPECT_GE(fd_, 0) << path;
  }
  ~Fd() { ::close(fd_); }
  Fd(const Fd &) = delete;
  int get() const { return fd_; }
  void write(std::uint64_t at, std::size_t count, char fill) const {
    const std::string data(count, fill);
    EXPECT_EQ(::pwrite(fd_, data.data(), data.size(), static_cast<off_t>(at)), static_cast<ssize_t>(count));
  }
  void truncate(std::uint64_t size) const { EXPECT_EQ(::ftruncate(fd_, static_cast<off_t>(size)), 0); }
  void punch(std::uint64_t at, std::uint64_t count) const {
    EXPECT_EQ(::fallocate(fd_, 0x03, static_cast<off_t>(at), static_cast<off_t>(count)), 0);
  }
  void sync() const { EXPECT_EQ(::fsync(fd_), 0); }

private:
  int fd_;
};

void nothing(const std::string &) {}

TEST(FastCommitReplay, NewFiles) {
  SKIP_WITHOUT_KERNEL();
  expect_same(KernelImage({}, 4096, nothing,
                          [](const std::string &path) {
                            for (int i = 0; i < 30; ++i) {
                              const Fd file(path + "/file" + std::to_string(i));
                              file.write(0, static_cast<std::size_t>(i) * 1000, static_cast<char>('a' + i % 26));
                              file.sync();
                            }
                          }),
              KernelReplay::same);
}

TEST(FastCommitReplay, BlocksOf1k) {
  SKIP_WITHOUT_KERNEL();
  expect_same(KernelImage({}, 1024, nothing,
                          [](const std::string &path) {
                            for (int i = 0; i < 40; ++i) {
                              const Fd file(path + "/file" + std::to_string(i));
                              file.write(static_cast<std::uint64_t>(i) * 3000, static_cast<std::size_t>(i) * 900, 'x');
                              file.sync();
                            }
                          }),
              KernelReplay::same);
}

TEST(FastCommitReplay, OverwrittenAppendedPunchedAndTruncated) {
  SKIP_WITHOUT_KERNEL();
  const auto base = [](const std::string &path) {
    for (int i = 0; i < 6; ++i) {
      const Fd file(path + "/file" + std::to_string(i));
      file.write(0, 200000, 'b');
      file.sync();
    }
  };
  expect_same(KernelImage({}, 4096, base,
                          [](const std::string &path) {
                            const Fd zero(path + "/file0"), one(path + "/file1"), two(path + "/file2"), three(path + "/file3");
                            zero.write(200000, 300000, 'n');
                            zero.sync();
                            one.write(4096 * 3, 9000, 'o');
                            one.sync();
                            two.punch(8192, 4096 * 10);
                            two.sync();
                            two.write(4096 * 4, 4096 * 2, 'p');
                            two.sync();
                            three.truncate(5000);
                            three.sync();
                            three.write(100000, 5000, 't');
                            three.sync();
                          }),
              KernelReplay::same);
}

TEST(FastCommitReplay, PreallocatedAndThenWritten) {
  SKIP_WITHOUT_KERNEL();
  expect_same(KernelImage({}, 4096, nothing,
                          [](const std::string &path) {
                            const Fd file(path + "/file");
                            EXPECT_EQ(::fallocate(file.get(), 0, 0, 1 << 20), 0);
                            file.sync();
                            for (std::uint64_t at = 0; at < 1 << 20; at += 65536) {
                              file.write(at + 4096, 8192, 'w');
                              file.sync();
                            }
                          }),
              KernelReplay::may_fail);
}

TEST(FastCommitReplay, DeepTrees) {
  SKIP_WITHOUT_KERNEL();
  const auto base = [](const std::string &path) {
    const Fd file(path + "/sparse");
    for (std::uint64_t i = 0; i < 900; ++i) file.write(i * 8192, 4096, 's');
    file.sync();
  };
  expect_same(KernelImage({}, 1024, base,
                          [](const std::string &path) {
                            const Fd file(path + "/sparse");
                            for (std::uint64_t i = 900; i < 920; ++i) {
                              file.write(i * 8192, 4096, 't');
                              file.sync();
                            }
                            for (std::uint64_t i = 100; i < 110; ++i) {
                              file.punch(i * 8192, 2048);
                              file.sync();
                            }
                          }),
              KernelReplay::may_fail);
}

TEST(FastCommitReplay, LinksAndRenames) {
  SKIP_WITHOUT_KERNEL();
  const auto base = [](const std::string &path) {
    EXPECT_EQ(::mkdir((path + "/d").c_str(), 0755), 0);
    for (const char *name : {"/one", "/two", "/three", "/d/four"}) {
      const Fd file(path + name);
      file.write(0, 5000, name[1]);
      file.sync();
    }
  };
  expect_same(KernelImage({}, 4096, base,
                          [](const std::string &path) {
                            const Fd one(path + "/one"), two(path + "/two");
                            EXPECT_EQ(::link((path + "/one").c_str(), (path + "/d/one-more").c_str()), 0);
                            one.sync();
                            EXPECT_EQ(::rename((path + "/two").c_str(), (path + "/d/two-moved").c_str()), 0);
                            two.sync();
                            EXPECT_EQ(::unlink((path + "/one").c_str()), 0);
                            one.sync();
                            const Fd fresh(path + "/fresh");
                            fresh.write(0, 7000, 'f');
                            fresh.sync();
                            EXPECT_EQ(::rename((path + "/fresh").c_str(), (path + "/fresher").c_str()), 0);
                            fresh.sync();
                          }),
              KernelReplay::same);
}

TEST(FastCommitReplay, RemovedFilesAndTheirNumbersUsedAgain) {
  SKIP_WITHOUT_KERNEL();
  const auto base = [](const std::string &path) {
    for (int i = 0; i < 8; ++i) {
      const Fd file(path + "/old" + std::to_string(i));
      file.write(0, 30000, 'o');
      file.sync();
    }
  };
  expect_same(KernelImage({}, 4096, base,
                          [](const std::string &path) {
                            for (int i = 0; i < 8; i += 2) EXPECT_EQ(::unlink((path + "/old" + std::to_string(i)).c_str()), 0);
                            for (int i = 0; i < 6; ++i) {
                              const Fd file(path + "/new" + std::to_string(i));
                              file.write(0, 20000, 'n');
                              file.sync();
                            }
                            for (int i = 0; i < 6; i += 3) EXPECT_EQ(::unlink((path + "/new" + std::to_string(i)).c_str()), 0);
                            const Fd last(path + "/last");
                            last.write(0, 100, 'l');
                            last.sync();
                          }),
              KernelReplay::may_fail);
}

// What the kernel's own replay stumbles over: "journal recovery failed".
TEST(FastCommitReplay, AFileUnlinkedAndStillOpenIsGone) {
  SKIP_WITHOUT_KERNEL();
  const auto base = [](const std::string &path) { Fd(path + "/doomed").write(0, 50000, 'd'); };
  expect_same(KernelImage({}, 4096, base,
                          [](const std::string &path) {
                            const Fd doomed(path + "/doomed"), other(path + "/other");
                            EXPECT_EQ(::unlink((path + "/doomed").c_str()), 0);
                            doomed.write(50000, 3000, 'e');
                            other.write(0, 10, 'o');
                            other.sync();
                          }),
              KernelReplay::may_fail);
}

TEST(FastCommitReplay, ManyNamesGrowADirectory) {
  SKIP_WITHOUT_KERNEL();
  expect_same(KernelImage({}, 1024, [](const std::string &path) { EXPECT_EQ(::mkdir((path + "/d").c_str(), 0755), 0); },
                          [](const std::string &path) {
                            for (int i = 0; i < 300; ++i) {
                              const Fd file(fmt::format("{}/d/a-rather-long-name-of-a-file-{}", path, i));
                              file.write(0, 10, 'x');
                              if (i % 50 == 49) file.sync();
                            }
                            for (int i = 0; i < 300; ++i) Fd(fmt::format("{}/d/a-rather-long-name-of-a-file-{}", path, i)).sync();
                          }),
              KernelReplay::may_fail);
}

TEST(FastCommitReplay, OtherFeatures) {
  SKIP_WITHOUT_KERNEL();
  const std::vector<std::vector<std::string>> sets{{"-O", "^metadata_csum,^64bit"}, {"-O", "orphan_file"}, {"-I", "128"}, {"-O", "^flex_bg,uninit_bg,^metadata_csum"}};
  for (const auto &set : sets) {
    SCOPED_TRACE(set.back());
    std::vector<std::string> arguments = set;
    if (set[0] == "-O") arguments[1] += ",fast_commit";
    expect_same(KernelImage(arguments, 4096, [](const std::string &path) { Fd(path + "/base").write(0, 30000, 'b'); },
                            [](const std::string &path) {
                              const Fd base(path + "/base");
                              base.write(30000, 30000, 'm');
                              base.sync();
                              for (int i = 0; i < 5; ++i) {
                                const Fd file(path + "/file" + std::to_string(i));
                                file.write(0, 9000, 'f');
                                file.sync();
                              }
                              EXPECT_EQ(::unlink((path + "/file2").c_str()), 0);
                              base.truncate(10000);
                              base.sync();
                            }),
                KernelReplay::may_fail);
  }
}

// Random operations with an fsync after each few. Rounds by OUTBOARD_FAST_COMMIT_ROUNDS.
TEST(FastCommitReplay, RandomOperationsOfTheKernel) {
  SKIP_WITHOUT_KERNEL();
  const char *wanted = std::getenv("OUTBOARD_FAST_COMMIT_ROUNDS");
  const unsigned rounds = wanted == nullptr ? 6 : static_cast<unsigned>(std::atoi(wanted));
  for (unsigned seed = 1; seed <= rounds; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto base = [](const std::string &path) {
      for (const char *name : {"/d1", "/d2"}) EXPECT_EQ(::mkdir((path + name).c_str(), 0755), 0);
      for (int i = 0; i < 5; ++i) Fd(fmt::format("{}/d1/base{}", path, i)).write(0, 60000, 'b');
    };
    const auto work = [&](const std::string &path) {
      std::set<std::string> names;
      for (int i = 0; i < 5; ++i) names.insert(fmt::format("/d1/base{}", i));
      const auto pick = [&] {
        auto at = names.begin();
        std::advance(at, random() % names.size());
        return *at;
      };
      for (int step = 0; step < 60; ++step) {
        const std::string fresh = fmt::format("/d{}/name{}", 1 + random() % 2, random() % 40);
        const auto what = random() % 10;
        if (what < 3 || names.size() < 3) {
          names.insert(fresh);
          const Fd file(path + fresh);
          file.write(random() % 50000, 1 + random() % 40000, static_cast<char>('a' + step % 26));
          if (random() % 2) file.sync();
        } else if (what < 5) {
          const Fd file(path + pick());
          file.write(random() % 100000, 1 + random() % 20000, static_cast<char>('A' + step % 26));
          file.sync();
        } else if (what == 5) {
          const Fd file(path + pick());
          file.punch(random() % 40000, 1 + random() % 40000);
          file.sync();
        } else if (what == 6) {
          const Fd file(path + pick());
          file.truncate(random() % 80000);
          file.sync();
        } else if (what == 7) {
          const std::string old = pick();
          if (names.insert(fresh).second) {
            EXPECT_EQ(::link((path + old).c_str(), (path + fresh).c_str()), 0);
          }
        } else if (what == 8) {
          const std::string old = pick();
          EXPECT_EQ(::unlink((path + old).c_str()), 0);
          names.erase(old);
        } else {
          const std::string old = pick();
          EXPECT_EQ(::rename((path + old).c_str(), (path + fresh).c_str()), 0);
          struct stat a, b;
          const bool same = ::stat((path + old).c_str(), &a) == 0 && ::stat((path + fresh).c_str(), &b) == 0 && a.st_ino == b.st_ino;
          if (!same) names.erase(old);
          names.insert(fresh);
        }
      }
      for (const std::string &name : names) Fd(path + name, O_RDWR).sync();
      const Fd last(path + "/last");
      last.write(0, 1, 'l');
      last.sync();
    };
    expect_same(KernelImage({}, seed % 2 == 0 ? 4096 : 1024, base, work), KernelReplay::may_fail);
    if (HasFailure()) return;
  }
}

// --- areas made here ------------------------------------------------------------------------------------------------

// An image whose log is empty but for fast commits.
class PlantedImage {
public:
  static constexpr std::uint32_t kTid = 5;
  PlantedImage() : image_(32, {"-O", "fast_commit"}, 1024) {
    if (!image_.open()) return;
    Inode root = image_.root();
    for (int i = 0; i < 4; ++i) {
      auto made = names::create(*image_, root, "old" + std::to_string(i), {.mode = 0100644});
      EXPECT_OK(made);
      EXPECT_OK(image_.append(*made, 20));
      numbers_.push_back(made->number);
    }
    image_.close();
    base_ = image_.device().clone();
  }
  const std::vector<InodeNumber> &numbers() const { return numbers_; }
  const device::MemoryDevice &base() const { return *base_; }
  VolumeImage &image() { return image_; }
  format::Superblock superblock() { return superblock_on(*base_); }

  // The base with these blocks as its fast-commit area.
  std::unique_ptr<device::MemoryDevice> plant(std::span<const std::byte> area) {
    auto device = base_->clone();
    auto log = internal_journal(*device, superblock());
    EXPECT_OK(log);
    std::vector<std::byte> block(log->block_size());
    EXPECT_OK(log->read(0, block));
    auto &disk = edit_as<jbd2::DiskSuperblock>(std::span(block));
    disk.incompat.set(disk.incompat.get() | static_cast<std::uint32_t>(jbd2::Incompat::fast_commit));
    disk.start.set(disk.first.get());
    disk.sequence.set(kTid);
    jbd2::seal_superblock(block);
    EXPECT_OK(log->write(0, block));
    auto parsed = jbd2::parse_superblock(block, log->block_size(), log->block_count());
    EXPECT_OK(parsed);
    const std::size_t room = std::size_t{parsed->max_length - parsed->end - 1} * log->block_size();
    EXPECT_LE(area.size(), room);
    EXPECT_OK(log->write(parsed->end + 1, area.first(std::min(room, area.size()))));
    // The log proper must not seem to go on.
    std::ranges::fill(block, std::byte{0});
    EXPECT_OK(log->write(parsed->first, block));
    return device;
  }

private:
  VolumeImage image_;
  std::unique_ptr<device::MemoryDevice> base_;
  std::vector<InodeNumber> numbers_;
};

std::vector<std::byte> raw_inode(const format::Superblock &superblock, InodeNumber number, std::uint64_t size, std::uint32_t links,
                                 std::uint32_t generation = 0) {
  format::InodeFields fields;
  fields.mode = 0100600;
  fields.uid = 7;
  fields.size = size;
  fields.links = links;
  fields.flags = format::kInodeFlagExtents;
  fields.generation = generation;
  fields.extra_isize = 32;
  fields.mtime = {1000, 5};
  format::ExtentNodeEdit(fields.block).init(0);
  std::vector<std::byte> raw(superblock.inode_size);
  EXPECT_OK(format::encode_inode(superblock, number, fields, raw));
  raw.resize(160);
  return raw;
}

struct Opened {
  std::uint32_t fast_commits = 0;
  std::string dump;
};
Opened open_and_judge(device::MemoryDevice &device, const std::string &path) {
  Opened result;
  auto volume = Volume::open(device, {});
  EXPECT_OK(volume);
  if (!volume) return result;
  result.fast_commits = (*volume)->report().fast_commits;
  EXPECT_OK((*volume)->close());
  EXPECT_OK(device.save(path));
  const testing::FsckReport report = testing::fsck(path);
  EXPECT_TRUE(report.clean) << report.text;
  auto dump = testing::debugfs_dump(path);
  EXPECT_OK(dump);
  result.dump = dump.value_or("");
  return result;
}

// A block that is free in the base.
BlockNumber free_blocks(PlantedImage &planted, std::uint32_t count) {
  auto device = planted.base().clone();
  auto volume = Volume::open(*device, {});
  EXPECT_OK(volume);
  auto run = (*volume)->blocks().reserve({BlockNumber(), GroupNumber(2)}, count);
  EXPECT_OK(run);
  EXPECT_EQ(run->count, count);
  const BlockNumber start = run->start;
  (*volume)->blocks().release(*run);
  return start;
}

std::vector<std::byte> some_area(PlantedImage &planted) {
  const format::Superblock superblock = planted.superblock();
  const BlockNumber blocks = free_blocks(planted, 30);
  const InodeNumber fresh(superblock.first_ino.value() + 30);
  FastCommitEncoder first(1024, PlantedImage::kTid), second(1024, PlantedImage::kTid);
  first.begin_area();
  first.inode(fresh, raw_inode(superblock, fresh, 10 * 1024, 1));
  first.add_range(fresh, {FileBlock(0), blocks, 10, false});
  first.entry(FastCommitTag::create, format::kRootInode, fresh, "fresh");
  second.entry(FastCommitTag::unlink, format::kRootInode, planted.numbers()[0], "old0");
  second.entry(FastCommitTag::link, format::kRootInode, planted.numbers()[1], "old1-again");
  second.del_range(fresh, FileBlock(2), 3);
  second.add_range(fresh, {FileBlock(3), blocks + 20, 1, true});
  second.inode(fresh, raw_inode(superblock, fresh, 9 * 1024 + 5, 1));
  std::vector<std::byte> area = first.finish();
  const std::vector<std::byte> more = second.finish();
  area.insert(area.end(), more.begin(), more.end());
  return area;
}

TEST(FastCommitReplay, AnAreaMadeHere) {
  PlantedImage planted;
  auto device = planted.plant(some_area(planted));
  const Opened opened = open_and_judge(*device, planted.image().file("out"));
  EXPECT_EQ(opened.fast_commits, 3U);
  EXPECT_NE(opened.dump.find("/fresh -0600 links=1 uid=7 gid=0 size=9221"), std::string::npos) << opened.dump;
  EXPECT_EQ(opened.dump.find("/old0 "), std::string::npos) << opened.dump;
  EXPECT_NE(opened.dump.find("/old1-again -0644 links=2"), std::string::npos) << opened.dump;
  // Once more: the area counts no longer.
  auto again = Volume::open(*device, {});
  ASSERT_OK(again);
  EXPECT_EQ((*again)->report().fast_commits, 0U);
  EXPECT_OK((*again)->close());
}

TEST(FastCommitReplay, ATornAreaKeepsWhatIsWhole) {
  PlantedImage planted;
  std::vector<std::byte> area = some_area(planted);
  area[area.size() - 900] ^= std::byte{1};
  auto device = planted.plant(area);
  const Opened opened = open_and_judge(*device, planted.image().file("out"));
  EXPECT_EQ(opened.fast_commits, 2U);
  EXPECT_NE(opened.dump.find("/fresh -0600 links=1 uid=7 gid=0 size=10240"), std::string::npos) << opened.dump;
  EXPECT_NE(opened.dump.find("/old0 "), std::string::npos) << opened.dump;
}

TEST(FastCommitReplay, ABlockInUseIsCorrupt) {
  PlantedImage planted;
  const format::Superblock superblock = planted.superblock();
  BlockNumber used;
  {
    auto device = planted.base().clone();
    ASSIGN_OK(auto volume, Volume::open(*device, {.read_only = true}));
    ASSIGN_OK(const Inode old, volume->inodes().load(planted.numbers()[0]));
    ASSIGN_OK(const FileMapping found, file_map::find(*volume, old, FileBlock(0), 1));
    used = found.start;
  }
  FastCommitEncoder encoder(1024, PlantedImage::kTid);
  encoder.begin_area();
  const InodeNumber fresh(superblock.first_ino.value() + 30);
  encoder.inode(fresh, raw_inode(superblock, fresh, 1024, 1));
  encoder.add_range(fresh, {FileBlock(0), used, 1, false});
  encoder.entry(FastCommitTag::create, format::kRootInode, fresh, "fresh");
  auto device = planted.plant(encoder.finish());
  auto opened = Volume::open(*device, {});
  ASSERT_FALSE(opened);
  EXPECT_TRUE(opened.error().is_corrupt()) << opened.error().message();
}

// Whatever the area says, with a right checksum: an error, or a volume that can be used. Never a crash, never a loop.
TEST(FastCommitReplay, HostileAreas) {
  PlantedImage planted;
  const format::Superblock superblock = planted.superblock();
  std::mt19937_64 random(3);
  const auto number = [&]() -> InodeNumber {
    switch (random() % 6) {
    case 0: return InodeNumber(static_cast<std::uint32_t>(random()));
    case 1: return InodeNumber(static_cast<std::uint32_t>(random() % 16));
    case 2: return format::kRootInode;
    case 3: return InodeNumber(static_cast<std::uint32_t>(random() % (superblock.inodes_count + 3)));
    case 4: return InodeNumber(superblock.first_ino.value() + 20 + static_cast<std::uint32_t>(random() % 4));
    default: return planted.numbers()[random() % planted.numbers().size()];
    }
  };
  const auto name = [&]() -> std::string {
    switch (random() % 5) {
    case 0: return "old" + std::to_string(random() % 4);
    case 1: return "..";
    case 2: return std::string(1 + random() % 255, 'n');
    case 3: return "a/b";
    default: return "new" + std::to_string(random() % 4);
    }
  };
  unsigned opened = 0, refused = 0;
  for (int round = 0; round < 400; ++round) {
    FastCommitEncoder encoder(1024, PlantedImage::kTid);
    encoder.begin_area();
    // Mostly short, so that some get through.
    const auto records = 1 + random() % (round % 2 == 0 ? 3 : 12);
    for (std::uint64_t i = 0; i < records; ++i) {
      const auto tag = static_cast<FastCommitTag>(3 + random() % 3);
      switch (random() % 4) {
      case 0: {
        const InodeNumber target = number();
        std::vector<std::byte> raw = raw_inode(superblock, target, random() % 50000, static_cast<std::uint32_t>(random() % 4));
        if (random() % 2 == 0) {
          edit_as<le16>(std::span(raw)).set(static_cast<std::uint16_t>(0644 | (random() % 16) << 12));
        }
        if (random() % 3 == 0) {
          for (int k = 0; k < 8; ++k) raw[random() % raw.size()] = std::byte(random());
        }
        raw.resize(128 + random() % (superblock.inode_size - 128 + 1));
        encoder.inode(target, raw);
        break;
      }
      case 1:
        encoder.add_range(number(), {FileBlock(static_cast<std::uint32_t>(random() % 3 == 0 ? random() : random() % 100)),
                                     BlockNumber(random() % 4 == 0 ? random() % (std::uint64_t{1} << 48) : 20000 + random() % 10000),
                                     static_cast<std::uint32_t>(1 + random() % (random() % 4 == 0 ? 32767 : 60)), random() % 2 == 0});
        break;
      case 2:
        encoder.del_range(number(), FileBlock(static_cast<std::uint32_t>(random() % 3 == 0 ? random() : random() % 30)),
                          static_cast<std::uint32_t>(random() % 3 == 0 ? random() : random() % 30));
        break;
      default: encoder.entry(tag, number(), number(), name()); break;
      }
    }
    auto device = planted.plant(encoder.finish());
    auto volume = Volume::open(*device, {});
    if (!volume) {
      EXPECT_TRUE(volume.error().is_corrupt() || volume.error().kind() == ErrorKind::unsupported || volume.error().kind() == ErrorKind::user)
          << volume.error().message();
      ++refused;
      continue;
    }
    ++opened;
    EXPECT_OK((*volume)->close());
  }
  EXPECT_GT(opened, 20U);
  EXPECT_GT(refused, 20U);
}

// Bytes of the area overwritten at random: what does not count is ignored, and the volume stays sound.
TEST(FastCommitReplay, NoiseInTheArea) {
  PlantedImage planted;
  const std::vector<std::byte> area = some_area(planted);
  std::mt19937 random(9);
  std::set<std::uint32_t> seen;
  for (int round = 0; round < 60; ++round) {
    std::vector<std::byte> noise = area;
    const auto changes = 1 + random() % 4;
    for (std::uint64_t i = 0; i < changes; ++i) noise[random() % noise.size()] = std::byte(random());
    auto device = planted.plant(noise);
    auto volume = Volume::open(*device, {});
    if (!volume) {
      EXPECT_EQ(volume.error().kind(), ErrorKind::unsupported) << volume.error().message();
      continue;
    }
    seen.insert((*volume)->report().fast_commits);
    EXPECT_OK((*volume)->close());
    if (round % 10 == 0) {
      const testing::FsckReport report = testing::fsck(*device);
      EXPECT_TRUE(report.clean) << report.text;
    }
  }
  EXPECT_GT(seen.size(), 1U);
}

// Power cuts while we replay: whatever is left, the next mount ends at the same tree.
TEST(FastCommitReplay, ACrashDuringReplayIsRepeated) {
  PlantedImage planted;
  auto log = std::make_unique<testing::WriteLogDevice>(planted.plant(some_area(planted)));
  std::string expected;
  {
    ASSIGN_OK(auto volume, Volume::open(*log, {}));
    ASSERT_EQ(volume->report().fast_commits, 3U);
    EXPECT_OK(volume->close());
    auto memory = testing::copy_to_memory(*log);
    ASSERT_OK(memory);
    expected = open_and_judge(**memory, planted.image().file("whole")).dump;
  }
  ASSERT_NE(expected.find("/fresh "), std::string::npos);
  unsigned states = 0, repeated = 0, torn_superblocks = 0;
  for (const std::uint64_t point : log->crash_points()) {
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      ASSIGN_OK(auto state, log->crash_state(point, seed));
      // A superblock torn between its two sectors is beyond any journal: nothing that reads the volume gets past it.
      std::vector<std::byte> raw(format::kSuperblockSize);
      ASSERT_OK(state->read(format::kSuperblockOffset, raw));
      if (!format::parse_superblock(raw)) {
        ++torn_superblocks;
        continue;
      }
      const Opened after = open_and_judge(*state, planted.image().file("state"));
      ASSERT_EQ(after.dump, expected) << "crash at " << point << ", seed " << seed;
      ++states;
      repeated += after.fast_commits != 0 ? 1 : 0;
    }
  }
  EXPECT_GT(states, 20U);
  EXPECT_LT(torn_superblocks, states / 10);
  EXPECT_GT(repeated, 4U);
  EXPECT_LT(repeated, states);
}

}  // namespace
}  // namespace outboard::ext4

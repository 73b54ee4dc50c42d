// Directories that others made, directories that others must read, and directories that nobody should have made.
#include "ext4/credits.h"
#include "ext4/directory.h"
#include "ext4/file_map.h"
#include "ext4/namespace.h"
#include "ext4/test_image.h"
#include "testing/command.h"
#include "testing/kernel_mount.h"

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <unistd.h>

namespace outboard::ext4 {
namespace {

using testing::debugfs;
using testing::KernelMount;
using testing::run_command;

// Names that differ between signed and unsigned hashes among them.
std::string name_of(std::size_t number) {
  return number % 3 == 0 ? "\xc3\xa4\xff-" + std::to_string(number) : "plain-" + std::to_string(number);
}

std::set<std::string> make_names(std::size_t count) {
  std::set<std::string> names{".", ".."};
  for (std::size_t i = 0; i < count; ++i) names.insert(name_of(i));
  return names;
}

Result<std::set<std::string>> list(Volume &volume, Inode &inode) {
  std::set<std::string> names;
  bool twice = false;
  TRY(Directory(volume, inode).iterate(0, [&](std::span<const Directory::Item> items, std::uint64_t) {
    for (const Directory::Item &item : items) twice |= !names.emplace(item.name).second;
    return true;
  }));
  EXPECT_FALSE(twice);
  return names;
}

void expect_holds(TestImage &image, const std::string &path, const std::set<std::string> &names) {
  Inode inode = image.find(path);
  const auto listed = list(image.volume(), inode);
  ASSERT_OK(listed);
  EXPECT_EQ(*listed, names);
  for (const std::string &name : names) EXPECT_OK(Directory::find(image.volume(), inode, name)) << name;
  EXPECT_ERROR(Directory::find(image.volume(), inode, "absent"), ENOENT);
}

void run(const std::vector<std::string> &argv, int most = 0) {
  const auto done = run_command(argv);
  ASSERT_OK(done);
  ASSERT_LE(done->exit, most) << done->out << done->err;
}

// A host directory with `count` files, for mke2fs -d.
void fill_host_directory(const std::string &path, std::size_t count) {
  std::filesystem::create_directories(path + "/dir");
  for (std::size_t i = 0; i < count; ++i) std::ofstream(path + "/dir/" + name_of(i));
}

struct HashCase {
  const char *algorithm;
  bool unsigned_chars;
};
class DirectoryHashes : public ::testing::TestWithParam<HashCase> {};

TEST_P(DirectoryHashes, ReadsWhatE2fsckIndexedAndAddsWhatItAccepts) {
  const testing::TemporaryDirectory host;
  fill_host_directory(host.file("tree"), 1500);
  TestImage image(std::uint64_t{64} << 20, {"-N", "8000", "-d", host.file("tree")}, 1024);
  run({"tune2fs", "-E", std::string("hash_alg=") + GetParam().algorithm, image.path()});
  ASSERT_OK(testing::debugfs_write(image.path(), {GetParam().unsigned_chars ? "ssv flags 2" : "ssv flags 1"}));
  // As mke2fs left it: linear, of many blocks.
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.volume().superblock().unsigned_hash, GetParam().unsigned_chars);
  EXPECT_EQ(image.find("dir").fields.flags & format::kInodeFlagIndex, 0u);
  expect_holds(image, "dir", make_names(1500));
  image.close();

  run({"e2fsck", "-fyD", image.path()}, 1);
  ASSERT_TRUE(image.open());
  EXPECT_NE(image.find("dir").fields.flags & format::kInodeFlagIndex, 0u);
  expect_holds(image, "dir", make_names(1500));
  Inode directory = image.find("dir");
  for (std::size_t i = 1500; i < 3000; ++i)
    ASSERT_OK(names::create(image.volume(), directory, name_of(i), {.mode = 0100644}));
  expect_holds(image, "dir", make_names(3000));
  // And one that we index ourselves.
  Inode root = image.find("");
  auto ours = names::create(image.volume(), root, "ours", {.mode = 0040755});
  ASSERT_OK(ours);
  for (std::size_t i = 0; i < 1000; ++i) ASSERT_OK(names::create(image.volume(), *ours, name_of(i), {.mode = 0100644}));
  image.close();
  image.expect_clean();
  const auto seen = debugfs(image.path(), "ls -p /ours");
  ASSERT_OK(seen);
  EXPECT_EQ(std::ranges::count(*seen, '\n'), 1002 + 1);  // a line each, and an empty one

  if (!testing::why_no_kernel_mounts().empty()) return;
  // The kernel finds every name (by its own hash) and adds some that we find.
  auto mount = KernelMount::mount(image.path(), image.file("mnt"));
  ASSERT_OK(mount);
  for (std::size_t i = 0; i < 3000; ++i)
    EXPECT_EQ(::access(((*mount)->path() + "/dir/" + name_of(i)).c_str(), F_OK), 0) << i;
  for (std::size_t i = 0; i < 1000; ++i)
    EXPECT_EQ(::access(((*mount)->path() + "/ours/" + name_of(i)).c_str(), F_OK), 0) << i;
  for (std::size_t i = 1000; i < 2000; ++i) std::ofstream((*mount)->path() + "/ours/" + name_of(i));
  ASSERT_OK((*mount)->unmount());
  ASSERT_TRUE(image.open());
  expect_holds(image, "ours", make_names(2000));
  image.close();
  image.expect_clean();
}

INSTANTIATE_TEST_SUITE_P(, DirectoryHashes,
                         ::testing::Values(HashCase{"legacy", false}, HashCase{"legacy", true},
                                           HashCase{"half_md4", false}, HashCase{"half_md4", true},
                                           HashCase{"tea", false}, HashCase{"tea", true}),
                         [](const auto &test) {
                           return std::string(test.param.algorithm) +
                                  (test.param.unsigned_chars ? "_unsigned" : "_signed");
                         });

int number_after(const std::string &text, const char *label) {
  const std::size_t at = text.find(label);
  return at == std::string::npos ? -1 : std::atoi(text.c_str() + at + std::strlen(label));
}

// The same names in the same order give the kernel and us the same tree: as deep, and with about as many leaves (it counts
// the slack behind a leaf's last entry when it looks for the middle; we count the entries only).
TEST(DirectoryImages, TheIndexGrowsAsTheKernelsDoes) {
  if (const std::string why = testing::why_no_kernel_mounts(); !why.empty()) GTEST_SKIP() << why;
  for (const std::size_t count : {std::size_t{12}, std::size_t{45}, std::size_t{300}, std::size_t{12000}}) {
    SCOPED_TRACE(count);
    TestImage image(std::uint64_t{64} << 20, {"-N", "16000"}, 1024);
    const auto name = [](std::size_t i) { return std::to_string(i) + std::string(40, 'n'); };
    {
      auto mount = KernelMount::mount(image.path(), image.file("mnt"));
      ASSERT_OK(mount);
      ASSERT_EQ(::mkdir(((*mount)->path() + "/theirs").c_str(), 0755), 0);
      std::ofstream((*mount)->path() + "/file");
      for (std::size_t i = 0; i < count; ++i)
        ASSERT_EQ(::link(((*mount)->path() + "/file").c_str(), ((*mount)->path() + "/theirs/" + name(i)).c_str()), 0);
      ASSERT_OK((*mount)->unmount());
    }
    ASSERT_TRUE(image.open());
    Inode root = image.find(""), file = image.find("file");
    auto ours = names::create(image.volume(), root, "ours", {.mode = 0040755});
    ASSERT_OK(ours);
    for (std::size_t i = 0; i < count; ++i) ASSERT_OK(names::link(image.volume(), *ours, name(i), file));
    const double our_blocks = static_cast<double>(ours->fields.size) / 1024;
    const double their_blocks = static_cast<double>(image.find("theirs").fields.size) / 1024;
    EXPECT_NEAR(our_blocks, their_blocks, 1 + their_blocks / 20);
    image.close();
    image.expect_clean();
    const auto a = debugfs(image.path(), "htree /ours"), b = debugfs(image.path(), "htree /theirs");
    if (!a || !b) {
      EXPECT_EQ(a.has_value(), b.has_value());  // not indexed, either
      continue;
    }
    EXPECT_EQ(number_after(*a, "Indirect levels: "), number_after(*b, "Indirect levels: "));
  }
}

// Where a block of a directory lies in the image, in bytes.
std::uint64_t offset_of(TestImage &image, const std::string &path, std::uint32_t block) {
  const Inode inode = image.find(path);
  const auto mapping = file_map::find(image.volume(), inode, FileBlock(block), 1);
  EXPECT_OK(mapping);
  return mapping->start.value() * image.volume().block_size();
}

void overwrite(const std::string &path, std::uint64_t offset, const std::string &bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.good());
}

// 300 names, indexed, 1k blocks.
std::unique_ptr<TestImage> indexed_image(const std::vector<std::string> &mkfs, std::size_t count = 300) {
  auto image = std::make_unique<TestImage>(std::uint64_t{16} << 20, mkfs, 1024);
  EXPECT_TRUE(image->open());
  Inode root = image->find("");
  auto file = names::create(image->volume(), root, "file", {.mode = 0100644});
  auto directory = names::create(image->volume(), root, "dir", {.mode = 0040755});
  EXPECT_OK(directory);
  for (std::size_t i = 0; i < count; ++i) EXPECT_OK(names::link(image->volume(), *directory, name_of(i), *file));
  return image;
}

TEST(DirectoryImages, AnUnusableRootIsSearchedBlockByBlockAndGivenUpOnTheFirstChange) {
  for (const auto &[offset, byte] :
       {std::pair{28u, '\x09'}, {29u, '\x04'}, {30u, '\x05'}, {32u, '\x01'}, {34u, '\0'}}) {
    SCOPED_TRACE(offset);
    auto image = indexed_image({"-O", "^metadata_csum"});
    const std::uint64_t root = offset_of(*image, "dir", 0);
    image->close();
    overwrite(image->path(), root + offset, std::string(1, byte) + (offset == 34 ? std::string(1, '\0') : ""));
    ASSERT_TRUE(image->open());
    expect_holds(*image, "dir", make_names(300));
    Inode directory = image->find("dir"), file = image->find("file");
    ASSERT_OK(names::link(image->volume(), directory, "one more", file));
    EXPECT_EQ(directory.fields.flags & format::kInodeFlagIndex, 0u);
    ASSERT_OK(names::unlink(image->volume(), directory, name_of(5), file));
    auto names = make_names(300);
    names.insert("one more");
    names.erase(name_of(5));
    expect_holds(*image, "dir", names);
    image->close();
    image->expect_clean();
  }
}

TEST(DirectoryImages, AHoleInADirectoryIsCorrupt) {
  auto image = indexed_image({"-O", "^metadata_csum"});
  image->close();
  ASSERT_OK(testing::debugfs_write(image->path(), {"punch /dir 3 3"}));
  ASSERT_TRUE(image->open());
  Inode directory = image->find("dir");
  const auto listed = list(image->volume(), directory);
  ASSERT_FALSE(listed);
  EXPECT_TRUE(listed.error().is_corrupt());
  std::size_t lost = 0;
  for (std::size_t i = 0; i < 300; ++i) {
    const auto match = Directory::find(image->volume(), directory, name_of(i));
    if (match) continue;
    EXPECT_TRUE(match.error().is_corrupt()) << match.error().message();
    ++lost;
  }
  EXPECT_GT(lost, 5u);
  EXPECT_LT(lost, 150u);
}

TEST(DirectoryImages, AWrongChecksumIsNoticed) {
  auto image = indexed_image({});
  const std::uint64_t leaf = offset_of(*image, "dir", 2);
  image->close();
  overwrite(image->path(), leaf + 8, "X");
  ASSERT_TRUE(image->open());
  Inode directory = image->find("dir");
  const auto listed = list(image->volume(), directory);
  ASSERT_FALSE(listed);
  EXPECT_EQ(listed.error().kind(), ErrorKind::bad_checksum);
}

// Whatever stands in the blocks, every operation returns, with an answer or with an error, and soon.
TEST(DirectoryImages, HostileBlocksNeitherCrashNorHang) {
  for (const std::size_t count : {std::size_t{10}, std::size_t{300}, std::size_t{4000}}) {
    auto sound = indexed_image({"-O", "^metadata_csum", "-N", "64"}, count);
    const std::uint32_t blocks = static_cast<std::uint32_t>(sound->find("dir").fields.size / 1024);
    std::vector<std::uint64_t> offsets;
    for (std::uint32_t b = 0; b < blocks; ++b) offsets.push_back(offset_of(*sound, "dir", b));
    sound->close();
    std::mt19937 random(static_cast<std::uint32_t>(count));
    const std::string copy = sound->file("hostile");
    for (int round = 0; round < 100; ++round) {
      std::filesystem::copy_file(sound->path(), copy, std::filesystem::copy_options::overwrite_existing);
      const int hits = static_cast<int>(random() % 4) + 1;
      for (int hit = 0; hit < hits; ++hit) {
        // The root, and the nodes that came early, are hit more often than their number says.
        const std::size_t block = random() % 3 == 0   ? 0
                                  : random() % 2 == 0 ? random() % std::min<std::size_t>(blocks, 4)
                                                      : random() % blocks;
        std::string bytes(random() % 5 == 0 ? 1024 : random() % 8 + 1, '\0');
        for (char &c : bytes)
          c = random() % 3 == 0 ? '\xff' : static_cast<char>(random() % 2 == 0 ? random() % 16 : random());
        const std::size_t at = bytes.size() == 1024 ? 0
                               : random() % 2 == 0  ? random() % 64
                                                    : random() % (1024 - bytes.size());
        overwrite(copy, offsets[block] + at, bytes);
      }
      ASSERT_TRUE(sound->open({}, copy));
      Volume &volume = sound->volume();
      Inode directory = sound->find("dir"), file = sound->find("file");
      const auto sane = [](const auto &result) {
        if (result) return;
        EXPECT_TRUE(result.error().is_corrupt() || result.error().is(ENOENT) || result.error().is(EEXIST) ||
                    result.error().is(ESTALE) || result.error().is(ENOSPC))
            << result.error().message();
      };
      sane(Directory(volume, directory).empty());
      sane(Directory(volume, directory).iterate(random(), [](auto, auto) { return true; }));
      std::size_t listed = 0;
      sane(
          Directory(volume, directory).iterate(0, [&](auto items, auto) { return (listed += items.size()) < 100000; }));
      EXPECT_LT(listed, 100000u);
      for (std::size_t i = 0; i < 40; ++i) sane(Directory::find(volume, directory, name_of(random() % (count + 10))));
      for (std::size_t i = 0; i < 10; ++i) {
        sane(names::link(volume, directory, name_of(count + random() % 100) + std::string(random() % 200, 'l'), file));
        sane(names::unlink(volume, directory, name_of(random() % count), file));
      }
      sound->crash();
    }
  }
}

}  // namespace
}  // namespace outboard::ext4

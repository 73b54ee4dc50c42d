// The samples behind the handle a transport gets, without a transport.
#include "sample/engine_subjects.h"
#include "sample/sample_filesystem.h"

#include <gtest/gtest.h>

#include <dirent.h>
#include <linux/falloc.h>
#include <set>
#include <sys/stat.h>

namespace outboard::sample::testing {
namespace {

// As many entries at a time as `most`, to make readdir go on where it stopped.
class Names final : public vfs::DirectorySink {
public:
  explicit Names(std::size_t most) : most_(most) {}
  std::size_t room() const override { return (most_ - taken_) * 10; }
  std::size_t cost(std::string_view) const override { return 10; }
  bool add(const vfs::DirectoryEntry &name, const vfs::Entry *) override {
    if (taken_ == most_) return false;
    ++taken_;
    next = name.next;
    EXPECT_TRUE(all.insert(std::string(name.name)).second) << name.name;
    return true;
  }
  bool again() { return std::exchange(taken_, 0) == most_; }
  std::set<std::string> all;
  std::uint64_t next = 0;

private:
  const std::size_t most_;
  std::size_t taken_ = 0;
};

std::set<std::string> names_in(vfs::Filesystem &filesystem) {
  Names names(2);
  do EXPECT_OK(filesystem.read_directory(vfs::kRootNode, names.next, false, names));
  while (names.again());
  return names.all;
}

std::vector<std::byte> contents(vfs::Filesystem &filesystem, vfs::NodeId node) {
  std::vector<std::byte> bytes(100000);
  const auto got = filesystem.read(node, 0, bytes);
  EXPECT_OK(got);
  bytes.resize(got.value_or(0));
  return bytes;
}

template <class T> std::unique_ptr<SampleFilesystem> mounted(device::BlockDevice &device, const SampleOptions &options = {}) {
  auto volume = T::open(device);
  EXPECT_OK(volume);
  return std::make_unique<SampleFilesystem>(*std::move(volume), options);
}

template <class T> class NamedSampleTest : public ::testing::Test {};
using NamedSamples = ::testing::Types<InlineVolume, OutOfPlaceVolume>;
TYPED_TEST_SUITE(NamedSampleTest, NamedSamples);

TYPED_TEST(NamedSampleTest, FilesAndTheirBytesOutliveTheMount) {
  const auto memory = stale_memory(2 << 20);
  ASSERT_OK(TypeParam::format(*memory));
  {
    const auto filesystem = mounted<TypeParam>(*memory);
    for (unsigned n = 0; n < 5; ++n) {
      ASSIGN_OK(const vfs::Entry entry, filesystem->make_node(vfs::kRootNode, "f" + std::to_string(n), S_IFREG | 0644, 0, {}));
      ASSERT_EQ(filesystem->write(entry.node, 10 * n, pattern(1000, n), {}).value_or(0), 1000u);
    }
    EXPECT_ERROR(filesystem->make_node(vfs::kRootNode, "f1", S_IFREG | 0644, 0, {}), EEXIST);
    EXPECT_ERROR(filesystem->make_directory(vfs::kRootNode, "d", 0755, {}), EPERM);
    ASSERT_OK(filesystem->unlink(vfs::kRootNode, "f3"));
    EXPECT_ERROR(filesystem->unlink(vfs::kRootNode, "f3"), ENOENT);
    ASSERT_OK(filesystem->unmount());
  }
  const auto filesystem = mounted<TypeParam>(*memory);
  EXPECT_EQ(names_in(*filesystem), (std::set<std::string>{".", "..", "f0", "f1", "f2", "f4"}));
  ASSIGN_OK(const vfs::Entry entry, filesystem->lookup(vfs::kRootNode, "f4"));
  EXPECT_EQ(entry.attributes.size, 1040u);
  std::vector<std::byte> expected(40);
  std::ranges::copy(pattern(1000, 4), std::back_inserter(expected));
  EXPECT_TRUE(contents(*filesystem, entry.node) == expected);
}

TYPED_TEST(NamedSampleTest, UnlinkedFilesLiveAsLongAsTheyAreKnown) {
  const auto memory = stale_memory(2 << 20);
  ASSERT_OK(TypeParam::format(*memory));
  const auto filesystem = mounted<TypeParam>(*memory);
  const auto before = filesystem->statistics();
  ASSIGN_OK(const vfs::Entry entry, filesystem->make_node(vfs::kRootNode, "f", S_IFREG | 0644, 0, {}));
  ASSERT_OK(filesystem->write(entry.node, 0, pattern(500, 1), {}));
  ASSERT_OK(filesystem->unlink(vfs::kRootNode, "f"));
  EXPECT_ERROR(filesystem->lookup(vfs::kRootNode, "f"), ENOENT);
  EXPECT_TRUE(contents(*filesystem, entry.node) == pattern(500, 1));
  ASSIGN_OK(const vfs::Entry other, filesystem->make_node(vfs::kRootNode, "f", S_IFREG | 0644, 0, {}));
  EXPECT_NE(other.node, entry.node);
  EXPECT_TRUE(contents(*filesystem, other.node).empty());
  filesystem->forget(entry.node, 1);
  EXPECT_ERROR(filesystem->get_attributes(entry.node), ESTALE);
  ASSERT_OK(filesystem->unlink(vfs::kRootNode, "f"));
  filesystem->forget(other.node, 1);
  ASSERT_OK(filesystem->sync_all());
  EXPECT_EQ(filesystem->statistics()->free_inodes, before->free_inodes);
  EXPECT_EQ(filesystem->statistics()->free_blocks, before->free_blocks);
}

TEST(SampleFilesystemTest, LinearShowsTheDevice) {
  const auto memory = stale_memory(100000);
  {
    SampleFilesystem filesystem(std::make_unique<LinearVolume>(*memory), {});
    ASSIGN_OK(const vfs::Entry entry, filesystem.lookup(vfs::kRootNode, "data"));
    EXPECT_EQ(entry.attributes.size, 98304u);
    ASSERT_EQ(filesystem.write(entry.node, 5000, pattern(9000, 1), {}).value_or(0), 9000u);
    EXPECT_ERROR(filesystem.make_node(vfs::kRootNode, "more", S_IFREG | 0644, 0, {}), EPERM);
    EXPECT_ERROR(filesystem.unlink(vfs::kRootNode, "data"), EPERM);
    EXPECT_ERROR(filesystem.set_attributes(entry.node, {.size = 5}), EPERM);
    EXPECT_ERROR(filesystem.set_attributes(entry.node, {.size = 500000}), EFBIG);
    EXPECT_ERROR(filesystem.write(entry.node, 98304, pattern(1, 1), {}), ENOSPC);
    EXPECT_EQ(filesystem.map_block(entry.node, 3, 4096).value_or(0), 3u);
    ASSERT_OK(filesystem.unmount());
  }
  std::vector<std::byte> bytes(9000);
  ASSERT_OK(memory->read(5000, bytes));
  EXPECT_TRUE(bytes == pattern(9000, 1));
}

TEST(SampleFilesystemTest, WhoeverFillsTheMemoryEmptiesIt) {
  const auto memory = stale_memory(8 << 20);
  ASSERT_OK(OutOfPlaceVolume::format(*memory));
  const auto filesystem = mounted<OutOfPlaceVolume>(*memory, {.memory = {.dirty = 1 << 20, .spare = 0}});
  ASSIGN_OK(const vfs::Entry entry, filesystem->make_node(vfs::kRootNode, "f", S_IFREG | 0644, 0, {}));
  for (unsigned n = 0; n < 48; ++n)
    ASSERT_EQ(filesystem->write(entry.node, n * 65536, pattern(65536, n), {}).value_or(0), 65536u);
  // Most of it has reached the device without a sync.
  std::vector<std::byte> device(8 << 20);
  ASSERT_OK(memory->read(0, device));
  EXPECT_GT(std::ranges::count_if(device, [](std::byte b) { return b != kStale; }), 2 << 20);
  for (unsigned n = 0; n < 48; ++n) {
    std::vector<std::byte> bytes(65536);
    ASSERT_OK(filesystem->read(entry.node, n * 65536, bytes));
    ASSERT_TRUE(bytes == pattern(65536, n));
  }
  ASSERT_OK(filesystem->unmount());
}

TEST(InlineVolumeTest, DamagedInodesAndOtherThingsAreRefused) {
  const auto memory = stale_memory(1 << 20);
  EXPECT_ERROR(InlineVolume::open(*memory), EUCLEAN);
  ASSERT_OK(InlineVolume::format(*memory));
  ASSERT_OK(InlineVolume::open(*memory));
  for (const std::uint64_t at : {std::uint64_t{8}, std::uint64_t{3 * 4096 + 12}, std::uint64_t{7 * 4096 + 4095}}) {
    const auto damaged = memory->clone();
    std::array<std::byte, 1> byte;
    ASSERT_OK(damaged->read(at, byte));
    byte[0] ^= std::byte{0x40};
    ASSERT_OK(damaged->write(at, byte));
    EXPECT_ERROR(InlineVolume::open(*damaged), EUCLEAN) << at;
  }
}

}  // namespace
}  // namespace outboard::sample::testing

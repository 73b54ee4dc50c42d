// For tests of the volume and its allocators: images of many feature sets in memory, opened, closed, dropped as by a crash.
#pragma once

#include "device/memory_device.h"
#include "ext4/block_alloc.h"
#include "ext4/credits.h"
#include "ext4/file_map.h"
#include "ext4/group_table.h"
#include "ext4/inode_alloc.h"
#include "ext4/namespace.h"
#include "ext4/truncate.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"
#include "testing/image_builder.h"

#include <gtest/gtest.h>
#include <ostream>
#include <random>

namespace outboard::ext4 {

struct FeatureSet {
  const char *name;
  std::vector<std::string> arguments;
  std::uint32_t block_size = 4096;
  std::uint64_t megabytes = 64;
};
inline void PrintTo(const FeatureSet &set, std::ostream *out) { *out << set.name; }

inline const std::vector<FeatureSet> &feature_sets() {
  static const std::vector<FeatureSet> sets{
      {"Default", {}},
      {"Blocks1k", {}, 1024, 24},
      {"Blocks2k", {}, 2048, 32},
      {"Blocks64k", {}, 65536, 320},
      {"Ext2", {"-t", "ext2"}, 1024, 24},
      {"Ext2Blocks4k", {"-t", "ext2"}},
      {"Ext3", {"-t", "ext3"}, 1024, 24},
      {"Ext3Blocks4k", {"-t", "ext3"}},
      {"NoChecksums", {"-O", "^metadata_csum"}},
      {"UninitBg", {"-O", "^metadata_csum,uninit_bg"}, 1024, 64},
      {"MetaBg", {"-O", "meta_bg,^resize_inode"}, 1024, 64},
      {"Not64bit", {"-O", "^64bit"}},
      {"Bits64Blocks1k", {"-O", "64bit"}, 1024, 48},
      {"SparseSuper2", {"-O", "sparse_super2"}, 1024, 64},
      {"NoFlexBg", {"-O", "^flex_bg"}, 1024, 64},
      {"SmallFlexBg", {"-G", "2"}, 1024, 64},
      {"OrphanFile", {"-O", "orphan_file"}},
      {"Project", {"-O", "project"}},
      {"Inodes128", {"-I", "128"}},
      {"Inodes512", {"-I", "512"}},
      {"NoJournal", {"-O", "^has_journal"}},
      {"NoExtents", {"-O", "^extent,^64bit"}},
      {"SeedStored", {"-O", "metadata_csum_seed,large_dir"}},
      {"FastCommit", {"-O", "fast_commit"}},
      {"OddSize", {"-g", "4096", "-N", "1000"}, 1024, 19},
  };
  return sets;
}

class VolumeImage {
public:
  VolumeImage(std::uint64_t megabytes, const std::vector<std::string> &arguments, std::uint32_t block_size = 4096,
              const std::vector<std::string> &requests = {}) {
    EXPECT_OK(testing::make_image(path(), megabytes << 20, arguments, block_size));
    if (!requests.empty()) {
      EXPECT_OK(testing::debugfs_write(path(), requests));
    }
    reload();
  }
  explicit VolumeImage(const FeatureSet &set) : VolumeImage(set.megabytes, set.arguments, set.block_size) {}
  ~VolumeImage() { crash(); }

  std::string path() const { return directory_.file("image"); }
  std::string file(const std::string &name) const { return directory_.file(name); }
  device::MemoryDevice &device() { return *device_; }
  // The contents of path() again, after debugfs has changed it there; and the other way.
  void reload() {
    crash();
    auto memory = device::MemoryDevice::from_file(path());
    EXPECT_OK(memory);
    device_ = *std::move(memory);
  }
  void save() { EXPECT_OK(device_->save(path())); }
  void replace(std::unique_ptr<device::MemoryDevice> device) {
    crash();
    device_ = std::move(device);
  }

  Result<std::unique_ptr<Volume>> try_open(VolumeOptions options = {}, std::string *refusal = nullptr) {
    return Volume::open(*device_, options, nullptr, refusal);
  }
  bool open(VolumeOptions options = {}) {
    crash();
    std::string refusal;
    auto volume = try_open(options, &refusal);
    EXPECT_OK(volume) << refusal;
    if (volume) volume_ = *std::move(volume);
    return volume_ != nullptr;
  }
  void close() {
    ASSERT_NE(volume_, nullptr);
    EXPECT_OK(volume_->close());
    volume_.reset();
  }
  void crash() { volume_.reset(); }
  void expect_clean() {
    const testing::FsckReport report = testing::fsck(*device_);
    EXPECT_TRUE(report.clean) << report.text;
  }

  Volume &operator*() { return *volume_; }
  Volume *operator->() { return volume_.get(); }
  jbd2::Handle start(std::uint32_t credits) {
    auto handle = volume_->journal().start(credits);
    EXPECT_OK(handle);
    if (!handle) std::abort();
    return *std::move(handle);
  }
  Inode root() {
    auto inode = volume_->inodes().load(format::kRootInode);
    EXPECT_OK(inode);
    if (!inode) std::abort();
    return *std::move(inode);
  }
  Result<Inode> create(const std::string &name, std::uint32_t mode = 0100644) {
    Inode directory = root();
    return names::create(*volume_, directory, name, {.mode = mode});
  }
  Status remove(const std::string &name, Inode &inode) {
    Inode directory = root();
    TRY(names::unlink(*volume_, directory, name, inode));
    return truncate::delete_inode(*volume_, inode);
  }
  // Blocks at the end of a file. Returns how many it got.
  Result<std::uint32_t> append(Inode &inode, std::uint32_t want) {
    const std::uint32_t size = volume_->block_size();
    const FileBlock first(static_cast<std::uint32_t>(inode.fields.size / size));
    want = std::min(want, file_map::max_insert(*volume_, inode, first));
    const BlockGoal goal{inode.allocation_goal, volume_->geometry().locate(inode.number).group};
    const BlockRun run = TRY(volume_->blocks().reserve(goal, want));
    auto handle = TRY(volume_->journal().start(credits::claim(run) + file_map::insert_credits(*volume_, inode) + credits::kStoreInode));
    Status done = volume_->blocks().claim(handle, run);
    if (done) {
      done = file_map::insert(handle, *volume_, inode, first, run, false);
      if (!done) {
        EXPECT_OK(volume_->blocks().free(handle, run, false));
      }
    }
    if (done) {
      inode.fields.size += std::uint64_t{run.count} * size;
      inode.allocation_goal = run.end();
    }
    TRY(volume_->inodes().store(handle, inode));
    handle.finish();
    TRY(std::move(done));
    return run.count;
  }

private:
  testing::TemporaryDirectory directory_;
  std::unique_ptr<device::MemoryDevice> device_;
  std::unique_ptr<Volume> volume_;
};

inline std::vector<std::byte> contents(device::BlockDevice &device) {
  std::vector<std::byte> bytes(device.properties().size);
  EXPECT_OK(device.read(0, bytes));
  return bytes;
}

inline format::Superblock superblock_on(device::BlockDevice &device) {
  std::vector<std::byte> raw(format::kSuperblockSize);
  EXPECT_OK(device.read(format::kSuperblockOffset, raw));
  auto parsed = format::parse_superblock(raw);
  EXPECT_OK(parsed);
  return parsed.value_or(format::Superblock{});
}

}  // namespace outboard::ext4

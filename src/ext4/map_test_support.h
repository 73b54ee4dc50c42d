// For tests of the maps: a volume in memory whose every flush can be kept, files in it, and models to compare them
// with.
#pragma once

#include "base/log.h"
#include "device/memory_device.h"
#include "ext4/block_alloc.h"
#include "ext4/credits.h"
#include "ext4/file_growth.h"
#include "ext4/inode_alloc.h"
#include "ext4/mapper.h"
#include "ext4/namespace.h"
#include "ext4/test_image.h"
#include "ext4/truncate.h"
#include "iomap/direct.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"
#include "testing/image_builder.h"

#include <algorithm>
#include <map>
#include <random>

namespace outboard::ext4 {

// What a power cut at this moment would leave, at each flush and each n-th write.
class CutDevice final : public device::BlockDevice {
public:
  explicit CutDevice(std::unique_ptr<device::MemoryDevice> below) : below_(std::move(below)) {}
  const device::Properties &properties() const override { return below_->properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override { return below_->read(offset, data); }
  Status write(std::uint64_t offset, std::span<const std::byte> data) override {
    keep(false);
    return below_->write(offset, data);
  }
  Status flush() override {
    keep(true);
    return below_->flush();
  }
  Status discard(std::uint64_t offset, std::uint64_t length) override { return below_->discard(offset, length); }
  Status zero(std::uint64_t offset, std::uint64_t length) override {
    keep(false);
    return below_->zero(offset, length);
  }

  // 0: only at flushes; -1: not at all.
  void record(int every_nth_write) {
    MutexLock lock(mutex_);
    every_ = every_nth_write;
  }
  std::vector<std::unique_ptr<device::MemoryDevice>> take() {
    MutexLock lock(mutex_);
    every_ = -1;
    return std::move(states_);
  }
  std::unique_ptr<device::MemoryDevice> clone() const { return below_->clone(); }

private:
  void keep(bool at_flush) {
    MutexLock lock(mutex_);
    if (every_ < 0) return;
    ++writes_;
    if (at_flush || (every_ > 0 && writes_ % every_ == 0)) states_.push_back(below_->clone());
  }
  std::unique_ptr<device::MemoryDevice> below_;
  Mutex mutex_{Rank::device};
  std::vector<std::unique_ptr<device::MemoryDevice>> states_ GUARDED_BY(mutex_);
  int writes_ GUARDED_BY(mutex_) = 0;
  int every_ GUARDED_BY(mutex_) = -1;
};

class MapVolume {
public:
  MapVolume(std::uint64_t size, const std::vector<std::string> &mkfs_arguments, std::uint32_t block_size,
            const std::vector<std::string> &debugfs_requests = {}) {
    const std::string path = directory_.file("image");
    EXPECT_OK(testing::make_image(path, size, mkfs_arguments, block_size));
    if (!debugfs_requests.empty()) {
      EXPECT_OK(testing::debugfs_write(path, debugfs_requests));
    }
    auto memory = device::MemoryDevice::from_file(path);
    EXPECT_OK(memory);
    device_ = std::make_unique<CutDevice>(*std::move(memory));
  }
  explicit MapVolume(std::unique_ptr<device::MemoryDevice> contents)
      : device_(std::make_unique<CutDevice>(std::move(contents))) {}
  ~MapVolume() { volume_.reset(); }

  bool open(VolumeOptions options = {}) {
    std::string refusal;
    Result<std::unique_ptr<Volume>> volume = Volume::open(*device_, options, nullptr, &refusal);
    EXPECT_OK(volume) << refusal;
    if (!volume) return false;
    volume_ = *std::move(volume);
    return true;
  }
  void close() {
    EXPECT_OK(volume_->close());
    volume_.reset();
  }
  void expect_clean() {
    const testing::FsckReport report = testing::fsck(*device_);
    EXPECT_TRUE(report.clean) << report.text;
  }
  void close_and_expect_clean() {
    close();
    expect_clean();
  }
  // The contents in a file of the host, for debugfs.
  std::string saved() {
    const std::string path = directory_.file("saved");
    EXPECT_OK(testing::save_device(*device_, path));
    return path;
  }
  std::string host_file(const std::string &name) const { return directory_.file(name); }

  Volume &operator*() { return *volume_; }
  Volume *operator->() { return volume_.get(); }
  CutDevice &device() { return *device_; }

  Inode create(const std::string &name) {
    Result<Inode> root = volume_->inodes().load(format::kRootInode);
    EXPECT_OK(root);
    Result<Inode> made = names::create(*volume_, *root, name, {.mode = 0100644});
    EXPECT_OK(made);
    if (!made) std::abort();
    return *std::move(made);
  }
  Inode find(const std::string &name) {
    Result<Inode> root = volume_->inodes().load(format::kRootInode);
    EXPECT_OK(root);
    Result<DirectoryMatch> match = Directory::find(*volume_, *root, name);
    EXPECT_OK(match);
    Result<Inode> inode = volume_->inodes().load(match->inode);
    EXPECT_OK(inode);
    return *std::move(inode);
  }
  void remove(const std::string &name) {
    Result<Inode> root = volume_->inodes().load(format::kRootInode);
    Inode inode = find(name);
    EXPECT_OK(names::unlink(*volume_, *root, name, inode));
    EXPECT_OK(truncate::delete_inode(*volume_, inode));
  }

  Result<std::size_t> write(Inode &inode, std::uint64_t offset, std::span<const std::byte> data) {
    Mapper mapper(*volume_, inode, true);
    return iomap::direct::write(mapper, *device_, volume_->block_size(), offset, data, inode.fields.size);
  }
  std::vector<std::byte> read(Inode &inode) {
    std::vector<std::byte> bytes(inode.fields.size, std::byte{0x5A});
    Mapper mapper(*volume_, inode);
    const auto got = iomap::direct::read(mapper, *device_, 0, bytes, inode.fields.size);
    EXPECT_OK(got);
    EXPECT_EQ(got.value_or(0), bytes.size());
    return bytes;
  }
  Status set_size_field(Inode &inode, std::uint64_t size) {
    jbd2::Handle handle = TRY(volume_->journal().start(credits::kStoreInode + credits::kSuperblock));
    inode.fields.size = size;
    Status stored = volume_->inodes().store(handle, inode);
    handle.finish();
    return stored;
  }

private:
  testing::TemporaryDirectory directory_;
  std::unique_ptr<CutDevice> device_;
  std::unique_ptr<Volume> volume_;
};

class Random {
public:
  explicit Random(unsigned seed) : engine_(seed) {}
  std::uint32_t operator()() { return static_cast<std::uint32_t>(engine_()); }

private:
  std::mt19937 engine_;
};

inline std::vector<std::byte> random_bytes(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  Random random(seed);
  for (std::byte &byte : bytes) byte = std::byte(1 + random() % 255);
  return bytes;
}

// The map of one file as a std::map, changed in step with the real one.
class MapModel {
public:
  struct Block {
    std::uint64_t device_block = 0;
    bool unwritten = false;
    friend bool operator==(const Block &, const Block &) = default;
  };
  MapModel(MapVolume &volume, Inode &inode) : volume_(volume), inode_(inode) {}
  const std::map<std::uint32_t, Block> &blocks() const { return blocks_; }

  // Blocks for as much of the hole at `first` as there is, at most `want`. Returns how many.
  Result<std::uint32_t> insert(std::uint32_t first, std::uint32_t want, bool unwritten, BlockNumber near = {}) {
    auto next = blocks_.lower_bound(first);
    if (next != blocks_.end()) want = std::min(want, next->first - first);
    want = std::min(want, file_map::max_insert(*volume_, inode_, FileBlock(first)));
    if (want == 0) return 0u;
    BlockGoal goal{near, volume_->geometry().locate(inode_.number).group};
    growth::Change change;
    change.kind = unwritten ? growth::Kind::fresh_unwritten : growth::Kind::fresh;
    change.first = FileBlock(first);
    change.run = TRY(volume_->blocks().reserve(goal, want));
    change.size = inode_.fields.size;
    Status recorded = growth::record(*volume_, inode_, change);
    if (!recorded) {
      volume_->blocks().release(change.run);
      return fail(std::move(recorded).error());
    }
    for (std::uint32_t n = 0; n < change.run.count; ++n) blocks_[first + n] = {change.run.start.value() + n, unwritten};
    return change.run.count;
  }
  Status remove(std::uint32_t first, std::uint32_t end) {
    const std::uint32_t needed = file_map::remove_credits(*volume_, inode_) + credits::kStoreInode;
    std::uint32_t at = end;
    while (at > first) {
      jbd2::Handle handle = TRY(volume_->journal().start(needed + 20));
      Result<FileBlock> reached =
          file_map::remove_piece(handle, *volume_, inode_, FileBlock(first), FileBlock(at), false);
      TRY(growth::store_or_abort(handle, *volume_, inode_));
      handle.finish();
      const FileBlock now = TRY(std::move(reached));
      EXPECT_LT(now.value(), at);
      blocks_.erase(blocks_.lower_bound(now.value()), blocks_.lower_bound(at));
      at = now.value();
    }
    return {};
  }
  // Of the mapped stretch at `first`, at most `want` blocks.
  Status convert(std::uint32_t first, std::uint32_t want, bool unwritten) {
    std::uint32_t count = 0;
    while (count < want && blocks_.contains(first + count)) ++count;
    if (count == 0) return {};
    jbd2::Handle handle =
        TRY(volume_->journal().start(20 * file_map::insert_credits(*volume_, inode_) + credits::kStoreInode));
    Status done = unwritten ? file_map::mark_unwritten(handle, *volume_, inode_, FileBlock(first), count)
                            : file_map::mark_written(handle, *volume_, inode_, FileBlock(first), count);
    TRY(growth::store_or_abort(handle, *volume_, inode_));
    handle.finish();
    TRY(std::move(done));
    for (std::uint32_t n = 0; n < count; ++n) blocks_[first + n].unwritten = unwritten;
    return {};
  }
  // Block by block over [0, end): the real map says the same, hole for hole.
  void expect_equal(std::uint32_t end) {
    std::map<std::uint32_t, Block> real;
    for (std::uint32_t at = 0; at < end;) {
      const Result<FileMapping> found = file_map::find(*volume_, inode_, FileBlock(at), end - at);
      ASSERT_OK(found);
      ASSERT_GT(found->count, 0u);
      ASSERT_LE(found->count, end - at);
      if (found->state != FileMapping::State::hole)
        for (std::uint32_t n = 0; n < found->count; ++n)
          real[at + n] = {found->start.value() + n, found->state == FileMapping::State::unwritten};
      at += found->count;
    }
    ASSERT_EQ(real.size(), blocks_.size());
    for (const auto &[block, where] : blocks_) {
      ASSERT_TRUE(real.contains(block)) << block;
      ASSERT_EQ(real[block].device_block, where.device_block) << block;
      ASSERT_EQ(real[block].unwritten, where.unwritten) << block;
    }
  }

private:
  MapVolume &volume_;
  Inode &inode_;
  std::map<std::uint32_t, Block> blocks_;
};

}  // namespace outboard::ext4

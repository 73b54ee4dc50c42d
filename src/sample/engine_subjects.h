// The four file systems that the engine's suite runs over, each with one file on a device that counts, fails and records.
#pragma once

#include "device/memory_device.h"
#include "ext4/delayed.h"
#include "ext4/inode_alloc.h"
#include "ext4/mapper.h"
#include "ext4/namespace.h"
#include "ext4/truncate.h"
#include "ext4/volume.h"
#include "iomap/direct.h"
#include "sample/cached_file.h"
#include "sample/inline_files.h"
#include "sample/linear.h"
#include "sample/out_of_place.h"
#include "testing/expect.h"
#include "testing/faulty_device.h"
#include "testing/fsck_oracle.h"
#include "testing/image_builder.h"
#include "testing/write_log_device.h"

#include <atomic>
#include <ostream>
#include <random>

namespace outboard::sample::testing {

using outboard::testing::FaultyDevice;
using outboard::testing::WriteLogDevice;

constexpr std::byte kStale{0xEE};  // what stands in blocks that nobody has written yet

struct Traits {
  const char *name;
  bool dirty;   // bytes wait in the page cache (not so where they live in the inode)
  bool grows;   // the size changes
  bool holes;   // ... and there may be holes, and new ones be punched
  bool atomic;  // a group of writes holds as a whole or not at all
  std::uint64_t span;  // bytes of the file that tests may use
};
inline void PrintTo(const Traits &traits, std::ostream *out) { *out << traits.name; }

inline constexpr Traits kLinear{"Linear", true, false, false, false, 512 * 1024};
inline constexpr Traits kInline{"Inline", false, true, false, false, InlineVolume::kCapacity};
inline constexpr Traits kOutOfPlace{"OutOfPlace", true, true, true, true, 1024 * 1024};
inline constexpr Traits kExt4{"Ext4", true, true, true, false, 1024 * 1024};

inline std::vector<std::byte> pattern(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  std::minstd_rand random(seed + 1);
  for (std::byte &byte : bytes) byte = std::byte(1 + random() % 200);
  return bytes;
}

inline std::unique_ptr<device::MemoryDevice> stale_memory(std::uint64_t size) {
  auto memory = std::make_unique<device::MemoryDevice>(size);
  EXPECT_OK(memory->write(0, std::vector<std::byte>(size, kStale)));
  return memory;
}

// One file of an ext4 volume, its promises and delayed records settled as vfs does it.
class Ext4Source final : public FileSource {
public:
  Ext4Source(ext4::Volume &volume, ext4::Inode inode) : volume_(volume), inode_(std::move(inode)) {}
  ~Ext4Source() override { ext4::delayed::give_up(volume_, inode_); }
  Result<iomap::Mapping> begin(ByteRange range, iomap::Operation operation) override {
    return mapper_.begin(range, operation);
  }
  Status ioend(ByteRange written, const iomap::Mapping &mapping) override { return mapper_.ioend(written, mapping); }
  Status end(ByteRange range, std::uint64_t moved, iomap::Operation operation, const iomap::Mapping &mapping) override {
    return mapper_.end(range, moved, operation, mapping);
  }
  bool is_current(const iomap::Mapping &mapping) const override { return mapper_.is_current(mapping); }
  std::uint64_t size() const override { return inode_.fields.size; }
  std::uint64_t size_limit() const override {
    return ext4::file_map::max_file_blocks(volume_, inode_) * volume_.block_size();
  }
  Status shrink(std::uint64_t size) override {
    TRY(ext4::delayed::record_written(volume_, inode_));
    ext4::delayed::withdraw(volume_, inode_, divide_up<std::uint64_t>(size, volume_.block_size()), ~std::uint64_t{0});
    return size < inode_.fields.size ? ext4::truncate::set_size(volume_, inode_, size) : Status{};
  }
  Status grow(std::uint64_t size) override { return ext4::truncate::set_size(volume_, inode_, size); }
  Status punch(ByteRange blocks) override {
    TRY(ext4::delayed::record_written(volume_, inode_));
    ext4::delayed::withdraw(volume_, inode_, blocks.offset / volume_.block_size(), blocks.end() / volume_.block_size());
    return ext4::truncate::punch_hole(volume_, inode_, blocks);
  }
  void clean() override { ext4::delayed::withdraw(volume_, inode_, 0, ~std::uint64_t{0}); }
  Status sync() override {
    TRY(ext4::delayed::record_written(volume_, inode_));
    return volume_.sync();
  }
  ext4::Inode &inode() { return inode_; }

private:
  ext4::Volume &volume_;
  ext4::Inode inode_;
  ext4::Mapper mapper_{volume_, inode_, true};
};

// What lies below one file, from the bottom up: memory, a log of the writes, faults and counters, a volume.
class Subject {
public:
  explicit Subject(const Traits &subject_traits, pagecache::MemoryLimits limits = {}) : traits(subject_traits), memory(limits) {
    if (std::string(traits.name) == "Ext4") make_ext4();
    else make_sample();
    file = std::make_unique<CachedFile>(*source, *device, memory, kBlock);
  }
  ~Subject() {
    device->release_all();
    device->clear_faults();
    file->discard();
    file.reset();
    if (!ext4_volume_) return;
    EXPECT_OK(source->sync());
    ext4_source_.reset();
    EXPECT_OK(ext4_volume_->close());
    ext4_volume_.reset();
    const auto report = outboard::testing::fsck(*log);
    EXPECT_TRUE(report.clean) << report.text;
  }

  static constexpr std::uint32_t kBlock = 4096;
  const Traits traits;
  std::unique_ptr<WriteLogDevice> log;
  std::unique_ptr<FaultyDevice> device;
  std::unique_ptr<Volume> volume;  // of a sample
  FileSource *source = nullptr;
  pagecache::FolioMemory memory;
  std::unique_ptr<CachedFile> file;

  std::uint64_t free_blocks() const { return ext4_volume_ ? ext4_volume_->counts().free_blocks : volume->space().free_blocks; }
  std::uint64_t writes() const { return device->requests(FaultyDevice::Op::write); }

  std::vector<std::byte> read_all() { return read(0, file->size()); }
  std::vector<std::byte> read(std::uint64_t offset, std::size_t size) {
    std::vector<std::byte> bytes(size, std::byte{0x77});
    const auto got = file->read(offset, bytes);
    EXPECT_OK(got);
    bytes.resize(got.value_or(0));
    return bytes;
  }
  void write(std::uint64_t offset, std::span<const std::byte> data) {
    const auto done = file->write(offset, data);
    ASSERT_OK(done);
    ASSERT_EQ(*done, data.size());
  }
  // As a process that starts now would see the file: all caches gone, nothing but what the device has.
  void reopen() {
    ASSERT_OK(file->flush());
    file.reset();
    file = std::make_unique<CachedFile>(*source, *device, memory, kBlock);
  }

private:
  void make_sample() {
    const bool linear = std::string(traits.name) == "Linear";
    log = std::make_unique<WriteLogDevice>(stale_memory(linear ? traits.span : 4 * 1024 * 1024));
    device = std::make_unique<FaultyDevice>(*log);
    if (linear) volume = std::make_unique<LinearVolume>(*device);
    else if (std::string(traits.name) == "Inline") volume = formatted<InlineVolume>();
    else volume = formatted<OutOfPlaceVolume>();
    unsigned number = 0;
    if (!linear) {
      const auto made = volume->create("file");
      EXPECT_OK(made);
      number = made.value_or(0);
    }
    source = &volume->file(number);
  }
  template <class T> std::unique_ptr<Volume> formatted() {
    EXPECT_OK(T::format(*device));
    auto opened = T::open(*device);
    EXPECT_OK(opened);
    return *std::move(opened);
  }

  // Every free block has been somebody's: a file of stale bytes that is gone.
  static std::unique_ptr<device::MemoryDevice> ext4_image() {
    static const std::unique_ptr<device::MemoryDevice> image = [] {
      outboard::testing::TemporaryDirectory directory;
      EXPECT_OK(outboard::testing::make_image(directory.file("image"), 16 << 20, {"-J", "size=4"}));
      auto loaded = device::MemoryDevice::from_file(directory.file("image"));
      EXPECT_OK(loaded);
      auto opened = ext4::Volume::open(**loaded, {}, nullptr, nullptr);
      EXPECT_OK(opened);
      ext4::Volume &volume = **opened;
      ext4::Inode inode = create(volume, "stale");
      ext4::Mapper mapper(volume, inode, true);
      const std::vector<std::byte> stale(1 << 20, kStale);
      for (bool more = true; more;) {
        const auto done = iomap::direct::write(mapper, **loaded, kBlock, inode.fields.size, stale, inode.fields.size);
        more = done && *done > 0;
      }
      EXPECT_GT(inode.fields.size, 8u << 20);
      auto root = volume.inodes().load(ext4::format::kRootInode);
      EXPECT_OK(ext4::names::unlink(volume, *root, "stale", inode));
      EXPECT_OK(ext4::truncate::delete_inode(volume, inode));
      EXPECT_OK(volume.close());
      return *std::move(loaded);
    }();
    return image->clone();
  }
  static ext4::Inode create(ext4::Volume &volume, const std::string &name) {
    auto root = volume.inodes().load(ext4::format::kRootInode);
    EXPECT_OK(root);
    auto made = ext4::names::create(volume, *root, name, {.mode = 0100644});
    EXPECT_OK(made);
    return *std::move(made);
  }
  void make_ext4() {
    log = std::make_unique<WriteLogDevice>(ext4_image());
    device = std::make_unique<FaultyDevice>(*log);
    // Commits come when a test asks for them, not from a clock: tests count requests and let them fail.
    auto opened = ext4::Volume::open(*device, {.commit_interval = std::chrono::hours(1)}, nullptr, nullptr);
    EXPECT_OK(opened);
    ext4_volume_ = *std::move(opened);
    ext4_source_ = std::make_unique<Ext4Source>(*ext4_volume_, create(*ext4_volume_, "file"));
    source = ext4_source_.get();
    EXPECT_OK(source->sync());
  }

  std::unique_ptr<ext4::Volume> ext4_volume_;
  std::unique_ptr<Ext4Source> ext4_source_;
};

}  // namespace outboard::sample::testing

// inline: a small file system whose files live inside their inodes. Nothing ever becomes dirty in the page cache: the
// engine copies into the inode's memory, and end() writes the inode's block.
//
// On the device, in blocks of 4096 bytes: block 0 says what this is; each block after it is an inode with its name and
// up to kCapacity bytes. A block is written in place, in one request; one that a power cut tore is told by its checksum,
// and is then refused (EUCLEAN), not repaired.
#pragma once

#include "base/endian.h"
#include "base/mutex.h"
#include "sample/volume.h"

#include <array>
#include <deque>
#include <memory>

namespace outboard::sample {

class InlineVolume final : public Volume {
public:
  static constexpr std::uint32_t kBlock = 4096;
  static constexpr std::size_t kNameRoom = 100;
  struct DiskInode {
    le32 magic, checksum;  // crc32c of the block, with 0 in this field
    le32 in_use, size, name_length;
    std::array<char, kNameRoom> name;
    std::array<std::byte, 8> unused;
    std::array<std::byte, kBlock - 128> data;  // zeros behind `size`
  };
  static constexpr std::size_t kCapacity = sizeof(DiskInode::data);

  // Every inode empty; there are as many as the device has blocks left, at most 4096.
  static Status format(device::BlockDevice &device);
  // EUCLEAN for what is not such a volume, or has a damaged inode.
  static Result<std::unique_ptr<InlineVolume>> open(device::BlockDevice &device);

  device::BlockDevice &device() override { return device_; }
  std::uint32_t block_size() const override { return kBlock; }
  std::vector<Name> names() override;
  FileSource &file(unsigned number) override { return files_[number]; }
  Result<unsigned> create(std::string_view name) override;
  Status unlink(unsigned file) override;
  void erase(unsigned file) override;
  Status sync() override { return device_.flush(); }
  Space space() override;

private:
  class File final : public FileSource {
  public:
    File(device::BlockDevice &device, std::uint64_t address) : device_(device), address_(address) {}
    Result<iomap::Mapping> begin(ByteRange range, iomap::Operation operation) override;
    Status end(ByteRange range, std::uint64_t moved, iomap::Operation operation, const iomap::Mapping &) override;
    std::uint64_t size() const override { return inode_->size.get(); }
    std::uint64_t size_limit() const override { return kCapacity; }
    Status shrink(std::uint64_t size) override;
    Status grow(std::uint64_t size) override;
    Status sync() override { return device_.flush(); }

    Status load();
    Status store();
    DiskInode &inode() { return *inode_; }
    bool allocated = false;  // also while it has no name any more; under the volume's mutex

  private:
    device::BlockDevice &device_;
    const std::uint64_t address_;
    std::unique_ptr<DiskInode> inode_ = std::make_unique<DiskInode>();
  };

  explicit InlineVolume(device::BlockDevice &device) : device_(device) {}

  device::BlockDevice &device_;
  Mutex mutex_{Rank::superblock};  // which inodes are taken, and names
  std::deque<File> files_;         // fixed once the volume is open
};
LAYOUT_SIZE(InlineVolume::DiskInode, InlineVolume::kBlock);
LAYOUT_FIELD(InlineVolume::DiskInode, data, 128);

}  // namespace outboard::sample

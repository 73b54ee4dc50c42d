// linear: a device's blocks as one file. The smallest mapping source there is; docs/iomap.md walks through it.
#pragma once

#include "sample/volume.h"

namespace outboard::sample {

class LinearVolume final : public Volume {
public:
  static constexpr std::uint32_t kBlock = 4096;
  // What is left over behind the last whole block is not part of the file.
  explicit LinearVolume(device::BlockDevice &device)
      : device_(device), file_(device, round_down<std::uint64_t>(device.properties().size, kBlock)) {}

  device::BlockDevice &device() override { return device_; }
  std::uint32_t block_size() const override { return kBlock; }
  std::vector<Name> names() override { return {{0, "data"}}; }
  FileSource &file(unsigned) override { return file_; }
  Status sync() override { return device_.flush(); }
  Space space() override { return {.blocks = file_.size() / kBlock, .free_blocks = 0, .files = 1, .free_files = 0}; }

private:
  class File final : public FileSource {
  public:
    File(device::BlockDevice &device, std::uint64_t size) : device_(device), size_(size) {}
    Result<iomap::Mapping> begin(ByteRange range, iomap::Operation operation) override;
    Status end(ByteRange, std::uint64_t, iomap::Operation, const iomap::Mapping &) override { return {}; }
    std::uint64_t size() const override { return size_; }
    std::uint64_t size_limit() const override { return size_; }
    Status sync() override { return device_.flush(); }

  private:
    device::BlockDevice &device_;
    const std::uint64_t size_;
  };

  device::BlockDevice &device_;
  File file_;
};

}  // namespace outboard::sample

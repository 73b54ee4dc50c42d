// The files in a volume in memory, through the library: the calls a transport would make, with no kernel in between.
#pragma once

#include "device/memory_device.h"
#include "exerciser/subject.h"
#include "vfs/mounted_volume.h"

#include <memory>
#include <string>
#include <vector>

namespace outboard::exerciser {

class LibrarySubject final : public Subject {
public:
  // Takes the image's contents into memory and makes the files "file0", "file1" ... durable.
  static Result<std::unique_ptr<LibrarySubject>> open(const std::string &image, unsigned files);
  ~LibrarySubject() override;
  // Everything to disk, the volume closed, the contents saved as a file of the host.
  Status unmount_to(const std::string &image);

  Result<std::size_t> read(unsigned file, Way way, std::uint64_t offset, std::span<std::byte> into) override;
  Result<std::size_t> write(unsigned file, Way way, std::uint64_t offset, std::span<const std::byte> data) override;
  Result<std::size_t> append(unsigned file, std::span<const std::byte> data) override;
  Status truncate(unsigned file, std::uint64_t size) override;
  Status allocate(unsigned file, int mode, std::uint64_t offset, std::uint64_t length) override;
  Result<std::size_t> copy(unsigned from, std::uint64_t offset, unsigned to, std::uint64_t target,
                           std::size_t length) override;
  Result<std::uint64_t> seek(unsigned file, std::uint64_t offset, Seek what) override;
  Result<std::uint64_t> size(unsigned file) override;
  Status sync(unsigned file, bool data_only) override;
  Status sync_all() override;
  Status reopen(unsigned file) override;
  Status drop_cache(unsigned file) override;
  Status remount() override;
  Status crash() override;

private:
  explicit LibrarySubject(std::unique_ptr<device::MemoryDevice> device) : device_(std::move(device)) {}
  Status start(unsigned files, bool make);
  Status stop();
  Result<vfs::NodeId> look_up(unsigned file);
  Result<std::size_t> write_pages(unsigned file, std::uint64_t offset, std::span<const std::byte> data);

  std::unique_ptr<device::MemoryDevice> device_;
  std::unique_ptr<vfs::MountedVolume> volume_;
  std::vector<vfs::NodeId> nodes_;
};

}  // namespace outboard::exerciser

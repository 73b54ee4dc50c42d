// The files on a mount, by system calls: several descriptors of each file, one of them O_DIRECT, and mappings.
#pragma once

#include "base/unique_fd.h"
#include "exerciser/subject.h"
#include "support/mounts.h"

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace outboard::exerciser {

class MountSubject final : public Subject {
public:
  // Mounts the image and makes the files "file0", "file1" ... durable. `ready()` says whether that went well.
  MountSubject(const std::string &image, const std::string &directory, unsigned files);
  ~MountSubject() override;
  bool ready() const { return ready_; }
  std::string log() const { return mount_ ? mount_->log() : ""; }
  // "" when everything is on disk and the image released.
  std::string unmount();

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
  struct Descriptors {
    UniqueFd buffered, second, direct, append;
  };
  struct Freer {
    void operator()(std::byte *memory) const { std::free(memory); }
  };

  std::string path_of(unsigned file) const;
  int descriptor(unsigned file, Way way) const;
  Status open_all(int extra_flags);
  Status mount_again();
  // A page-aligned buffer of at least so many bytes, for O_DIRECT.
  std::span<std::byte> aligned(std::size_t bytes);
  Result<std::size_t> through_mapping(unsigned file, std::uint64_t offset, std::span<std::byte> into,
                                      std::span<const std::byte> data) const;

  const std::string image_, directory_;
  std::vector<Descriptors> files_;
  std::unique_ptr<tests::OutboardMount> mount_;
  std::unique_ptr<std::byte, Freer> memory_;
  std::size_t memory_size_ = 0;
  bool ready_ = false;
};

}  // namespace outboard::exerciser

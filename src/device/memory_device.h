// A sparse block device in memory: only the 64 KiB chunks that were written exist, the rest reads as zeros.
// Copies share chunks until one side writes, so taking a snapshot of a large device is cheap.
#pragma once

#include "base/mutex.h"
#include "device/block_device.h"

#include <array>
#include <memory>
#include <string>
#include <unordered_map>

namespace outboard::device {

class MemoryDevice final : public BlockDevice {
public:
  // `size` in bytes. An alignment above 1 is announced but not demanded.
  explicit MemoryDevice(std::uint64_t size, std::uint32_t alignment = 1);
  // The contents of a file of the host; holes stay holes.
  static Result<std::unique_ptr<MemoryDevice>> from_file(const std::string &path);

  // Writes the contents to a file of the host, sparse; an older file is replaced.
  Status save(const std::string &path) const;
  // A snapshot: a device of its own with the same contents. Writes that run meanwhile may be in it in part.
  std::unique_ptr<MemoryDevice> clone() const;
  // Changes fail with EROFS from now on (or no longer). Call it while nobody else uses the device.
  void set_read_only(bool read_only) { properties_.read_only = read_only; }
  std::uint64_t bytes_in_use() const;  // memory held by chunks, shared ones included

  const Properties &properties() const override { return properties_; }
  Status read(std::uint64_t offset, std::span<std::byte> data) override;
  Status write(std::uint64_t offset, std::span<const std::byte> data) override;
  Status flush() override { return {}; }
  Status discard(std::uint64_t offset, std::uint64_t length) override;  // reads as zeros afterwards
  Status zero(std::uint64_t offset, std::uint64_t length) override;

private:
  static constexpr std::size_t kChunk = 64 * 1024;
  static constexpr std::size_t kStripes = 64;
  using Chunk = std::array<std::byte, kChunk>;
  // A chunk that a copy of the device has, or had, is never written again by either: each makes its own first.
  struct Slot {
    std::shared_ptr<Chunk> chunk;
    mutable bool shared = false;  // changed under the stripe's exclusive lock, by clone() too
  };
  // Chunk number modulo kStripes chooses the stripe. One stripe's lock is held at a time; innermost.
  struct Stripe {
    mutable SharedMutex mutex{Rank::leaf};
    std::unordered_map<std::uint64_t, Slot> chunks GUARDED_BY(mutex);
  };

  Status check(std::uint64_t offset, std::uint64_t length) const;
  void read_chunk(std::uint64_t number, std::size_t begin, std::span<std::byte> out) const;
  void write_chunk(std::uint64_t number, std::size_t begin, std::span<const std::byte> data);
  void zero_chunk(std::uint64_t number, std::size_t begin, std::size_t length);
  static Chunk &writable(Slot &slot);

  Properties properties_;
  std::array<Stripe, kStripes> stripes_;
};

}  // namespace outboard::device

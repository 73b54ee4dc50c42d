// What a thing is when it is not the file system that was expected: for messages that help ("this is a disk with
// partitions; use offset=1048576"), and so that nothing is taken for something that it is not. Nothing here decides
// whether a file system is mounted, and nothing read here is trusted further.
#pragma once

#include "base/result.h"
#include "device/block_device.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace outboard::device {

struct Partition {
  unsigned number = 0;       // as in sda1
  std::uint64_t offset = 0;  // bytes from the start of the disk
  std::uint64_t size = 0;    // bytes
  std::string type;          // what the table says: "Linux filesystem", or the number of an unknown type
  bool ext = false;          // an ext2, ext3 or ext4 file system was seen at its place
};

struct Probe {
  enum class Kind : std::uint8_t {
    unknown,
    too_small,
    zeros,
    ext,
    ext_journal,
    gpt,
    mbr,
    xfs,
    btrfs,
    f2fs,
    squashfs,
    ntfs,
    exfat,
    fat,
    iso9660,
    luks,
    lvm,
    raid,
    swap,
    gzip,
    xz,
    zstd,
    bzip2,
    zip,
    qcow,
    vmdk,
    vhdx,
    android_sparse,
  };
  Kind kind = Kind::unknown;
  std::string description;            // "an XFS file system", "a disk with a GPT partition table"
  std::vector<Partition> partitions;  // of gpt and mbr, in the order of the table

  // A sentence that names the thing and, where there is one, the way on: an offset, a program to unpack with.
  std::string message() const;
};

constexpr std::size_t kProbeBytes = 70 * 1024;

// From the first kProbeBytes (or all there are) of something of `size` bytes. Any bytes are allowed.
Probe probe(std::span<const std::byte> head, std::uint64_t size);
// Also follows the chain of logical partitions and looks for an ext superblock in each partition.
Result<Probe> probe(BlockDevice &device);

}  // namespace outboard::device

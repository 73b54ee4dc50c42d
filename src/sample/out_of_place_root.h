// The root of an out-of-place volume, as bytes: names, sizes and maps of all files, in one checksummed piece that stands in
// one of two slots. The slot with the greater generation and a good checksum counts, so that writing the other one is
// atomic however the write is cut short. A slot is large enough for the worst map: one entry for each block.
#pragma once

#include "base/endian.h"
#include "device/block_device.h"

#include <array>
#include <string>
#include <vector>

namespace outboard::sample::out_of_place {

inline constexpr std::uint32_t kBlock = 4096;
inline constexpr unsigned kMostFiles = 64;
inline constexpr std::size_t kNameRoom = 104;

struct DiskHead {
  le32 magic, checksum;  // crc32c of `length` bytes, with 0 in this field
  le64 generation, length;
  le32 files, unused;
};
LAYOUT_SIZE(DiskHead, 32);
struct DiskFile {
  le64 size;
  le32 extents, name_length;
  std::array<char, kNameRoom> name;
};
LAYOUT_SIZE(DiskFile, 120);
struct DiskExtent {
  le64 file_block;
  le32 device_block, count;
};
LAYOUT_SIZE(DiskExtent, 16);

struct Extent {
  std::uint64_t file_block = 0, device_block = 0, count = 0;
};
struct RootFile {
  std::string name;
  std::uint64_t size = 0;
  std::vector<Extent> extents;
};
struct Root {
  std::uint64_t generation = 0;
  std::vector<RootFile> files;
};

struct Layout {
  std::uint64_t blocks = 0;       // of the device
  std::uint64_t slot_blocks = 0;  // of each slot
  std::uint64_t first() const { return 2 * slot_blocks; }  // of the files' blocks
  std::uint64_t slot(unsigned number) const { return number * slot_blocks * kBlock; }
};
// ENOSPC when the device is too small for any file, EFBIG when its blocks cannot be counted.
Result<Layout> layout_of(const device::BlockDevice &device);

std::vector<std::byte> encode(const Root &root);
// EUCLEAN, also for extents outside the layout. That they do not overlap is for the reader to find.
Result<Root> read_slot(device::BlockDevice &device, const Layout &layout, unsigned number);

}  // namespace outboard::sample::out_of_place

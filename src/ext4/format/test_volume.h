// For the tests of this folder: a whole image in memory, seen through the rooms under test.
#pragma once

#include "base/unique_fd.h"
#include "ext4/format/extent.h"
#include "ext4/format/geometry.h"
#include "ext4/format/group_desc.h"
#include "ext4/format/inode.h"
#include "ext4/format/superblock.h"
#include "testing/expect.h"
#include "testing/image_builder.h"

#include <cerrno>
#include <fcntl.h>
#include <functional>
#include <random>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <utility>
#include <vector>

namespace outboard::ext4::format {

using Bytes = std::vector<std::byte>;

inline Bytes to_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// Deterministic noise.
inline void fill_random(std::span<std::byte> bytes, std::mt19937 &random) {
  for (std::byte &b : bytes) b = static_cast<std::byte>(random() & 0xff);
}

// A file's bytes, to be changed without changing the file.
class PrivateCopy {
public:
  PrivateCopy() = default;
  static Result<PrivateCopy> of(const std::string &path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0) return fail(Error::system(errno, "test image: open"));
    const auto size = static_cast<std::size_t>(status.st_size);
    void *start = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.get(), 0);
    if (start == MAP_FAILED) return fail(Error::system(errno, "test image: map"));
    PrivateCopy copy;
    copy.bytes_ = {static_cast<std::byte *>(start), size};
    return copy;
  }
  PrivateCopy(PrivateCopy &&other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  PrivateCopy &operator=(PrivateCopy &&other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PrivateCopy() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  }
  std::span<std::byte> bytes() { return bytes_; }

private:
  std::span<std::byte> bytes_;
};

class TestVolume {
public:
  static Result<TestVolume> load(const std::string &path) {
    TestVolume volume;
    volume.image = TRY(PrivateCopy::of(path));
    volume.superblock = TRY(parse_superblock(volume.raw_superblock()));
    volume.geometry = Geometry(volume.superblock);
    return volume;
  }

  std::span<std::byte> raw_superblock() { return image.bytes().subspan(kSuperblockOffset, kSuperblockSize); }
  std::span<std::byte> block(BlockNumber number) {
    return image.bytes().subspan(number.value() * superblock.block_size, superblock.block_size);
  }
  std::span<std::byte> raw_desc(GroupNumber group) {
    return block(geometry.descriptor_block(geometry.descriptor_index(group)))
        .subspan(geometry.descriptor_offset(group), superblock.desc_size);
  }
  Result<GroupDesc> desc(GroupNumber group) { return parse_group_desc(superblock, group, raw_desc(group)); }
  // The group's descriptor must be good.
  std::span<std::byte> raw_inode(InodeNumber number) {
    const InodeLocation at = geometry.locate(number);
    return block(desc(at.group)->inode_table + at.table_block).subspan(at.offset, superblock.inode_size);
  }
  Result<InodeFields> inode(InodeNumber number) { return parse_inode(superblock, number, raw_inode(number)); }

  // Every extent of a file, leaves visited in order; nodes verified on the way.
  Status each_extent(InodeNumber number, const std::function<void(const Extent &)> &visit) {
    const InodeFields fields = TRY(inode(number));
    return walk(fields.block, true, std::nullopt, inode_checksum_seed(superblock, number, fields.generation), visit);
  }

  PrivateCopy image;
  Superblock superblock;
  Geometry geometry;

private:
  Status walk(std::span<const std::byte> node, bool is_root, std::optional<std::uint16_t> depth, std::uint32_t seed,
              const std::function<void(const Extent &)> &visit) {
    TRY(verify_extent_node(node, depth, is_root, superblock.blocks_count, superblock.first_data_block));
    if (!is_root && superblock.has_metadata_checksums() && !extent_checksum_matches(node, seed))
      return fail(Error::bad_checksum("extent node"));
    const ExtentNodeView view(node);
    for (std::uint16_t i = 0; i < view.entries(); ++i) {
      if (view.is_leaf()) visit(view.get_extent(i));
      else TRY(walk(block(view.get_index(i).child), false, static_cast<std::uint16_t>(view.depth() - 1), seed, visit));
    }
    return {};
  }
};

}  // namespace outboard::ext4::format

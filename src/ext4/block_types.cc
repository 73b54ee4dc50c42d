#include "ext4/block_types.h"

#include "ext4/format/dirent.h"
#include "ext4/format/extent.h"
#include "ext4/format/geometry.h"
#include "ext4/format/htree.h"
#include "ext4/format/orphan_file.h"
#include "ext4/format/xattr.h"

namespace outboard::ext4 {

namespace {

class Plain final : public cache::BlockType {
public:
  explicit Plain(const char *name) : name_(name) {}
  const char *name() const override { return name_; }
  Status verify(BlockNumber, std::uint32_t, std::span<const std::byte>) const override { return {}; }

private:
  const char *name_;
};

class SuperblockType final : public cache::BlockType {
public:
  explicit SuperblockType(const format::Superblock &superblock) : offset_(format::Geometry(superblock).super_offset()) {}
  const char *name() const override { return "superblock"; }
  // The volume has parsed it before there was a cache.
  Status verify(BlockNumber, std::uint32_t, std::span<const std::byte>) const override { return {}; }
  void seal(BlockNumber, std::uint32_t, std::span<std::byte> bytes) const override {
    format::seal_superblock(bytes.subspan(offset_, sizeof(format::RawSuperblock)));
  }

private:
  const std::uint32_t offset_;
};

class ExtentNode final : public cache::BlockType {
public:
  explicit ExtentNode(const format::Superblock &superblock) : superblock_(superblock) {}
  const char *name() const override { return "extent node"; }
  Status verify(BlockNumber block, std::uint32_t seed, std::span<const std::byte> bytes) const override {
    Status structure = format::verify_extent_node(bytes, std::nullopt, false, superblock_.blocks_count, superblock_.first_data_block);
    if (!structure) return fail(std::move(structure).error().in_block(block.value()));
    if (superblock_.has_metadata_checksums() && !format::extent_checksum_matches(bytes, seed))
      return fail(Error::bad_checksum("extent node").in_block(block.value()));
    return {};
  }
  void seal(BlockNumber, std::uint32_t seed, std::span<std::byte> bytes) const override {
    if (superblock_.has_metadata_checksums()) format::seal_extent_node(bytes, seed);
  }

private:
  const format::Superblock superblock_;
};

class Indirect final : public cache::BlockType {
public:
  explicit Indirect(const format::Superblock &superblock) : superblock_(superblock) {}
  const char *name() const override { return "indirect block"; }
  Status verify(BlockNumber block, std::uint32_t, std::span<const std::byte> bytes) const override {
    for (std::size_t at = 0; at + sizeof(le32) <= bytes.size(); at += sizeof(le32)) {
      const std::uint32_t pointer = view_as<le32>(bytes, at).get();
      if (pointer != 0 && !superblock_.contains(BlockNumber(pointer)))
        return fail(Error::corrupt("indirect block: pointer beyond the file system").in_block(block.value()));
    }
    return {};
  }

private:
  const format::Superblock superblock_;
};

class DirectoryBlock final : public cache::BlockType {
public:
  explicit DirectoryBlock(const format::Superblock &superblock) : format_(format::DirFormat::of(superblock)) {}
  const char *name() const override { return "directory block"; }
  Status verify(BlockNumber block, std::uint32_t seed, std::span<const std::byte> bytes) const override {
    Status status = format::verify_any_dir_block(bytes, format_, seed);
    if (!status) return fail(std::move(status).error().in_block(block.value()));
    return {};
  }
  void seal(BlockNumber, std::uint32_t seed, std::span<std::byte> bytes) const override {
    format::seal_any_dir_block(bytes, format_, seed);
  }

private:
  const format::DirFormat format_;
};

class XattrBlock final : public cache::BlockType {
public:
  explicit XattrBlock(const format::Superblock &superblock) : superblock_(superblock) {}
  const char *name() const override { return "extended attribute block"; }
  Status verify(BlockNumber block, std::uint32_t, std::span<const std::byte> bytes) const override {
    Status structure = format::verify_xattr_block(bytes);
    if (!structure) return fail(std::move(structure).error().in_block(block.value()));
    if (!format::xattr_checksum_matches(superblock_, block, bytes))
      return fail(Error::bad_checksum("extended attribute block").in_block(block.value()));
    return {};
  }
  void seal(BlockNumber block, std::uint32_t, std::span<std::byte> bytes) const override {
    format::seal_xattr_block(superblock_, block, bytes);
  }

private:
  const format::Superblock superblock_;
};

class OrphanFileBlock final : public cache::BlockType {
public:
  explicit OrphanFileBlock(const format::Superblock &superblock) : has_checksum_(superblock.has_metadata_checksums()) {}
  const char *name() const override { return "orphan file block"; }
  Status verify(BlockNumber block, std::uint32_t seed, std::span<const std::byte> bytes) const override {
    return format::verify_orphan_block(bytes, has_checksum_, block, seed);
  }
  void seal(BlockNumber block, std::uint32_t seed, std::span<std::byte> bytes) const override {
    if (has_checksum_) format::seal_orphan_block(bytes, block, seed);
  }

private:
  const bool has_checksum_;
};

}  // namespace

struct BlockTypes::Impl {
  explicit Impl(const format::Superblock &sb)
      : superblock(sb), extent_node(sb), indirect(sb), directory(sb), xattr(sb), orphan_file(sb) {}
  SuperblockType superblock;
  Plain descriptors{"group descriptors"};
  Plain block_bitmap{"block bitmap"};
  Plain inode_bitmap{"inode bitmap"};
  Plain inode_table{"inode table"};
  ExtentNode extent_node;
  Indirect indirect;
  DirectoryBlock directory;
  XattrBlock xattr;
  Plain symlink{"symbolic link"};
  OrphanFileBlock orphan_file;
};

BlockTypes::BlockTypes(const format::Superblock &superblock) : impl_(std::make_unique<Impl>(superblock)) {}
BlockTypes::~BlockTypes() = default;

const cache::BlockType &BlockTypes::superblock() const { return impl_->superblock; }
const cache::BlockType &BlockTypes::descriptors() const { return impl_->descriptors; }
const cache::BlockType &BlockTypes::block_bitmap() const { return impl_->block_bitmap; }
const cache::BlockType &BlockTypes::inode_bitmap() const { return impl_->inode_bitmap; }
const cache::BlockType &BlockTypes::inode_table() const { return impl_->inode_table; }
const cache::BlockType &BlockTypes::extent_node() const { return impl_->extent_node; }
const cache::BlockType &BlockTypes::indirect() const { return impl_->indirect; }
const cache::BlockType &BlockTypes::directory() const { return impl_->directory; }
const cache::BlockType &BlockTypes::xattr() const { return impl_->xattr; }
const cache::BlockType &BlockTypes::symlink() const { return impl_->symlink; }
const cache::BlockType &BlockTypes::orphan_file() const { return impl_->orphan_file; }

}  // namespace outboard::ext4

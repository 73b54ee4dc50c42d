// Feature sets of an ext4 superblock (s_feature_compat, s_feature_incompat, s_feature_ro_compat): every bit that
// e2fsprogs 1.47 knows, the names that tune2fs prints, and which of them this program handles.
#pragma once

#include <cstdint>
#include <string>

namespace outboard::ext4::format {

// A program that does not know these may still read and write.
enum class Compat : std::uint32_t {
  dir_prealloc = 0x0001,
  imagic_inodes = 0x0002,
  has_journal = 0x0004,
  ext_attr = 0x0008,
  resize_inode = 0x0010,
  dir_index = 0x0020,
  lazy_bg = 0x0040,
  exclude_inode = 0x0080,
  exclude_bitmap = 0x0100,
  sparse_super2 = 0x0200,
  fast_commit = 0x0400,
  stable_inodes = 0x0800,
  orphan_file = 0x1000,
};

// ... must not touch the volume at all.
enum class Incompat : std::uint32_t {
  compression = 0x0001,
  filetype = 0x0002,
  recover = 0x0004,  // the journal needs recovery
  journal_dev = 0x0008,
  meta_bg = 0x0010,
  extents = 0x0040,
  bit64 = 0x0080,
  mmp = 0x0100,
  flex_bg = 0x0200,
  ea_inode = 0x0400,
  dirdata = 0x1000,
  csum_seed = 0x2000,
  large_dir = 0x4000,
  inline_data = 0x8000,
  encrypt = 0x10000,
  casefold = 0x20000,
};

// ... may only read.
enum class RoCompat : std::uint32_t {
  sparse_super = 0x0001,
  large_file = 0x0002,
  btree_dir = 0x0004,
  huge_file = 0x0008,
  gdt_csum = 0x0010,
  dir_nlink = 0x0020,
  extra_isize = 0x0040,
  has_snapshot = 0x0080,
  quota = 0x0100,
  bigalloc = 0x0200,
  metadata_csum = 0x0400,
  replica = 0x0800,
  read_only = 0x1000,
  project = 0x2000,
  shared_blocks = 0x4000,
  verity = 0x8000,
  orphan_present = 0x10000,
};

struct FeatureSet {
  std::uint32_t compat = 0;
  std::uint32_t incompat = 0;
  std::uint32_t ro_compat = 0;

  bool has(Compat feature) const { return (compat & static_cast<std::uint32_t>(feature)) != 0; }
  bool has(Incompat feature) const { return (incompat & static_cast<std::uint32_t>(feature)) != 0; }
  bool has(RoCompat feature) const { return (ro_compat & static_cast<std::uint32_t>(feature)) != 0; }
  friend bool operator==(const FeatureSet &, const FeatureSet &) = default;
};

// As tune2fs -l shows it; a bit without a name is FEATURE_C12, FEATURE_I31, FEATURE_R17. Exactly one bit each.
std::string feature_name(Compat feature);
std::string feature_name(Incompat feature);
std::string feature_name(RoCompat feature);
// All features, separated by spaces: compat, incompat, ro_compat, each by bit.
std::string feature_names(const FeatureSet &features);

// Names, separated by ", ", of the features that forbid mounting; empty when there are none.
std::string unsupported_incompat(const FeatureSet &features);
// ... that allow reading only. The "read-only" feature is among them: it asks for that.
std::string unsupported_ro_compat(const FeatureSet &features);

}  // namespace outboard::ext4::format

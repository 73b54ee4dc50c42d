#include "ext4/format/features.h"

#include <array>
#include <bit>

namespace outboard::ext4::format {
namespace {

struct Name {
  std::uint32_t bit;
  const char *text;
};
template <class Feature> constexpr Name named(Feature feature, const char *text) {
  return {static_cast<std::uint32_t>(feature), text};
}

constexpr std::array kCompatNames{
    named(Compat::dir_prealloc, "dir_prealloc"),
    named(Compat::imagic_inodes, "imagic_inodes"),
    named(Compat::has_journal, "has_journal"),
    named(Compat::ext_attr, "ext_attr"),
    named(Compat::resize_inode, "resize_inode"),
    named(Compat::dir_index, "dir_index"),
    named(Compat::lazy_bg, "lazy_bg"),
    named(Compat::exclude_bitmap, "snapshot_bitmap"),
    named(Compat::sparse_super2, "sparse_super2"),
    named(Compat::fast_commit, "fast_commit"),
    named(Compat::stable_inodes, "stable_inodes"),
    named(Compat::orphan_file, "orphan_file"),
};

constexpr std::array kIncompatNames{
    named(Incompat::compression, "compression"),
    named(Incompat::filetype, "filetype"),
    named(Incompat::recover, "needs_recovery"),
    named(Incompat::journal_dev, "journal_dev"),
    named(Incompat::meta_bg, "meta_bg"),
    named(Incompat::extents, "extent"),
    named(Incompat::bit64, "64bit"),
    named(Incompat::mmp, "mmp"),
    named(Incompat::flex_bg, "flex_bg"),
    named(Incompat::ea_inode, "ea_inode"),
    named(Incompat::dirdata, "dirdata"),
    named(Incompat::csum_seed, "metadata_csum_seed"),
    named(Incompat::large_dir, "large_dir"),
    named(Incompat::inline_data, "inline_data"),
    named(Incompat::encrypt, "encrypt"),
    named(Incompat::casefold, "casefold"),
};

constexpr std::array kRoCompatNames{
    named(RoCompat::sparse_super, "sparse_super"),
    named(RoCompat::large_file, "large_file"),
    named(RoCompat::huge_file, "huge_file"),
    named(RoCompat::gdt_csum, "uninit_bg"),
    named(RoCompat::dir_nlink, "dir_nlink"),
    named(RoCompat::extra_isize, "extra_isize"),
    named(RoCompat::has_snapshot, "has_snapshot"),
    named(RoCompat::quota, "quota"),
    named(RoCompat::bigalloc, "bigalloc"),
    named(RoCompat::metadata_csum, "metadata_csum"),
    named(RoCompat::replica, "replica"),
    named(RoCompat::read_only, "read-only"),
    named(RoCompat::project, "project"),
    named(RoCompat::shared_blocks, "shared_blocks"),
    named(RoCompat::verity, "verity"),
    named(RoCompat::orphan_present, "orphan_present"),
};

template <class... Features> constexpr std::uint32_t mask_of(Features... features) {
  return (static_cast<std::uint32_t>(features) | ...);
}

// What this program reads and writes. `recover` and `orphan_present` are states that mounting ends.
constexpr std::uint32_t kSupportedIncompat =
    mask_of(Incompat::filetype, Incompat::recover, Incompat::meta_bg, Incompat::extents, Incompat::bit64,
            Incompat::flex_bg, Incompat::csum_seed, Incompat::large_dir);
// `project`: ids are kept and inherited; quotas on them are another feature.
constexpr std::uint32_t kSupportedRoCompat =
    mask_of(RoCompat::sparse_super, RoCompat::large_file, RoCompat::huge_file, RoCompat::gdt_csum, RoCompat::dir_nlink,
            RoCompat::extra_isize, RoCompat::metadata_csum, RoCompat::project, RoCompat::orphan_present);

template <std::size_t N> std::string name_of(const std::array<Name, N> &names, std::uint32_t bit, char set) {
  for (const Name &name : names)
    if (name.bit == bit) return name.text;
  return std::string("FEATURE_") + set + std::to_string(bit == 0 ? 0 : std::countr_zero(bit));
}

template <std::size_t N>
std::string list(const std::array<Name, N> &names, std::uint32_t bits, char set, const char *separator) {
  std::string text;
  for (std::uint32_t bit = 1; bit != 0; bit <<= 1) {
    if ((bits & bit) == 0) continue;
    if (!text.empty()) text += separator;
    text += name_of(names, bit, set);
  }
  return text;
}

}  // namespace

std::string feature_name(Compat feature) { return name_of(kCompatNames, static_cast<std::uint32_t>(feature), 'C'); }
std::string feature_name(Incompat feature) { return name_of(kIncompatNames, static_cast<std::uint32_t>(feature), 'I'); }
std::string feature_name(RoCompat feature) { return name_of(kRoCompatNames, static_cast<std::uint32_t>(feature), 'R'); }

std::string feature_names(const FeatureSet &features) {
  std::string text = list(kCompatNames, features.compat, 'C', " ");
  for (const std::string &more :
       {list(kIncompatNames, features.incompat, 'I', " "), list(kRoCompatNames, features.ro_compat, 'R', " ")})
    if (!more.empty()) text += (text.empty() ? "" : " ") + more;
  return text;
}

std::string unsupported_incompat(const FeatureSet &features) {
  return list(kIncompatNames, features.incompat & ~kSupportedIncompat, 'I', ", ");
}

std::string unsupported_ro_compat(const FeatureSet &features) {
  return list(kRoCompatNames, features.ro_compat & ~kSupportedRoCompat, 'R', ", ");
}

}  // namespace outboard::ext4::format

#include "ext4/format/features.h"

#include <gtest/gtest.h>

namespace outboard::ext4::format {
namespace {

FeatureSet incompat(std::uint32_t bits) { return {0, bits, 0}; }
FeatureSet ro_compat(std::uint32_t bits) { return {0, 0, bits}; }

TEST(Features, AreNamedAsTune2fsNamesThem) {
  EXPECT_EQ(feature_name(Incompat::extents), "extent");
  EXPECT_EQ(feature_name(Incompat::recover), "needs_recovery");
  EXPECT_EQ(feature_name(RoCompat::gdt_csum), "uninit_bg");
  EXPECT_EQ(feature_name(RoCompat::read_only), "read-only");
  EXPECT_EQ(feature_name(Compat::exclude_bitmap), "snapshot_bitmap");
  EXPECT_EQ(feature_name(static_cast<Incompat>(0x80000000)), "FEATURE_I31");
  EXPECT_EQ(feature_name(static_cast<RoCompat>(0x20000)), "FEATURE_R17");
  EXPECT_EQ(feature_name(static_cast<Compat>(0x1000000)), "FEATURE_C24");
}

TEST(Features, OfEverydayVolumesAreSupported) {
  EXPECT_EQ(unsupported_incompat(incompat(0x42c6)), "");  // filetype recover extent 64bit flex_bg large_dir
  EXPECT_EQ(unsupported_incompat(incompat(0x2010)), "");  // meta_bg csum_seed
  EXPECT_EQ(unsupported_ro_compat(ro_compat(0x46b | 0x10 | 0x2000 | 0x10000)), "");
}

TEST(Features, ThatForbidMountingAreListedByName) {
  EXPECT_EQ(unsupported_incompat(incompat(0x42c6 | 0x8000 | 0x100 | 0x80000000)), "mmp, inline_data, FEATURE_I31");
  EXPECT_EQ(unsupported_incompat(incompat(0x8)), "journal_dev");
  EXPECT_EQ(unsupported_incompat(incompat(0x1 | 0x400 | 0x1000 | 0x10000 | 0x20000)),
            "compression, ea_inode, dirdata, encrypt, casefold");
}

TEST(Features, ThatAllowOnlyReadingAreListedByName) {
  EXPECT_EQ(unsupported_ro_compat(ro_compat(0x46b | 0x100 | 0x8000)), "quota, verity");
  EXPECT_EQ(unsupported_ro_compat(ro_compat(0x1000 | 0x200 | 0x4000 | 0x800 | 0x80)),
            "has_snapshot, bigalloc, replica, read-only, shared_blocks");
}

}  // namespace
}  // namespace outboard::ext4::format

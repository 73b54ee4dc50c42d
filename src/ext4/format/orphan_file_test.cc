#include "ext4/format/orphan_file.h"

#include "ext4/format/test_volume.h"

#include <gtest/gtest.h>

namespace outboard::ext4::format {
namespace {

TEST(OrphanBlock, SlotsFillAllButTheTail) {
  EXPECT_EQ(orphan_slots(1024), 254u);
  EXPECT_EQ(orphan_slots(4096), 1022u);
  Bytes block(1024);
  init_orphan_block(block);
  for (std::uint32_t i = 0; i < 254; ++i) set_orphan_slot(block, i, InodeNumber(i + 100));
  EXPECT_OK(verify_orphan_block(block, false, BlockNumber(7), 1));
  for (std::uint32_t i = 0; i < 254; ++i) EXPECT_EQ(orphan_slot(block, i), InodeNumber(i + 100));
}

TEST(OrphanBlock, ChecksumIsOfThePlaceAndTheOwner) {
  Bytes block(1024);
  init_orphan_block(block);
  EXPECT_EQ(verify_orphan_block(block, true, BlockNumber(7), 1).error().kind(), ErrorKind::bad_checksum);
  seal_orphan_block(block, BlockNumber(7), 1);
  EXPECT_OK(verify_orphan_block(block, true, BlockNumber(7), 1));
  EXPECT_FALSE(verify_orphan_block(block, true, BlockNumber(8), 1).has_value());
  EXPECT_FALSE(verify_orphan_block(block, true, BlockNumber(7), 2).has_value());
  edit_as<RawOrphanTail>(block, 1016).ob_magic.set(5);
  EXPECT_EQ(verify_orphan_block(block, false, BlockNumber(7), 1).error().kind(), ErrorKind::corrupt);
}

}  // namespace
}  // namespace outboard::ext4::format

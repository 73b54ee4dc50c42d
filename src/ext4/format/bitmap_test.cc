#include "ext4/format/bitmap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace outboard::ext4::format {
namespace {

TEST(Bitmap, BitOrderIsLittleEndian) {
  std::vector<std::byte> bytes(16);
  BitmapEdit bits(bytes, 128);
  bits.set(9);
  EXPECT_EQ(bytes[1], std::byte{2});
  EXPECT_TRUE(bits.test(9));
  bits.clear(9);
  EXPECT_EQ(bytes[1], std::byte{0});
}

// Every operation against one that looks at bit after bit, on sizes that are not whole words.
TEST(Bitmap, AgreesWithAPlainVectorOfBits) {
  std::mt19937 generator(2);
  const auto random = [&] { return static_cast<std::uint32_t>(generator()); };
  for (const std::uint32_t size : {1u, 7u, 8u, 63u, 64u, 65u, 200u, 1000u}) {
    std::vector<std::byte> bytes((size + 7) / 8);
    BitmapEdit bits(bytes, size);
    std::vector<bool> model(size);
    for (int step = 0; step < 400; ++step) {
      const std::uint32_t first = random() % size;
      const std::uint32_t count = random() % std::min(size - first, step % 3 == 0 ? size : 20u) + 1;
      const bool on = random() % 2 == 0;
      if (on) bits.set(first, count);
      else bits.clear(first, count);
      std::fill_n(model.begin() + first, count, on);

      std::uint32_t from = random() % (size + 1), limit = random() % (size + 1);
      if (from > limit) std::swap(from, limit);
      const auto begin = model.begin();
      EXPECT_EQ(bits.find_zero(from, limit), std::find(begin + from, begin + limit, false) - begin);
      EXPECT_EQ(bits.find_one(from, limit), std::find(begin + from, begin + limit, true) - begin);
      EXPECT_EQ(bits.count_zeros(from, limit - from), std::count(begin + from, begin + limit, false));
      EXPECT_EQ(bits.all_set(from, limit - from), std::count(begin + from, begin + limit, false) == 0);
      EXPECT_EQ(bits.all_clear(from, limit - from), std::count(begin + from, begin + limit, true) == 0);

      const std::uint32_t want = random() % 30 + 1;
      const BitRun run = bits.find_zero_run(from, limit, want);
      std::uint32_t longest = 0, here = 0;
      for (std::uint32_t i = from; i < limit; ++i) {
        here = model[i] ? 0 : here + 1;
        longest = std::max(longest, here);
      }
      EXPECT_EQ(run.count, std::min(want, longest));
      for (std::uint32_t i = run.start; i < run.end(); ++i) EXPECT_FALSE(model[i]);
    }
    EXPECT_EQ(bits.count_zeros(), std::count(model.begin(), model.end(), false));
  }
}

TEST(Bitmap, RunsAreCutAtTheLimit) {
  std::vector<std::byte> bytes(8);
  BitmapEdit bits(bytes, 64);
  bits.set(0, 3);
  bits.set(40, 1);
  EXPECT_EQ(bits.next_zero_run(0, 64).start, 3u);
  EXPECT_EQ(bits.next_zero_run(0, 64).count, 37u);
  EXPECT_EQ(bits.next_zero_run(0, 64, 5).count, 5u);
  EXPECT_EQ(bits.next_zero_run(0, 20).count, 17u);
  bits.set(0, 64);
  EXPECT_EQ(bits.next_zero_run(0, 64).count, 0u);
  EXPECT_EQ(bits.find_zero_run(0, 64, 1).count, 0u);
}

}  // namespace
}  // namespace outboard::ext4::format

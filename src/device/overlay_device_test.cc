#include "device/overlay_device.h"

#include "device/memory_device.h"
#include "testing/expect.h"

#include <algorithm>
#include <random>
#include <vector>

namespace outboard::device {
namespace {

std::vector<std::byte> noise(std::uint64_t seed, std::size_t size) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte &b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

TEST(OverlayDevice, AnyRangeReadsBackAsAModelDoesAndTheLowerStaysAsItWas) {
  constexpr std::uint64_t kSize = (1 << 20) + 100;
  const std::vector<std::byte> original = noise(1, kSize);
  MemoryDevice lower(kSize);
  ASSERT_OK(lower.write(0, original));
  lower.set_read_only(true);
  OverlayDevice device(lower);
  EXPECT_FALSE(device.properties().read_only);
  EXPECT_EQ(device.properties().size, kSize);
  std::vector<std::byte> model = original;
  std::mt19937_64 random(2);
  for (int step = 0; step < 1000; ++step) {
    const std::uint64_t at = random() % kSize;
    const std::uint64_t length = random() % std::min<std::uint64_t>(kSize - at + 1, step % 10 == 0 ? 100000 : 6000);
    const std::span<std::byte> expected = std::span(model).subspan(at, length);
    if (step % 3 == 0) {
      const std::vector<std::byte> bytes = noise(random(), length);
      std::ranges::copy(bytes, expected.begin());
      ASSERT_OK(device.write(at, bytes));
    } else if (step % 30 == 1) {
      std::ranges::fill(expected, std::byte{0});
      ASSERT_OK(device.zero(at, length));
    } else {
      std::vector<std::byte> bytes(length);
      ASSERT_OK(device.read(at, bytes));
      ASSERT_TRUE(std::ranges::equal(bytes, expected)) << at << " " << length;
    }
  }
  std::vector<std::byte> bytes(kSize);
  ASSERT_OK(lower.read(0, bytes));
  EXPECT_EQ(bytes, original);
}

TEST(OverlayDevice, RefusesMoreThanItsMemoryAndChangesNothingThen) {
  auto lower = std::make_unique<MemoryDevice>(1 << 20);
  OverlayDevice device(std::move(lower), {.most_bytes = 4 * 4096});
  const std::vector<std::byte> ones(3 * 4096, std::byte{1});
  ASSERT_OK(device.write(0, ones));
  EXPECT_ERROR(device.write(2 * 4096, ones), ENOSPC);
  EXPECT_EQ(device.bytes_in_use(), 3u * 4096);
  std::vector<std::byte> bytes(4096);
  ASSERT_OK(device.read(3 * 4096, bytes));
  EXPECT_EQ(bytes, std::vector<std::byte>(4096));
  EXPECT_OK(device.write(100, ones));  // pages that are there already, and one more
  EXPECT_ERROR(device.write(4 * 4096, std::span(ones).first(1)), ENOSPC);
}

TEST(OverlayDevice, RangesBeyondTheEndAreEio) {
  MemoryDevice lower(5000);
  OverlayDevice device(lower);
  std::vector<std::byte> bytes(10);
  EXPECT_OK(device.write(4990, bytes));
  EXPECT_ERROR(device.write(4991, bytes), EIO);
  EXPECT_ERROR(device.read(~std::uint64_t{0}, bytes), EIO);
  EXPECT_ERROR(device.discard(1, ~std::uint64_t{0}), EIO);
}

}  // namespace
}  // namespace outboard::device

#include "device/memory_device.h"

#include "testing/expect.h"
#include "testing/image_builder.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <sys/stat.h>
#include <vector>

namespace outboard::device {
namespace {

std::vector<std::byte> filled(std::size_t size, int value) {
  return std::vector<std::byte>(size, static_cast<std::byte>(value));
}

TEST(MemoryDevice, AnyRangeReadsBackAsAModelDoes) {
  constexpr std::uint64_t kSize = (1 << 20) + 777;
  MemoryDevice device(kSize);
  std::vector<std::byte> model(kSize);
  std::mt19937_64 random(5);
  for (int step = 0; step < 2000; ++step) {
    const std::uint64_t at = random() % kSize;
    const std::uint64_t length = random() % std::min<std::uint64_t>(kSize - at, 200000);
    const std::span<std::byte> expected = std::span(model).subspan(at, length);
    switch (random() % 3) {
    case 0: {
      const auto bytes = filled(length, static_cast<int>(random() % 256));
      std::ranges::copy(bytes, expected.begin());
      ASSERT_OK(device.write(at, bytes));
      break;
    }
    case 1:
      std::ranges::fill(expected, std::byte{0});
      ASSERT_OK(device.zero(at, length));
      break;
    default: {
      std::vector<std::byte> bytes(length, std::byte{0xee});
      ASSERT_OK(device.read(at, bytes));
      ASSERT_TRUE(std::ranges::equal(bytes, expected));
    }
    }
  }
}

TEST(MemoryDevice, TakesMemoryOnlyForWhatWasWritten) {
  MemoryDevice device(std::uint64_t{1} << 50);
  EXPECT_EQ(device.bytes_in_use(), 0u);
  ASSERT_OK(device.write((std::uint64_t{1} << 50) - 3, filled(3, 9)));
  EXPECT_EQ(device.bytes_in_use(), 65536u);
  ASSERT_OK(device.zero((std::uint64_t{1} << 50) - 65536, 65536));
  EXPECT_EQ(device.bytes_in_use(), 0u);
}

TEST(MemoryDevice, RangesBeyondTheEndAreEio) {
  MemoryDevice device(1000);
  auto bytes = filled(10, 1);
  EXPECT_OK(device.write(990, bytes));
  EXPECT_ERROR(device.write(991, bytes), EIO);
  EXPECT_ERROR(device.read(std::numeric_limits<std::uint64_t>::max() - 5, bytes), EIO);
  EXPECT_ERROR(device.zero(10, std::numeric_limits<std::uint64_t>::max()), EIO);
}

TEST(MemoryDevice, ACloneAndItsOriginalGoTheirOwnWays) {
  MemoryDevice device(1 << 20);
  ASSERT_OK(device.write(0, filled(200000, 1)));
  auto copy = device.clone();
  ASSERT_OK(device.write(10, filled(10, 2)));
  ASSERT_OK(copy->write(20, filled(10, 3)));
  ASSERT_OK(copy->zero(65536, 65536));
  auto bytes = filled(30, 0);
  ASSERT_OK(device.read(0, bytes));
  EXPECT_EQ(bytes[10], std::byte{2});
  EXPECT_EQ(bytes[20], std::byte{1});
  ASSERT_OK(copy->read(0, bytes));
  EXPECT_EQ(bytes[10], std::byte{1});
  EXPECT_EQ(bytes[20], std::byte{3});
  ASSERT_OK(device.read(65536, bytes));
  EXPECT_EQ(bytes, filled(30, 1));
}

TEST(MemoryDevice, SavedAndLoadedItIsTheSameAndSparse) {
  const testing::TemporaryDirectory directory;
  constexpr std::uint64_t kSize = (64 << 20) + 12345;
  MemoryDevice device(kSize);
  ASSERT_OK(device.write(5 << 20, filled(100000, 7)));
  ASSERT_OK(device.write(kSize - 1, filled(1, 8)));
  ASSERT_OK(device.save(directory.file("image")));
  struct stat info {};
  ASSERT_EQ(::stat(directory.file("image").c_str(), &info), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(info.st_size), kSize);
  EXPECT_LT(info.st_blocks * 512, 1 << 20);
  ASSIGN_OK(auto loaded, MemoryDevice::from_file(directory.file("image")));
  ASSERT_EQ(loaded->properties().size, kSize);
  EXPECT_LT(loaded->bytes_in_use(), 1u << 20);
  std::vector<std::byte> one(kSize), other(kSize);
  ASSERT_OK(device.read(0, one));
  ASSERT_OK(loaded->read(0, other));
  EXPECT_EQ(std::memcmp(one.data(), other.data(), kSize), 0);
}

TEST(MemoryDevice, ReadOnlyRefusesChanges) {
  MemoryDevice device(4096);
  device.set_read_only(true);
  EXPECT_ERROR(device.write(0, filled(1, 1)), EROFS);
  EXPECT_ERROR(device.zero(0, 1), EROFS);
  EXPECT_TRUE(device.clone()->properties().read_only);
}

}  // namespace
}  // namespace outboard::device

#include "device/file_device.h"

#include "testing/expect.h"
#include "testing/image_builder.h"

#include <algorithm>
#include <fcntl.h>
#include <limits>
#include <random>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace outboard::device {
namespace {

constexpr std::uint64_t kFileSize = 3 << 20;

std::vector<std::byte> noise(std::mt19937_64 &random, std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::byte &b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

class FileDeviceTest : public ::testing::Test {
protected:
  FileDeviceTest() {
    EXPECT_TRUE(testing::write_file(path_, ""));
    EXPECT_EQ(::truncate(path_.c_str(), kFileSize), 0);
  }
  std::unique_ptr<FileDevice> open(const OpenOptions &options = {}) {
    auto device = FileDevice::open(path_, options);
    EXPECT_OK(device);
    return device ? std::move(*device) : nullptr;
  }

  testing::TemporaryDirectory directory_;
  std::string path_ = directory_.file("image");
};

struct Mode {
  bool direct;
  std::uint64_t offset;
  bool ring = false;  // transfers have deadlines
};

class FileDeviceModes : public FileDeviceTest, public ::testing::WithParamInterface<Mode> {};

TEST_P(FileDeviceModes, AnyRangeReadsBackAsAModelDoes) {
  const Mode mode = GetParam();
  const std::uint64_t size = 1 << 20;
  auto device = open({.offset = mode.offset, .size_limit = size, .direct_io = mode.direct, .health = mode.ring ? std::make_shared<DeviceHealth>(std::chrono::minutes(1), std::chrono::minutes(1)) : nullptr});
  ASSERT_NE(device, nullptr);
  if (mode.ring && !device->properties().keeps_deadline) GTEST_SKIP() << "no io_uring here";
  ASSERT_EQ(device->properties().size, size);
  std::mt19937_64 random(7);
  std::vector<std::byte> model(size);
  std::vector<std::byte> buffer(400 << 10);
  for (int step = 0; step < 600; ++step) {
    const std::uint64_t at = random() % 3 == 0 ? random() % (size / 4096) * 4096 : random() % size;
    const std::uint64_t most = std::min<std::uint64_t>(size - at, random() % 8 == 0 ? 390 << 10 : 9000);
    const std::uint64_t length = random() % (most + 1);
    const std::size_t shift = random() % 600;  // of the memory
    const std::span<std::byte> piece = std::span(buffer).subspan(shift, length);
    const std::span<std::byte> expected = std::span(model).subspan(at, length);
    switch (random() % 5) {
    case 0:
    case 1: {
      const std::vector<std::byte> bytes = noise(random, length);
      std::ranges::copy(bytes, piece.begin());
      std::ranges::copy(bytes, expected.begin());
      ASSERT_OK(device->write(at, piece));
      break;
    }
    case 2:
      std::ranges::fill(expected, std::byte{0});
      ASSERT_OK(device->zero(at, length));
      break;
    default:
      ASSERT_OK(device->read(at, piece));
      ASSERT_TRUE(std::ranges::equal(piece, expected)) << "at " << at << " length " << length;
    }
  }
  ASSERT_OK(device->flush());
  // Nothing outside our range was touched, and the file has kept its size.
  ASSIGN_OK(const std::string contents, testing::read_file(path_));
  ASSERT_EQ(contents.size(), kFileSize);
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(contents)).subspan(mode.offset, size), model));
  EXPECT_EQ(contents.find_first_not_of('\0', mode.offset + size), std::string::npos);
  EXPECT_GE(contents.find_first_not_of('\0'), mode.offset);
}

INSTANTIATE_TEST_SUITE_P(All, FileDeviceModes,
                         ::testing::Values(Mode{true, 0}, Mode{true, 1 << 20}, Mode{true, 512}, Mode{true, 777},
                                           Mode{false, 0}, Mode{false, 777}, Mode{true, 0, true},
                                           Mode{true, 777, true}, Mode{false, 777, true}),
                         [](const auto &mode) {
                           return std::string(mode.param.direct ? "Direct" : "Buffered") + "Offset" +
                                  std::to_string(mode.param.offset) + (mode.param.ring ? "Ring" : "");
                         });

TEST_F(FileDeviceTest, UsesDirectIoWhereTheHostDoes) {
  auto device = open();
  ASSERT_NE(device, nullptr);
  const UniqueFd direct(::open(path_.c_str(), O_RDONLY | O_DIRECT));
  EXPECT_EQ(device->direct(), bool{direct});
  EXPECT_EQ((::fcntl(device->fd(), F_GETFL) & O_DIRECT) != 0, device->direct());
  EXPECT_EQ(device->properties().alignment > 1, device->direct());
}

TEST_F(FileDeviceTest, IsBufferedWhenItCannotBeDirect) {
  auto odd_offset = open({.offset = 100, .claim = false});
  ASSERT_NE(odd_offset, nullptr);
  EXPECT_FALSE(odd_offset->direct());
  EXPECT_EQ(odd_offset->properties().alignment, 1u);
  ASSERT_EQ(::truncate(path_.c_str(), kFileSize + 1), 0);  // the last byte is part of no whole sector
  auto odd_size = open({.claim = false});
  ASSERT_NE(odd_size, nullptr);
  EXPECT_FALSE(odd_size->direct());
  EXPECT_OK(odd_size->write(kFileSize, std::as_bytes(std::span("x", 1))));
  EXPECT_EQ((::fcntl(odd_size->fd(), F_GETFL) & O_DIRECT), 0);
}

TEST_F(FileDeviceTest, WritersOfPartsOfOneSectorLoseNothing) {
  auto device = open();
  ASSERT_NE(device, nullptr);
  constexpr std::size_t kPart = 64;
  std::vector<std::thread> writers;
  for (std::size_t part = 0; part < 8; ++part) {
    writers.emplace_back([&, part] {
      for (int round = 1; round <= 100; ++round) {
        const std::vector<std::byte> mine(kPart, static_cast<std::byte>(round));
        EXPECT_OK(device->write(part * kPart, mine));
        std::vector<std::byte> seen(kPart);
        EXPECT_OK(device->read(part * kPart, seen));
        EXPECT_EQ(seen, mine);
      }
    });
  }
  for (std::thread &writer : writers) writer.join();
}

TEST_F(FileDeviceTest, RangesBeyondTheEndAreEio) {
  auto device = open({.size_limit = 8192});
  ASSERT_NE(device, nullptr);
  std::vector<std::byte> bytes(4096);
  EXPECT_OK(device->write(4096, bytes));
  EXPECT_ERROR(device->write(4097, bytes), EIO);
  EXPECT_ERROR(device->read(8192, bytes), EIO);
  EXPECT_OK(device->read(8192, {}));
  EXPECT_ERROR(device->read(8193, {}), EIO);
  EXPECT_ERROR(device->zero(1, std::numeric_limits<std::uint64_t>::max()), EIO);
  EXPECT_ERROR(device->discard(std::numeric_limits<std::uint64_t>::max() - 1, 4096), EIO);
  EXPECT_ERROR(device->read(std::numeric_limits<std::uint64_t>::max() - 4095, bytes), EIO);
}

TEST_F(FileDeviceTest, OffsetAndLimitMustLieInsideTheFile) {
  EXPECT_ERROR(FileDevice::open(path_, {.offset = kFileSize + 1}), EINVAL);
  EXPECT_ERROR(FileDevice::open(path_, {.offset = 4096, .size_limit = kFileSize - 4095}), EINVAL);
  EXPECT_ERROR(FileDevice::open(path_, {.offset = 1, .size_limit = std::numeric_limits<std::uint64_t>::max()}), EINVAL);
  EXPECT_OK(FileDevice::open(path_, {.offset = 4096, .size_limit = kFileSize - 4096}));
}

TEST_F(FileDeviceTest, RefusesWhatIsNoFileOrBlockDevice) {
  EXPECT_ERROR(FileDevice::open(directory_.file("missing"), {}), ENOENT);
  EXPECT_ERROR(FileDevice::open(directory_.path(), {.read_only = true}), EINVAL);
  EXPECT_ERROR(FileDevice::open("/dev/null", {}), EINVAL);
  ASSERT_EQ(::mkfifo(directory_.file("fifo").c_str(), 0600), 0);
  EXPECT_ERROR(FileDevice::open(directory_.file("fifo"), {.read_only = true}), EINVAL);  // and does not wait
}

TEST_F(FileDeviceTest, ReadOnlyChangesNothing) {
  auto device = open({.read_only = true});
  ASSERT_NE(device, nullptr);
  std::vector<std::byte> bytes(4096, std::byte{1});
  EXPECT_TRUE(device->properties().read_only);
  EXPECT_FALSE(device->properties().discards);
  EXPECT_ERROR(device->write(0, bytes), EROFS);
  EXPECT_ERROR(device->zero(0, 4096), EROFS);
  EXPECT_ERROR(device->discard(0, 4096), EROFS);
  EXPECT_OK(device->read(0, bytes));
  EXPECT_OK(device->flush());
  EXPECT_EQ(bytes, std::vector<std::byte>(4096));
}

TEST_F(FileDeviceTest, ATruncatedFileGivesErrorsNotZeros) {
  auto device = open();
  ASSERT_NE(device, nullptr);
  ASSERT_EQ(::truncate(path_.c_str(), 8192), 0);
  std::vector<std::byte> bytes(4096);
  EXPECT_OK(device->read(4096, bytes));
  EXPECT_ERROR(device->read(8192, bytes), EIO);
  EXPECT_ERROR(device->read(8190, bytes), EIO);
}

TEST_F(FileDeviceTest, GathersMoreAndOdderPiecesThanTheHostTakesAtOnce) {
  auto device = open();
  ASSERT_NE(device, nullptr);
  std::mt19937_64 random(3);
  for (const bool whole_sectors : {true, false}) {
    std::vector<std::byte> source = noise(random, 1500 * 1024);
    std::vector<iovec> pieces;
    std::size_t used = 0;
    for (int i = 0; i < 1400; ++i) {
      const std::size_t length = whole_sectors ? 1024 : random() % 1000;
      pieces.push_back({source.data() + used, length});
      used += length;
    }
    ASSERT_OK(device->write_gather(4096, pieces));
    std::vector<std::byte> back(used);
    ASSERT_OK(device->read(4096, back));
    EXPECT_TRUE(std::ranges::equal(back, std::span(source).first(used)));
  }
}

TEST_F(FileDeviceTest, DiscardGivesTheHostItsSpaceBack) {
  auto device = open();
  ASSERT_NE(device, nullptr);
  if (!device->properties().discards) GTEST_SKIP() << "the host's file system punches no holes";
  std::vector<std::byte> bytes(1 << 20, std::byte{0x5a});
  ASSERT_OK(device->write(0, bytes));
  ASSERT_OK(device->flush());
  struct stat before {
  }, after{};
  ASSERT_EQ(::stat(path_.c_str(), &before), 0);
  ASSERT_OK(device->discard(1000, (1 << 20) - 1000));
  ASSERT_EQ(::stat(path_.c_str(), &after), 0);
  EXPECT_LT(after.st_blocks, before.st_blocks);
  EXPECT_EQ(after.st_size, before.st_size);
  std::vector<std::byte> head(1000);
  ASSERT_OK(device->read(0, head));
  EXPECT_TRUE(std::ranges::equal(head, std::span(bytes).first(1000)));
}

TEST_F(FileDeviceTest, AdoptsADescriptorAsItWasOpened) {
  UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  ASSIGN_OK(auto device, FileDevice::adopt(std::move(fd), {.offset = 4096}));
  EXPECT_TRUE(device->properties().read_only);
  EXPECT_EQ(device->properties().size, kFileSize - 4096);
  UniqueFd write_only(::open(path_.c_str(), O_WRONLY | O_CLOEXEC));
  EXPECT_ERROR(FileDevice::adopt(std::move(write_only), {.claim = false}), EBADF);
}

}  // namespace
}  // namespace outboard::device

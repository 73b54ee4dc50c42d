// copy_range over the library.
#include "device/memory_device.h"
#include "testing/expect.h"
#include "testing/image_builder.h"
#include "vfs/mounted_volume.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <vector>

namespace outboard::vfs {
namespace {

// Found by tests/exerciser: the second piece of the copy met bytes that the first had put behind the end.
TEST(CopyRange, InsideOneFileCopiesWhatWasThereBeforeItGrew) {
  testing::TemporaryDirectory work;
  ASSERT_OK(testing::make_image(work.file("disk.img"), std::uint64_t{32} << 20));
  ASSIGN_OK(auto device, device::MemoryDevice::from_file(work.file("disk.img")));
  ASSIGN_OK(auto volume, MountedVolume::open(*device, {}));
  ASSIGN_OK(const Entry entry, volume->make_node(kRootNode, "file", S_IFREG | 0644, 0, {}));
  // More than is moved at once, and an end inside a piece.
  constexpr std::size_t kSize = (std::size_t{1} << 20) + 4099;
  std::vector<std::byte> data(kSize);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(1 + i % 251);
  ASSERT_OK(volume->write(entry.node, 0, data, {}));

  constexpr std::uint64_t kTarget = kSize + 5;
  ASSIGN_OK(const std::size_t copied, volume->copy_range(entry.node, 100, entry.node, kTarget, 2 * kSize));
  EXPECT_EQ(copied, kSize - 100);
  ASSIGN_OK(const Attributes after, volume->get_attributes(entry.node));
  EXPECT_EQ(after.size, kTarget + kSize - 100);
  std::vector<std::byte> found(kSize);
  ASSERT_OK(volume->read(entry.node, kTarget, found));
  found.resize(kSize - 100);
  EXPECT_EQ(found, std::vector<std::byte>(data.begin() + 100, data.end()));

  ASSIGN_OK(const std::size_t nothing, volume->copy_range(entry.node, after.size, entry.node, 0, 10));
  EXPECT_EQ(nothing, 0u);
  volume->forget(entry.node, 1);
  ASSERT_OK(volume->unmount());
}

}  // namespace
}  // namespace outboard::vfs

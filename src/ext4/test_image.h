// For ext4's tests: an image by mkfs.ext4 in a directory of its own, opened as a volume, closed or "crashed", judged by
// e2fsck.
#pragma once

#include "device/file_device.h"
#include "ext4/directory.h"
#include "ext4/inode_alloc.h"
#include "ext4/volume.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"
#include "testing/image_builder.h"

#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

namespace outboard::ext4 {

class TestImage {
public:
  TestImage(std::uint64_t size, const std::vector<std::string> &mkfs_arguments, std::uint32_t block_size = 4096)
      : path_(directory_.file("image")) {
    EXPECT_OK(testing::make_image(path_, size, mkfs_arguments, block_size));
  }
  ~TestImage() { crash(); }

  const std::string &path() const { return path_; }
  std::string file(const std::string &name) const { return directory_.file(name); }

  // False (and a test failure) when the volume does not open. `image`: another one than ours.
  bool open(VolumeOptions options = {}, const std::string &image = "") {
    crash();
    Result<std::unique_ptr<device::FileDevice>> device = device::FileDevice::open(image.empty() ? path_ : image, {});
    EXPECT_OK(device);
    if (!device) return false;
    device_ = *std::move(device);
    std::string refusal;
    Result<std::unique_ptr<Volume>> volume = Volume::open(*device_, options, nullptr, &refusal);
    EXPECT_OK(volume) << refusal;
    if (!volume) return false;
    volume_ = *std::move(volume);
    return true;
  }
  void close() {
    ASSERT_NE(volume_, nullptr);
    EXPECT_OK(volume_->close());
    crash();
  }
  // Whatever has not been committed is lost.
  void crash() {
    volume_.reset();
    device_.reset();
  }
  Volume &volume() { return *volume_; }

  // By path, "/a/b" or "a/b". Ends the program when there is none: no test can go on then.
  Inode find(std::string_view path) {
    Result<Inode> inode = volume_->inodes().load(format::kRootInode);
    while (inode && !path.empty()) {
      const std::size_t slash = path.find('/');
      const std::string_view name = path.substr(0, slash);
      path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
      if (name.empty()) continue;
      const Result<DirectoryMatch> match = Directory::find(*volume_, *inode, name);
      inode = match ? volume_->inodes().load(match->inode) : Result<Inode>(std::unexpected(match.error()));
    }
    EXPECT_OK(inode) << path;
    if (!inode) std::abort();
    return *std::move(inode);
  }

  void expect_clean(const std::string &image = "") const {
    const testing::FsckReport report = testing::fsck(image.empty() ? path_ : image);
    EXPECT_TRUE(report.clean) << report.text;
  }

private:
  testing::TemporaryDirectory directory_;
  std::string path_;
  std::unique_ptr<device::FileDevice> device_;
  std::unique_ptr<Volume> volume_;
};

inline std::vector<std::byte> bytes_of(std::string_view text) {
  const auto *first = reinterpret_cast<const std::byte *>(text.data());
  return {first, first + text.size()};
}
inline std::string text_of(const std::vector<std::byte> &bytes) {
  return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

}  // namespace outboard::ext4

// For vfs's tests: a file system made by mkfs.ext4, in memory, mounted as a MountedVolume; no FUSE. Unmounting is
// judged by e2fsck.
#pragma once

#include "device/memory_device.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"
#include "testing/image_builder.h"
#include "vfs/mounted_volume.h"

#include <chrono>
#include <functional>
#include <gtest/gtest.h>
#include <initializer_list>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace outboard::vfs {

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// What a file of the root holds; "-" when it is not there.
inline std::string contents(MountedVolume &volume, const std::string &name) {
  const Result<Entry> entry = volume.lookup(kRootNode, name);
  if (!entry) return "-";
  std::string text(entry->attributes.size, '\0');
  const auto got = volume.read(entry->node, 0, std::as_writable_bytes(std::span(text)));
  EXPECT_OK(got);
  text.resize(got.value_or(0));
  volume.forget(entry->node, 1);
  return text;
}

// Waits for what another thread does sooner or later. False when a minute was not enough.
inline bool eventually(const std::function<bool()> &condition) {
  for (const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
       std::chrono::steady_clock::now() < end;) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

// Whether a result is one that storms of operations may have: success, or one of these errors. Any other is a failure.
template <class T> bool expected(const Result<T> &result, std::initializer_list<int> codes) {
  if (result) return true;
  for (const int code : codes)
    if (result.error().is(code)) return true;
  ADD_FAILURE() << result.error().message();
  return false;
}

class MountedImage {
public:
  explicit MountedImage(const std::vector<std::string> &mkfs = {}, std::uint64_t megabytes = 16,
                        const MountedVolumeOptions &options = {}, const std::vector<std::string> &tune2fs = {}) {
    const std::string path = directory_.file("image");
    EXPECT_OK(testing::make_image(path, megabytes << 20, mkfs));
    if (!tune2fs.empty()) {
      std::vector<std::string> words = {"tune2fs"};
      words.insert(words.end(), tune2fs.begin(), tune2fs.end());
      words.push_back(path);
      const auto tuned = testing::run_command(words);
      EXPECT_TRUE(tuned && tuned->exit == 0) << (tuned ? tuned->err : tuned.error().message());
    }
    auto memory = device::MemoryDevice::from_file(path);
    EXPECT_OK(memory);
    if (!memory) std::abort();
    device_ = *std::move(memory);
    mount(options);
  }
  ~MountedImage() { crash(); }

  // Ends the program when it does not mount: no test can go on then.
  void mount(const MountedVolumeOptions &options = {}) {
    crash();
    std::string refusal;
    auto mounted = MountedVolume::open(*device_, options, nullptr, &refusal);
    EXPECT_OK(mounted) << refusal;
    if (!mounted) std::abort();
    mounted_ = *std::move(mounted);
  }
  void unmount() {
    ASSERT_NE(mounted_, nullptr);
    EXPECT_OK(mounted_->unmount());
    mounted_.reset();
    const testing::FsckReport report = testing::fsck(*device_);
    EXPECT_TRUE(report.clean) << report.text;
  }
  void crash() { mounted_.reset(); }

  MountedVolume &operator*() { return *mounted_; }
  MountedVolume *operator->() { return mounted_.get(); }
  device::MemoryDevice &device() { return *device_; }

  // New objects count one lookup, as always.
  NodeId file(NodeId parent, std::string_view name, std::uint32_t mode = 0644) {
    return made(mounted_->make_node(parent, name, 0100000 | mode, 0, Caller{}));
  }
  NodeId file(std::string_view name, std::uint32_t mode = 0644) { return file(kRootNode, name, mode); }
  NodeId directory(NodeId parent, std::string_view name) {
    return made(mounted_->make_directory(parent, name, 0755, Caller{}));
  }
  NodeId directory(std::string_view name) { return directory(kRootNode, name); }
  void write(NodeId node, std::string_view text, std::uint64_t offset = 0) {
    const auto put = mounted_->write(node, offset, bytes_of(text), {});
    ASSERT_OK(put);
    EXPECT_EQ(*put, text.size());
  }
  std::string read(NodeId node, std::size_t most = 65536) {
    std::string text(most, '\0');
    const auto got = mounted_->read(node, 0, std::as_writable_bytes(std::span(text)));
    EXPECT_OK(got);
    text.resize(got.value_or(0));
    return text;
  }
  Attributes attributes(NodeId node) {
    const auto found = mounted_->get_attributes(node);
    EXPECT_OK(found);
    return found.value_or(Attributes{});
  }
  // Without a count of its own.
  Result<Entry> peek(NodeId parent, std::string_view name) {
    auto entry = mounted_->lookup(parent, name);
    if (entry) mounted_->forget(entry->node, 1);
    return entry;
  }
  bool gone(NodeId node) {
    const auto found = mounted_->get_attributes(node);
    return !found && found.error().is(ESTALE);
  }

private:
  NodeId made(const Result<Entry> &entry) {
    EXPECT_OK(entry);
    return entry ? entry->node : 0;
  }
  testing::TemporaryDirectory directory_;
  std::unique_ptr<device::MemoryDevice> device_;
  std::unique_ptr<MountedVolume> mounted_;
};

// A reply of a fixed size: what a FUSE READDIR (24 bytes and the name, to the next 8) or READDIRPLUS (128 more) holds.
class ListingSink final : public DirectorySink {
public:
  struct Name {
    std::string name;
    std::uint64_t inode = 0, next = 0;
    bool looked_up = false;
  };
  explicit ListingSink(std::size_t room, bool plus = false) : left_(room), plus_(plus) {}
  std::size_t room() const override { return left_; }
  std::size_t cost(std::string_view name) const override { return (plus_ ? 128 : 0) + 24 + (name.size() + 7) / 8 * 8; }
  bool add(const DirectoryEntry &entry, const Entry *looked_up) override {
    if (cost(entry.name) > left_ || names.size() == refuse_after) return false;
    left_ -= cost(entry.name);
    names.push_back({std::string(entry.name), entry.inode, entry.next, looked_up != nullptr});
    return true;
  }
  std::vector<Name> names;
  std::size_t refuse_after = ~std::size_t{0};  // as a reply whose next name is not good enough for it

private:
  std::size_t left_;
  const bool plus_;
};

}  // namespace outboard::vfs

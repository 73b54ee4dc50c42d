// For tests: a device that knows file data by its contents. A write in which a block begins with a given text is counted,
// held, or failed; journal and metadata pass. So one file's write-back can be stuck while everything else goes on.
#pragma once

#include "base/mutex.h"
#include "device/block_device.h"
#include "testing/waits.h"

#include <cstring>
#include <map>
#include <string>
#include <string_view>

namespace outboard::vfs {

class MarkedDevice final : public device::BlockDevice {
public:
  static constexpr std::size_t kBlock = 1024;  // looked at every so many bytes
  enum class Action : std::uint8_t { pass, hold, fail };

  explicit MarkedDevice(device::BlockDevice &lower) : lower_(lower) {}

  void set(const std::string &text, Action action) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    marks_[text].action = action;
    changed_.notify_all();
  }
  // Writes with this text so far, held and failed ones included.
  std::uint64_t writes(const std::string &text) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return marks_[text].writes;
  }

  const device::Properties &properties() const override { return lower_.properties(); }
  Status read(std::uint64_t offset, std::span<std::byte> data) override { return lower_.read(offset, data); }
  Status write(std::uint64_t offset, std::span<const std::byte> data) override {
    TRY(admit(data));
    return lower_.write(offset, data);
  }
  Status write_gather(std::uint64_t offset, std::span<const iovec> pieces) override {
    for (const iovec &piece : pieces) TRY(admit({static_cast<const std::byte *>(piece.iov_base), piece.iov_len}));
    return lower_.write_gather(offset, pieces);
  }
  Status flush() override { return lower_.flush(); }
  Status discard(std::uint64_t offset, std::uint64_t length) override { return lower_.discard(offset, length); }
  Status zero(std::uint64_t offset, std::uint64_t length) override { return lower_.zero(offset, length); }

private:
  struct Mark {
    Action action = Action::pass;
    std::uint64_t writes = 0;
  };
  static bool holds(std::span<const std::byte> data, std::string_view text) {
    for (std::size_t at = 0; at + text.size() <= data.size(); at += kBlock)
      if (std::memcmp(data.data() + at, text.data(), text.size()) == 0) return true;
    return false;
  }
  Status admit(std::span<const std::byte> data) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    for (auto &[text, mark] : marks_) {
      if (!holds(data, text)) continue;
      ++mark.writes;
      while (mark.action == Action::hold) changed_.wait(mutex_, testing::kTestLetsGo);  // stuck until the test says otherwise
      if (mark.action == Action::fail) return fail(Error::system(EIO, "marked device: told to fail"));
    }
    return {};
  }

  device::BlockDevice &lower_;
  Mutex mutex_{Rank::device};
  CondVar changed_;
  std::map<std::string, Mark> marks_ GUARDED_BY(mutex_);
};

}  // namespace outboard::vfs

#include "device/loop.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <memory>
#include <optional>
#include <sys/ioctl.h>

namespace outboard::device {

namespace {

constexpr int kAttempts = 16;  // others may take the free device that we were told of

struct CloseDirectory {
  void operator()(DIR *directory) const { ::closedir(directory); }
};

// The first line of a small file, or nothing.
std::optional<std::string> first_line(const std::string &path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::string text(4096 + 64, '\0');
  const ssize_t got = ::read(fd.get(), text.data(), text.size());
  if (got < 0) return std::nullopt;
  text.resize(static_cast<std::size_t>(got));
  return text.substr(0, text.find('\n'));
}

template <class T> std::optional<T> parse(std::string_view text) {
  T value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<LoopInfo> ask_device(unsigned number, const struct stat &file, bool &answered) {
  const UniqueFd fd(::open(("/dev/loop" + std::to_string(number)).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  loop_info64 info{};
  if (!fd || ::ioctl(fd.get(), LOOP_GET_STATUS64, &info) != 0) return std::nullopt;
  answered = true;
  if (info.lo_device != file.st_dev || info.lo_inode != file.st_ino) return std::nullopt;
  return LoopInfo{number, info.lo_offset, info.lo_sizelimit, (info.lo_flags & LO_FLAGS_READ_ONLY) != 0};
}

std::optional<LoopInfo> ask_sysfs(unsigned number, const struct stat &file) {
  const std::string folder = "/sys/block/loop" + std::to_string(number);
  const auto path = first_line(folder + "/loop/backing_file");
  struct stat backing {};
  if (!path || ::stat(path->c_str(), &backing) != 0) return std::nullopt;
  if (backing.st_dev != file.st_dev || backing.st_ino != file.st_ino) return std::nullopt;
  const auto value = [&](const char *name) {
    return parse<std::uint64_t>(first_line(folder + name).value_or("")).value_or(0);
  };
  return LoopInfo{number, value("/loop/offset"), value("/loop/sizelimit"), value("/ro") != 0};
}

}  // namespace

std::vector<LoopInfo> loops_over(const struct stat &file) {
  std::vector<LoopInfo> found;
  const std::unique_ptr<DIR, CloseDirectory> directory(::opendir("/sys/block"));
  if (!directory) return found;
  while (const dirent *entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with("loop")) continue;
    const auto number = parse<unsigned>(name.substr(4));
    // Only an attached one has this folder.
    if (!number || ::access(("/sys/block/" + std::string(name) + "/loop").c_str(), F_OK) != 0) continue;
    bool answered = false;
    auto info = ask_device(*number, file, answered);
    if (!answered) info = ask_sysfs(*number, file);
    if (info) found.push_back(*info);
  }
  std::ranges::sort(found, {}, &LoopInfo::number);
  return found;
}

Result<LoopDevice> LoopDevice::attach(int backing, const LoopOptions &options) {
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) return fail(Error::system(errno, "loop: open /dev/loop-control"));
  loop_config config{};
  config.fd = static_cast<std::uint32_t>(backing);
  config.info.lo_offset = options.offset;
  config.info.lo_sizelimit = options.size_limit;
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (options.read_only ? LO_FLAGS_READ_ONLY : 0);
  const std::size_t shown = std::min<std::size_t>(options.shown_path.size(), LO_NAME_SIZE - 1);
  std::memcpy(config.info.lo_file_name, options.shown_path.data(), shown);

  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return fail(Error::system(errno, "loop: no free loop device"));
    const std::string path = "/dev/loop" + std::to_string(number);
    UniqueFd fd(::open(path.c_str(), (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    if (!fd) return fail(Error::system(errno, "loop: open the free loop device"));
    if (::ioctl(fd.get(), LOOP_CONFIGURE, &config) == 0)
      return LoopDevice(std::move(fd), static_cast<unsigned>(number));
    if (errno != EBUSY) return fail(Error::system(errno, "loop: attach"));
  }
  return fail(Error::system(EBUSY, "loop: attach"));
}

}  // namespace outboard::device

// The kernel's pressure stall information as a PressureSource: a trigger is written to the file, poll(2) reports it.
#include "base/memory_pressure.h"

#include <cerrno>
#include <cstdint>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <poll.h>
#include <string_view>
#include <sys/eventfd.h>

namespace outboard {
namespace {

class PolledPressure final : public PressureSource {
public:
  PolledPressure(UniqueFd pressure, UniqueFd interrupted)
      : pressure_(std::move(pressure)), interrupted_(std::move(interrupted)) {}

  Event wait(std::optional<std::chrono::milliseconds> timeout) override {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point deadline = Clock::now() + timeout.value_or(std::chrono::milliseconds(0));
    while (true) {
      int left = -1;
      if (timeout) {
        const auto rest = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        if (rest <= 0) return Event::timeout;
        left = static_cast<int>(std::min<std::int64_t>(rest, INT32_MAX));
      }
      // poll(2) passes over a descriptor that is -1.
      pollfd fds[] = {{interrupted_.get(), POLLIN, 0}, {pressure_.get(), POLLPRI, 0}};
      const int ready = ::poll(fds, 2, left);
      if (ready < 0 && errno != EINTR) pressure_.reset();
      if (ready <= 0) continue;
      if (fds[0].revents != 0) return Event::interrupted;
      // POLLERR: the control group is gone, and its pressure with it.
      if ((fds[1].revents & (POLLERR | POLLNVAL)) != 0) pressure_.reset();
      else if ((fds[1].revents & POLLPRI) != 0) return Event::pressure;
    }
  }

  void interrupt() override {
    const std::uint64_t one = 1;
    // Fails only when the counter is full, and then it is set already.
    [[maybe_unused]] const ssize_t written = ::write(interrupted_.get(), &one, sizeof one);
  }

private:
  UniqueFd pressure_;     // -1: none
  UniqueFd interrupted_;  // readable for good once somebody called interrupt()
};

Result<std::unique_ptr<PressureSource>> make_source(UniqueFd pressure) {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail(Error::system(errno, "eventfd"));
  return std::make_unique<PolledPressure>(std::move(pressure), std::move(event));
}

// Of the unified hierarchy: the line "0::/path" of /proc/self/cgroup. Empty: there is none.
std::string own_control_group() {
  std::ifstream lines("/proc/self/cgroup");
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("0::/")) return line.substr(3);
  return {};
}

}  // namespace

Result<std::unique_ptr<PressureSource>> open_pressure_file(const std::string &path, const PressureTrigger &trigger) {
  UniqueFd file(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!file) return fail(Error::system(errno, "open a file of pressure stall information"));
  const std::string line = fmt::format("some {} {}", trigger.stall.count(), trigger.window.count());
  // With its terminating zero, as the kernel's documentation has it.
  if (::write(file.get(), line.c_str(), line.size() + 1) < 0)
    return fail(Error::system(errno, "set a trigger for memory pressure"));
  return make_source(std::move(file));
}

Result<std::unique_ptr<PressureSource>> open_pressure_source(const PressureTrigger &trigger) {
  if (const std::string group = own_control_group(); !group.empty())
    for (const char *root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"})
      if (auto source = open_pressure_file(root + group + "/memory.pressure", trigger)) return source;
  return open_pressure_file("/proc/pressure/memory", trigger);
}

Result<std::unique_ptr<PressureSource>> no_pressure_source() { return make_source(UniqueFd()); }

}  // namespace outboard

// What a deadline costs: requests of one thread to a file or device that is asked plainly (off) and with a deadline (on: by a ring,
// where the host allows that; "helpers": by helper threads all the same). Over a file on disk, buffered and direct, over a file on tmpfs, and (as root)
// over a loop device upon tmpfs. The disk's files lie in $TMPDIR or /var/tmp.
#include "device/deadline_device.h"
#include "device/file_device.h"
#include "device/loop.h"
#include "micro/ratio.h"

#include <cstdlib>
#include <fcntl.h>
#include <random>

namespace outboard::bench {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kFileBytes = std::uint64_t{64} << 20;

struct Host {
  std::string name, path;
  bool direct = true;
};

enum class Way : std::uint8_t { plain, deadline, helpers };

Result<std::unique_ptr<device::BlockDevice>> open(const Host &host, Way way) {
  device::OpenOptions options;
  options.claim = false;
  options.direct_io = host.direct;
  const auto health = std::make_shared<device::DeviceHealth>(30s, 1s);
  if (way == Way::deadline) options.health = health;
  std::unique_ptr<device::FileDevice> file = TRY(device::FileDevice::open(host.path, options));
  // As a mount does it.
  if (way == Way::plain || (way == Way::deadline && file->in_memory())) return file;
  return std::make_unique<device::DeadlineDevice>(std::move(file), device::DeadlineOptions{}, health);
}

struct Free {
  void operator()(std::byte *memory) const { std::free(memory); }
};

enum class Op : std::uint8_t { read, write, write_and_flush };

void requests(benchmark::State &state, const Host &host, Way way, Op op, std::size_t bytes) {
  const auto opened = open(host, way);
  if (!opened) return state.SkipWithError("cannot open");
  device::BlockDevice &device = **opened;
  const std::unique_ptr<std::byte, Free> memory(static_cast<std::byte *>(std::aligned_alloc(4096, bytes)));
  const std::span<std::byte> data(memory.get(), bytes);
  std::ranges::fill(data, std::byte{0x5A});
  std::minstd_rand random(1);
  for (auto _ : state) {
    const std::uint64_t offset = random() % (kFileBytes / bytes) * bytes;
    Status done = op == Op::read ? device.read(offset, data) : device.write(offset, data);
    if (done && op == Op::write_and_flush) done = device.flush();
    if (!done) return state.SkipWithError("a request failed");
  }
  state.SetItemsProcessed(state.iterations());
}

void add(const Host &host) {
  struct Kind {
    const char *name;
    Op op;
    std::size_t bytes;
  };
  for (const Kind &kind : {Kind{"read 4k", Op::read, 4096}, Kind{"read 128k", Op::read, 131072}, Kind{"write 4k", Op::write, 4096},
                           Kind{"write 128k", Op::write, 131072}, Kind{"write 4k and flush", Op::write_and_flush, 4096}}) {
    const auto one = [&](const std::string &name, Way way) {
      benchmark::RegisterBenchmark(name.c_str(), [host, way, kind](benchmark::State &state) { requests(state, host, way, kind.op, kind.bytes); })
          ->UseRealTime();
    };
    const std::string name = fmt::format("{}, {}", host.name, kind.name);
    one(name + "/off", Way::plain);
    one(name + "/on", Way::deadline);
    one(name + ", helpers/off", Way::plain);
    one(name + ", helpers/on", Way::helpers);
  }
}

// A file without a name, written once from end to end.
UniqueFd file_in(const char *directory) {
  UniqueFd file(::open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  const std::vector<std::byte> bytes(1 << 20, std::byte{0x5A});
  for (std::uint64_t at = 0; file && at < kFileBytes; at += bytes.size())
    if (::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)) != static_cast<ssize_t>(bytes.size())) file.reset();
  if (!file || ::fsync(file.get()) != 0) fmt::print(stderr, "no file in {}\n", directory);
  return file;
}

std::string path_of(const UniqueFd &file) { return fmt::format("/proc/self/fd/{}", file.get()); }

}  // namespace
}  // namespace outboard::bench

int main(int argc, char **argv) {
  using namespace outboard;
  using namespace outboard::bench;
  const char *directory = std::getenv("TMPDIR");
  const UniqueFd on_disk = file_in(directory != nullptr ? directory : "/var/tmp");
  const UniqueFd on_tmpfs = file_in("/dev/shm"), under_loop = file_in("/dev/shm");
  std::optional<device::LoopDevice> loop;
  if (on_disk) {
    add({"disk buffered", path_of(on_disk), false});
    add({"disk direct", path_of(on_disk), true});
  }
  if (on_tmpfs) add({"tmpfs", path_of(on_tmpfs), true});
  if (under_loop) {
    if (Result<device::LoopDevice> made = device::LoopDevice::attach(under_loop.get(), {})) {
      loop = std::move(*made);
      add({"loop", loop->path(), true});
    } else fmt::print(stderr, "no loop device: {}\n", made.error().message());
  }
  return run_with_ratios(argc, argv);
}

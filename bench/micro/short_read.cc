// The short path on and off: random 4 KiB reads of one file, by 1, 32 and 256 threads at once, each as vfs does it (the
// inode's lock held shared). Off: the ordinary path, with the mapping cache. Over memory, over a file on tmpfs, and
// over a device that does nothing, which leaves the path itself.
#include "device/file_device.h"
#include "device/memory_device.h"
#include "iomap/buffered.h"
#include "iomap/cached_source.h"
#include "iomap/short_read.h"
#include "micro/extent_list.h"
#include "micro/ratio.h"

#include <cstdlib>
#include <fcntl.h>
#include <random>

namespace outboard::bench {
namespace {

constexpr std::uint64_t kExtents = 64, kExtentBytes = std::uint64_t{1} << 20, kFileBytes = kExtents * kExtentBytes;
constexpr std::size_t kReadBytes = 4096;

struct File {
  explicit File(device::BlockDevice &below) : device(below) {
    cache.set_size(kFileBytes);
    iomap::CachedSource source(extents, mapping_cache, mappings, extents.sequence);
    for (std::uint64_t at = 0; at < kFileBytes; at += kExtentBytes) {  // the cache learns them
      const ByteRange range{at, kReadBytes};
      const auto mapping = source.begin(range, iomap::Operation::read);
      if (!mapping || !source.end(range, 0, iomap::Operation::read, *mapping)) std::abort();
    }
  }
  device::BlockDevice &device;
  ExtentList extents{kExtents, kExtentBytes};
  iomap::MappingCache mapping_cache;
  iomap::InodeMappings mappings;
  pagecache::FolioMemory memory;
  pagecache::FileCache cache{memory, 4096};
  SharedMutex lock{Rank::inode};
};

// Reads of it cost nothing and give nothing.
class NoDevice final : public device::BlockDevice {
public:
  const device::Properties &properties() const override { return properties_; }
  Status read(std::uint64_t, std::span<std::byte>) override { return {}; }
  Status write(std::uint64_t, std::span<const std::byte>) override { return {}; }
  Status flush() override { return {}; }
  Status discard(std::uint64_t, std::uint64_t) override { return {}; }

private:
  const device::Properties properties_{.size = kFileBytes};
};

struct alignas(4096) Page {
  std::byte bytes[kReadBytes];
};

void read_at_random(benchmark::State &state, File &file, bool on) {
  const auto page = std::make_unique<Page>();
  std::minstd_rand random(static_cast<unsigned>(state.thread_index() + 1));
  for (auto _ : state) {
    const std::uint64_t offset = random() % (kFileBytes / kReadBytes) * kReadBytes;
    ReadLock lock(file.lock);
    if (on) {
      const auto got = iomap::short_read(file.mapping_cache, {file.mappings, file.extents.sequence, file.cache},
                                         file.device, offset, page->bytes);
      if (!got || got->value_or(0) != kReadBytes) return state.SkipWithError("not short");
    } else {
      iomap::CachedSource source(file.extents, file.mapping_cache, file.mappings, file.extents.sequence);
      const auto got = iomap::buffered::read(source, file.cache, file.device, offset, page->bytes);
      if (got.value_or(0) != kReadBytes) return state.SkipWithError("short count");
    }
    benchmark::DoNotOptimize(page->bytes[0]);
  }
  state.SetItemsProcessed(state.iterations());
}

void add(const char *name, File &file) {
  for (const bool on : {false, true})
    for (const int threads : {1, 32, 256})
      benchmark::RegisterBenchmark(fmt::format("{}/{}", name, on ? "on" : "off").c_str(),
                                   [&file, on](benchmark::State &state) { read_at_random(state, file, on); })
          ->Threads(threads)
          ->UseRealTime();
}

Status fill(device::BlockDevice &device) {
  const std::vector<std::byte> bytes(kExtentBytes, std::byte{0x5A});
  for (std::uint64_t at = 0; at < kFileBytes; at += bytes.size()) TRY(device.write(at, bytes));
  return {};
}

// A file without a name on tmpfs.
Result<std::unique_ptr<device::FileDevice>> file_on_tmpfs() {
  UniqueFd file(::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(kFileBytes)) != 0)
    return fail(Error::system(errno, "file on tmpfs"));
  return device::FileDevice::adopt(std::move(file), {});
}

}  // namespace
}  // namespace outboard::bench

int main(int argc, char **argv) {
  using namespace outboard;
  device::MemoryDevice memory(bench::kFileBytes, 4096);
  auto tmpfs = bench::file_on_tmpfs();
  if (!tmpfs || !bench::fill(memory) || !bench::fill(**tmpfs)) {
    fmt::print(stderr, "cannot set up: {}\n", tmpfs ? "a device refused writes" : tmpfs.error().message());
    return 1;
  }
  bench::NoDevice none;
  bench::File nowhere(none), in_memory(memory), on_tmpfs(**tmpfs);
  bench::add("no device", nowhere);
  bench::add("memory", in_memory);
  bench::add(tmpfs->get()->direct() ? "tmpfs, direct" : "tmpfs", on_tmpfs);
  return bench::run_with_ratios(argc, argv);
}

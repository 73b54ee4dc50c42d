#include "end_of_file/grown_file.h"

#include "base/units.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

namespace outboard::tests {

namespace {
constexpr std::uint64_t kPage = 4096;

Status checked(bool done, const char *what) {
  if (!done) return fail(Error::user(errno, what));
  return {};
}

Status write_mapped(int fd, std::uint64_t offset, const std::string &data) {
  const std::uint64_t start = round_down(offset, kPage);
  const std::size_t length = static_cast<std::size_t>(offset - start) + data.size();
  void *memory = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(start));
  TRY(checked(memory != MAP_FAILED, "mmap"));
  std::memcpy(static_cast<char *>(memory) + (offset - start), data.data(), data.size());
  return checked(::munmap(memory, length) == 0, "munmap");
}
}  // namespace

std::string GrownFile::name() const {
  constexpr const char *kGrowths[] = {"write", "truncate", "allocate", "map"};
  return fmt::format("{}_{}_{}_gap_{}", kGrowths[static_cast<int>(growth)], stale ? "stale" : "clean", old_size, gap);
}

std::string GrownFile::new_contents() const {
  const bool written = growth == Growth::write_behind_the_end || growth == Growth::map_and_write;
  return old_contents() + std::string(gap, '\0') + std::string(kNew, written ? 'n' : '\0');
}

Status GrownFile::grow(int fd) const {
  const std::string data(kNew, 'n');
  const std::uint64_t at = old_size + gap;
  switch (growth) {
  case Growth::write_behind_the_end:
    return checked(::pwrite(fd, data.data(), data.size(), static_cast<off_t>(at)) == static_cast<ssize_t>(data.size()),
                   "pwrite");
  case Growth::truncate: return checked(::ftruncate(fd, static_cast<off_t>(at + kNew)) == 0, "ftruncate");
  case Growth::allocate:
    return checked(::fallocate(fd, 0, static_cast<off_t>(at), static_cast<off_t>(kNew)) == 0, "fallocate");
  case Growth::map_and_write:
    TRY(checked(::ftruncate(fd, static_cast<off_t>(at + kNew)) == 0, "ftruncate"));
    return write_mapped(fd, at, data);
  }
  return {};
}

std::vector<GrownFile> grown_files(std::uint32_t block_size) {
  std::vector<GrownFile> files;
  for (const Growth growth : {Growth::write_behind_the_end, Growth::truncate, Growth::allocate, Growth::map_and_write})
    for (const bool stale : {false, true})
      for (const std::uint64_t old_size :
           {std::uint64_t{100}, std::uint64_t{block_size} + 1, std::uint64_t{block_size} * 3 - 1, kPage * 2 + 777})
        for (const std::uint64_t gap : {std::uint64_t{10}, std::uint64_t{block_size}, (std::uint64_t{1} << 20) + 37})
          files.push_back({growth, stale, old_size, gap});
  return files;
}

std::string first_difference(const std::string &expected, const std::string &found) {
  const std::size_t both = std::min(expected.size(), found.size());
  for (std::size_t i = 0; i < both; ++i)
    if (expected[i] != found[i])
      return fmt::format("byte {} of {} is {:#04x}, expected {:#04x}", i, expected.size(),
                         static_cast<unsigned char>(found[i]), static_cast<unsigned char>(expected[i]));
  return expected.size() == found.size() ? "" : fmt::format("{} bytes, expected {}", found.size(), expected.size());
}

}  // namespace outboard::tests

#include "compare/load.h"

#include "base/unique_fd.h"

#include <algorithm>
#include <chrono>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <memory>
#include <random>
#include <thread>
#include <unistd.h>

namespace outboard::bench {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kLarge = 1 << 20, kSmall = 4096;
constexpr unsigned kDepth = 32;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

UniqueFd open_or_give_up(const std::string &path, int flags) {
  UniqueFd file(::open(path.c_str(), flags | O_CLOEXEC, 0644));
  if (!file) give_up(fmt::format("{}: {}", path, std::strerror(errno)));
  return file;
}

std::string large_file(const std::string &directory) { return directory + "/large"; }

// Aligned for direct I/O, touched, not zero.
struct Memory {
  explicit Memory(std::size_t bytes) : bytes_(static_cast<char *>(std::aligned_alloc(4096, bytes)), &std::free) {
    for (std::size_t i = 0; i < bytes; ++i) bytes_.get()[i] = static_cast<char>(i * 31 + (i >> 12));
  }
  char *get() const { return bytes_.get(); }
  std::unique_ptr<char, decltype(&std::free)> bytes_;
};

Done move_all(const std::string &directory, const Size &size, int flags, bool writes, bool syncs) {
  const Memory memory(kLarge);
  const auto begin = Clock::now();
  const UniqueFd file = open_or_give_up(large_file(directory), flags | (writes ? O_RDWR : O_RDONLY));
  for (std::uint64_t at = 0; at < size.file; at += kLarge) {
    const ssize_t moved = writes ? ::pwrite(file.get(), memory.get(), kLarge, static_cast<off_t>(at))
                                 : ::pread(file.get(), memory.get(), kLarge, static_cast<off_t>(at));
    if (moved != static_cast<ssize_t>(kLarge)) give_up(fmt::format("large file at {}: {}", at, moved < 0 ? std::strerror(errno) : "short"));
  }
  if (syncs && ::fsync(file.get()) != 0) give_up(std::string("fsync: ") + std::strerror(errno));
  return {static_cast<double>(size.file) / kLarge, since(begin)};
}

// One request after the other, at random places of the large file.
Done move_some(const std::string &directory, const Size &size, int flags, bool writes) {
  const Memory memory(kSmall);
  const UniqueFd file = open_or_give_up(large_file(directory), flags | (writes ? O_RDWR : O_RDONLY));
  std::mt19937_64 random(1);
  const auto begin = Clock::now();
  for (unsigned i = 0; i < size.random; ++i) {
    const auto at = static_cast<off_t>(random() % (size.file / kSmall) * kSmall);
    const ssize_t moved = writes ? ::pwrite(file.get(), memory.get(), kSmall, at) : ::pread(file.get(), memory.get(), kSmall, at);
    if (moved != static_cast<ssize_t>(kSmall)) give_up(std::string("random request: ") + std::strerror(errno));
  }
  if (writes && (flags & O_DIRECT) == 0 && ::fsync(file.get()) != 0) give_up(std::string("fsync: ") + std::strerror(errno));
  return {static_cast<double>(size.random), since(begin)};
}

void keep_in_flight(const std::string &directory, const Size &size, bool writes, unsigned seed) {
  const Memory memory(kSmall * kDepth);
  const UniqueFd file = open_or_give_up(large_file(directory), O_DIRECT | (writes ? O_RDWR : O_RDONLY));
  std::mt19937_64 random(seed);
  io_uring ring;
  if (int error = ::io_uring_queue_init(kDepth, &ring, 0); error != 0) give_up(std::string("io_uring: ") + std::strerror(-error));
  const auto submit = [&](unsigned place) {
    io_uring_sqe *entry = ::io_uring_get_sqe(&ring);
    const std::uint64_t at = random() % (size.file / kSmall) * kSmall;
    if (writes) ::io_uring_prep_write(entry, file.get(), memory.get() + place * kSmall, kSmall, at);
    else ::io_uring_prep_read(entry, file.get(), memory.get() + place * kSmall, kSmall, at);
    ::io_uring_sqe_set_data64(entry, place);
  };
  unsigned started = 0, ended = 0;
  for (; started < std::min(kDepth, size.random); ++started) submit(started);
  while (ended < size.random) {
    if (int error = ::io_uring_submit_and_wait(&ring, 1); error < 0 && error != -EINTR) give_up(std::string("io_uring: ") + std::strerror(-error));
    io_uring_cqe *completion = nullptr;
    while (::io_uring_peek_cqe(&ring, &completion) == 0) {
      if (completion->res != static_cast<int>(kSmall)) give_up(fmt::format("random request: {}", completion->res));
      const auto place = static_cast<unsigned>(completion->user_data);
      ::io_uring_cqe_seen(&ring, completion);
      ++ended;
      if (started < size.random) {
        submit(place);
        ++started;
      }
    }
  }
  ::io_uring_queue_exit(&ring);
}

Done many_in_flight(const std::string &directory, const Size &size, bool writes, unsigned threads) {
  const auto begin = Clock::now();
  {
    std::vector<std::jthread> running;
    for (unsigned i = 0; i < threads; ++i) running.emplace_back([&, i] { keep_in_flight(directory, size, writes, i + 1); });
  }
  return {static_cast<double>(size.random) * threads, since(begin)};
}

Done append_and_sync(const std::string &directory, const Size &size) {
  const Memory memory(kSmall);
  const UniqueFd file = open_or_give_up(directory + "/appended", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND);
  const auto begin = Clock::now();
  for (unsigned i = 0; i < size.syncs; ++i)
    if (::write(file.get(), memory.get(), kSmall) != static_cast<ssize_t>(kSmall) || ::fsync(file.get()) != 0)
      give_up(std::string("append: ") + std::strerror(errno));
  return {static_cast<double>(size.syncs), since(begin)};
}

}  // namespace

const std::vector<Load> &data_loads() {
  static const std::vector<Load> loads = {
      {"sequential_write", "MiB", [](const auto &d, const auto &s) { return move_all(d, s, O_CREAT, true, true); }},
      {"overwrite", "MiB", [](const auto &d, const auto &s) { return move_all(d, s, 0, true, true); }},
      {"sequential_read", "MiB", [](const auto &d, const auto &s) { return move_all(d, s, 0, false, false); }},
      {"direct_read", "MiB", [](const auto &d, const auto &s) { return move_all(d, s, O_DIRECT, false, false); }},
      {"direct_write", "MiB", [](const auto &d, const auto &s) { return move_all(d, s, O_DIRECT, true, false); }},
      {"random_read", "operations", [](const auto &d, const auto &s) { return move_some(d, s, 0, false); }},
      {"random_overwrite", "operations", [](const auto &d, const auto &s) { return move_some(d, s, 0, true); }},
      {"random_direct_read", "operations", [](const auto &d, const auto &s) { return move_some(d, s, O_DIRECT, false); }},
      {"random_direct_write", "operations", [](const auto &d, const auto &s) { return move_some(d, s, O_DIRECT, true); }},
      {"random_direct_read_32", "operations", [](const auto &d, const auto &s) { return many_in_flight(d, s, false, 1); }},
      {"random_direct_write_32", "operations", [](const auto &d, const auto &s) { return many_in_flight(d, s, true, 1); }},
      {"random_direct_read_32x2", "operations", [](const auto &d, const auto &s) { return many_in_flight(d, s, false, 2); }},
      {"random_direct_write_32x2", "operations", [](const auto &d, const auto &s) { return many_in_flight(d, s, true, 2); }},
      {"append_fsync", "operations", append_and_sync},
  };
  return loads;
}

}  // namespace outboard::bench

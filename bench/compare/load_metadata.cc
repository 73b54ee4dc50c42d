#include "compare/load.h"

#include "base/unique_fd.h"

#include <chrono>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <memory>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace outboard::bench {

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::string directory_name(const std::string &root, const char *set, unsigned number) { return fmt::format("{}/{}{}", root, set, number); }
std::string file_name(const std::string &directory, unsigned number) { return fmt::format("{}/file{}", directory, number); }

void check(bool well, const std::string &path) {
  if (!well) give_up(fmt::format("{}: {}", path, std::strerror(errno)));
}

// Every file of the set.
template <class Act> void each(const std::string &root, const char *set, const Size &size, unsigned first, unsigned step, const Act &act) {
  for (unsigned d = first; d < size.directories; d += step) {
    const std::string directory = directory_name(root, set, d);
    for (unsigned f = 0; f < size.files; ++f) act(file_name(directory, f));
  }
}

double count(const Size &size) { return double{1} * size.directories * size.files; }

template <class Act> Done timed(const std::string &root, const char *set, const Size &size, const Act &act) {
  const auto begin = Clock::now();
  each(root, set, size, 0, 1, act);
  return {count(size), since(begin)};
}

void make_directories(const std::string &root, const char *set, const Size &size) {
  for (unsigned d = 0; d < size.directories; ++d) {
    const std::string path = directory_name(root, set, d);
    check(::mkdir(path.c_str(), 0755) == 0, path);
  }
}

// 4 KiB in each.
void create(const std::string &path) {
  static const std::string text(4096, 't');
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  check(file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()), path);
}

Done create_all(const std::string &root, const Size &size) {
  make_directories(root, "d", size);
  return timed(root, "d", size, create);
}

Done create_by_two(const std::string &root, const Size &size) {
  make_directories(root, "e", size);
  const auto begin = Clock::now();
  {
    std::jthread odd([&] { each(root, "e", size, 1, 2, create); });
    each(root, "e", size, 0, 2, create);
  }
  return {count(size), since(begin)};
}

Done stat_all(const std::string &root, const Size &size) {
  return timed(root, "d", size, [](const std::string &path) {
    struct stat status;
    check(::stat(path.c_str(), &status) == 0, path);
  });
}

Done list_all(const std::string &root, const Size &size) {
  const auto begin = Clock::now();
  double names = 0;
  for (unsigned d = 0; d < size.directories; ++d) {
    const std::string path = directory_name(root, "d", d);
    const std::unique_ptr<DIR, int (*)(DIR *)> open(::opendir(path.c_str()), &::closedir);
    check(open != nullptr, path);
    while (::readdir(open.get()) != nullptr) ++names;
  }
  return {names, since(begin)};
}

Done read_all(const std::string &root, const Size &size) {
  return timed(root, "d", size, [](const std::string &path) {
    char text[4096];
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    check(file && ::read(file.get(), text, sizeof text) == static_cast<ssize_t>(sizeof text), path);
  });
}

Done rename_all(const std::string &root, const Size &size) {
  return timed(root, "d", size, [](const std::string &path) { check(::rename(path.c_str(), (path + "-renamed").c_str()) == 0, path); });
}

Done unlink_all(const std::string &root, const Size &size) {
  return timed(root, "d", size, [](const std::string &path) { check(::unlink((path + "-renamed").c_str()) == 0, path); });
}

}  // namespace

const std::vector<Load> &metadata_loads() {
  static const std::vector<Load> loads = {
      {"create", "operations", create_all}, {"create_2_threads", "operations", create_by_two}, {"stat", "operations", stat_all},
      {"list", "operations", list_all},     {"small_read", "operations", read_all},            {"rename", "operations", rename_all},
      {"unlink", "operations", unlink_all},
  };
  return loads;
}

}  // namespace outboard::bench

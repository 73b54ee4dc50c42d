#include "testing/image_builder.h"

#include "base/log.h"
#include "base/unique_fd.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace outboard::testing {

TemporaryDirectory::TemporaryDirectory() {
  const char *parent = std::getenv("TMPDIR");
  path_ = std::string(parent != nullptr && *parent != '\0' ? parent : "/tmp") + "/outboard-test-XXXXXX";
  if (::mkdtemp(path_.data()) == nullptr) {
    std::perror("mkdtemp");
    std::abort();
  }
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Status write_file(const std::string &path, std::string_view contents) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) return fail(Error::system(errno, "test file: create"));
  while (!contents.empty()) {
    const ssize_t put = ::write(fd.get(), contents.data(), contents.size());
    if (put < 0) return fail(Error::system(errno, "test file: write"));
    contents.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Result<std::string> read_file(const std::string &path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(Error::system(errno, "test file: open"));
  std::string contents;
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0) return fail(Error::system(errno, "test file: read"));
    if (got == 0) return contents;
    contents.append(buffer, static_cast<std::size_t>(got));
  }
}

Status make_image(const std::string &path, std::uint64_t size, const std::vector<std::string> &arguments,
                  std::uint32_t block_size) {
  {
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd) return fail(Error::system(errno, "image: create"));
    if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return fail(Error::system(errno, "image: set size"));
  }
  std::vector<std::string> argv = {"mkfs.ext4", "-q", "-F"};
  if (block_size != 0) {
    argv.push_back("-b");
    argv.push_back(std::to_string(block_size));
  }
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  argv.push_back(path);
  const CommandResult made = TRY(run_command(argv));
  if (made.exit != 0) {
    log(LogLevel::error, "mkfs.ext4 failed ({}): {}{}", made.exit, made.out, made.err);
    return fail(Error::system(EINVAL, "image: mkfs.ext4 failed"));
  }
  return {};
}

Result<std::string> debugfs_write(const std::string &image, const std::vector<std::string> &requests) {
  const TemporaryDirectory directory;
  std::string script;
  for (const std::string &request : requests) script += request + "\n";
  TRY(write_file(directory.file("script"), script));
  CommandResult done = TRY(run_command({"debugfs", "-w", "-f", directory.file("script"), image}));
  // The first line is the program's version.
  const std::size_t first_line = done.err.find('\n');
  const bool quiet = first_line == std::string::npos || first_line + 1 == done.err.size();
  if (done.exit != 0 || !quiet) {
    log(LogLevel::error, "debugfs failed ({}): {}{}", done.exit, done.out, done.err);
    return fail(Error::system(EINVAL, "image: debugfs complained"));
  }
  return std::move(done.out);
}

}  // namespace outboard::testing

#include "testing/fsck_oracle.h"

#include "base/checksum.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "device/host_file.h"
#include "testing/image_builder.h"

#include <algorithm>
#include <charconv>
#include <fcntl.h>
#include <map>
#include <set>
#include <sstream>
#include <unistd.h>
#include <vector>

namespace outboard::testing {

namespace {

struct DumpedFile {
  std::string path;
  std::uint32_t inode = 0;
  std::string mode;  // octal with the type, as debugfs prints it
  std::string user, group, size;
};

template <class T> T number(std::string_view text) {
  T value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// One line of `ls -p`: /inode/mode/uid/gid/name/size/ (no size for a directory).
bool parse_listing(std::string_view line, DumpedFile &file, std::string &name) {
  std::vector<std::string> fields;
  std::size_t at = 1;
  if (line.empty() || line.front() != '/') return false;
  while (at < line.size()) {
    const std::size_t end = line.find('/', at);
    if (end == std::string_view::npos) return false;
    fields.emplace_back(line.substr(at, end - at));
    at = end + 1;
  }
  if (fields.size() != 6) return false;
  file.inode = number<std::uint32_t>(fields[0]);
  file.mode = fields[1];
  file.user = fields[2];
  file.group = fields[3];
  name = fields[4];
  file.size = fields[5];
  return file.inode != 0;
}

// Runs requests in one debugfs and cuts its output at the echo of each request.
Result<std::vector<std::string>> debugfs_batch(const std::string &image, const std::vector<std::string> &requests) {
  const TemporaryDirectory directory;
  std::string script;
  for (const std::string &request : requests) script += request + "\n";
  TRY(write_file(directory.file("script"), script));
  const CommandResult done = TRY(run_command({"debugfs", "-f", directory.file("script"), image}));
  if (done.exit != 0) {
    log(LogLevel::error, "debugfs failed ({}): {}", done.exit, done.err);
    return fail(Error::system(EINVAL, "debugfs: failed"));
  }
  std::vector<std::string> answers;
  std::size_t at = 0;
  for (const std::string &request : requests) {
    const std::string echo = "debugfs: " + request + "\n";
    const std::size_t found = done.out.find(echo, at);
    if (found == std::string::npos) return fail(Error::system(EINVAL, "debugfs: a request was not run"));
    if (!answers.empty()) answers.back() = done.out.substr(at, found - at);
    answers.emplace_back();
    at = found + echo.size();
  }
  if (!answers.empty()) answers.back() = done.out.substr(at);
  return answers;
}

// The whole tree, level by level, each level with one debugfs. A directory that leads back to itself is walked once.
Result<std::vector<DumpedFile>> walk(const std::string &image) {
  std::vector<DumpedFile> files;
  std::vector<std::pair<std::uint32_t, std::string>> level = {{2, ""}};
  std::set<std::uint32_t> seen = {2};
  while (!level.empty()) {
    std::vector<std::string> requests;
    for (const auto &[inode, path] : level) requests.push_back("ls -p <" + std::to_string(inode) + ">");
    const std::vector<std::string> answers = TRY(debugfs_batch(image, requests));
    std::vector<std::pair<std::uint32_t, std::string>> next;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      std::istringstream lines(answers[i]);
      for (std::string line; std::getline(lines, line);) {
        DumpedFile file;
        std::string name;
        if (!parse_listing(line, file, name) || name == "..") continue;
        if (name == "." && !level[i].second.empty()) continue;
        file.path = name == "." ? "/" : level[i].second + "/" + name;
        if (name != "." && file.mode.starts_with("04") && seen.insert(file.inode).second)
          next.emplace_back(file.inode, file.path);
        files.push_back(std::move(file));
      }
    }
    level = std::move(next);
  }
  std::ranges::sort(files, {}, &DumpedFile::path);
  return files;
}

std::string after(const std::string &text, std::string_view label) {
  const std::size_t at = text.find(label);
  if (at == std::string::npos) return {};
  const std::size_t start = at + label.size();
  return text.substr(start, text.find_first_of(" \n", start) - start);
}

std::string type_letter(const std::string &mode) {
  static const std::map<std::string, std::string> letters = {{"01", "p"}, {"02", "c"}, {"04", "d"}, {"06", "b"},
                                                             {"10", "-"}, {"12", "l"}, {"14", "s"}};
  const auto found = letters.find(mode.substr(0, 2));
  return found == letters.end() ? "?" : found->second;
}

std::string link_target(const std::string &stat_text, const std::string &contents) {
  constexpr std::string_view label = "Fast link dest: \"";
  const std::size_t at = stat_text.find(label);
  if (at == std::string::npos) return contents;
  const std::size_t end = stat_text.rfind('"');
  return stat_text.substr(at + label.size(), end - at - label.size());
}

}  // namespace

FsckReport fsck(const std::string &image, std::uint64_t offset) {
  const std::string name = offset == 0 ? image : image + "?offset=" + std::to_string(offset);
  const auto done = run_command({"e2fsck", "-fn", name}, {.deadline = std::chrono::seconds(300)});
  if (!done) return {.clean = false, .exit = -1, .text = done.error().message()};
  return {.clean = done->exit == 0, .exit = done->exit, .text = done->out + done->err};
}

FsckReport fsck(device::BlockDevice &device) {
  const TemporaryDirectory directory;
  if (const Status saved = save_device(device, directory.file("image")); !saved)
    return {.clean = false, .exit = -1, .text = saved.error().message()};
  return fsck(directory.file("image"));
}

Status replay_with_e2fsck(const std::string &image) {
  const CommandResult done = TRY(run_command({"e2fsck", "-y", "-E", "journal_only", image}));
  // 0: nothing to do, 1: replayed.
  if (done.exit == 0 || done.exit == 1) return {};
  log(LogLevel::error, "e2fsck failed ({}): {}{}", done.exit, done.out, done.err);
  return fail(Error::system(EINVAL, "e2fsck: replay failed"));
}

Result<std::string> debugfs(const std::string &image, const std::string &request) {
  CommandResult done = TRY(run_command({"debugfs", "-R", request, image}));
  const std::size_t first_line = done.err.find('\n');  // the program's version
  const bool quiet = first_line == std::string::npos || first_line + 1 == done.err.size();
  if (done.exit != 0 || !quiet) {
    log(LogLevel::error, "debugfs {}: {}", request, done.err);
    return fail(Error::system(EINVAL, "debugfs: complained"));
  }
  return std::move(done.out);
}

Result<std::string> debugfs_read(const std::string &image, const std::string &path) {
  return debugfs(image, "cat \"" + path + "\"");
}

Result<std::string> debugfs_dump(const std::string &image) {
  const std::vector<DumpedFile> files = TRY(walk(image));
  const TemporaryDirectory directory;
  std::vector<std::string> requests;
  for (const DumpedFile &file : files) {
    const std::string inode = std::to_string(file.inode);
    const std::string type = type_letter(file.mode);
    requests.push_back("stat <" + inode + ">");
    requests.push_back(type == "-" || type == "l" ? "dump <" + inode + "> " + directory.file(inode) : "pwd");
  }
  const std::vector<std::string> answers = TRY(debugfs_batch(image, requests));
  std::string text;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const DumpedFile &file = files[i];
    const std::string &stat_text = answers[2 * i];
    const std::string type = type_letter(file.mode);
    text += fmt::format("{} {}{} links={} uid={} gid={}", file.path, type, file.mode.substr(2),
                        after(stat_text, "Links: "), file.user, file.group);
    if (type == "-") {
      const std::string contents = TRY(read_file(directory.file(std::to_string(file.inode))));
      text += fmt::format(" size={} crc={:08x}", file.size, crc32c(~0u, contents.data(), contents.size()));
    } else if (type == "l") {
      const auto contents = read_file(directory.file(std::to_string(file.inode)));
      text += fmt::format(" -> {}", link_target(stat_text, contents.value_or("")));
    }
    text += "\n";
  }
  return text;
}

Status save_device(device::BlockDevice &device, const std::string &path) {
  const device::HostFile file(UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)));
  if (file.fd() < 0) return fail(Error::system(errno, "save: create"));
  const std::uint64_t size = device.properties().size;
  if (::ftruncate(file.fd(), static_cast<off_t>(size)) != 0) return fail(Error::system(errno, "save: set size"));
  std::vector<std::byte> buffer(1 << 20);
  for (std::uint64_t at = 0; at < size; at += buffer.size()) {
    const std::span<std::byte> bytes = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), size - at));
    TRY(device.read(at, bytes));
    constexpr std::size_t kPage = 4096;
    for (std::size_t in = 0; in < bytes.size(); in += kPage) {
      const std::span<std::byte> page = bytes.subspan(in, std::min(kPage, bytes.size() - in));
      if (std::ranges::all_of(page, [](std::byte b) { return b == std::byte{0}; })) continue;
      const iovec piece = {page.data(), page.size()};
      TRY(file.write(at + in, device::GatherCursor({&piece, 1}), piece.iov_len));
    }
  }
  return {};
}

}  // namespace outboard::testing

// /proc/self/mountinfo: finding a mount without touching it.
#include "fuse/mount.h"

#include <charconv>
#include <fstream>
#include <optional>
#include <vector>

namespace outboard::fuse {

namespace {

// Blanks and backslashes stand as \ooo.
std::string unescape(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, value, 8).ptr == text.data() + i + 4) {
      result += static_cast<char>(value);
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  while (!line.empty()) {
    const std::size_t end = std::min(line.find(' '), line.size());
    if (end > 0) fields.push_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return fields;
}

// id parent major:minor root target options [tags...] - type source options
std::optional<MountTableEntry> parse(std::string_view line) {
  const std::vector<std::string_view> fields = split(line);
  std::size_t dash = 6;
  while (dash < fields.size() && fields[dash] != "-") ++dash;
  if (dash + 2 >= fields.size()) return std::nullopt;
  MountTableEntry entry;
  const std::string_view device = fields[2];
  const char *end = device.data() + device.size();
  const auto colon = std::from_chars(device.data(), end, entry.device_major).ptr;
  if (colon == end || *colon != ':' || std::from_chars(colon + 1, end, entry.device_minor).ptr != end)
    return std::nullopt;
  entry.target = unescape(fields[4]);
  entry.type = unescape(fields[dash + 1]);
  entry.source = unescape(fields[dash + 2]);
  return entry;
}

}  // namespace

Result<MountTableEntry> find_mount(const std::string &target) {
  std::ifstream table("/proc/self/mountinfo");
  if (!table) return fail(Error::system(ENOENT, "/proc/self/mountinfo"));
  std::optional<MountTableEntry> found;
  for (std::string line; std::getline(table, line);)
    if (auto entry = parse(line); entry && entry->target == target) found = std::move(entry);  // later lies on top
  if (!found) return fail(Error::user(ENOENT, "nothing is mounted there"));
  return *std::move(found);
}

}  // namespace outboard::fuse

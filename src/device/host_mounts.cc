#include "device/host_mounts.h"

#include <fmt/format.h>
#include <fstream>
#include <sstream>
#include <sys/sysmacros.h>

namespace outboard::device {

namespace {

// mountinfo writes blanks and backslashes of a path as \040 and the like.
std::string unescape(const std::string &text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

// "ID PARENT MAJOR:MINOR ROOT TARGET OPTIONS [TAGS...] - TYPE SOURCE OPTIONS"
std::optional<HostMount> mount_of(dev_t device) {
  const std::string number = fmt::format("{}:{}", major(device), minor(device));
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string id, parent, mounted, root, target, word, type;
    if (!(fields >> id >> parent >> mounted >> root >> target) || mounted != number) continue;
    while (fields >> word && word != "-") continue;
    fields >> type;
    return HostMount{unescape(target), type};
  }
  return std::nullopt;
}

}  // namespace outboard::device

#include "service/node_path.h"

#include <deque>
#include <sys/stat.h>
#include <vector>

namespace outboard::service {

namespace {
constexpr int kMaxLinks = 40;
constexpr std::size_t kMaxPath = 1 << 16;  // of what links add up to

void prepend(std::deque<std::string> &parts, std::string_view path) {
  std::vector<std::string> pieces;
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const std::string_view piece = path.substr(0, slash);
    if (!piece.empty() && piece != ".") pieces.emplace_back(piece);
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
  }
  parts.insert(parts.begin(), pieces.begin(), pieces.end());
}
}  // namespace

Result<NodeHold> walk(vfs::Filesystem &filesystem, std::string_view path, bool follow_last) {
  std::deque<std::string> parts;
  prepend(parts, path);
  std::vector<NodeHold> trail;  // the directories from the root to here
  trail.emplace_back(filesystem, TRY(filesystem.lookup(vfs::kRootNode, ".")));
  int links = 0;
  while (!parts.empty()) {
    const std::string part = std::move(parts.front());
    parts.pop_front();
    if (!S_ISDIR(trail.back()->attributes.mode)) return fail(Error::user(ENOTDIR));
    if (part == "..") {
      if (trail.size() > 1) trail.pop_back();
      continue;
    }
    NodeHold next(filesystem, TRY(filesystem.lookup(trail.back()->node, part)));
    if (S_ISLNK(next->attributes.mode) && (follow_last || !parts.empty())) {
      if (++links > kMaxLinks) return fail(Error::user(ELOOP));
      const std::string target = TRY(filesystem.read_link(next->node));
      if (target.size() > kMaxPath) return fail(Error::user(ENAMETOOLONG));
      if (target.starts_with('/')) trail.erase(trail.begin() + 1, trail.end());
      prepend(parts, target);
      continue;
    }
    trail.push_back(std::move(next));
  }
  NodeHold found = std::move(trail.back());
  trail.pop_back();
  return found;
}

}  // namespace outboard::service

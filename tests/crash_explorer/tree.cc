#include "crash_explorer/tree.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <fmt/format.h>

namespace outboard::crash_explorer {

namespace {

std::string parent_of(const std::string &path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::set<std::string> lines_of(const std::string &text) {
  std::set<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.insert(line);
  return lines;
}

}  // namespace

std::string describe(const Tree &tree) {
  std::map<std::uint64_t, std::pair<std::string, unsigned>> names;  // the first name and how many there are
  std::map<std::string, unsigned> subdirectories;
  for (const auto &[path, node] : tree) {
    auto &[first, count] = names[node.identity];
    if (count++ == 0) first = path;
    if (node.kind == Kind::directory) ++subdirectories[parent_of(path)];
  }
  std::string text;
  for (const auto &[path, node] : tree) {
    const auto &[first, count] = names[node.identity];
    const auto below = subdirectories.find(path);
    const unsigned links = node.kind == Kind::directory ? 2 + (below == subdirectories.end() ? 0 : below->second) : count;
    text += fmt::format("{} {}{:03o} links={}", path, "-dl"[static_cast<unsigned>(node.kind)], node.mode, links);
    if (first != path) text += " same as " + first;
    if (node.kind == Kind::symlink) text += " -> " + node.target;
    for (const auto &[name, value] : node.xattrs) text += " " + name + "=" + value;
    text += "\n";
  }
  return text;
}

std::string tree_difference(const std::string &expected, const std::string &found) {
  const std::set<std::string> wanted = lines_of(expected), there = lines_of(found);
  std::string text;
  for (const std::string &line : wanted)
    if (!there.contains(line)) text += "  - " + line + "\n";
  for (const std::string &line : there)
    if (!wanted.contains(line)) text += "  + " + line + "\n";
  return text;
}

}  // namespace outboard::crash_explorer

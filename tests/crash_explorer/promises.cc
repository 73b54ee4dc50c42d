#include "crash_explorer/promises.h"

#include "crash_explorer/tagged_bytes.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

namespace outboard::crash_explorer {

Promises::Promises() {
  operations_.push_back({.begin = 0, .what = "an empty file system"});
  trees_.emplace_back();
}

void Promises::begin(std::uint64_t position, const std::string &what) {
  operations_.push_back({.begin = position, .what = what});
}

void Promises::tree_is(const Tree &tree, const std::vector<std::uint64_t> &files) {
  TreeVersion version{.operation = operations_.size() - 1, .text = describe(tree), .files = {}};
  for (const auto &[path, node] : tree)
    if (node.kind == Kind::file) version.files[path] = node.identity;
  trees_.push_back(std::move(version));
  for (const std::uint64_t file : files) files_[file].tree = trees_.size() - 1;
}

void Promises::bytes_are(std::uint64_t file, const std::string &bytes, bool ordered) {
  files_[file].versions.push_back({.operation = operations_.size() - 1, .bytes = bytes, .ordered = ordered});
}

void Promises::bytes_are_ordered(std::uint64_t file) {
  const auto &versions = files_[file].versions;
  if (!versions.empty()) bytes_are(file, std::string(versions.back().bytes), true);
}

void Promises::synced(std::uint64_t position, std::uint64_t file) {
  tree_acks_.push_back({position, files_[file].tree});
  data_synced(position, file);
}

void Promises::data_synced(std::uint64_t position, std::uint64_t file) {
  File &of = files_[file];
  ++byte_acks_;
  if (!of.versions.empty()) of.acks.push_back({position, of.versions.size() - 1});
}

void Promises::all_synced(std::uint64_t position) {
  tree_acks_.push_back({position, trees_.size() - 1});
  for (const auto &[number, file] : files_) data_synced(position, number);
}

// Its first event, if it made any, had happened by then.
bool Promises::may_be_there(std::uint64_t operation, std::uint64_t position) const {
  return operation == 0 || operations_[operation].begin < position;
}

std::string Promises::describe_operation(std::uint64_t operation) const {
  return fmt::format("operation {} ({})", operation, operations_[operation].what);
}

std::uint64_t Promises::inodes_of(const Tree &tree) {
  std::set<std::uint64_t> inodes;
  for (const auto &[path, node] : tree) inodes.insert(node.identity);
  return inodes.size();
}

std::string Promises::broken_by(const Found &found, std::uint64_t position) const {
  if (!found.complaint.empty()) return found.complaint;
  std::size_t least = 0, most = 0;
  for (const Ack &ack : tree_acks_)
    if (ack.position <= position) least = std::max(least, ack.index);
  while (most + 1 < trees_.size() && may_be_there(trees_[most + 1].operation, position)) ++most;
  const std::string text = describe(found.tree);
  // Any moment with these names will do: the same names may have been other files'.
  std::string wrong;
  bool names_fit = false;
  for (std::size_t tree = least; tree <= most; ++tree) {
    if (trees_[tree].text != text) continue;
    names_fit = true;
    wrong = wrong_contents(trees_[tree], found, position);
    if (wrong.empty()) return {};
  }
  if (names_fit) return wrong;
  return fmt::format("the names are of no moment since they were acknowledged, after {}; against that:\n{}"
                     "  and against the last possible, after {}:\n{}",
                     describe_operation(trees_[least].operation), tree_difference(trees_[least].text, text),
                     describe_operation(trees_[most].operation), tree_difference(trees_[most].text, text));
}

std::string Promises::wrong_contents(const TreeVersion &tree, const Found &found, std::uint64_t position) const {
  for (const auto &[path, file] : tree.files) {
    const auto bytes = found.contents.find(path);
    if (bytes == found.contents.end()) return path + ": no contents";
    std::string wrong = wrong_bytes(path, file, bytes->second, tree.operation, position);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string Promises::wrong_bytes(const std::string &path, std::uint64_t number, const std::string &bytes,
                                  std::uint64_t tree_operation, std::uint64_t position) const {
  const File &file = files_.at(number);
  if (file.versions.empty()) return {};
  std::size_t least = 0, most = 0;
  for (const Ack &ack : file.acks)
    if (ack.position <= position) least = std::max(least, ack.index);
  for (std::size_t i = least + 1; i < file.versions.size(); ++i)
    if (file.versions[i].ordered && file.versions[i].operation <= tree_operation) least = i;
  while (most + 1 < file.versions.size() && may_be_there(file.versions[most + 1].operation, position)) ++most;
  most = std::max(most, least);
  const auto say = [&](const std::string &what) {
    return fmt::format("{} (file {}): {}; versions since {}, up to {}", path, number, what,
                       describe_operation(file.versions[least].operation), describe_operation(file.versions[most].operation));
  };

  // A file grows while its data is written out, so any size on the way is good; it shrinks at once.
  bool size_fits = false;
  for (std::size_t i = least; i <= most; ++i) {
    const std::size_t size = file.versions[i].bytes.size();
    const std::size_t next = i < most ? file.versions[i + 1].bytes.size() : size;
    size_fits = size_fits || bytes.size() == size || (size <= bytes.size() && bytes.size() <= next);
  }
  if (!size_fits)
    return say(fmt::format("size {}, and it had {} to {}", bytes.size(), file.versions[least].bytes.size(),
                           file.versions[most].bytes.size()));

  std::size_t wrong_count = 0, first_wrong = 0;
  if (bytes == file.versions[most].bytes) return {};
  std::vector<char> explained(bytes.size(), 0);
  for (std::size_t i = least; i <= most; ++i) {
    const std::string &version = file.versions[i].bytes;
    for (std::size_t at = 0; at < std::min(version.size(), bytes.size()); ++at)
      explained[at] = static_cast<char>(explained[at] | (version[at] == bytes[at]));
  }
  for (std::size_t at = 0; at < bytes.size(); ++at)
    if (explained[at] == 0 && wrong_count++ == 0) first_wrong = at;
  if (wrong_count == 0) return {};
  const std::size_t word = first_wrong / 8 * 8;
  return say(fmt::format("{} of {} bytes are of no version, the first at {:#x}: {}", wrong_count, bytes.size(), first_wrong,
                         origin(std::as_bytes(std::span(bytes).subspan(word)), word)));
}

}  // namespace outboard::crash_explorer

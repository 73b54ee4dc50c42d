// A tree of files: as a model says it is, or as it was found.
#pragma once

#include "vfs/filesystem.h"

#include <cstdint>
#include <map>
#include <string>

namespace outboard::crash_explorer {

enum class Kind : std::uint8_t { file, directory, symlink };

struct Node {
  std::uint64_t identity = 0;  // names of one file have the same; an inode's number, or the model's
  Kind kind = Kind::file;
  std::uint32_t mode = 0;  // permissions
  std::uint32_t links = 0;  // as found; the model leaves it to the names
  std::string target;      // of a symlink
  std::map<std::string, std::string> xattrs;
};

// By path without a leading slash; the root and lost+found are not in it.
using Tree = std::map<std::string, Node>;

// One line a name, all that two trees can be compared by: kind, mode, links, names of the same file, target, xattrs.
// Links are counted from the names.
std::string describe(const Tree &tree);
// Lines that only one of two descriptions has.
std::string tree_difference(const std::string &expected, const std::string &found);

struct Found {
  Tree tree;
  std::map<std::string, std::string> contents;  // of regular files, by path
  std::uint64_t free_inodes = 0;  // through the library only: the kernel counts lazily
  std::string complaint;  // what contradicts itself: link counts, sizes
};

// Through the library, and through any mount of the host's.
Result<Found> look_at(vfs::Filesystem &filesystem);
Result<Found> look_at(const std::string &mount);

}  // namespace outboard::crash_explorer

// A small tree with one of everything a file system keeps, and what can be read back of it: by a mount, and by debugfs.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace outboard::tests {

struct SampleOptions {
  // 128-byte inodes keep seconds only, and no year beyond 2038.
  bool nanoseconds = true;
  std::uint32_t block_size = 4096;
};

// Long names, deep directories, an indexed one, symbolic links in the inode and in a block, extended attributes, ACLs,
// hard links, a sparse file, devices, owners beyond 16 bits. Stops at the first error.
Status make_sample(const std::string &root, const SampleOptions &options);

// Every path below `root` with all that must survive: type, mode, owner, links, size, device, times of change,
// attributes, contents. (Not inode numbers, blocks, sizes of directories.) Sorted; a path that cannot be read says so.
std::vector<std::string> snapshot(const std::string &root, const SampleOptions &options);

// The same tree in the words of testing::debugfs_dump().
std::string as_debugfs_dumps(const std::string &root);

}  // namespace outboard::tests

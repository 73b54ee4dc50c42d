// Images by recipe: made by mkfs.ext4 and filled by debugfs, in a directory that goes with the test.
#pragma once

#include "base/result.h"
#include "testing/command.h"

#include <cstdint>
#include <string>
#include <vector>

namespace outboard::testing {

// A directory of our own under TMPDIR or /tmp, removed with all that is in it when the object goes.
class TemporaryDirectory {
public:
  TemporaryDirectory();  // aborts the program when none can be made: no test can go on then
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory &) = delete;
  TemporaryDirectory &operator=(const TemporaryDirectory &) = delete;

  const std::string &path() const { return path_; }
  std::string file(const std::string &name) const { return path_ + "/" + name; }

private:
  std::string path_;
};

Status write_file(const std::string &path, std::string_view contents);
Result<std::string> read_file(const std::string &path);

// Makes a sparse file of `size` bytes and a file system in it: mkfs.ext4 -q -F -b block_size ARGUMENTS path.
// `block_size` 0 leaves the choice to mkfs. What mkfs said goes to the log when it fails (EINVAL).
Status make_image(const std::string &path, std::uint64_t size, const std::vector<std::string> &arguments = {},
                  std::uint32_t block_size = 4096);

// Runs debugfs on a writable image with these requests ("mkdir a", "write hostfile name", "set_inode_field ...").
// debugfs exits successfully whatever happens; here any complaint on its standard error is an error (EINVAL), and is
// logged. The result is its output.
Result<std::string> debugfs_write(const std::string &image, const std::vector<std::string> &requests);

}  // namespace outboard::testing

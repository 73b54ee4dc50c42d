// One random operation on a tree, described so that it can be carried out on two trees and its outcomes compared.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace outboard::tests {

struct Operation {
  enum class Kind : std::uint8_t {
    create, make_directory, remove_directory, unlink, rename, link, symlink, read_link, make_fifo, make_device,
    change_mode, change_owner, set_times, truncate, write, append, read, allocate, seek, set_xattr, get_xattr, remove_xattr,
    list_xattrs, set_acl, stat, list, copy_range, temporary_and_link, open_slot, close_slot, write_slot, read_slot,
    truncate_slot, sync_slot, set_flags, get_flags, map_write, sync_file,
    count_,
  };
  Kind kind{};
  std::string path, other;     // relative to the tree's root
  std::uint64_t offset = 0, length = 0;
  std::uint32_t mode = 0;
  std::int32_t flags = 0;      // of rename, fallocate, open, setxattr
  std::uint32_t uid = 0, gid = 0;
  std::uint32_t as_user = 0;   // effective user (and group) the operation runs as
  std::uint32_t seed = 0;      // of data and values
  unsigned slot = 0;           // an open file kept across operations
};

const char *name_of(Operation::Kind kind);
std::string describe(const Operation &operation);

class OperationSource {
public:
  explicit OperationSource(std::uint64_t seed) : random_(seed) {}
  Operation next();
  // Later paths come mostly from operations that made some.
  void succeeded(const Operation &operation);

private:
  std::string path();
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
  static constexpr std::size_t kRemembered = 120;
  std::mt19937_64 random_;
  std::vector<std::string> likely_;  // paths that earlier operations made
};

// What came of an operation, as text that two trees can be compared by: "ok ..." or the errno's name.
class Tree {
public:
  explicit Tree(std::string root);
  ~Tree();
  std::string perform(const Operation &operation);
  void close_slots();
  // Every path with all that stat, xattrs and contents tell (not inode numbers, blocks, directory sizes or change times).
  std::vector<std::string> dump() const;
  // What dump() says of one path, less the contents.
  std::string line(const std::string &path) const;
  static constexpr unsigned kSlots = 6;

private:
  std::string at(const std::string &path) const { return path.empty() ? root_ : root_ + "/" + path; }
  std::string on_names(const Operation &o);
  std::string on_attributes(const Operation &o);
  std::string on_data(const Operation &o);
  std::string on_xattrs(const Operation &o);
  std::string on_slots(const Operation &o);
  std::string root_;
  int slots_[kSlots];
};

}  // namespace outboard::tests

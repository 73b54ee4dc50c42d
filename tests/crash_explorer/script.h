// Operations on a file system over a recording device, each told to the promises as it is made. Paths are relative to the
// root and have no leading slash. A failure stops the script: `status()`, and nothing is done from then on.
#pragma once

#include "crash_explorer/promises.h"
#include "crash_explorer/tree.h"
#include "testing/write_log_device.h"

#include <functional>
#include <map>

namespace outboard::crash_explorer {

class Script {
public:
  struct Hooks {
    std::function<Result<vfs::Filesystem *>()> remount;  // unmounts and makes a new one over the same device
    bool sync_directories = true;                        // false: fsync of one does nothing, and says that it did
  };
  Script(vfs::Filesystem &filesystem, const testing::WriteLogDevice &log, Promises &promises, Hooks hooks)
      : filesystem_(&filesystem), log_(log), promises_(promises), hooks_(std::move(hooks)) {}

  const Status &status() const { return status_; }
  const std::string &doing() const { return doing_; }
  const Tree &tree() const { return tree_; }
  std::uint64_t size(const std::string &path) const {
    const auto found = tree_.find(path);
    return found == tree_.end() ? 0 : bytes_.at(found->second.identity).size();
  }

  void create(const std::string &path);
  void make_directory(const std::string &path);
  void symlink(const std::string &path, const std::string &target);
  void link(const std::string &from, const std::string &to);
  // `keep_open`: somebody has the file open until the end of the script.
  void unlink(const std::string &path, bool keep_open = false);
  void remove_directory(const std::string &path);
  void rename(const std::string &from, const std::string &to, std::uint32_t flags = 0);
  void set_mode(const std::string &path, std::uint32_t mode);
  void set_xattr(const std::string &path, const std::string &name, const std::string &value);
  void remove_xattr(const std::string &path, const std::string &name);

  // O_TMPFILE in the root, with bytes; and its link.
  void temporary(std::size_t length);
  void link_temporary(const std::string &path);

  void write(const std::string &path, std::uint64_t offset, std::size_t length);
  void append(const std::string &path, std::size_t length) { write(path, size(path), length); }
  void write_direct(const std::string &path, std::uint64_t offset, std::size_t length);
  void truncate(const std::string &path, std::uint64_t size);
  void allocate(const std::string &path, std::uint64_t offset, std::uint64_t length, bool keep_size = false);
  void punch(const std::string &path, std::uint64_t offset, std::uint64_t length);
  void zero_range(const std::string &path, std::uint64_t offset, std::uint64_t length);

  // Acknowledged when they return.
  void fsync(const std::string &path);  // "" is the root
  void fdatasync(const std::string &path);
  void write_sync(const std::string &path, std::uint64_t offset, std::size_t length);  // O_SYNC
  void sync_all();
  void remount();
  // Until what was unlinked has been deleted, as another thread does: so many inodes are free then. No operation.
  std::uint64_t free_inodes();
  void until_free(std::uint64_t inodes);
  // What the timers do: everything is written back and committed, and nobody is told.
  void background();

private:
  using Operation = std::function<Status()>;
  void run(const std::string &what, const Operation &operation);
  Result<vfs::NodeId> node(const std::string &path);
  struct Place {
    vfs::NodeId directory = 0;
    std::uint64_t identity = 0;  // of the directory
    std::string name;
  };
  Result<Place> place(const std::string &path);
  std::uint64_t identity_of(const std::string &path) const { return path.empty() ? kRoot : tree_.at(path).identity; }
  void made(const std::string &path, Kind kind, std::uint32_t mode, vfs::NodeId node, std::uint64_t directory);
  void forget_if_gone(std::uint64_t identity, bool keep_open);
  std::string &bytes_of(const std::string &path) { return bytes_[tree_.at(path).identity]; }
  Status put(vfs::NodeId node, std::uint64_t file, std::uint64_t offset, std::size_t length, bool direct);

  static constexpr std::uint64_t kRoot = 0;

  vfs::Filesystem *filesystem_;
  const testing::WriteLogDevice &log_;
  Promises &promises_;
  const Hooks hooks_;
  Status status_;
  std::string doing_;
  Tree tree_;
  std::map<std::uint64_t, std::string> bytes_;         // of regular files, by identity
  std::map<std::uint64_t, vfs::NodeId> nodes_;         // with one lookup each
  std::uint64_t next_identity_ = 1;
  std::uint64_t temporary_ = 0;  // the newest nameless file
};

}  // namespace outboard::crash_explorer

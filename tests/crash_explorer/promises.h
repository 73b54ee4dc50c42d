// What a file system has promised by each moment of a recording, and whether a state after a crash keeps it.
//
// Names, links, modes, attributes are changed by transactions, one after another: a state shows the tree as it was after some
// operation, none before the newest that was acknowledged. The bytes of a file are not ordered among themselves: each byte
// is as some version of the file between the newest acknowledged and the last begun had it. That leaves no room for what was
// never written there: data=ordered. Operations that change a file's map or size in a transaction of their own (truncate,
// fallocate, punch), and those that write the data out before a name changes (rename over a file, linking a nameless one),
// cannot be missing when a later name is there.
//
// Times are positions of the recording (testing::WriteLogDevice).
#pragma once

#include "crash_explorer/tree.h"

#include <map>
#include <string>
#include <vector>

namespace outboard::crash_explorer {

class Promises {
public:
  Promises();

  // Every operation: begin(), then what it does to names and bytes.
  void begin(std::uint64_t position, const std::string &what);
  std::uint64_t operation() const { return operations_.size() - 1; }
  // The tree after this operation; `files` are those whose names or attributes it changed (directories among them).
  void tree_is(const Tree &tree, const std::vector<std::uint64_t> &files);
  // The bytes of a file after it. `ordered`: in a transaction that names cannot overtake.
  void bytes_are(std::uint64_t file, const std::string &bytes, bool ordered);
  // As they are, but what is there now can no longer be missing when this operation's tree is there.
  void bytes_are_ordered(std::uint64_t file);

  // Acknowledged from this position on: fsync of a file or directory, fdatasync, everything.
  void synced(std::uint64_t position, std::uint64_t file);
  void data_synced(std::uint64_t position, std::uint64_t file);
  void all_synced(std::uint64_t position);
  std::size_t acknowledgements() const { return tree_acks_.size() + byte_acks_; }

  // "" or what is wrong with a state that a crash at this position has left.
  std::string broken_by(const Found &found, std::uint64_t position) const;
  // How many inodes a tree needs: names of one file count once.
  static std::uint64_t inodes_of(const Tree &tree);

private:
  struct Operation {
    std::uint64_t begin = 0;
    std::string what;
  };
  struct TreeVersion {
    std::uint64_t operation = 0;
    std::string text;
    std::map<std::string, std::uint64_t> files;  // by path
  };
  struct Version {
    std::uint64_t operation = 0;
    std::string bytes;
    bool ordered = false;
  };
  struct Ack {
    std::uint64_t position = 0;
    std::size_t index = 0;  // of a version
  };
  struct File {
    std::vector<Version> versions;
    std::vector<Ack> acks;
    std::size_t tree = 0;  // the newest version of the tree that changed its names or attributes
  };

  bool may_be_there(std::uint64_t operation, std::uint64_t position) const;
  std::string wrong_contents(const TreeVersion &tree, const Found &found, std::uint64_t position) const;
  std::string wrong_bytes(const std::string &path, std::uint64_t file, const std::string &bytes, std::uint64_t tree_operation,
                          std::uint64_t position) const;
  std::string describe_operation(std::uint64_t operation) const;

  std::vector<Operation> operations_;  // by number; 0: what was there before
  std::vector<TreeVersion> trees_;
  std::map<std::uint64_t, File> files_;
  std::vector<Ack> tree_acks_;
  std::size_t byte_acks_ = 0;
};

}  // namespace outboard::crash_explorer

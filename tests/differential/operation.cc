#include "differential/operation.h"

#include <array>
#include <cstdio>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/xattr.h>

namespace outboard::tests {

namespace {
constexpr std::array kNames = {
    "create", "make_directory", "remove_directory", "unlink", "rename", "link", "symlink", "read_link", "make_fifo", "make_device",
    "change_mode", "change_owner", "set_times", "truncate", "write", "append", "read", "allocate", "seek", "set_xattr", "get_xattr",
    "remove_xattr", "list_xattrs", "set_acl", "stat", "list", "copy_range", "temporary_and_link", "open_slot", "close_slot",
    "write_slot", "read_slot", "truncate_slot", "sync_slot", "set_flags", "get_flags", "map_write", "sync_file",
};
static_assert(kNames.size() == static_cast<std::size_t>(Operation::Kind::count_));
}  // namespace

const char *name_of(Operation::Kind kind) { return kNames[static_cast<std::size_t>(kind)]; }

std::string describe(const Operation &o) {
  return fmt::format("{} path={} other={} offset={} length={} mode={:o} flags={:#x} uid={} gid={} as={} seed={} slot={}",
                     name_of(o.kind), o.path, o.other, o.offset, o.length, o.mode, o.flags, o.uid, o.gid, o.as_user, o.seed, o.slot);
}

std::string OperationSource::path() {
  // Few names, so that operations meet: most of what they do to each other is errors and replacements.
  static constexpr std::array kParts = {"a", "b", "c", "d", "e", "long-name-to-need-more-room-in-a-directory-entry"};
  std::string path;
  if (!likely_.empty() && below(6) != 0) {
    // What an earlier operation may have made, or something in it.
    path = likely_[below(likely_.size())];
    if (below(4) == 0 && path.size() < 300) path += "/" + std::string(kParts[below(kParts.size())]);
  } else {
    const std::uint64_t depth = 1 + below(2);
    for (std::uint64_t i = 0; i < depth; ++i) {
      if (i > 0) path += '/';
      path += kParts[below(kParts.size())];
      if (below(4) == 0) path += std::to_string(below(40));
    }
  }
  switch (below(400)) {
  case 0: return path + "/..";
  case 1: return path + "/.";
  case 2: return path + "/" + std::string(255, 'n');
  case 3: return path + "/" + std::string(256, 'n');
  default: return path;
  }
}

Operation OperationSource::next() {
  using Kind = Operation::Kind;
  // How often each comes, in the order of Kind.
  static constexpr std::array<unsigned, static_cast<std::size_t>(Kind::count_)> kWeights = {
      14, 12, 4, 8, 12, 6, 5, 3, 1, 1, 5, 4, 4, 6, 16, 6, 8, 6, 3, 6, 4, 3, 2, 4, 6, 3, 3, 2, 4, 2, 8, 5, 3, 2, 1, 2, 4, 2};
  static const unsigned total = [] {
    unsigned sum = 0;
    for (unsigned weight : kWeights) sum += weight;
    return sum;
  }();
  Operation o;
  std::uint64_t pick = below(total);
  std::size_t kind = 0;
  while (pick >= kWeights[kind]) pick -= kWeights[kind++];
  o.kind = static_cast<Kind>(kind);
  o.path = path();
  o.other = path();
  // Positions cluster around block and page edges and the classic map's level changes.
  const std::uint64_t scale = std::uint64_t{1} << below(24);
  o.offset = below(8) == 0 ? below(1 << 20) / 4096 * 4096 : below(scale + 1);
  if (below(400) == 0) o.offset += std::uint64_t{1} << 32;
  o.length = 1 + below(below(10) == 0 ? 300000 : 9000);
  o.mode = static_cast<std::uint32_t>(below(010000));
  o.uid = below(3) == 0 ? 1000 : below(2) == 0 ? 1001 : 0;
  o.gid = below(3) == 0 ? 1000 : below(2) == 0 ? 1001 : 0;
  o.as_user = below(3) == 0 ? 1000 : 0;
  o.seed = static_cast<std::uint32_t>(random_());
  o.slot = static_cast<unsigned>(below(Tree::kSlots));
  if (o.kind == Kind::rename) {
    static constexpr std::array<int, 6> kFlags = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT};
    o.flags = kFlags[below(kFlags.size())];
  } else if (o.kind == Kind::allocate) {
    static constexpr std::array<int, 7> kFlags = {0, 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                                                  FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    o.flags = kFlags[below(kFlags.size())];
    if (below(60) == 0) o.flags = below(2) == 0 ? FALLOC_FL_COLLAPSE_RANGE : FALLOC_FL_INSERT_RANGE;
  } else if (o.kind == Kind::set_xattr) {
    static constexpr std::array<int, 4> kFlags = {0, 0, XATTR_CREATE, XATTR_REPLACE};
    o.flags = kFlags[below(kFlags.size())];
    o.length = below(below(5) == 0 ? 3000 : 120);
  } else if (o.kind == Kind::open_slot) {
    static constexpr std::array<int, 5> kFlags = {O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_APPEND, O_RDWR | O_TRUNC, O_RDONLY};
    o.flags = kFlags[below(kFlags.size())];
  } else if (o.kind == Kind::seek) {
    o.flags = below(2) == 0 ? SEEK_DATA : SEEK_HOLE;
  }
  return o;
}

void OperationSource::succeeded(const Operation &o) {
  const bool makes = o.kind == Operation::Kind::create || o.kind == Operation::Kind::make_directory;
  const bool makes_other = o.kind == Operation::Kind::rename || o.kind == Operation::Kind::link ||
                           o.kind == Operation::Kind::symlink || o.kind == Operation::Kind::temporary_and_link;
  if (!makes && !makes_other) return;
  const std::string &made = makes ? o.path : o.other;
  if (likely_.size() < kRemembered) likely_.push_back(made);
  else likely_[below(kRemembered)] = made;
}

}  // namespace outboard::tests

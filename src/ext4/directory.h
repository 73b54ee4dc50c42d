// A directory: name to inode number, linear or hashed tree behind one door. The directory's inode is held by the caller,
// shared for lookup and iterate, exclusively for changes. Changes store the directory inode (times are the caller's: namespace).
#pragma once

#include "ext4/volume.h"

#include <functional>
#include <string_view>

namespace outboard::ext4 {

struct DirectoryMatch {
  InodeNumber inode;
  std::uint8_t file_type = 0;  // ext4's EXT4_FT_*; 0 when the volume does not keep types
};

class Directory {
public:
  // `inode` must be a directory and outlive this.
  Directory(Volume &volume, Inode &inode) : volume_(volume), inode_(inode) {}

  // ENOENT when there is none. "." and ".." are found too. Names over 255 bytes: ENAMETOOLONG.
  Result<DirectoryMatch> lookup(std::string_view name) const { return find(volume_, inode_, name); }
  static Result<DirectoryMatch> find(Volume &volume, const Inode &inode, std::string_view name);
  // The name must not exist. Grows the directory (ENOSPC is found before anything has changed; EFBIG/ENOSPC at the format's
  // limit of tree levels). Like remove() and replace(): a failure has changed nothing. The inode is stored when its size,
  // map or flags changed; times are the caller's, who stores it anyway. Credits: insert_credits().
  Status insert(jbd2::Handle &handle, std::string_view name, InodeNumber inode, std::uint8_t file_type);
  // `expected` not 0: ESTALE when the name means another inode. Credits: change_credits(); replace() likewise.
  Status remove(jbd2::Handle &handle, std::string_view name, InodeNumber expected = {});
  // The name keeps its place and points elsewhere (rename over, exchange; ".." of a moved directory).
  Status replace(jbd2::Handle &handle, std::string_view name, InodeNumber inode, std::uint8_t file_type);
  // First block of a new directory with "." and "..". Stores the inode. Credits: initialise_credits().
  Status initialise(jbd2::Handle &handle, InodeNumber parent);
  Result<bool> empty() const;

  // Entries after position `from` (0: the start; positions fit in 63 bits and stay valid while other names come and go;
  // hash order in hashed directories). The visitor gets all entries that share a position in one call, and the position that
  // continues after them; it returns false to stop before them.
  struct Item {
    std::string_view name;
    InodeNumber inode;
    std::uint8_t file_type = 0;
  };
  using Visitor = std::function<bool(std::span<const Item> items, std::uint64_t next)>;
  Status iterate(std::uint64_t from, const Visitor &visitor) const;

  std::uint32_t insert_credits() const;
  std::uint32_t change_credits() const;  // remove, replace
  static std::uint32_t initialise_credits(const Volume &volume);

private:
  Volume &volume_;
  Inode &inode_;
};

}  // namespace outboard::ext4

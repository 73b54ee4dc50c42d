// Attaching a /dev/fuse connection to a directory and taking it away again: with mount(2) where that is allowed (root,
// or root of a user namespace with its own mount namespace), otherwise through fusermount3.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <string>

namespace outboard::fuse {

struct MountRequest {
  std::string source;  // what the mount table shows; for a block device its path
  std::string target;
  std::string subtype = "outboard";  // the mount's type is fuse.SUBTYPE or fuseblk.SUBTYPE
  // A fuseblk mount: the kernel claims `source` and tells the server of sync(2) and of the unmount. mount(2) only.
  bool block_device = false;
  std::uint32_t block_size = 4096;  // bytes, of fuseblk
  bool read_only = false;
  bool allow_other = false;
  bool default_permissions = true;
  bool nosuid = false, nodev = false, noexec = false;
  bool noatime = false, nodiratime = false, strictatime = false;
  bool synchronous = false, dirsync = false;
};

struct Mounted {
  UniqueFd descriptor;     // for Session::create
  std::string target;      // canonical
  bool by_helper = false;  // fusermount3 made it
};

// `explanation`, if given, gets what fusermount3 said when it failed.
Result<Mounted> mount(const MountRequest &request, std::string *explanation = nullptr);

// `lazy`: detach now, the rest when the last user has gone. EBUSY otherwise when there are users.
Status unmount(const std::string &target, bool lazy, std::string *explanation = nullptr);

// A line of the mount table.
struct MountTableEntry {
  std::uint32_t device_major = 0, device_minor = 0;
  std::string type, source, target;
};
// The topmost mount on this directory, without touching the directory (its server may not be serving). ENOENT if none.
Result<MountTableEntry> find_mount(const std::string &target);

// The kernel reads ahead 128 KiB on a FUSE mount; more needs this (and root). EACCES, ENOENT where it is not possible.
Status raise_read_ahead(const MountTableEntry &mount, std::uint32_t kibibytes);

// Ends the connection: waiting clients get ECONNABORTED, the server's reads end. For a server that hangs.
Status abort_connection(const MountTableEntry &mount);

}  // namespace outboard::fuse

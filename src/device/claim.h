// One user for each file system: what is opened here is refused to a second opener, and to us when somebody else has
// it. Every claim is a property of the open file, so that a crash gives it back and a passed descriptor keeps it.
//
// - Regular file: an open-file-description lock on the byte range of the file system (shared for read-only), and no
//   loop device over that range but our own. A loop device attached later is not seen.
// - Block device: O_EXCL, which mounts, swap, device-mapper and other O_EXCL openers respect.
//
// A claim that is refused is tried again for two seconds: a server that was killed lets go a little later than it is gone.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <optional>
#include <string>

namespace outboard::device {

enum class ClaimMode : std::uint8_t {
  none,
  exclusive,
  // For a mount of type fuseblk, which claims the block device itself: O_EXCL is only tried, then the device is opened
  // without. Until the mount has succeeded the device is to be neither read for use nor replayed. As exclusive for
  // files.
  test_then_share,
};

struct ClaimOptions {
  ClaimMode mode = ClaimMode::exclusive;
  bool read_only = false;
  std::uint64_t offset = 0;          // bytes; the range of the file system in the file
  std::uint64_t length = 0;          // bytes; 0 means up to the end, wherever that will be
  std::optional<unsigned> own_loop;  // number of the loop device that is our own mount's source
  std::string *refusal = nullptr;    // filled, on EBUSY, with a sentence for people
};

// Opens a regular file or block device and claims it. EBUSY: somebody else has it; the reason is also logged.
// EINVAL for other kinds of files, errors of open(2).
Result<UniqueFd> open_claimed(const std::string &path, const ClaimOptions &options);

// Claims what is open already. Does nothing for a block device: whoever opened it has decided about O_EXCL. Claiming a
// file twice through one open file description succeeds.
Status claim(int fd, const ClaimOptions &options);

}  // namespace outboard::device

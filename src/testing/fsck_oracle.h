// e2fsprogs as the judge: is this image consistent, and what is in it?
// None of these changes the image, except replay_with_e2fsck, which says so.
#pragma once

#include "base/result.h"
#include "device/block_device.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace outboard::testing {

struct FsckReport {
  bool clean = false;  // e2fsck -fn found nothing to say
  int exit = -1;
  std::string text;  // all it said
};

// e2fsck -fn. A journal that needs recovery is not replayed by it (and such an image is not clean); see below.
// `offset` in bytes for a file system inside a container file. A program that cannot be run is a report that is not
// clean, with the reason as its text.
FsckReport fsck(const std::string &image, std::uint64_t offset = 0);
// The same for any device: its contents are copied to a temporary file first.
FsckReport fsck(device::BlockDevice &device);

// Lets e2fsck replay the journal, and do nothing else. Changes the image.
Status replay_with_e2fsck(const std::string &image);

// The output of one debugfs request ("stat <12>", "ls -l /", "cat /file", "logdump -a"), read-only.
// EINVAL when debugfs complains on its standard error.
Result<std::string> debugfs(const std::string &image, const std::string &request);

// The bytes of a file in the image, as debugfs reads them.
Result<std::string> debugfs_read(const std::string &image, const std::string &path);

// Every file of the image as text, sorted, one line each: path, type and mode, links, uid, gid, size, and for symbolic
// links the target, for regular files a CRC of the contents. What two images (or an image and our own reading of it)
// can be compared by.
Result<std::string> debugfs_dump(const std::string &image);

// Copies a device's contents to a file of the host, leaving zeros as holes.
Status save_device(device::BlockDevice &device, const std::string &path);

}  // namespace outboard::testing

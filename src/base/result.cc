#include "base/result.h"

#include <cstring>
#include <fmt/format.h>

namespace outboard {

std::string Error::message() const {
  std::string text = ::strerror(code_);
  if (what_ != nullptr && *what_ != '\0') text += fmt::format(": {}", what_);
  if (kind_ == ErrorKind::bad_checksum) text += " (bad checksum)";
  if (inode_ != kNowhere && block_ != kNowhere) text += fmt::format(" (inode {}, block {})", inode_, block_);
  else if (inode_ != kNowhere) text += fmt::format(" (inode {})", inode_);
  else if (block_ != kNowhere) text += fmt::format(" (block {})", block_);
  return text;
}

}  // namespace outboard

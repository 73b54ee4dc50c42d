// Walking a path inside a volume that is not mounted: symbolic links followed, the root as the top.
#pragma once

#include "vfs/filesystem.h"

#include <string>
#include <string_view>

namespace outboard::service {

// An entry whose lookup count is this object's.
class NodeHold {
public:
  NodeHold(vfs::Filesystem &filesystem, vfs::Entry entry) : filesystem_(&filesystem), entry_(std::move(entry)) {}
  NodeHold(NodeHold &&other) noexcept : filesystem_(std::exchange(other.filesystem_, nullptr)), entry_(std::move(other.entry_)) {}
  NodeHold &operator=(NodeHold &&other) noexcept {
    std::swap(filesystem_, other.filesystem_);
    std::swap(entry_, other.entry_);
    return *this;
  }
  ~NodeHold() {
    if (filesystem_ != nullptr) filesystem_->forget(entry_.node, 1);
  }
  const vfs::Entry &operator*() const { return entry_; }
  const vfs::Entry *operator->() const { return &entry_; }

private:
  vfs::Filesystem *filesystem_;
  vfs::Entry entry_;
};

// ENOENT, ENOTDIR, ELOOP (40 links, as Linux). `follow_last`: a symbolic link at the end is followed too.
Result<NodeHold> walk(vfs::Filesystem &filesystem, std::string_view path, bool follow_last);

}  // namespace outboard::service

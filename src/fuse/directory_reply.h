// Where a Filesystem's directory entries become READDIR or READDIRPLUS records.
#pragma once

#include "fuse/reply.h"
#include "vfs/filesystem.h"

#include <algorithm>
#include <functional>
#include <span>

namespace outboard::fuse {

class DirectoryReply final : public vfs::DirectorySink {
public:
  // At most `limit` bytes, the size the kernel asked for, are put into `reply`.
  DirectoryReply(Reply &reply, std::size_t limit, bool plus)
      : reply_(reply), left_(std::min(limit, reply.room().size())), plus_(plus) {}

  std::size_t room() const override { return left_; }
  std::size_t cost(std::string_view name) const override;
  bool add(const vfs::DirectoryEntry &name, const vfs::Entry *entry) override;

  // An entry came whose name no directory can hold (the kernel would fail the whole listing with EIO).
  bool met_bad_name() const { return bad_name_; }

private:
  Reply &reply_;
  std::size_t left_;
  const bool plus_;
  bool bad_name_ = false;
};

// Calls `visit` with each node that the records of a READDIRPLUS reply gave a lookup count to.
void for_each_node(std::span<const std::byte> records, const std::function<void(vfs::NodeId)> &visit);

}  // namespace outboard::fuse

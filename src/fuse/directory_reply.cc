#include "fuse/directory_reply.h"

#include "fuse/encoding.h"

#include <cstring>

namespace outboard::fuse {

std::size_t DirectoryReply::cost(std::string_view name) const {
  return wire::record_size(plus_ ? sizeof(wire::DirentPlus) : sizeof(wire::Dirent), name.size());
}

bool DirectoryReply::add(const vfs::DirectoryEntry &name, const vfs::Entry *entry) {
  if (bad_name_) return false;
  if (name.name.empty() || name.name.size() > wire::kNameMax ||
      name.name.find_first_of(std::string_view("/\0", 2)) != std::string_view::npos) {
    bad_name_ = true;
    return false;
  }
  const std::size_t size = cost(name.name);
  if (size > left_) return false;

  const wire::Dirent dirent{.inode = name.inode,
                            .next = name.next,
                            .name_length = static_cast<std::uint32_t>(name.name.size()),
                            .type = name.type};
  // In a plus listing an entry that was not looked up (the dots) has node 0.
  if (plus_)
    reply_.put(wire::DirentPlus{.entry = entry != nullptr ? encode(*entry) : wire::EntryOut{}, .dirent = dirent});
  else reply_.put(dirent);
  const std::size_t header = plus_ ? sizeof(wire::DirentPlus) : sizeof(wire::Dirent);
  const std::span<std::byte> tail = reply_.room().first(size - header);
  std::memcpy(tail.data(), name.name.data(), name.name.size());
  std::fill(tail.begin() + static_cast<std::ptrdiff_t>(name.name.size()), tail.end(), std::byte{0});
  reply_.commit(tail.size());
  left_ -= size;
  return true;
}

void for_each_node(std::span<const std::byte> records, const std::function<void(vfs::NodeId)> &visit) {
  while (records.size() >= sizeof(wire::DirentPlus)) {
    wire::DirentPlus record;
    std::memcpy(&record, records.data(), sizeof record);
    if (record.entry.node != 0) visit(record.entry.node);
    const std::size_t size = wire::record_size(sizeof record, record.dirent.name_length);
    records = records.subspan(std::min(size, records.size()));
  }
}

}  // namespace outboard::fuse

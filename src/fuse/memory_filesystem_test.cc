#include "fuse/memory_filesystem.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <thread>

namespace outboard::fuse::testing {

namespace {

vfs::Timestamp now() {
  timespec time;
  ::clock_gettime(CLOCK_REALTIME, &time);
  return {time.tv_sec, static_cast<std::uint32_t>(time.tv_nsec)};
}

}  // namespace

MemoryFilesystem::MemoryFilesystem(Controls &controls) : controls_(controls) {
  Node &root = nodes_[vfs::kRootNode];
  root.attributes = {.inode = 2, .mode = S_IFDIR | 0755, .links = 2, .block_size = kBlock};
  root.attributes.modified = root.attributes.changed = root.attributes.born = now();
  root.parent = vfs::kRootNode;
}

Result<MemoryFilesystem::Node *> MemoryFilesystem::find(vfs::NodeId number) {
  const auto node = nodes_.find(number);
  if (node == nodes_.end()) return fail(Error::user(ESTALE));
  return &node->second;
}

Result<MemoryFilesystem::Node *> MemoryFilesystem::find_directory(vfs::NodeId number) {
  Node *node = TRY(find(number));
  if (!S_ISDIR(node->attributes.mode)) return fail(Error::user(ENOTDIR));
  return node;
}

Result<vfs::Entry> MemoryFilesystem::hand_out(vfs::NodeId number) {
  Node *node = TRY(find(number));
  ++node->lookups;
  ++controls_.lookup_counts;
  return vfs::Entry{.node = number, .generation = 1, .attributes = node->attributes, .cacheable = !names_fold};
}

Result<vfs::Entry> MemoryFilesystem::lookup(vfs::NodeId parent, std::string_view name) {
  std::lock_guard lock(mutex_);
  ++controls_.lookups;
  Node *directory = TRY(find_directory(parent));
  if (name == ".") return hand_out(parent);
  if (name == "..") return hand_out(directory->parent);
  const auto found = directory->names.find(name);
  if (found == directory->names.end()) return fail(Error::user(ENOENT));
  return hand_out(found->second.node);
}

void MemoryFilesystem::forget(vfs::NodeId number, std::uint64_t count) {
  std::lock_guard lock(mutex_);
  const auto node = nodes_.find(number);
  if (node == nodes_.end()) return;
  count = std::min(count, node->second.lookups);
  node->second.lookups -= count;
  controls_.lookup_counts -= count;
  drop_if_unused(number);
}

void MemoryFilesystem::drop_if_unused(vfs::NodeId number) {
  const auto node = nodes_.find(number);
  if (number != vfs::kRootNode && node->second.attributes.links == 0 && node->second.lookups == 0) nodes_.erase(node);
}

Result<vfs::Attributes> MemoryFilesystem::get_attributes(vfs::NodeId number) {
  std::lock_guard lock(mutex_);
  return TRY(find(number))->attributes;
}

void MemoryFilesystem::resize(Node &node, std::uint64_t size) {
  if (size < node.attributes.size) {
    node.blocks.erase(node.blocks.lower_bound((size + kBlock - 1) / kBlock), node.blocks.end());
    if (const auto last = node.blocks.find(size / kBlock); last != node.blocks.end() && size % kBlock != 0)
      std::fill(last->second.begin() + size % kBlock, last->second.end(), std::byte{0});
  }
  node.attributes.size = size;
  node.attributes.sectors = node.blocks.size() * (kBlock / 512);
}

Result<vfs::Attributes> MemoryFilesystem::set_attributes(vfs::NodeId number, const vfs::SetAttributes &changes) {
  std::lock_guard lock(mutex_);
  Node *node = TRY(find(number));
  vfs::Attributes &a = node->attributes;
  if (changes.mode) a.mode = (a.mode & S_IFMT) | (*changes.mode & 07777);
  if (changes.uid) a.uid = *changes.uid;
  if (changes.gid) a.gid = *changes.gid;
  if (changes.size) resize(*node, *changes.size);
  if (changes.kill_privileges) a.mode &= ~static_cast<std::uint32_t>(S_ISUID | S_ISGID);
  if (changes.accessed) a.accessed = *changes.accessed;
  if (changes.modified) a.modified = *changes.modified;
  a.changed = changes.changed ? *changes.changed : now();
  if (changes.accessed_now) a.accessed = now();
  if (changes.modified_now) a.modified = now();
  return a;
}

Result<std::string> MemoryFilesystem::read_link(vfs::NodeId number) {
  std::lock_guard lock(mutex_);
  Node *node = TRY(find(number));
  if (!S_ISLNK(node->attributes.mode)) return fail(Error::user(EINVAL));
  return node->target;
}

vfs::NodeId MemoryFilesystem::add_node(std::uint32_t mode, const vfs::Caller &caller) {
  const vfs::NodeId number = ++next_node_;
  vfs::Attributes &a = nodes_[number].attributes;
  a.inode = number;
  a.mode = (mode & S_IFMT) | (mode & 07777 & ~caller.umask);
  a.uid = caller.uid;
  a.gid = caller.gid;
  a.block_size = kBlock;
  a.accessed = a.modified = a.changed = a.born = now();
  return number;
}

void MemoryFilesystem::add_name(Node &directory, std::string_view name, vfs::NodeId node) {
  const std::uint64_t cookie = next_cookie_++;
  directory.names.emplace(name, Name{node, cookie});
  directory.by_cookie.emplace(cookie, name);
  directory.attributes.modified = directory.attributes.changed = now();
}

void MemoryFilesystem::remove_name(Node &directory, std::string_view name) {
  const auto found = directory.names.find(name);
  directory.by_cookie.erase(found->second.cookie);
  directory.names.erase(found);
}

Result<vfs::Entry> MemoryFilesystem::make(vfs::NodeId parent, std::string_view name, std::uint32_t mode,
                                          const vfs::Caller &caller) {
  Node *directory = TRY(find_directory(parent));
  if (directory->names.contains(name)) return fail(Error::user(EEXIST));
  const vfs::NodeId number = add_node(mode, caller);
  Node &node = nodes_[number];
  node.parent = parent;
  node.attributes.links = S_ISDIR(mode) ? 2 : 1;
  directory = TRY(find_directory(parent));
  add_name(*directory, name, number);
  if (S_ISDIR(mode)) ++directory->attributes.links;
  return hand_out(number);
}

Result<vfs::Entry> MemoryFilesystem::make_node(vfs::NodeId parent, std::string_view name, std::uint32_t mode,
                                               std::uint64_t device, const vfs::Caller &caller) {
  std::lock_guard lock(mutex_);
  vfs::Entry entry = TRY(make(parent, name, mode, caller));
  vfs::Attributes &a = nodes_[entry.node].attributes;
  a.device_major = gnu_dev_major(device);
  a.device_minor = gnu_dev_minor(device);
  entry.attributes = a;
  return entry;
}

Result<vfs::Entry> MemoryFilesystem::make_directory(vfs::NodeId parent, std::string_view name, std::uint32_t mode,
                                                    const vfs::Caller &caller) {
  std::lock_guard lock(mutex_);
  return make(parent, name, mode, caller);
}

Result<vfs::Entry> MemoryFilesystem::make_symlink(vfs::NodeId parent, std::string_view name, std::string_view target,
                                                  const vfs::Caller &caller) {
  std::lock_guard lock(mutex_);
  vfs::Entry entry = TRY(make(parent, name, S_IFLNK | 0777, caller));
  Node &node = nodes_[entry.node];
  node.target = target;
  node.attributes.size = target.size();
  entry.attributes = node.attributes;
  return entry;
}

Result<vfs::Entry> MemoryFilesystem::make_temporary(vfs::NodeId parent, std::uint32_t mode, const vfs::Caller &caller) {
  std::lock_guard lock(mutex_);
  TRY(find_directory(parent));
  return hand_out(add_node(mode, caller));
}

Result<vfs::Entry> MemoryFilesystem::link(vfs::NodeId number, vfs::NodeId new_parent, std::string_view new_name) {
  std::lock_guard lock(mutex_);
  Node *node = TRY(find(number));
  Node *directory = TRY(find_directory(new_parent));
  if (directory->names.contains(new_name)) return fail(Error::user(EEXIST));
  ++node->attributes.links;
  add_name(*directory, new_name, number);
  return hand_out(number);
}

Status MemoryFilesystem::unlink(vfs::NodeId parent, std::string_view name) {
  std::lock_guard lock(mutex_);
  Node *directory = TRY(find_directory(parent));
  const auto found = directory->names.find(name);
  if (found == directory->names.end()) return fail(Error::user(ENOENT));
  const vfs::NodeId number = found->second.node;
  Node *node = TRY(find(number));
  if (S_ISDIR(node->attributes.mode)) return fail(Error::user(EISDIR));
  remove_name(*directory, name);
  --node->attributes.links;
  drop_if_unused(number);
  return {};
}

Status MemoryFilesystem::remove_directory(vfs::NodeId parent, std::string_view name) {
  std::lock_guard lock(mutex_);
  Node *directory = TRY(find_directory(parent));
  const auto found = directory->names.find(name);
  if (found == directory->names.end()) return fail(Error::user(ENOENT));
  const vfs::NodeId number = found->second.node;
  Node *node = TRY(find_directory(number));
  if (!node->names.empty()) return fail(Error::user(ENOTEMPTY));
  remove_name(*directory, name);
  --directory->attributes.links;
  node->attributes.links = 0;
  drop_if_unused(number);
  return {};
}

Status MemoryFilesystem::rename(vfs::NodeId parent, std::string_view name, vfs::NodeId new_parent,
                                std::string_view new_name, std::uint32_t flags, const vfs::Caller &) {
  std::lock_guard lock(mutex_);
  Node *from = TRY(find_directory(parent));
  Node *to = TRY(find_directory(new_parent));
  const auto source = from->names.find(name);
  if (source == from->names.end()) return fail(Error::user(ENOENT));
  const vfs::NodeId moved = source->second.node;
  const auto target = to->names.find(new_name);
  const vfs::NodeId replaced = target == to->names.end() ? 0 : target->second.node;
  if ((flags & RENAME_NOREPLACE) != 0 && replaced != 0) return fail(Error::user(EEXIST));
  if ((flags & RENAME_EXCHANGE) != 0 && replaced == 0) return fail(Error::user(ENOENT));
  if (replaced != 0) remove_name(*to, new_name);
  remove_name(*from, name);
  add_name(*to, new_name, moved);
  TRY(find(moved))->parent = new_parent;
  if ((flags & RENAME_EXCHANGE) != 0) {
    add_name(*from, name, replaced);
  } else if (replaced != 0) {
    --TRY(find(replaced))->attributes.links;
    drop_if_unused(replaced);
  }
  return {};
}

Result<std::size_t> MemoryFilesystem::read(vfs::NodeId number, std::uint64_t offset, std::span<std::byte> into) {
  std::lock_guard lock(mutex_);
  ++controls_.reads;
  Node *node = TRY(find(number));
  if (offset >= node->attributes.size) return std::size_t{0};
  into = into.first(std::min<std::size_t>(into.size(), node->attributes.size - offset));
  for (std::size_t done = 0; done < into.size();) {
    const std::uint64_t at = offset + done;
    const std::size_t size = std::min<std::size_t>(kBlock - at % kBlock, into.size() - done);
    const auto block = node->blocks.find(at / kBlock);
    if (block == node->blocks.end()) std::memset(into.data() + done, 0, size);
    else std::memcpy(into.data() + done, block->second.data() + at % kBlock, size);
    done += size;
  }
  return into.size();
}

Result<std::size_t> MemoryFilesystem::write(vfs::NodeId number, std::uint64_t offset, std::span<const std::byte> data,
                                            vfs::WriteFlags flags) {
  std::lock_guard lock(mutex_);
  ++controls_.writes;
  controls_.write_bytes += data.size();
  controls_.largest_write = std::max<std::uint64_t>(controls_.largest_write, data.size());
  if (reinterpret_cast<std::uintptr_t>(data.data()) % kBlock != 0) ++controls_.unaligned_writes;
  if (const int error = controls_.fail_writes) return fail(Error::user(error, "as the test wants"));
  Node *node = TRY(find(number));
  if (const std::uint64_t room = controls_.room; room != 0) {
    if (offset >= room) return fail(Error::user(ENOSPC, "as the test wants"));
    data = data.first(std::min<std::uint64_t>(data.size(), room - offset));
  }
  for (std::size_t done = 0; done < data.size();) {
    const std::uint64_t at = offset + done;
    const std::size_t size = std::min<std::size_t>(kBlock - at % kBlock, data.size() - done);
    std::memcpy(node->blocks[at / kBlock].data() + at % kBlock, data.data() + done, size);
    done += size;
  }
  resize(*node, std::max(node->attributes.size, offset + data.size()));
  if (flags.kill_privileges) node->attributes.mode &= ~static_cast<std::uint32_t>(S_ISUID | S_ISGID);
  if (!flags.from_page_cache) node->attributes.modified = node->attributes.changed = now();
  return data.size();
}

Status MemoryFilesystem::allocate(vfs::NodeId number, std::uint64_t offset, std::uint64_t length, int mode) {
  std::lock_guard lock(mutex_);
  Node *node = TRY(find(number));
  if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) {  // whole blocks, enough for tests
    node->blocks.erase(node->blocks.lower_bound((offset + kBlock - 1) / kBlock),
                       node->blocks.lower_bound((offset + length) / kBlock));
    resize(*node, node->attributes.size);
    return {};
  }
  if (offset + length > (1u << 30)) return fail(Error::user(ENOSPC));
  for (std::uint64_t b = offset / kBlock; b * kBlock < offset + length; ++b) node->blocks[b];
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0) resize(*node, std::max(node->attributes.size, offset + length));
  return {};
}

Result<std::uint64_t> MemoryFilesystem::seek(vfs::NodeId number, std::uint64_t offset, vfs::Seek what) {
  std::lock_guard lock(mutex_);
  ++controls_.seeks;
  Node *node = TRY(find(number));
  const std::uint64_t size = node->attributes.size;
  if (offset >= size) return fail(Error::user(ENXIO));
  if (what == vfs::Seek::data) {
    const auto block = node->blocks.lower_bound(offset / kBlock);
    if (block == node->blocks.end() || block->first * kBlock >= size) return fail(Error::user(ENXIO));
    return std::max(offset, block->first * kBlock);
  }
  std::uint64_t block = offset / kBlock;
  while (node->blocks.contains(block)) ++block;
  return std::min(std::max(offset, block * kBlock), size);
}

Result<std::size_t> MemoryFilesystem::copy_range(vfs::NodeId from, std::uint64_t from_offset, vfs::NodeId to,
                                                 std::uint64_t to_offset, std::size_t length) {
  std::vector<std::byte> bytes(std::min<std::size_t>(length, 1 << 20));
  bytes.resize(TRY(read(from, from_offset, bytes)));
  return write(to, to_offset, bytes, {});
}

Status MemoryFilesystem::sync(vfs::NodeId number, bool) {
  {
    std::lock_guard lock(mutex_);
    ++controls_.syncs;
    TRY(find(number));
  }
  if (const int wanted = controls_.syncs_meet; wanted > 0) {
    ++controls_.syncs_inside;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (controls_.syncs_inside < wanted) {
      if (std::chrono::steady_clock::now() > deadline) return fail(Error::user(ETIMEDOUT));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return {};
}

Status MemoryFilesystem::sync_all() {
  ++controls_.sync_alls;
  return {};
}

Result<std::size_t> MemoryFilesystem::get_xattr(vfs::NodeId number, std::string_view name, std::span<std::byte> into) {
  std::lock_guard lock(mutex_);
  Node *node = TRY(find(number));
  const auto xattr = node->xattrs.find(name);
  if (xattr == node->xattrs.end()) return fail(Error::user(ENODATA));
  if (into.empty()) return xattr->second.size();
  if (into.size() < xattr->second.size()) return fail(Error::user(ERANGE));
  std::copy(xattr->second.begin(), xattr->second.end(), into.begin());
  return xattr->second.size();
}

Result<std::size_t> MemoryFilesystem::list_xattrs(vfs::NodeId number, std::span<std::byte> into) {
  std::lock_guard lock(mutex_);
  Node *node = TRY(find(number));
  std::string list;
  for (const auto &[name, value] : node->xattrs) list += name + '\0';
  if (into.empty()) return list.size();
  if (into.size() < list.size()) return fail(Error::user(ERANGE));
  std::memcpy(into.data(), list.data(), list.size());
  return list.size();
}

Status MemoryFilesystem::set_xattr(vfs::NodeId number, std::string_view name, std::span<const std::byte> value,
                                   int flags, bool clear_setgid) {
  std::lock_guard lock(mutex_);
  Node *node = TRY(find(number));
  if ((flags & XATTR_CREATE) != 0 && node->xattrs.contains(name)) return fail(Error::user(EEXIST));
  if ((flags & XATTR_REPLACE) != 0 && !node->xattrs.contains(name)) return fail(Error::user(ENODATA));
  node->xattrs.insert_or_assign(std::string(name), std::vector<std::byte>(value.begin(), value.end()));
  if (clear_setgid) node->attributes.mode &= ~static_cast<std::uint32_t>(S_ISGID);
  return {};
}

Status MemoryFilesystem::remove_xattr(vfs::NodeId number, std::string_view name) {
  std::lock_guard lock(mutex_);
  Node *node = TRY(find(number));
  const auto xattr = node->xattrs.find(name);
  if (xattr == node->xattrs.end()) return fail(Error::user(ENODATA));
  node->xattrs.erase(xattr);
  return {};
}

Status MemoryFilesystem::read_directory(vfs::NodeId number, std::uint64_t offset, bool plus, vfs::DirectorySink &sink) {
  std::lock_guard lock(mutex_);
  Node *directory = TRY(find_directory(number));
  if (offset < 1 && !sink.add({".", number, 4, 1}, nullptr)) return {};
  if (offset < 2 && !sink.add({"..", directory->parent, 4, 2}, nullptr)) return {};
  for (auto at = directory->by_cookie.upper_bound(offset); at != directory->by_cookie.end(); ++at) {
    const vfs::NodeId child = directory->names.find(at->second)->second.node;
    const std::uint8_t type = static_cast<std::uint8_t>((TRY(find(child))->attributes.mode & S_IFMT) >> 12);
    const vfs::DirectoryEntry name{at->second, child, type, at->first};
    if (!plus) {
      if (!sink.add(name, nullptr)) return {};
      continue;
    }
    const vfs::Entry entry = TRY(hand_out(child));
    if (!sink.add(name, &entry)) {
      --TRY(find(child))->lookups;
      --controls_.lookup_counts;
      return {};
    }
  }
  return {};
}

Result<std::size_t> MemoryFilesystem::ioctl(vfs::NodeId, std::uint32_t command, std::span<const std::byte>,
                                            std::span<std::byte> out, const vfs::Caller &) {
  if (command != kAsk || !question) return fail(Error::user(ENOTTY));
  const std::uint64_t answer = question();
  if (out.size() < sizeof answer) return fail(Error::user(EINVAL));
  std::memcpy(out.data(), &answer, sizeof answer);
  return sizeof answer;
}

Result<std::uint64_t> MemoryFilesystem::map_block(vfs::NodeId number, std::uint64_t block, std::uint32_t block_size) {
  std::lock_guard lock(mutex_);
  ++controls_.maps;
  Node *node = TRY(find(number));
  if (!node->blocks.contains(block * block_size / kBlock)) return std::uint64_t{0};
  return number * 1000 + block;
}

Result<vfs::Statistics> MemoryFilesystem::statistics() {
  std::lock_guard lock(mutex_);
  return vfs::Statistics{.blocks = 1000,
                         .free_blocks = 600,
                         .available_blocks = 500,
                         .inodes = 100,
                         .free_inodes = 100 - nodes_.size(),
                         .block_size = kBlock,
                         .name_max = 255};
}

Status MemoryFilesystem::unmount() {
  std::this_thread::sleep_for(std::chrono::milliseconds(controls_.unmount_milliseconds));
  ++controls_.unmounts;
  return {};
}

}  // namespace outboard::fuse::testing

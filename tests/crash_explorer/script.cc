#include "crash_explorer/script.h"

#include "crash_explorer/tagged_bytes.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <thread>

namespace outboard::crash_explorer {

void Script::run(const std::string &what, const Operation &operation) {
  if (!status_) return;
  doing_ = what;
  promises_.begin(log_.position(), what);
  status_ = operation();
}

Result<vfs::NodeId> Script::node(const std::string &path) {
  if (path.empty()) return vfs::kRootNode;
  const std::uint64_t identity = tree_.at(path).identity;
  if (const auto known = nodes_.find(identity); known != nodes_.end()) return known->second;
  const Place where = TRY(place(path));
  const vfs::Entry entry = TRY(filesystem_->lookup(where.directory, where.name));
  return nodes_[identity] = entry.node;
}

Result<Script::Place> Script::place(const std::string &path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "" : path.substr(0, slash);
  return Place{TRY(node(directory)), identity_of(directory), slash == std::string::npos ? path : path.substr(slash + 1)};
}

// --- names ----------------------------------------------------------------------------------------------------------

void Script::made(const std::string &path, Kind kind, std::uint32_t mode, vfs::NodeId made_node, std::uint64_t directory) {
  const std::uint64_t identity = next_identity_++;
  nodes_[identity] = made_node;
  tree_[path] = {.identity = identity, .kind = kind, .mode = mode};
  if (kind == Kind::file) promises_.bytes_are(identity, bytes_[identity] = "", true);
  promises_.tree_is(tree_, {identity, directory});
}

void Script::create(const std::string &path) {
  run("create " + path, [&]() -> Status {
    const Place where = TRY(place(path));
    const vfs::Entry entry = TRY(filesystem_->make_node(where.directory, where.name, S_IFREG | 0644, 0, {}));
    made(path, Kind::file, 0644, entry.node, where.identity);
    return {};
  });
}

void Script::make_directory(const std::string &path) {
  run("mkdir " + path, [&]() -> Status {
    const Place where = TRY(place(path));
    const vfs::Entry entry = TRY(filesystem_->make_directory(where.directory, where.name, 0755, {}));
    made(path, Kind::directory, 0755, entry.node, where.identity);
    return {};
  });
}

void Script::symlink(const std::string &path, const std::string &target) {
  run("symlink " + path, [&]() -> Status {
    const Place where = TRY(place(path));
    const vfs::Entry entry = TRY(filesystem_->make_symlink(where.directory, where.name, target, {}));
    const Node symlink{.identity = next_identity_++, .kind = Kind::symlink, .mode = 0777, .links = 0, .target = target, .xattrs = {}};
    nodes_[symlink.identity] = entry.node;
    tree_[path] = symlink;
    promises_.tree_is(tree_, {symlink.identity, where.identity});
    return {};
  });
}

void Script::link(const std::string &from, const std::string &to) {
  run("link " + from + " " + to, [&]() -> Status {
    const Place where = TRY(place(to));
    const vfs::NodeId inode = TRY(node(from));
    const vfs::Entry entry = TRY(filesystem_->link(inode, where.directory, where.name));
    filesystem_->forget(entry.node, 1);
    tree_[to] = tree_.at(from);
    promises_.tree_is(tree_, {tree_[to].identity, where.identity});
    return {};
  });
}

void Script::forget_if_gone(std::uint64_t identity, bool keep_open) {
  if (std::ranges::any_of(tree_, [&](const auto &item) { return item.second.identity == identity; })) return;
  const auto known = nodes_.find(identity);
  if (known == nodes_.end()) return;
  if (!keep_open) filesystem_->forget(known->second, 1);
  nodes_.erase(known);
}

void Script::unlink(const std::string &path, bool keep_open) {
  run("unlink " + path + (keep_open ? ", open" : ""), [&]() -> Status {
    const Place where = TRY(place(path));
    const std::uint64_t identity = tree_.at(path).identity;
    if (keep_open) TRY(node(path));
    TRY(filesystem_->unlink(where.directory, where.name));
    tree_.erase(path);
    promises_.tree_is(tree_, {identity, where.identity});
    forget_if_gone(identity, keep_open);
    return {};
  });
}

void Script::remove_directory(const std::string &path) {
  run("rmdir " + path, [&]() -> Status {
    const Place where = TRY(place(path));
    const std::uint64_t identity = tree_.at(path).identity;
    TRY(filesystem_->remove_directory(where.directory, where.name));
    tree_.erase(path);
    promises_.tree_is(tree_, {where.identity});
    forget_if_gone(identity, false);
    return {};
  });
}

void Script::rename(const std::string &from, const std::string &to, std::uint32_t flags) {
  run(fmt::format("rename {} {}{}", from, to, (flags & RENAME_EXCHANGE) != 0 ? ", exchange" : ""), [&]() -> Status {
    const Place old_place = TRY(place(from)), new_place = TRY(place(to));
    const bool exchange = (flags & RENAME_EXCHANGE) != 0;
    const auto target = tree_.find(to);
    const std::uint64_t moved = tree_.at(from).identity, other = target == tree_.end() ? kRoot : target->second.identity;
    TRY(filesystem_->rename(old_place.directory, old_place.name, new_place.directory, new_place.name, flags, {}));
    if (moved == other) return {};  // two names of one file: nothing happens
    Tree after;
    const auto replaced = [](const std::string &path, const std::string &old_top, const std::string &new_top) {
      return new_top + path.substr(old_top.size());
    };
    const auto below = [](const std::string &path, const std::string &top) {
      return path == top || path.starts_with(top + "/");
    };
    for (const auto &[path, node] : tree_) {
      if (below(path, from)) after[replaced(path, from, to)] = node;
      else if (!below(path, to)) after[path] = node;
      else if (exchange) after[replaced(path, to, from)] = node;
    }
    tree_ = std::move(after);
    std::vector<std::uint64_t> touched = {moved, old_place.identity, new_place.identity};
    if (other != kRoot) touched.push_back(other);
    promises_.tree_is(tree_, touched);
    // A file put in the place of another one is written out first.
    if (other != kRoot && !exchange && tree_.at(to).kind == Kind::file) promises_.bytes_are_ordered(moved);
    if (other != kRoot && !exchange) forget_if_gone(other, false);
    return {};
  });
}

void Script::set_mode(const std::string &path, std::uint32_t mode) {
  run(fmt::format("chmod {} {:o}", path, mode), [&]() -> Status {
    vfs::SetAttributes changes;
    changes.mode = mode;
    const vfs::NodeId inode = TRY(node(path));
    TRY(filesystem_->set_attributes(inode, changes));
    const std::uint64_t identity = tree_.at(path).identity;
    for (auto &[other, node] : tree_)
      if (node.identity == identity) node.mode = mode;
    promises_.tree_is(tree_, {identity});
    return {};
  });
}

void Script::set_xattr(const std::string &path, const std::string &name, const std::string &value) {
  run(fmt::format("setxattr {} {} ({} bytes)", path, name, value.size()), [&]() -> Status {
    const vfs::NodeId inode = TRY(node(path));
    TRY(filesystem_->set_xattr(inode, name, std::as_bytes(std::span(value)), 0, false));
    const std::uint64_t identity = tree_.at(path).identity;
    for (auto &[other, node] : tree_)
      if (node.identity == identity) node.xattrs[name] = value;
    promises_.tree_is(tree_, {identity});
    return {};
  });
}

void Script::remove_xattr(const std::string &path, const std::string &name) {
  run("removexattr " + path + " " + name, [&]() -> Status {
    const vfs::NodeId inode = TRY(node(path));
    TRY(filesystem_->remove_xattr(inode, name));
    const std::uint64_t identity = tree_.at(path).identity;
    for (auto &[other, node] : tree_)
      if (node.identity == identity) node.xattrs.erase(name);
    promises_.tree_is(tree_, {identity});
    return {};
  });
}

void Script::temporary(std::size_t length) {
  run(fmt::format("a nameless file of {} bytes", length), [&]() -> Status {
    const vfs::Entry entry = TRY(filesystem_->make_temporary(vfs::kRootNode, 0600, {}));
    temporary_ = next_identity_++;
    nodes_[temporary_] = entry.node;
    promises_.bytes_are(temporary_, bytes_[temporary_] = "", true);
    return put(entry.node, temporary_, 0, length, false);
  });
}

void Script::link_temporary(const std::string &path) {
  run("link the nameless file " + path, [&]() -> Status {
    const Place where = TRY(place(path));
    const vfs::Entry entry = TRY(filesystem_->link(nodes_.at(temporary_), where.directory, where.name));
    filesystem_->forget(entry.node, 1);
    tree_[path] = {.identity = temporary_, .kind = Kind::file, .mode = 0600};
    promises_.tree_is(tree_, {temporary_, where.identity});
    return {};
  });
}

// --- contents -------------------------------------------------------------------------------------------------------

Status Script::put(vfs::NodeId where, std::uint64_t file, std::uint64_t offset, std::size_t length, bool direct) {
  const std::string data = tagged(static_cast<unsigned>(file), promises_.operation(), offset, length);
  vfs::WriteFlags flags;
  flags.direct = direct;
  const std::size_t done = TRY(filesystem_->write(where, offset, std::as_bytes(std::span(data)), flags));
  if (done != length) return fail(Error::user(EIO, "a write was short"));
  std::string &bytes = bytes_[file];
  if (bytes.size() < offset + length) bytes.resize(offset + length, '\0');
  bytes.replace(offset, length, data);
  promises_.bytes_are(file, bytes, false);
  return {};
}

void Script::write(const std::string &path, std::uint64_t offset, std::size_t length) {
  run(fmt::format("write {} [{}, {})", path, offset, offset + length),
      [&]() -> Status { return put(TRY(node(path)), tree_.at(path).identity, offset, length, false); });
}

void Script::write_direct(const std::string &path, std::uint64_t offset, std::size_t length) {
  run(fmt::format("direct write {} [{}, {})", path, offset, offset + length),
      [&]() -> Status { return put(TRY(node(path)), tree_.at(path).identity, offset, length, true); });
}

void Script::truncate(const std::string &path, std::uint64_t new_size) {
  run(fmt::format("truncate {} {}", path, new_size), [&]() -> Status {
    vfs::SetAttributes changes;
    changes.size = new_size;
    const vfs::NodeId inode = TRY(node(path));
    TRY(filesystem_->set_attributes(inode, changes));
    std::string &bytes = bytes_of(path);
    bytes.resize(new_size, '\0');
    promises_.bytes_are(tree_.at(path).identity, bytes, true);
    return {};
  });
}

namespace {
// Whether it did anything: files with block maps have no unwritten blocks, and are told so.
Result<bool> allocated(Status status) {
  if (!status && status.error().is(EOPNOTSUPP)) return false;
  TRY(std::move(status));
  return true;
}
}  // namespace

void Script::allocate(const std::string &path, std::uint64_t offset, std::uint64_t length, bool keep_size) {
  run(fmt::format("fallocate {} [{}, {}){}", path, offset, offset + length, keep_size ? ", keep size" : ""), [&]() -> Status {
    const vfs::NodeId inode = TRY(node(path));
    if (!TRY(allocated(filesystem_->allocate(inode, offset, length, keep_size ? FALLOC_FL_KEEP_SIZE : 0)))) return {};
    std::string &bytes = bytes_of(path);
    if (!keep_size && bytes.size() < offset + length) bytes.resize(offset + length, '\0');
    promises_.bytes_are(tree_.at(path).identity, bytes, true);
    return {};
  });
}

void Script::punch(const std::string &path, std::uint64_t offset, std::uint64_t length) {
  run(fmt::format("punch {} [{}, {})", path, offset, offset + length), [&]() -> Status {
    const vfs::NodeId inode = TRY(node(path));
    if (!TRY(allocated(filesystem_->allocate(inode, offset, length, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)))) return {};
    std::string &bytes = bytes_of(path);
    for (std::uint64_t at = offset; at < std::min<std::uint64_t>(offset + length, bytes.size()); ++at) bytes[at] = '\0';
    promises_.bytes_are(tree_.at(path).identity, bytes, true);
    return {};
  });
}

void Script::zero_range(const std::string &path, std::uint64_t offset, std::uint64_t length) {
  run(fmt::format("zero {} [{}, {})", path, offset, offset + length), [&]() -> Status {
    const vfs::NodeId inode = TRY(node(path));
    if (!TRY(allocated(filesystem_->allocate(inode, offset, length, FALLOC_FL_ZERO_RANGE)))) return {};
    std::string &bytes = bytes_of(path);
    if (bytes.size() < offset + length) bytes.resize(offset + length, '\0');
    bytes.replace(offset, length, length, '\0');
    promises_.bytes_are(tree_.at(path).identity, bytes, true);
    return {};
  });
}

// --- promises -------------------------------------------------------------------------------------------------------

void Script::fsync(const std::string &path) {
  run("fsync " + (path.empty() ? "/" : path), [&]() -> Status {
    const bool directory = path.empty() || tree_.at(path).kind == Kind::directory;
    const vfs::NodeId inode = TRY(node(path));
    if (!directory || hooks_.sync_directories) TRY(filesystem_->sync(inode, false));
    promises_.synced(log_.position(), identity_of(path));
    return {};
  });
}

void Script::fdatasync(const std::string &path) {
  run("fdatasync " + path, [&]() -> Status {
    const vfs::NodeId inode = TRY(node(path));
    TRY(filesystem_->sync(inode, true));
    promises_.data_synced(log_.position(), identity_of(path));
    return {};
  });
}

void Script::write_sync(const std::string &path, std::uint64_t offset, std::size_t length) {
  run(fmt::format("O_SYNC write {} [{}, {})", path, offset, offset + length), [&]() -> Status {
    const vfs::NodeId where = TRY(node(path));
    TRY(put(where, tree_.at(path).identity, offset, length, false));
    TRY(filesystem_->sync(where, false));
    promises_.synced(log_.position(), identity_of(path));
    return {};
  });
}

void Script::sync_all() {
  run("sync", [&]() -> Status {
    TRY(filesystem_->sync_all());
    promises_.all_synced(log_.position());
    return {};
  });
}

std::uint64_t Script::free_inodes() {
  const auto now = filesystem_->statistics();
  return now ? now->free_inodes : 0;
}

void Script::until_free(std::uint64_t inodes) {
  for (const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1); free_inodes() != inodes;) {
    if (std::chrono::steady_clock::now() > end && status_) {
      doing_ = "deletion";
      status_ = fail(Error::system(ETIMEDOUT, "what was unlinked is not deleted"));
    }
    if (!status_) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void Script::background() {
  run("write-behind", [&]() -> Status { return filesystem_->sync_all(); });
}

void Script::remount() {
  run("unmount and mount", [&]() -> Status {
    nodes_.clear();
    filesystem_ = TRY(hooks_.remount());
    promises_.all_synced(log_.position());
    return {};
  });
}

}  // namespace outboard::crash_explorer

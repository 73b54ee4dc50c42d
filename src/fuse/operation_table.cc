#include "fuse/operation_table.h"

#include "fuse/handlers.h"

#include <array>

namespace outboard::fuse {

namespace {

using enum wire::Opcode;

constexpr std::array<Operation, kOperationCount> kTable = [] {
  std::array<Operation, kOperationCount> table{};
  const auto set = [&table](wire::Opcode opcode, const char *name, std::size_t fixed, Handler handler,
                            bool answered = true) {
    table[static_cast<std::size_t>(opcode)] = {name, static_cast<std::uint16_t>(fixed), answered, handler};
  };
  constexpr bool kUnanswered = false;
  set(lookup, "lookup", 0, handlers::lookup);
  set(forget, "forget", sizeof(wire::ForgetIn), handlers::forget, kUnanswered);
  set(batch_forget, "batch forget", sizeof(wire::BatchForgetIn), handlers::batch_forget, kUnanswered);
  set(getattr, "getattr", sizeof(wire::GetattrIn), handlers::get_attributes);
  set(setattr, "setattr", sizeof(wire::SetattrIn), handlers::set_attributes);
  set(statx, "statx", sizeof(wire::StatxIn), handlers::extended_stat);
  set(readlink, "readlink", 0, handlers::read_link);
  set(symlink, "symlink", 0, handlers::make_symlink);
  set(mknod, "mknod", sizeof(wire::MknodIn), handlers::make_node);
  set(mkdir, "mkdir", sizeof(wire::MkdirIn), handlers::make_directory);
  set(unlink, "unlink", 0, handlers::unlink);
  set(rmdir, "rmdir", 0, handlers::remove_directory);
  set(rename, "rename", sizeof(wire::RenameIn), handlers::rename);
  set(rename2, "rename", sizeof(wire::Rename2In), handlers::rename_with_flags);
  set(link, "link", sizeof(wire::LinkIn), handlers::link);
  set(create, "create", sizeof(wire::CreateIn), handlers::create);
  set(tmpfile, "tmpfile", sizeof(wire::CreateIn), handlers::make_temporary);
  set(open, "open", 8, handlers::open);
  set(opendir, "opendir", 8, handlers::open_directory);
  set(release, "release", sizeof(wire::ReleaseIn), handlers::release);
  set(releasedir, "releasedir", sizeof(wire::ReleaseIn), handlers::release);
  set(read, "read", sizeof(wire::ReadIn), handlers::read);
  set(write, "write", sizeof(wire::WriteIn), handlers::write);
  set(readdir, "readdir", sizeof(wire::ReadIn), handlers::read_directory);
  set(readdirplus, "readdirplus", sizeof(wire::ReadIn), handlers::read_directory_plus);
  set(statfs, "statfs", 0, handlers::statistics);
  set(fsync, "fsync", sizeof(wire::FsyncIn), handlers::sync);
  set(fsyncdir, "fsyncdir", sizeof(wire::FsyncIn), handlers::sync);
  set(syncfs, "syncfs", sizeof(wire::SyncfsIn), handlers::sync_all);
  set(setxattr, "setxattr", sizeof(wire::SetxattrIn), handlers::set_xattr);
  set(getxattr, "getxattr", sizeof(wire::GetxattrIn), handlers::get_xattr);
  set(listxattr, "listxattr", sizeof(wire::GetxattrIn), handlers::list_xattrs);
  set(removexattr, "removexattr", 0, handlers::remove_xattr);
  set(fallocate, "fallocate", sizeof(wire::FallocateIn), handlers::allocate);
  set(lseek, "lseek", sizeof(wire::LseekIn), handlers::seek);
  set(copy_file_range, "copy_file_range", sizeof(wire::CopyFileRangeIn), handlers::copy_range);
  set(copy_file_range_64, "copy_file_range", sizeof(wire::CopyFileRangeIn), handlers::copy_range_64);
  set(bmap, "bmap", sizeof(wire::BmapIn), handlers::map_block);
  set(ioctl, "ioctl", sizeof(wire::IoctlIn), handlers::ioctl);
  set(destroy, "destroy", 0, handlers::destroy);
  set(interrupt, "interrupt", 8, handlers::ignore, kUnanswered);
  set(notify_reply, "notify reply", 40, handlers::ignore, kUnanswered);
  // What the kernel is to do without us.
  set(flush, "flush", 24, nullptr);
  set(access, "access", 8, nullptr);
  set(poll, "poll", 24, nullptr);
  set(getlk, "getlk", 48, nullptr);
  set(setlk, "setlk", 48, nullptr);
  set(setlkw, "setlkw", 48, nullptr);
  set(setupmapping, "setupmapping", 40, nullptr);
  set(removemapping, "removemapping", 4, nullptr);
  set(init, "init", sizeof(wire::InitIn), nullptr);  // the session's, before there is a dispatcher
  return table;
}();

constexpr Operation kNone{};

}  // namespace

const Operation &operation(wire::Opcode opcode) {
  const auto number = static_cast<std::size_t>(opcode);
  return number < kTable.size() ? kTable[number] : kNone;
}

std::size_t fixed_size(wire::Opcode opcode, bool short_setxattr) {
  if (opcode == setxattr && short_setxattr) return wire::kSetxattrInShort;
  return operation(opcode).fixed;
}

}  // namespace outboard::fuse

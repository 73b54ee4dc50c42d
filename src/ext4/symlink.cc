// Targets of symbolic links: under 60 bytes in the inode where other files have their map ("fast"), longer ones in one block.
#include "ext4/block_alloc.h"
#include "ext4/credits.h"
#include "ext4/file_map.h"
#include "ext4/inode_flags.h"
#include "ext4/namespace.h"
#include "ext4/namespace_rules.h"

#include <algorithm>
#include <cstring>

namespace outboard::ext4::names {
namespace {

constexpr std::size_t kInodeRoom = 60;     // bytes of the inode's map; the target there ends with a zero byte
constexpr std::size_t kMaxTarget = 4095;   // PATH_MAX less its zero byte

}  // namespace

Status check_symlink_target(const Volume &volume, std::string_view target) {
  if (target.empty()) return fail(Error::user(ENOENT, "a link leads somewhere"));
  if (target.find('\0') != std::string_view::npos) return fail(Error::user(EINVAL, "a path has no zero byte"));
  // The block holds a zero byte after the target.
  if (target.size() > kMaxTarget || target.size() >= volume.block_size()) return fail(Error::user(ENAMETOOLONG));
  return {};
}

std::uint32_t symlink_credits(const Volume &volume) {
  return 2 * credits::kAllocateBlock + file_map::insert_credits(volume, Inode{}) + 1;
}

Status write_symlink(jbd2::Handle &handle, Volume &volume, Inode &inode, std::string_view target) {
  const auto *bytes = reinterpret_cast<const std::byte *>(target.data());
  if (target.size() < kInodeRoom) {
    inode.fields.flags &= ~inode_flags::kExtents;
    std::ranges::fill(inode.fields.block, std::byte{0});
    std::copy_n(bytes, target.size(), inode.fields.block.begin());
    inode.fields.size = target.size();
    return {};
  }
  const BlockGoal goal{.near = inode.allocation_goal, .group = volume.geometry().locate(inode.number).group};
  const BlockRun run = TRY(volume.blocks().reserve(goal, 1));
  if (Status claimed = volume.blocks().claim(handle, run); !claimed) {
    volume.blocks().release(run);
    return claimed;
  }
  if (Status mapped = file_map::insert(handle, volume, inode, FileBlock(0), run, false); !mapped) {
    TRY(volume.blocks().free(handle, run, true));
    return mapped;
  }
  cache::BufferRef buffer = TRY(volume.cache().create(run.start, volume.types().symlink()));
  std::span<std::byte> room = TRY(buffer->writable(handle));
  std::copy_n(bytes, target.size(), room.begin());
  inode.fields.size = target.size();
  return {};
}

Result<std::string> read_link(Volume &volume, const Inode &inode) {
  const std::uint64_t number = inode.number.value();
  if (!inode.is_symlink()) return fail(Error::user(EINVAL, "not a symbolic link"));
  if ((inode.fields.flags & inode_flags::kEncrypted) != 0) return fail(Error::unsupported("link: encrypted target"));
  const std::uint64_t size = inode.fields.size;
  if (size == 0) return fail(Error::corrupt("link: empty target").of_inode(number));
  if (size < kInodeRoom) {
    std::string target(reinterpret_cast<const char *>(inode.fields.block.data()), size);
    if (target.find('\0') != std::string::npos) return fail(Error::corrupt("link: target ends early").of_inode(number));
    return target;
  }
  if ((inode.fields.flags & inode_flags::kInlineData) != 0) return fail(Error::unsupported("link: target as inline data"));
  if (size > kMaxTarget || size >= volume.block_size())
    return fail(Error::corrupt("link: target longer than a path").of_inode(number));
  const FileMapping map = TRY(file_map::find(volume, inode, FileBlock(0), 1));
  if (map.state != FileMapping::State::mapped) return fail(Error::corrupt("link: no block for the target").of_inode(number));
  cache::BufferRef buffer = TRY(volume.cache().read(map.start, volume.types().symlink()));
  std::string target(reinterpret_cast<const char *>(buffer->bytes().data()), size);
  if (target.find('\0') != std::string::npos)
    return fail(Error::corrupt("link: target ends early").in_block(map.start.value()).of_inode(number));
  return target;
}

}  // namespace outboard::ext4::names

// readdir, with and without looking every entry up.
#include "ext4/directory.h"
#include "vfs/mounted_volume.h"

#include <array>
#include <dirent.h>
#include <vector>

namespace outboard::vfs {

namespace {

// ext4's file types are DT_* in another order.
constexpr std::array<std::uint8_t, 8> kTypes = {DT_UNKNOWN, DT_REG, DT_DIR, DT_CHR, DT_BLK, DT_FIFO, DT_SOCK, DT_LNK};

// Names copied out under the directory's lock, and for a plus listing references to their inodes: without the lock a number
// may mean another inode. Attributes of the children are read after it has been dropped (a child's lock may rank before the
// directory's).
struct Listed {
  std::size_t name_offset;
  std::size_t name_length;
  InodeNumber inode;
  std::uint8_t type;
  std::uint64_t next;
  InodeRef referenced;
};

}  // namespace

Status MountedVolume::read_directory(NodeId node, std::uint64_t offset, bool plus, DirectorySink &sink) {
  InodeRef directory = TRY(find(node));
  std::string names;
  std::vector<Listed> listed;
  bool too_small = false;  // there is an entry, and an empty reply has no room for it
  {
    ReadLock lock(directory->lock);
    if (!directory->disk.is_directory()) return fail(Error::user(ENOTDIR));
    std::size_t room = sink.room();
    const auto collect = [&](std::span<const ext4::Directory::Item> items, std::uint64_t next) {
      // Items that share a position go out together or not at all, so that continuing there loses and repeats none.
      std::size_t cost = 0;
      for (const auto &item : items) cost += sink.cost(item.name);
      if (cost > room) {
        too_small = listed.empty();
        return false;
      }
      room -= cost;
      for (const auto &item : items) {
        const std::uint8_t type = item.file_type < kTypes.size() ? kTypes[item.file_type] : std::uint8_t{DT_UNKNOWN};
        Listed &one = listed.emplace_back(names.size(), item.name.size(), item.inode, type, next, InodeRef{});
        // An inode that cannot be loaded still has a name; whoever looks at it learns the error.
        if (plus && item.name != "." && item.name != "..")
          if (Result<InodeRef> inode = inodes_->get(item.inode)) one.referenced = *std::move(inode);
        names += item.name;
      }
      return true;
    };
    if (directory->disk.fields.links != 0)  // a removed directory is empty, even of its dots
      TRY(reported(ext4::Directory(*volume_, directory->disk).iterate(offset, collect)));
  }
  // As getdents(2): an empty answer would say that the directory ends here.
  if (too_small) return fail(Error::user(EINVAL, "readdir: no room for one entry"));
  for (const Listed &item : listed) {
    const std::string_view name = std::string_view(names).substr(item.name_offset, item.name_length);
    const DirectoryEntry entry{name, item.inode.value(), item.type, item.next};
    std::optional<Entry> looked_up;
    if (item.referenced) looked_up = TRY(entry_of(*item.referenced));
    if (!sink.add(entry, looked_up ? &*looked_up : nullptr)) {
      if (looked_up) inodes_->forget(item.inode, 1);
      break;
    }
  }
  return {};
}

}  // namespace outboard::vfs

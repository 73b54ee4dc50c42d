// The handle a transport gets: every operation a client of a mounted file system can ask for.
//
// Nodes. A NodeId is what the transport calls an inode: the inode number, but 1 for the root. Every Entry handed out
// (by lookup, create, link, a readdir sink that accepted a "plus" entry ...) adds one to the node's lookup count;
// forget() takes counts back. A node with a count keeps its number and its contents, even after its last name has gone.
//
// Permissions are the transport's side's business (the kernel checks modes and ACLs under default_permissions); what
// only the file system can know -- immutable and append-only flags, limits of the format, read-only state -- is checked here.
//
// All methods are thread-safe. Errors carry errno values of the matching Linux system call.
#pragma once

#include "base/result.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace outboard::vfs {

using NodeId = std::uint64_t;
inline constexpr NodeId kRootNode = 1;

struct Timestamp {
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
  friend auto operator<=>(const Timestamp &, const Timestamp &) = default;
};

// What stat(2) and statx(2) show.
struct Attributes {
  std::uint64_t inode = 0;
  std::uint32_t mode = 0;
  std::uint32_t links = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t device_major = 0, device_minor = 0;  // of a device node
  std::uint64_t size = 0;
  std::uint64_t sectors = 0;  // 512-byte units
  std::uint32_t block_size = 0;
  Timestamp accessed, modified, changed, born;
  std::uint64_t statx_attributes = 0;       // STATX_ATTR_* bits that hold
  std::uint64_t statx_attributes_mask = 0;  // ... and those that could
};

struct Entry {
  NodeId node = 0;
  std::uint64_t generation = 0;
  Attributes attributes;
  bool cacheable = true;  // false: several names find this entry (casefold); no lifetime for it
};

// Who asks, as far as new objects need to know.
struct Caller {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t pid = 0;
  std::uint32_t umask = 0;  // applied unless the parent has a default ACL
};

struct SetAttributes {
  Caller caller;  // without capabilities unless user 0: whether a chown may keep setgid
  std::optional<std::uint32_t> mode;
  std::optional<std::uint32_t> uid;
  std::optional<std::uint32_t> gid;
  std::optional<std::uint64_t> size;
  std::optional<Timestamp> accessed;
  std::optional<Timestamp> modified;
  std::optional<Timestamp> changed;
  bool accessed_now = false;
  bool modified_now = false;
  bool kill_privileges = false;  // clear setuid, setgid and security.capability: the caller may not keep them
};

// A directory entry on its way out. `next` is the offset that continues after it.
struct DirectoryEntry {
  std::string_view name;
  std::uint64_t inode = 0;
  std::uint8_t type = 0;  // DT_*
  std::uint64_t next = 0;
};

// Where readdir puts its entries.
class DirectorySink {
public:
  virtual ~DirectorySink() = default;
  // The transport's arithmetic: entries that share a position are added together or not at all.
  virtual std::size_t room() const = 0;                         // bytes left
  virtual std::size_t cost(std::string_view name) const = 0;    // bytes one entry takes
  // False: no room, the entry was not taken. `entry` is null unless the caller asked for plus (and for "." and "..").
  virtual bool add(const DirectoryEntry &name, const Entry *entry) = 0;
};

struct Statistics {
  std::uint64_t blocks = 0, free_blocks = 0, available_blocks = 0;
  std::uint64_t inodes = 0, free_inodes = 0;
  std::uint32_t block_size = 0;
  std::uint32_t name_max = 255;
};

enum class Seek { data, hole };

// How much still reaches the disk before nothing does any more.
enum class ShutdownMode : std::uint8_t {
  flush,  // everything written so far: data and metadata
  log,    // metadata: the journal is committed
  now,    // nothing
};

struct WriteFlags {
  bool kill_privileges = false;  // clear setuid, setgid and security.capability: the writer may not keep them
  std::uint32_t writer_gid = 0;  // for that: a member of the file's group keeps a setgid that is not for execution
  bool direct = false;           // O_DIRECT: past any cache
  bool from_page_cache = false;  // the client's write-back: it keeps the times and sends them itself (set_attributes)
};

class Filesystem {
public:
  virtual ~Filesystem() = default;

  virtual Result<Entry> lookup(NodeId parent, std::string_view name) = 0;
  // May a client remember that a lookup in this directory found nothing (ENOENT)? Not where several names find one
  // entry (casefold): making one of them makes the others appear.
  virtual bool negative_entries_cacheable(NodeId parent) {
    static_cast<void>(parent);
    return true;
  }
  virtual void forget(NodeId node, std::uint64_t count) = 0;
  virtual Result<Attributes> get_attributes(NodeId node) = 0;
  virtual Result<Attributes> set_attributes(NodeId node, const SetAttributes &changes) = 0;
  virtual Result<std::string> read_link(NodeId node) = 0;

  // `mode` includes the type; `device` is major/minor packed by the caller with makedev(3) for device nodes.
  virtual Result<Entry> make_node(NodeId parent, std::string_view name, std::uint32_t mode, std::uint64_t device,
                                  const Caller &caller) = 0;
  virtual Result<Entry> make_directory(NodeId parent, std::string_view name, std::uint32_t mode, const Caller &caller) = 0;
  virtual Result<Entry> make_symlink(NodeId parent, std::string_view name, std::string_view target, const Caller &caller) = 0;
  // A regular file without a name (O_TMPFILE).
  virtual Result<Entry> make_temporary(NodeId parent, std::uint32_t mode, const Caller &caller) = 0;
  virtual Result<Entry> link(NodeId node, NodeId new_parent, std::string_view new_name) = 0;
  virtual Status unlink(NodeId parent, std::string_view name) = 0;
  virtual Status remove_directory(NodeId parent, std::string_view name) = 0;
  // `flags` are RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT of <linux/fs.h>.
  virtual Status rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name,
                        std::uint32_t flags, const Caller &caller) = 0;

  // Bytes read; short only at the end of the file.
  virtual Result<std::size_t> read(NodeId node, std::uint64_t offset, std::span<std::byte> into) = 0;
  virtual Result<std::size_t> write(NodeId node, std::uint64_t offset, std::span<const std::byte> data,
                                    WriteFlags flags) = 0;
  // `mode` as fallocate(2).
  virtual Status allocate(NodeId node, std::uint64_t offset, std::uint64_t length, int mode) = 0;
  virtual Result<std::uint64_t> seek(NodeId node, std::uint64_t offset, Seek what) = 0;
  virtual Result<std::size_t> copy_range(NodeId from, std::uint64_t from_offset, NodeId to, std::uint64_t to_offset,
                                         std::size_t length) = 0;
  // Durable when this returns success: the data and the metadata that finds it (all metadata unless data_only).
  virtual Status sync(NodeId node, bool data_only) = 0;
  virtual Status sync_all() = 0;

  // As a crash, without one: nothing reaches the disk after this has returned success, whatever is still asked for;
  // operations that read or write contents or change anything fail with EIO; names and attributes can be looked at. The
  // next mount replays the journal. An error: not shut down (what was to be flushed could not be). Again: success.
  virtual Status shutdown(ShutdownMode mode) {
    static_cast<void>(mode);
    return fail(Error::user(ENOTTY));
  }
  virtual bool is_shut_down() const { return false; }

  // Freezing: no changes, and the disk as after a clean unmount, until thaw(). Operations that change something wait meanwhile,
  // before they hold anything (change_gate.h); all others go on. Bounded: what is not done after `timeout` is tried once
  // more, as long, and then undone: ETIMEDOUT. EBUSY: frozen already, or somebody is at it.
  struct Frozen {
    std::uint64_t ticket = 0;  // tells this freeze from later ones; never 0
    std::string held_by;       // after ETIMEDOUT: who was not done, in words
  };
  virtual Status freeze(std::chrono::milliseconds timeout, Frozen &frozen) {
    static_cast<void>(timeout), static_cast<void>(frozen);
    return fail(Error::user(ENOTTY));
  }
  // Ends the freeze with this ticket; 0: whichever there is. EINVAL when there is none.
  virtual Status thaw(std::uint64_t ticket) {
    static_cast<void>(ticket);
    return fail(Error::user(EINVAL, "not frozen"));
  }
  virtual bool is_frozen() const { return false; }
  // The nodes with a lookup count, of which a client may have something cached.
  virtual std::vector<NodeId> known_nodes() { return {}; }

  // Names with their prefix ("user.x"). get/list: an empty buffer asks for the size; too small is ERANGE.
  virtual Result<std::size_t> get_xattr(NodeId node, std::string_view name, std::span<std::byte> into) = 0;
  virtual Result<std::size_t> list_xattrs(NodeId node, std::span<std::byte> into) = 0;
  // `flags` are XATTR_CREATE, XATTR_REPLACE. clear_setgid: the ACL's writer is not in the owning group.
  virtual Status set_xattr(NodeId node, std::string_view name, std::span<const std::byte> value, int flags,
                           bool clear_setgid) = 0;
  virtual Status remove_xattr(NodeId node, std::string_view name) = 0;

  // Entries from `offset` (0 = start) until the sink is full or the end. With `plus` each entry but the dots is looked up.
  // EINVAL when there are entries and the empty sink has no room for the first of them.
  virtual Status read_directory(NodeId node, std::uint64_t offset, bool plus, DirectorySink &sink) = 0;

  // `command` is the ioctl number; `in` what the kernel copied from the caller; returns bytes placed into `out`.
  // ENOTTY for what is not known.
  virtual Result<std::size_t> ioctl(NodeId node, std::uint32_t command, std::span<const std::byte> in,
                                    std::span<std::byte> out, const Caller &caller) = 0;
  // The device block (in units of `block_size`) behind a file's block; 0 for a hole.
  virtual Result<std::uint64_t> map_block(NodeId node, std::uint64_t block, std::uint32_t block_size) = 0;
  virtual Result<Statistics> statistics() = 0;

  // The last call: everything to disk, the image released as clean (unless shut down: then as after a crash). No other call may be running or follow.
  virtual Status unmount() = 0;
};

}  // namespace outboard::vfs

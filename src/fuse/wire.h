// The FUSE protocol, version 7.45, as its messages stand in memory: host byte order, fields at their natural alignment.
// Facts from the kernel's include/uapi/linux/fuse.h; names are ours. Sizes and offsets are proven below each structure.
//
// A request is an InHeader, the operation's own structure, then names (each ending in NUL) or data, then extensions
// (none are negotiated). A reply is an OutHeader, then the operation's answer unless the header carries an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#define WIRE_SIZE(type, bytes) static_assert(sizeof(type) == (bytes) && std::is_trivially_copyable_v<type>)
#define WIRE_FIELD(type, field, position) static_assert(offsetof(type, field) == (position))

namespace outboard::fuse::wire {

inline constexpr std::uint32_t kMajor = 7;
inline constexpr std::uint32_t kMinor = 45;
inline constexpr std::uint32_t kLeastMinor = 31;  // Linux 5.5: the first with everything the session relies on

inline constexpr std::size_t kNameMax = 255;
// Errors in a reply are 0 or -1 .. -511; the kernel refuses others.
inline constexpr int kErrorMax = 511;

enum class Opcode : std::uint32_t {
  lookup = 1,
  forget = 2,  // no reply
  getattr = 3,
  setattr = 4,
  readlink = 5,
  symlink = 6,
  mknod = 8,
  mkdir = 9,
  unlink = 10,
  rmdir = 11,
  rename = 12,
  link = 13,
  open = 14,
  read = 15,
  write = 16,
  statfs = 17,
  release = 18,
  fsync = 20,
  setxattr = 21,
  getxattr = 22,
  listxattr = 23,
  removexattr = 24,
  flush = 25,
  init = 26,
  opendir = 27,
  readdir = 28,
  releasedir = 29,
  fsyncdir = 30,
  getlk = 31,
  setlk = 32,
  setlkw = 33,
  access = 34,
  create = 35,
  interrupt = 36,  // no reply
  bmap = 37,
  destroy = 38,
  ioctl = 39,
  poll = 40,
  notify_reply = 41,  // no reply
  batch_forget = 42,  // no reply
  fallocate = 43,
  readdirplus = 44,
  rename2 = 45,
  lseek = 46,
  copy_file_range = 47,
  setupmapping = 48,
  removemapping = 49,
  syncfs = 50,
  tmpfile = 51,
  statx = 52,
  copy_file_range_64 = 53,
};

struct InHeader {
  std::uint32_t length;  // of the whole message
  std::uint32_t opcode;
  std::uint64_t unique;
  std::uint64_t node;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint32_t pid;
  std::uint16_t extensions;  // bytes at the message's end, in units of 8
  std::uint16_t padding;
};
WIRE_SIZE(InHeader, 40);
WIRE_FIELD(InHeader, unique, 8);
WIRE_FIELD(InHeader, node, 16);
WIRE_FIELD(InHeader, extensions, 36);

struct OutHeader {
  std::uint32_t length;
  std::int32_t error;    // 0 or a negated errno; in a notification its code
  std::uint64_t unique;  // the request's; 0 in a notification
};
WIRE_SIZE(OutHeader, 16);

// --- INIT ---------------------------------------------------------------------------------------------------------

// Bits 0..31 travel in `flags`, 32..63 in `flags2`.
namespace init_flag {
inline constexpr std::uint64_t async_read = 1ull << 0;
inline constexpr std::uint64_t posix_locks = 1ull << 1;
inline constexpr std::uint64_t atomic_o_trunc = 1ull << 3;
inline constexpr std::uint64_t export_support = 1ull << 4;
inline constexpr std::uint64_t big_writes = 1ull << 5;
inline constexpr std::uint64_t dont_mask = 1ull << 6;
inline constexpr std::uint64_t flock_locks = 1ull << 10;
inline constexpr std::uint64_t has_ioctl_dir = 1ull << 11;
inline constexpr std::uint64_t auto_inval_data = 1ull << 12;
inline constexpr std::uint64_t do_readdirplus = 1ull << 13;
inline constexpr std::uint64_t readdirplus_auto = 1ull << 14;
inline constexpr std::uint64_t async_dio = 1ull << 15;
inline constexpr std::uint64_t writeback_cache = 1ull << 16;
inline constexpr std::uint64_t no_open_support = 1ull << 17;
inline constexpr std::uint64_t parallel_dirops = 1ull << 18;
inline constexpr std::uint64_t handle_killpriv = 1ull << 19;
inline constexpr std::uint64_t posix_acl = 1ull << 20;
inline constexpr std::uint64_t abort_error = 1ull << 21;
inline constexpr std::uint64_t max_pages = 1ull << 22;
inline constexpr std::uint64_t cache_symlinks = 1ull << 23;
inline constexpr std::uint64_t no_opendir_support = 1ull << 24;
inline constexpr std::uint64_t explicit_inval_data = 1ull << 25;
inline constexpr std::uint64_t map_alignment = 1ull << 26;
inline constexpr std::uint64_t submounts = 1ull << 27;
inline constexpr std::uint64_t handle_killpriv_v2 = 1ull << 28;
inline constexpr std::uint64_t setxattr_ext = 1ull << 29;
inline constexpr std::uint64_t init_ext = 1ull << 30;
inline constexpr std::uint64_t security_context = 1ull << 32;
inline constexpr std::uint64_t inode_dax = 1ull << 33;
inline constexpr std::uint64_t create_supplementary_group = 1ull << 34;
inline constexpr std::uint64_t has_expire_only = 1ull << 35;
inline constexpr std::uint64_t direct_io_allow_mmap = 1ull << 36;
inline constexpr std::uint64_t passthrough = 1ull << 37;
inline constexpr std::uint64_t no_export_support = 1ull << 38;
inline constexpr std::uint64_t has_resend = 1ull << 39;
inline constexpr std::uint64_t allow_idmap = 1ull << 40;
inline constexpr std::uint64_t over_io_uring = 1ull << 41;
inline constexpr std::uint64_t request_timeout = 1ull << 42;
}  // namespace init_flag

struct InitIn {
  std::uint32_t major;
  std::uint32_t minor;
  std::uint32_t max_readahead;
  std::uint32_t flags;
  std::uint32_t flags2;  // from here on only with init_ext (7.36); older kernels send the first 16 bytes
  std::uint32_t unused[11];
};
WIRE_SIZE(InitIn, 64);
inline constexpr std::size_t kInitInLeast = 16;

struct InitOut {
  std::uint32_t major;
  std::uint32_t minor;
  std::uint32_t max_readahead;  // bytes
  std::uint32_t flags;
  std::uint16_t max_background;
  std::uint16_t congestion_threshold;
  std::uint32_t max_write;         // bytes
  std::uint32_t time_granularity;  // nanoseconds
  std::uint16_t max_pages;
  std::uint16_t map_alignment;
  std::uint32_t flags2;
  std::uint32_t max_stack_depth;
  std::uint16_t request_timeout;
  std::uint16_t unused[11];
};
WIRE_SIZE(InitOut, 64);
WIRE_FIELD(InitOut, max_write, 20);
WIRE_FIELD(InitOut, max_pages, 28);
WIRE_FIELD(InitOut, flags2, 32);
WIRE_FIELD(InitOut, request_timeout, 40);

// --- attributes ---------------------------------------------------------------------------------------------------

struct Attr {
  std::uint64_t inode;
  std::uint64_t size;
  std::uint64_t blocks;  // 512-byte units
  std::uint64_t atime;
  std::uint64_t mtime;
  std::uint64_t ctime;
  std::uint32_t atime_nsec;
  std::uint32_t mtime_nsec;
  std::uint32_t ctime_nsec;
  std::uint32_t mode;
  std::uint32_t links;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint32_t device;  // the kernel's 32-bit packing, see attributes.h
  std::uint32_t block_size;
  std::uint32_t flags;
};
WIRE_SIZE(Attr, 88);
WIRE_FIELD(Attr, mode, 60);
WIRE_FIELD(Attr, block_size, 80);

struct StatxTime {
  std::int64_t seconds;
  std::uint32_t nanoseconds;
  std::int32_t reserved;
};
WIRE_SIZE(StatxTime, 16);

struct Statx {
  std::uint32_t mask;
  std::uint32_t block_size;
  std::uint64_t attributes;
  std::uint32_t links;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint16_t mode;
  std::uint16_t spare0;
  std::uint64_t inode;
  std::uint64_t size;
  std::uint64_t blocks;
  std::uint64_t attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  std::uint32_t device_major, device_minor;
  std::uint32_t on_major, on_minor;
  std::uint64_t spare2[14];
};
WIRE_SIZE(Statx, 256);
WIRE_FIELD(Statx, inode, 32);
WIRE_FIELD(Statx, atime, 64);
WIRE_FIELD(Statx, device_major, 128);

struct EntryOut {
  std::uint64_t node;  // 0: there is no such entry, and the kernel may remember that for entry_valid
  std::uint64_t generation;
  std::uint64_t entry_valid;  // seconds
  std::uint64_t attr_valid;   // seconds
  std::uint32_t entry_valid_nsec;
  std::uint32_t attr_valid_nsec;
  Attr attr;
};
WIRE_SIZE(EntryOut, 128);
WIRE_FIELD(EntryOut, attr, 40);

struct AttrOut {
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nsec;
  std::uint32_t padding;
  Attr attr;
};
WIRE_SIZE(AttrOut, 104);

struct GetattrIn {
  std::uint32_t flags;
  std::uint32_t padding;
  std::uint64_t handle;
};
WIRE_SIZE(GetattrIn, 16);

struct StatxIn {
  std::uint32_t getattr_flags;
  std::uint32_t reserved;
  std::uint64_t handle;
  std::uint32_t flags;
  std::uint32_t mask;
};
WIRE_SIZE(StatxIn, 24);

struct StatxOut {
  std::uint64_t attr_valid;
  std::uint32_t attr_valid_nsec;
  std::uint32_t flags;
  std::uint64_t spare[2];
  Statx stat;
};
WIRE_SIZE(StatxOut, 288);

namespace setattr_valid {
inline constexpr std::uint32_t mode = 1u << 0;
inline constexpr std::uint32_t uid = 1u << 1;
inline constexpr std::uint32_t gid = 1u << 2;
inline constexpr std::uint32_t size = 1u << 3;
inline constexpr std::uint32_t atime = 1u << 4;
inline constexpr std::uint32_t mtime = 1u << 5;
inline constexpr std::uint32_t handle = 1u << 6;
inline constexpr std::uint32_t atime_now = 1u << 7;
inline constexpr std::uint32_t mtime_now = 1u << 8;
inline constexpr std::uint32_t lock_owner = 1u << 9;
inline constexpr std::uint32_t ctime = 1u << 10;
inline constexpr std::uint32_t kill_suidgid = 1u << 11;
}  // namespace setattr_valid

struct SetattrIn {
  std::uint32_t valid;
  std::uint32_t padding;
  std::uint64_t handle;
  std::uint64_t size;
  std::uint64_t lock_owner;
  std::uint64_t atime;
  std::uint64_t mtime;
  std::uint64_t ctime;
  std::uint32_t atime_nsec;
  std::uint32_t mtime_nsec;
  std::uint32_t ctime_nsec;
  std::uint32_t mode;
  std::uint32_t unused4;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint32_t unused5;
};
WIRE_SIZE(SetattrIn, 88);
WIRE_FIELD(SetattrIn, mode, 68);
WIRE_FIELD(SetattrIn, uid, 76);

struct StatfsOut {
  std::uint64_t blocks;
  std::uint64_t free_blocks;
  std::uint64_t available_blocks;
  std::uint64_t files;
  std::uint64_t free_files;
  std::uint32_t block_size;
  std::uint32_t name_max;
  std::uint32_t fragment_size;
  std::uint32_t padding;
  std::uint32_t spare[6];
};
WIRE_SIZE(StatfsOut, 80);

// --- names --------------------------------------------------------------------------------------------------------

struct MknodIn {
  std::uint32_t mode;
  std::uint32_t device;
  std::uint32_t umask;
  std::uint32_t padding;
};
WIRE_SIZE(MknodIn, 16);

struct MkdirIn {
  std::uint32_t mode;
  std::uint32_t umask;
};
WIRE_SIZE(MkdirIn, 8);

struct RenameIn {
  std::uint64_t new_parent;
};
WIRE_SIZE(RenameIn, 8);

struct Rename2In {
  std::uint64_t new_parent;
  std::uint32_t flags;
  std::uint32_t padding;
};
WIRE_SIZE(Rename2In, 16);

struct LinkIn {
  std::uint64_t node;
};
WIRE_SIZE(LinkIn, 8);

struct CreateIn {
  std::uint32_t flags;  // of open(2)
  std::uint32_t mode;
  std::uint32_t umask;
  std::uint32_t open_flags;
};
WIRE_SIZE(CreateIn, 16);

inline constexpr std::uint32_t kOpenKeepCache = 1u << 1;
inline constexpr std::uint32_t kOpenNoFlush = 1u << 5;
inline constexpr std::uint32_t kOpenParallelDirectWrites = 1u << 6;

struct OpenOut {
  std::uint64_t handle;
  std::uint32_t flags;
  std::int32_t backing_id;
};
WIRE_SIZE(OpenOut, 16);

struct ForgetIn {
  std::uint64_t lookups;
};
WIRE_SIZE(ForgetIn, 8);

struct BatchForgetIn {
  std::uint32_t count;
  std::uint32_t padding;
};
WIRE_SIZE(BatchForgetIn, 8);

struct ForgetOne {
  std::uint64_t node;
  std::uint64_t lookups;
};
WIRE_SIZE(ForgetOne, 16);

// --- directories --------------------------------------------------------------------------------------------------

// A name of `name_length` bytes follows, then zeros to a multiple of 8.
struct Dirent {
  std::uint64_t inode;
  std::uint64_t next;  // the offset that continues after this entry
  std::uint32_t name_length;
  std::uint32_t type;
};
WIRE_SIZE(Dirent, 24);

struct DirentPlus {
  EntryOut entry;
  Dirent dirent;
};
WIRE_SIZE(DirentPlus, 152);

constexpr std::size_t record_size(std::size_t header, std::size_t name_length) {
  return (header + name_length + 7) & ~std::size_t{7};
}

// --- data ---------------------------------------------------------------------------------------------------------

struct ReadIn {
  std::uint64_t handle;
  std::uint64_t offset;
  std::uint32_t size;
  std::uint32_t read_flags;
  std::uint64_t lock_owner;
  std::uint32_t flags;
  std::uint32_t padding;
};
WIRE_SIZE(ReadIn, 40);

inline constexpr std::uint32_t kWriteCache = 1u << 0;
inline constexpr std::uint32_t kWriteKillSuidgid = 1u << 2;

struct WriteIn {
  std::uint64_t handle;
  std::uint64_t offset;
  std::uint32_t size;
  std::uint32_t write_flags;
  std::uint64_t lock_owner;
  std::uint32_t flags;
  std::uint32_t padding;
};
WIRE_SIZE(WriteIn, 40);

struct WriteOut {
  std::uint32_t size;
  std::uint32_t padding;
};
WIRE_SIZE(WriteOut, 8);

inline constexpr std::uint32_t kFsyncDataOnly = 1u << 0;

struct FsyncIn {
  std::uint64_t handle;
  std::uint32_t flags;
  std::uint32_t padding;
};
WIRE_SIZE(FsyncIn, 16);

struct ReleaseIn {
  std::uint64_t handle;
  std::uint32_t flags;
  std::uint32_t release_flags;
  std::uint64_t lock_owner;
};
WIRE_SIZE(ReleaseIn, 24);

struct FallocateIn {
  std::uint64_t handle;
  std::uint64_t offset;
  std::uint64_t length;
  std::uint32_t mode;
  std::uint32_t padding;
};
WIRE_SIZE(FallocateIn, 32);

struct LseekIn {
  std::uint64_t handle;
  std::uint64_t offset;
  std::uint32_t whence;
  std::uint32_t padding;
};
WIRE_SIZE(LseekIn, 24);

struct LseekOut {
  std::uint64_t offset;
};
WIRE_SIZE(LseekOut, 8);

struct CopyFileRangeIn {
  std::uint64_t handle_in;
  std::uint64_t offset_in;
  std::uint64_t node_out;
  std::uint64_t handle_out;
  std::uint64_t offset_out;
  std::uint64_t length;
  std::uint64_t flags;
};
WIRE_SIZE(CopyFileRangeIn, 56);

struct CopyFileRangeOut {  // of copy_file_range_64; the older call answers with WriteOut
  std::uint64_t copied;
};
WIRE_SIZE(CopyFileRangeOut, 8);

struct BmapIn {
  std::uint64_t block;
  std::uint32_t block_size;
  std::uint32_t padding;
};
WIRE_SIZE(BmapIn, 16);

struct BmapOut {
  std::uint64_t block;
};
WIRE_SIZE(BmapOut, 8);

struct SyncfsIn {
  std::uint64_t padding;
};
WIRE_SIZE(SyncfsIn, 8);

// --- extended attributes ------------------------------------------------------------------------------------------

inline constexpr std::uint32_t kSetxattrAclKillSgid = 1u << 0;

struct SetxattrIn {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t setxattr_flags;  // from here on only with setxattr_ext
  std::uint32_t padding;
};
WIRE_SIZE(SetxattrIn, 16);
inline constexpr std::size_t kSetxattrInShort = 8;

struct GetxattrIn {
  std::uint32_t size;  // 0 asks for the size
  std::uint32_t padding;
};
WIRE_SIZE(GetxattrIn, 8);

struct GetxattrOut {
  std::uint32_t size;
  std::uint32_t padding;
};
WIRE_SIZE(GetxattrOut, 8);

// --- ioctl --------------------------------------------------------------------------------------------------------

struct IoctlIn {
  std::uint64_t handle;
  std::uint32_t flags;
  std::uint32_t command;
  std::uint64_t argument;
  std::uint32_t in_size;
  std::uint32_t out_size;
};
WIRE_SIZE(IoctlIn, 32);

struct IoctlOut {
  std::int32_t result;
  std::uint32_t flags;
  std::uint32_t in_iovs;
  std::uint32_t out_iovs;
};
WIRE_SIZE(IoctlOut, 16);

// --- notifications: messages from the server that answer no request -----------------------------------------------

inline constexpr std::int32_t kNotifyInvalidateInode = 2;

struct NotifyInvalidateInode {
  std::uint64_t node;
  std::int64_t offset;  // bytes; negative: attributes only
  std::int64_t length;  // bytes; 0: to the end
};
WIRE_SIZE(NotifyInvalidateInode, 24);

// _IOR(229, 0, uint32_t) on a newly opened /dev/fuse: become another queue of the connection of the descriptor given.
inline constexpr unsigned long kDeviceClone = 0x8004E500ul;

}  // namespace outboard::fuse::wire

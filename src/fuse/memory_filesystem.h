// A small file system in memory for the tests of this layer: every operation of the contract, nothing more.
// What a test wants to know or to provoke in a server of another process stands in `Controls`, in shared memory.
#pragma once

#include "vfs/filesystem.h"

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace outboard::fuse::testing {

struct Controls {
  std::atomic<std::uint64_t> lookups, reads, writes, write_bytes, largest_write, syncs, sync_alls, unmounts, seeks,
      maps;
  std::atomic<std::uint64_t> unaligned_writes;  // whose data did not lie on a page boundary
  std::atomic<std::uint64_t> lookup_counts;     // that clients hold
  std::atomic<int> fail_writes;                 // errno for each write
  std::atomic<std::uint64_t> room;              // no file grows beyond this (0: any size): a short count, then ENOSPC
  std::atomic<int> unmount_milliseconds;        // that unmount() takes
  std::atomic<int> syncs_meet;                  // sync() waits until so many are inside
  std::atomic<int> syncs_inside;
};

class MemoryFilesystem final : public vfs::Filesystem {
public:
  static constexpr std::uint32_t kBlock = 4096;
  // A private ioctl: stores what `question` returns. For asking the server's own process.
  static constexpr std::uint32_t kAsk = 0x80086D01;  // _IOR('m', 1, uint64_t)

  explicit MemoryFilesystem(Controls &controls);
  std::function<std::uint64_t()> question;
  bool names_fold = false;  // entries and absences are not to be remembered

  Result<vfs::Entry> lookup(vfs::NodeId parent, std::string_view name) override;
  bool negative_entries_cacheable(vfs::NodeId) override { return !names_fold; }
  void forget(vfs::NodeId node, std::uint64_t count) override;
  Result<vfs::Attributes> get_attributes(vfs::NodeId node) override;
  Result<vfs::Attributes> set_attributes(vfs::NodeId node, const vfs::SetAttributes &changes) override;
  Result<std::string> read_link(vfs::NodeId node) override;
  Result<vfs::Entry> make_node(vfs::NodeId parent, std::string_view name, std::uint32_t mode, std::uint64_t device,
                               const vfs::Caller &caller) override;
  Result<vfs::Entry> make_directory(vfs::NodeId parent, std::string_view name, std::uint32_t mode,
                                    const vfs::Caller &caller) override;
  Result<vfs::Entry> make_symlink(vfs::NodeId parent, std::string_view name, std::string_view target,
                                  const vfs::Caller &caller) override;
  Result<vfs::Entry> make_temporary(vfs::NodeId parent, std::uint32_t mode, const vfs::Caller &caller) override;
  Result<vfs::Entry> link(vfs::NodeId node, vfs::NodeId new_parent, std::string_view new_name) override;
  Status unlink(vfs::NodeId parent, std::string_view name) override;
  Status remove_directory(vfs::NodeId parent, std::string_view name) override;
  Status rename(vfs::NodeId parent, std::string_view name, vfs::NodeId new_parent, std::string_view new_name,
                std::uint32_t flags, const vfs::Caller &caller) override;
  Result<std::size_t> read(vfs::NodeId node, std::uint64_t offset, std::span<std::byte> into) override;
  Result<std::size_t> write(vfs::NodeId node, std::uint64_t offset, std::span<const std::byte> data,
                            vfs::WriteFlags flags) override;
  Status allocate(vfs::NodeId node, std::uint64_t offset, std::uint64_t length, int mode) override;
  Result<std::uint64_t> seek(vfs::NodeId node, std::uint64_t offset, vfs::Seek what) override;
  Result<std::size_t> copy_range(vfs::NodeId from, std::uint64_t from_offset, vfs::NodeId to, std::uint64_t to_offset,
                                 std::size_t length) override;
  Status sync(vfs::NodeId node, bool data_only) override;
  Status sync_all() override;
  Result<std::size_t> get_xattr(vfs::NodeId node, std::string_view name, std::span<std::byte> into) override;
  Result<std::size_t> list_xattrs(vfs::NodeId node, std::span<std::byte> into) override;
  Status set_xattr(vfs::NodeId node, std::string_view name, std::span<const std::byte> value, int flags,
                   bool clear_setgid) override;
  Status remove_xattr(vfs::NodeId node, std::string_view name) override;
  Status read_directory(vfs::NodeId node, std::uint64_t offset, bool plus, vfs::DirectorySink &sink) override;
  Result<std::size_t> ioctl(vfs::NodeId node, std::uint32_t command, std::span<const std::byte> in,
                            std::span<std::byte> out, const vfs::Caller &caller) override;
  Result<std::uint64_t> map_block(vfs::NodeId node, std::uint64_t block, std::uint32_t block_size) override;
  Result<vfs::Statistics> statistics() override;
  Status unmount() override;

private:
  using Block = std::array<std::byte, kBlock>;
  struct Name {
    vfs::NodeId node;
    std::uint64_t cookie;
  };
  struct Node {
    vfs::Attributes attributes;
    vfs::NodeId parent = 0;
    std::map<std::uint64_t, Block> blocks;
    std::map<std::string, Name, std::less<>> names;
    std::map<std::uint64_t, std::string> by_cookie;
    std::map<std::string, std::vector<std::byte>, std::less<>> xattrs;
    std::string target;
    std::uint64_t lookups = 0;
  };

  Result<Node *> find(vfs::NodeId number);
  Result<Node *> find_directory(vfs::NodeId number);
  Result<vfs::Entry> hand_out(vfs::NodeId number);
  Result<vfs::Entry> make(vfs::NodeId parent, std::string_view name, std::uint32_t mode, const vfs::Caller &caller);
  vfs::NodeId add_node(std::uint32_t mode, const vfs::Caller &caller);
  void add_name(Node &directory, std::string_view name, vfs::NodeId node);
  void remove_name(Node &directory, std::string_view name);
  void drop_if_unused(vfs::NodeId number);
  void resize(Node &node, std::uint64_t size);

  Controls &controls_;
  std::mutex mutex_;
  std::unordered_map<vfs::NodeId, Node> nodes_;
  vfs::NodeId next_node_ = 2;
  std::uint64_t next_cookie_ = 3;
};

}  // namespace outboard::fuse::testing

// A volume of a few files as vfs::Filesystem: what `outboard sample` mounts. One directory, regular files only.
//
// What a sample does not keep on its device -- owners, modes, times -- is kept in memory (times) or fixed (the rest). What
// is dirty reaches the device at fsync, when half the page cache's memory is in use, and at the unmount.
#pragma once

#include "sample/cached_file.h"
#include "vfs/filesystem.h"

#include <map>
#include <memory>

namespace outboard::sample {

struct SampleOptions {
  bool direct = false;  // no page cache: every write goes to the device before it returns
  bool read_only = false;
  pagecache::MemoryLimits memory;
};

class SampleFilesystem final : public vfs::Filesystem {
public:
  SampleFilesystem(std::unique_ptr<Volume> volume, const SampleOptions &options);
  ~SampleFilesystem() override;

  Result<vfs::Entry> lookup(vfs::NodeId parent, std::string_view name) override;
  void forget(vfs::NodeId node, std::uint64_t count) override;
  Result<vfs::Attributes> get_attributes(vfs::NodeId node) override;
  Result<vfs::Attributes> set_attributes(vfs::NodeId node, const vfs::SetAttributes &changes) override;
  Result<vfs::Entry> make_node(vfs::NodeId parent, std::string_view name, std::uint32_t mode, std::uint64_t device,
                               const vfs::Caller &caller) override;
  Status unlink(vfs::NodeId parent, std::string_view name) override;
  Result<std::size_t> read(vfs::NodeId node, std::uint64_t offset, std::span<std::byte> into) override;
  Result<std::size_t> write(vfs::NodeId node, std::uint64_t offset, std::span<const std::byte> data,
                            vfs::WriteFlags flags) override;
  Status allocate(vfs::NodeId node, std::uint64_t offset, std::uint64_t length, int mode) override;
  Result<std::uint64_t> seek(vfs::NodeId node, std::uint64_t offset, vfs::Seek what) override;
  Status sync(vfs::NodeId node, bool data_only) override;
  Status sync_all() override;
  Status read_directory(vfs::NodeId node, std::uint64_t offset, bool plus, vfs::DirectorySink &sink) override;
  Result<std::uint64_t> map_block(vfs::NodeId node, std::uint64_t block, std::uint32_t block_size) override;
  Result<vfs::Statistics> statistics() override;
  Status unmount() override;

  // What no sample can.
  Result<std::string> read_link(vfs::NodeId node) override;
  Result<vfs::Entry> make_directory(vfs::NodeId parent, std::string_view name, std::uint32_t mode,
                                    const vfs::Caller &caller) override;
  Result<vfs::Entry> make_symlink(vfs::NodeId parent, std::string_view name, std::string_view target,
                                  const vfs::Caller &caller) override;
  Result<vfs::Entry> make_temporary(vfs::NodeId parent, std::uint32_t mode, const vfs::Caller &caller) override;
  Result<vfs::Entry> link(vfs::NodeId node, vfs::NodeId new_parent, std::string_view new_name) override;
  Status remove_directory(vfs::NodeId parent, std::string_view name) override;
  Status rename(vfs::NodeId parent, std::string_view name, vfs::NodeId new_parent, std::string_view new_name,
                std::uint32_t flags, const vfs::Caller &caller) override;
  Result<std::size_t> copy_range(vfs::NodeId from, std::uint64_t from_offset, vfs::NodeId to, std::uint64_t to_offset,
                                 std::size_t length) override;
  Result<std::size_t> get_xattr(vfs::NodeId node, std::string_view name, std::span<std::byte> into) override;
  Result<std::size_t> list_xattrs(vfs::NodeId node, std::span<std::byte> into) override;
  Status set_xattr(vfs::NodeId node, std::string_view name, std::span<const std::byte> value, int flags,
                   bool clear_setgid) override;
  Status remove_xattr(vfs::NodeId node, std::string_view name) override;
  Result<std::size_t> ioctl(vfs::NodeId node, std::uint32_t command, std::span<const std::byte> in,
                            std::span<std::byte> out, const vfs::Caller &caller) override;

private:
  // A file's number plus this is its node; the root is node 1.
  static constexpr vfs::NodeId kFirstNode = 16;

  // Thread-safe. Kept alive by whoever uses it.
  struct File {
    File(SampleFilesystem &filesystem, unsigned file_number)
        : number(file_number),
          bytes(filesystem.volume_->file(file_number), filesystem.volume_->device(), filesystem.memory_,
                filesystem.volume_->block_size()) {}
    const unsigned number;
    CachedFile bytes;
    // Under the file system's mutex.
    std::string name;  // empty: unlinked
    std::uint64_t lookups = 0;
    vfs::Timestamp accessed, modified, changed;
  };
  using FileRef = std::shared_ptr<File>;

  Result<FileRef> find(vfs::NodeId node) const EXCLUDES(mutex_);
  Result<FileRef> find_to_change(vfs::NodeId node) const EXCLUDES(mutex_);
  FileRef named(std::string_view name) const REQUIRES(mutex_);
  FileRef make(unsigned number, std::string name);
  vfs::Entry hand_out(File &file) REQUIRES(mutex_);
  vfs::Attributes attributes(const File &file) const REQUIRES(mutex_);
  std::vector<FileRef> all() const EXCLUDES(mutex_);
  void touch(File &file) EXCLUDES(mutex_);
  void make_room(File &file);

  const std::unique_ptr<Volume> volume_;
  const SampleOptions options_;
  pagecache::FolioMemory memory_;  // outlives the files
  mutable Mutex mutex_{Rank::inode_table};
  Mutex names_mutex_{Rank::rename};  // one change of names at a time; held across the device's work
  std::map<unsigned, FileRef> files_ GUARDED_BY(mutex_);
};

}  // namespace outboard::sample

// What a small file system must be to be served by the one owner (CachedFile) and the one adaptor (SampleFilesystem):
// a mapping source for each file, and a few questions that are not about mappings.
#pragma once

#include "device/block_device.h"
#include "iomap/mapping.h"

#include <string>
#include <string_view>
#include <vector>

namespace outboard::sample {

// One file. The owner holds the file's lock: exclusively, except for begin and end of `read` and `report`, where shared
// suffices. What files of one volume have in common is the volume's to lock. No two write rounds of a file overlap.
class FileSource : public iomap::MappingSource {
public:
  virtual std::uint64_t size() const = 0;  // bytes; as far as ioend() has told
  virtual std::uint64_t size_limit() const = 0;
  // No block, no promise behind `size` any more, and size() is at most that. The owner drops the folios there.
  virtual Status shrink(std::uint64_t size) {
    static_cast<void>(size);
    return fail(Error::user(EPERM, "the size is fixed"));
  }
  // A hole at the end. The owner has seen to it that the rest of the old last block is zeros on the device.
  virtual Status grow(std::uint64_t size) {
    static_cast<void>(size);
    return fail(Error::user(EPERM, "the size is fixed"));
  }
  // Whole blocks become a hole; the owner drops their folios.
  virtual Status punch(ByteRange blocks) {
    static_cast<void>(blocks);
    return fail(Error::unsupported("no holes here"));
  }
  // The dirty bytes are on their way to the device. What was promised for them is used up by that: whoever writes there
  // from now on asks for a promise again.
  virtual void taken(ByteRange dirty) { static_cast<void>(dirty); }
  // The writes recorded by ioend() since the last call belong together; `complete`: all of them succeeded. A file system
  // with atomic writes lets them hold in one step now, or takes them all back.
  virtual void settle(bool complete) { static_cast<void>(complete); }
  // settle(false) takes everything back.
  virtual bool atomic() const { return false; }
  // No byte is dirty: promises that are left were not needed.
  virtual void clean() {}
  // What has been settled, and every change of the file's size and name, is durable when this succeeds.
  virtual Status sync() = 0;
};

// A few files by number. Thread-safe, but for what FileSource leaves to its owner.
class Volume {
public:
  virtual ~Volume() = default;
  virtual device::BlockDevice &device() = 0;
  virtual std::uint32_t block_size() const = 0;

  struct Name {
    unsigned file = 0;
    std::string name;
  };
  virtual std::vector<Name> names() = 0;
  // Stays valid until erase().
  virtual FileSource &file(unsigned number) = 0;

  // An empty file. EEXIST is the adaptor's to find; ENOSPC when there is no room for another.
  virtual Result<unsigned> create(std::string_view name) {
    static_cast<void>(name);
    return fail(Error::user(EPERM, "no new files here"));
  }
  // The name goes; the contents stay until erase(), which comes when nobody uses them any more (or never: a crash).
  virtual Status unlink(unsigned file) {
    static_cast<void>(file);
    return fail(Error::user(EPERM, "names stay here"));
  }
  virtual void erase(unsigned file) { static_cast<void>(file); }
  virtual Status sync() = 0;

  struct Space {
    std::uint64_t blocks = 0, free_blocks = 0;
    std::uint64_t files = 0, free_files = 0;
  };
  virtual Space space() = 0;
};

}  // namespace outboard::sample

// out-of-place: no block that holds committed bytes is ever overwritten. Each write goes to free blocks; settle() lets a
// group of writes hold in one step in memory; sync() makes everything settled durable in one step on the device. The
// blocks they replace are free after that. A crash shows the last step that was completed, whole: no torn write.
//
// On the device, in blocks of 4096 bytes: two slots for the root (see out_of_place_root.h), then the files' blocks. There
// is no other metadata: the root names every file and every block in use, and all else is free.
#pragma once

#include "base/interval_set.h"
#include "base/mutex.h"
#include "sample/out_of_place_root.h"
#include "sample/volume.h"

#include <deque>
#include <map>
#include <memory>

namespace outboard::sample {

class OutOfPlaceVolume final : public Volume {
public:
  static constexpr std::uint32_t kBlock = out_of_place::kBlock;

  static Status format(device::BlockDevice &device);
  // EUCLEAN when neither slot holds a whole root.
  static Result<std::unique_ptr<OutOfPlaceVolume>> open(device::BlockDevice &device);

  device::BlockDevice &device() override { return device_; }
  std::uint32_t block_size() const override { return kBlock; }
  std::vector<Name> names() override;
  FileSource &file(unsigned number) override { return files_[number]; }
  Result<unsigned> create(std::string_view name) override;
  Status unlink(unsigned file) override;
  void erase(unsigned file) override;
  Status sync() override { return commit(); }
  Space space() override;

private:
  using BlockMap = std::map<std::uint64_t, std::uint64_t>;  // file block to device block

  class File final : public FileSource {
  public:
    explicit File(OutOfPlaceVolume &volume) : volume_(volume) {}
    Result<iomap::Mapping> begin(ByteRange range, iomap::Operation operation) override;
    Status ioend(ByteRange written, const iomap::Mapping &mapping) override;
    Status end(ByteRange range, std::uint64_t moved, iomap::Operation operation, const iomap::Mapping &mapping) override;
    std::uint64_t size() const override;
    std::uint64_t size_limit() const override { return std::uint64_t{1} << 62; }
    bool atomic() const override { return true; }
    Status shrink(std::uint64_t size) override;
    Status grow(std::uint64_t size) override;
    Status punch(ByteRange blocks) override;
    void taken(ByteRange dirty) override;
    void settle(bool complete) override;
    void clean() override;
    Status sync() override { return volume_.commit(); }
    void erase();

    std::string name;     // empty: none (any more)
    bool in_use = false;  // also while it has no name any more
    std::uint64_t settled_size = 0;
    BlockMap settled;

  private:
    friend class OutOfPlaceVolume;
    struct Stretch {
      bool mapped = false, promised = false;
      std::uint64_t count = 0, start = 0;  // blocks; the first one's place on the device
    };
    const std::uint64_t *place(std::uint64_t block) const REQUIRES(volume_.mutex_);
    Stretch stretch(std::uint64_t block, std::uint64_t most) const REQUIRES(volume_.mutex_);
    Status promise(std::uint64_t block, Stretch &stretch) REQUIRES(volume_.mutex_);
    Result<iomap::Mapping> allocate(ByteRange range, std::uint64_t block, std::uint64_t want) REQUIRES(volume_.mutex_);
    void withdraw(IntervalSet &from, std::uint64_t first, std::uint64_t end) REQUIRES(volume_.mutex_);
    void remove(std::uint64_t first, std::uint64_t end) REQUIRES(volume_.mutex_);

    OutOfPlaceVolume &volume_;
    std::uint64_t staged_size_ = 0;  // at least settled_size
    BlockMap staged_;                // written since settle(); reads see it
    // Blocks of the device that are promised: one for each block of the file that is dirty ...
    IntervalSet promised_;
    IntervalSet on_their_way_;  // ... and for each that write-back has taken
    IntervalSet::Run last_promise_;  // made by the round under way
  };

  OutOfPlaceVolume(device::BlockDevice &device, const out_of_place::Layout &layout) : device_(device), layout_(layout) {}
  Status adopt(const out_of_place::Root &root);
  Status commit() EXCLUDES(commit_mutex_, mutex_);
  out_of_place::Root root() REQUIRES(mutex_);
  std::uint64_t available() const REQUIRES(mutex_) { return free_.count() - promises_; }

  device::BlockDevice &device_;
  const out_of_place::Layout layout_;

  Mutex commit_mutex_{Rank::orphan_list};  // one commit at a time
  unsigned durable_slot_ GUARDED_BY(commit_mutex_) = 0;
  std::uint64_t generation_ GUARDED_BY(commit_mutex_) = 0;

  mutable Mutex mutex_{Rank::superblock};  // the files' maps and the space; no I/O under it
  std::deque<File> files_;                 // their number is fixed
  IntervalSet free_ GUARDED_BY(mutex_);    // blocks of the device
  IntervalSet replaced_ GUARDED_BY(mutex_);   // not used any more, but a crash would bring them back: free after commit()
  std::uint64_t promises_ GUARDED_BY(mutex_) = 0;  // blocks
  std::uint64_t cursor_ GUARDED_BY(mutex_) = 0;    // where the search for free blocks begins
};

}  // namespace outboard::sample

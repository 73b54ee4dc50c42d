// A file or block device of the host as a BlockDevice.
//
// Direct I/O (O_DIRECT) is used where the host takes it, because the file system above keeps its own caches and because
// a completed direct write needs only the host device's flush. Requests that do not meet the host's alignment go
// through an aligned bounce buffer; an unaligned write reads and rewrites the sectors at its edges.
#pragma once

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "device/block_device.h"
#include "device/host_file.h"

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>

namespace outboard::device {

struct OpenOptions {
  bool read_only = false;
  std::uint64_t offset = 0;                 // bytes before the file system (an image inside a container file)
  std::optional<std::uint64_t> size_limit;  // bytes of the file system; beyond the end of the file is an error
  bool direct_io = true;                    // try O_DIRECT; false means buffered
  bool claim = true;                        // refuse what somebody else uses, and be refused to others (claim.h)
  bool mount_claims = false;                // the mount will claim the block device: ClaimMode::test_then_share
  std::optional<unsigned> own_loop;         // the loop device that is our own mount's source
  std::shared_ptr<DeviceHealth> health;     // reads, writes and flushes are waited for as it says, where io_uring can; null, and in memory: for ever
  std::string *refusal = nullptr;           // filled, on EBUSY, with a sentence for people
};

class FileDevice final : public BlockDevice {
public:
  // ENOENT, EACCES ... of open(2); EBUSY when somebody else has it; EINVAL for what is neither file nor block device,
  // or for an offset or size beyond its end; EROFS for a writable open of a write-protected device.
  static Result<std::unique_ptr<FileDevice>> open(const std::string &path, const OpenOptions &options);
  // Takes over a descriptor that was opened elsewhere. Its open file description gets or loses O_DIRECT. A descriptor
  // opened O_RDONLY makes a read-only device, whatever the options say. A file is claimed; a block device's claim is
  // what the descriptor was opened with.
  static Result<std::unique_ptr<FileDevice>> adopt(UniqueFd fd, const OpenOptions &options);

  const Properties &properties() const override { return properties_; }
  Status read(std::uint64_t offset, std::span<std::byte> data) override;
  Status write(std::uint64_t offset, std::span<const std::byte> data) override;
  Status write_gather(std::uint64_t offset, std::span<const iovec> pieces) override;
  Status flush() override;
  Status discard(std::uint64_t offset, std::uint64_t length) override;
  Status zero(std::uint64_t offset, std::uint64_t length) override;
  Status sign_of_life() override;

  bool direct() const { return direct_; }
  bool is_block_device() const { return is_block_; }
  bool in_memory() const;                // nothing is behind it that could fail to answer (in_memory.h)
  int fd() const { return host_.fd(); }  // for ioctls on the file and for passing it on

private:
  explicit FileDevice(UniqueFd fd) : host_(std::move(fd)) {}

  static Result<std::unique_ptr<FileDevice>> make(UniqueFd fd, const OpenOptions &options);
  Status set_up(const OpenOptions &options);
  void set_up_direct(std::uint64_t host_size);
  bool try_direct(std::uint32_t memory_alignment, std::uint32_t offset_alignment, std::uint64_t host_size);
  bool probe_discard(std::uint64_t host_size) const;

  Status check(std::uint64_t offset, std::uint64_t length) const;
  Status check_change(std::uint64_t offset, std::uint64_t length) const;
  bool memory_aligned(const void *data) const;
  bool range_aligned(std::uint64_t position, std::uint64_t length) const;
  Status read_bounced(std::uint64_t position, std::span<std::byte> data) const;
  Status write_bounced(std::uint64_t position, GatherCursor from, std::uint64_t length);
  Status write_piece(std::uint64_t position, GatherCursor &from, std::size_t length) const;
  Status zero_on_host(std::uint64_t position, std::uint64_t length) const;

  HostFile host_;
  UniqueFd direct_reads_;     // the same file for O_DIRECT reads, when host_ is buffered and the host allows it
  Properties properties_;
  std::uint64_t offset_ = 0;  // bytes of the host file before the file system
  bool is_block_ = false;
  bool direct_ = false;
  std::uint32_t memory_alignment_ = 1;  // what O_DIRECT asks of addresses,
  std::uint32_t offset_alignment_ = 1;  // and of positions and lengths; both 1 when buffered
  std::atomic<bool> zeroes_on_host_ = true;

  // An unaligned write holds the lock of its 128 KiB window while it reads and rewrites a sector, so that two writers
  // of different parts of one sector both survive. Writers of whole sectors take none: concurrent writes of the *same*
  // bytes have no order anyway. Innermost: nothing else is taken inside.
  struct Stripe {
    Mutex mutex{Rank::device};
  };
  static constexpr std::size_t kStripes = 64;
  std::array<Stripe, kStripes> stripes_;
};

}  // namespace outboard::device

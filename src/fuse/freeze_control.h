// The control ioctls that freeze and thaw (vfs/control.h), and the end of a freeze whose holder has gone.
#pragma once

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "fuse/request.h"
#include "vfs/filesystem.h"

#include <span>
#include <thread>

namespace outboard::fuse {

class FreezeControl {
public:
  explicit FreezeControl(vfs::Filesystem &filesystem) : filesystem_(filesystem) {}
  ~FreezeControl();
  FreezeControl(const FreezeControl &) = delete;
  FreezeControl &operator=(const FreezeControl &) = delete;

  // For a vfs::ControlFreeze; bytes placed into `out`. A freeze with a holder lasts no longer than the process that asked: the
  // holder is watched by a descriptor of the process, so that nothing but its end, however it comes, ends the freeze. EINVAL when
  // that process cannot be found (another pid namespace, or not its first thread).
  Result<std::size_t> freeze(const Request &request, std::span<const std::byte> in, std::span<std::byte> out) EXCLUDES(mutex_);
  Status thaw() { return filesystem_.thaw(0); }

private:
  Status watch(UniqueFd holder, std::uint64_t ticket) EXCLUDES(mutex_);

  vfs::Filesystem &filesystem_;
  Mutex mutex_{Rank::leaf};
  std::thread watcher_ GUARDED_BY(mutex_);  // of the last freeze with a holder
  UniqueFd stop_ GUARDED_BY(mutex_);        // eventfd: the watcher is to end
};

}  // namespace outboard::fuse

// A mount being served over /dev/fuse: negotiation, the workers, and the end.
//
//   auto session = TRY(Session::create(std::move(descriptor), filesystem, options));
//   TRY(session->negotiate());      // from here on the mount is usable
//   TRY(session->serve());          // until unmounted, aborted or stopped
//   if (!session->filesystem_unmounted()) TRY(filesystem.unmount());
//
// On a fuseblk mount umount(8) sends DESTROY and waits for the answer: serve() then calls Filesystem::unmount() itself
// before it answers. On a plain mount nobody waits, reads just end, and the owner calls it as above.
#pragma once

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "fuse/channel.h"
#include "fuse/dispatcher.h"
#include "fuse/gate.h"
#include "fuse/negotiation.h"
#include "fuse/parked_requests.h"
#include "fuse/write_back_queue.h"

#include <atomic>
#include <list>
#include <memory>
#include <thread>

namespace outboard::fuse {

struct SessionOptions {
  unsigned threads = 0;       // workers that are always there; 0: as many as processors, but 2 to 4
  unsigned max_threads = 16;  // more are started while all are held up in the file system, and go again
  bool writeback_cache = true;
  bool read_only = false;
  bool answer_opens = false;           // for measurements (docs/fuse.md, "Opens")
  std::uint32_t owner_uid = 0;         // besides root, who may use the control ioctls
  std::uint32_t max_write = 1u << 20;  // bytes; the kernel may allow less (sysctl fs.fuse.max_pages_limit)
};

class Session {
public:
  static Result<std::unique_ptr<Session>> create(UniqueFd descriptor, vfs::Filesystem &filesystem,
                                                 const SessionOptions &options);
  ~Session();
  Session(const Session &) = delete;
  Session &operator=(const Session &) = delete;

  // Answers INIT. EPROTONOSUPPORT when the kernel is too old. Waits for the kernel, which sends it with the mount.
  Status negotiate();
  const Agreement &agreement() const { return agreement_; }

  // Returns when the mount is gone or stop() was called; requests under way have been answered. Once only, after
  // negotiate().
  Status serve() EXCLUDES(mutex_);
  // Makes serve() return though the mount is still there: clients get ENOTCONN when the Session goes. From any thread,
  // at any time, but not from a signal handler.
  void stop() EXCLUDES(mutex_);

  // DESTROY came and Filesystem::unmount() has been called; its result. To be asked after serve().
  bool filesystem_unmounted() const { return gate_.closed(); }
  const Status &unmount_result() const { return unmount_result_; }

  // How many workers there are; for tests and for statistics.
  unsigned workers() const { return running_.load(); }
  // Requests taken by the workers that are there now.
  std::uint64_t requests() EXCLUDES(mutex_);

private:
  struct Worker {
    Gate::Slot slot;
    std::shared_ptr<Channel> channel;
    RequestBuffer requests;
    ReplyBuffer replies;
    std::atomic<std::uint64_t> taken{0};  // requests so far: tells a busy worker from one that is held up
    std::atomic<bool> finished{false};
    std::thread thread;
  };

  Session(UniqueFd descriptor, vfs::Filesystem &filesystem, const SessionOptions &options);

  Status add_worker(std::shared_ptr<Channel> channel) REQUIRES(mutex_);
  Result<std::shared_ptr<Channel>> another_channel() const;
  void work(Worker &worker) EXCLUDES(mutex_);
  void handle(Worker &worker, std::span<const std::byte> message);
  void handle_destroy(Worker &worker, const Request &request) EXCLUDES(mutex_);
  void park(Worker &worker, const Request &request, std::span<const std::byte> message);
  void send(Worker &worker, const Request &request, const Reply &reply);
  void no_worker_left() EXCLUDES(mutex_);
  bool may_retire();
  void end(const Error &reason) EXCLUDES(mutex_);

  void supervise() EXCLUDES(mutex_);
  void join_finished() REQUIRES(mutex_);
  void wake_workers() REQUIRES(mutex_);
  void relieve() REQUIRES(mutex_);
  std::uint64_t requests_taken() const REQUIRES(mutex_);

  const SessionOptions options_;
  const unsigned base_threads_;
  vfs::Filesystem &filesystem_;
  std::shared_ptr<Channel> channel_;  // the mount's own descriptor
  Agreement agreement_;
  Gate gate_;
  std::unique_ptr<Dispatcher> dispatcher_;
  // WRITEs apart: there can be very many, and none holds up, in the kernel, what need not wait for writes.
  std::unique_ptr<ParkedRequests> parked_, parked_writes_;
  std::unique_ptr<WriteBackQueue> write_backs_;
  Status unmount_result_;

  std::atomic<unsigned> running_{0};
  std::atomic<unsigned> idle_{0};     // workers waiting for a request
  std::atomic<bool> watched_{false};  // the supervisor is looking whether all workers are held up
  // All there may be wait, and have for long: one more takes what only reads, and parks the rest (docs/fuse.md).
  std::atomic<bool> stalled_{false};
  std::atomic<bool> ending_{false};   // workers leave after what they are at

  Mutex mutex_{Rank::leaf};
  CondVar changed_;
  std::list<Worker> workers_ GUARDED_BY(mutex_);
  bool stop_wanted_ GUARDED_BY(mutex_) = false;
  std::uint64_t taken_at_last_look_ GUARDED_BY(mutex_) = 0;
  unsigned looks_held_up_ GUARDED_BY(mutex_) = 0;  // in a row, with as many workers as there may be
  Status failure_ GUARDED_BY(mutex_);
};

}  // namespace outboard::fuse

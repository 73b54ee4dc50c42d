// Journal-internal: a transaction, and what the journal keeps with a buffer.
//
// Numbers. Inside, transactions are counted in 64 bits, so that plain comparison is right; the log and the public Tid
// hold the lower 32.
//
// The state of a buffer is two numbers, guarded by the buffer's journal_lock:
//   newest  the newest transaction it has joined,
//   copied  the newest transaction whose commit has taken its copy of it.
// newest > copied: a commit still wants the bytes as `newest` leaves them; when a later transaction joins then, it freezes
// a copy first. newest == E, for a buffer whose newest *committed* version is transaction E's: the live bytes are that version.
#pragma once

#include "base/mutex.h"
#include "base/result.h"
#include "base/units.h"
#include "cache/buffer_cache.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace outboard::jbd2 {

using Sequence = std::uint64_t;

struct BufferState final : cache::Attachment {
  explicit BufferState(std::uint64_t owner) : journal(owner) {}
  const std::uint64_t journal;  // which journal's numbers these are: a cache may see several in its life
  Sequence newest = 0;
  Sequence copied = 0;
  bool revoked = false;  // `newest` has revoked the block; joining it again takes the revoke back
  std::unique_ptr<std::byte[]> frozen;  // the bytes as transaction `frozen_for` left them
  Sequence frozen_for = 0;
};

// The end of a commit, for those who wait for it. Guarded by the journal's lock.
struct Completion {
  bool done = false;
  std::optional<Error> error;
};

// The same of a fast commit.
struct FastCompletion {
  bool done = false;
  bool impossible = false;  // with done: a full commit is needed
  std::optional<Error> error;
};

class Transaction {
public:
  explicit Transaction(Sequence number) : sequence(number), completion(std::make_shared<Completion>()) {}

  const Sequence sequence;

  // Guarded by the journal's lock.
  std::uint32_t handles = 0;   // open ones
  std::uint32_t reserved = 0;  // blocks that have joined, credits of open handles, and what is kept for before_commit
  bool locked = false;         // no new handles: its commit waits for the open ones
  bool commit_requested = false;
  std::optional<std::chrono::steady_clock::time_point> deadline;  // from the first change
  std::shared_ptr<Completion> completion;
  std::shared_ptr<FastCompletion> fast;  // somebody wants a fast commit; taken by the commit thread
  bool paused = false;                   // no new handles: a fast commit looks at what there is

  std::atomic<bool> needs_full{false};  // no fast commit any more
  std::atomic<bool> changed{false};
  std::atomic<std::uint32_t> revokes{0};  // written under `mutex`

  struct Entry {
    cache::BufferRef buffer;  // empty: revoked without ever having joined
    bool revoked = false;     // goes to the log as a revoke record, its contents do not
  };
  // Below the buffer's journal_lock; no buffer is unpinned with it held. After the commit has locked the transaction and
  // its handles have ended nobody but the commit thread comes here.
  Mutex mutex{Rank::journal_list};
  std::unordered_map<std::uint64_t, Entry> blocks GUARDED_BY(mutex);  // by block number
  std::vector<std::move_only_function<void()>> listeners GUARDED_BY(mutex);
};

}  // namespace outboard::jbd2

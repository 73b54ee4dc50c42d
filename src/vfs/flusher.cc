#include "vfs/flusher.h"

#include "base/thread_role.h"

#include <cassert>

namespace outboard::vfs {

Flusher::Flusher(InodeTable &inodes, pagecache::FolioMemory &memory, Work work, FlusherOptions options)
    : inodes_(inodes), memory_(memory), work_(std::move(work)), options_(options), thread_([this] { run(); }) {}

Flusher::~Flusher() { stop(); }

// --- coming in ------------------------------------------------------------------------------------------------------

Flusher::Clock::time_point Flusher::due_for(const Inode &inode) const {
  const Clock::time_point now = Clock::now();
  return inode.pages.dirty_bytes() >= options_.eager ? now : now + options_.delay;
}

void Flusher::note(Inode &inode) {
  const bool is_short = memory_is_short();
  if (!is_short && inode.queued_.load(std::memory_order_acquire) == Inode::Queued::dirty &&
      inode.pages.dirty_bytes() < options_.eager)
    return;
  // References come from the table, whose lock is not taken under ours.
  InodeRef pin = inodes_.another(inode);
  MutexLock lock(mutex_);
  auto [place, is_new] = entries_.try_emplace(inode.number);
  Entry &entry = place->second;
  if (is_new) entry.inode = std::move(pin);
  inode.queued_.store(Inode::Queued::dirty, std::memory_order_release);
  if (entry.working) entry.again = true;
  else if (const Clock::time_point due = due_for(inode); is_new || due < entry.due) schedule(inode.number, entry, due);
  changed_.notify_all();
  lock.unlock();
}

void Flusher::schedule(InodeNumber number, Entry &entry, Clock::time_point due) {
  schedule_.erase({entry.due, number});
  entry.due = due;
  schedule_.insert({due, number});
}

// --- the thread -----------------------------------------------------------------------------------------------------

InodeNumber Flusher::next_due(Clock::time_point &until) {
  if (schedule_.empty()) {
    until = Clock::time_point::max();
    return {};
  }
  const auto [due, number] = *schedule_.begin();
  if (due <= Clock::now()) return number;
  until = due;
  // Somebody waits for memory, or soon will: whoever has some does not wait for its time.
  if (!memory_is_short()) return {};
  for (const auto &[when, candidate] : schedule_)
    if (!entries_.at(candidate).inode->pages.empty()) return candidate;
  return {};
}

void Flusher::run() {
  const ThreadRoleScope role(ThreadRole::flusher);
  MutexLock lock(mutex_);
  while (!stopping_) {
    Clock::time_point until;
    if (const InodeNumber number = next_due(until)) work_on(number);
    // Until somebody notes an inode, the next one is due, or stop() is called.
    else if (until == Clock::time_point::max()) changed_.wait(mutex_, kIdle);
    else changed_.wait_until(mutex_, until);
  }
}

void Flusher::work_on(InodeNumber number) {
  Entry &entry = entries_.at(number);
  Inode &inode = *entry.inode;
  schedule_.erase({entry.due, number});
  entry.working = true;
  entry.again = false;
  const bool dirty = !inode.pages.empty();
  // Whoever dirties it from now on says so again.
  inode.queued_.store(Inode::Queued::lingering, std::memory_order_release);
  mutex_.unlock();
  {
    const Owes room(pagecache::kRoom);
    if (dirty) work_.write_back(inode);
    else work_.settle(inode);
  }
  mutex_.lock();
  ++(dirty ? counters_.written_back : counters_.settled);
  entry.working = false;
  changed_.notify_all();  // stop() may wait for this
  if (entry.again || !inode.pages.empty()) {
    inode.queued_.store(Inode::Queued::dirty, std::memory_order_release);
    schedule(number, entry, due_for(inode));
  } else if (dirty) {
    schedule(number, entry, Clock::now() + options_.linger);
  } else {
    inode.queued_.store(Inode::Queued::no, std::memory_order_release);
    InodeRef last = std::move(entry.inode);
    entries_.erase(number);
    mutex_.unlock();
    { const InodeRef dropped = std::move(last); }
    mutex_.lock();
  }
}

// --- on demand ------------------------------------------------------------------------------------------------------

std::vector<InodeRef> Flusher::all() {
  std::vector<InodeNumber> numbers;
  {
    MutexLock lock(mutex_);
    numbers.reserve(entries_.size());
    for (const auto &[number, entry] : entries_) numbers.push_back(number);
  }
  std::vector<InodeRef> out;
  out.reserve(numbers.size());
  for (const InodeNumber number : numbers)
    // Gone meanwhile: it was clean.
    if (Result<InodeRef> inode = inodes_.get(number)) out.push_back(std::move(*inode));
  return out;
}

void Flusher::for_each(const std::function<void(Inode &)> &visit) {
  for (InodeRef &inode : all()) visit(*inode);
}

void Flusher::flush_all() {
  // An inode that the thread is at just now makes us wait for its file lock.
  for_each([this](Inode &inode) { work_.write_back(inode); });
}

void Flusher::release_all() {
  for_each([this](Inode &inode) {
    work_.write_back(inode);
    work_.settle(inode);
  });
  std::vector<InodeRef> dropped;
  {
    MutexLock lock(mutex_);
    for (auto it = entries_.begin(); it != entries_.end();) {
      if (it->second.working || !it->second.inode->pages.empty()) {
        ++it;
        continue;
      }
      it->second.inode->queued_.store(Inode::Queued::no, std::memory_order_release);
      schedule_.erase({it->second.due, it->first});
      dropped.push_back(std::move(it->second.inode));
      it = entries_.erase(it);
    }
  }
}

void Flusher::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  std::vector<InodeRef> dropped;
  MutexLock lock(mutex_);
  for (auto &[number, entry] : entries_) dropped.push_back(std::move(entry.inode));
  entries_.clear();
  schedule_.clear();
  lock.unlock();
}

Flusher::Counters Flusher::counters() const {
  MutexLock lock(mutex_);
  return counters_;
}

}  // namespace outboard::vfs

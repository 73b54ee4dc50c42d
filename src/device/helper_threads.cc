#include "device/helper_threads.h"

#include <csignal>
#include <deque>
#include <optional>
#include <system_error>
#include <thread>

namespace outboard::device {

namespace {
constinit WaitClass kIdleThreadsLeave{"device: idle helper threads leave"};  // owed by them, and they wait for nothing else
}

// One job on its way. Guarded by State::mutex but for `job`, which is the thread's alone once it runs.
struct HelperThreads::Task {
  enum class Stage : std::uint8_t { waiting, running, ended, given_up };
  Job job;
  Stage stage = Stage::waiting;
  bool begun = false;
  bool awaited = true;
  Status status;
  CondVar ended;
};

struct HelperThreads::State {
  Mutex mutex{Rank::leaf};
  CondVar work;  // a task is waiting, or the end has come
  CondVar left;  // a thread has ended
  std::deque<std::shared_ptr<Task>> tasks GUARDED_BY(mutex);
  std::size_t idle GUARDED_BY(mutex) = 0;
  std::size_t threads GUARDED_BY(mutex) = 0;
  std::size_t late GUARDED_BY(mutex) = 0;  // threads in a job that nobody waits for any more
  bool ending GUARDED_BY(mutex) = false;
  std::size_t most = 0;
  std::function<void()> on_late;  // not called once `ending`
};

HelperThreads::HelperThreads(unsigned most, std::function<void()> on_late) : state_(std::make_shared<State>()) {
  state_->most = most;
  state_->on_late = std::move(on_late);
}

HelperThreads::~HelperThreads() {
  State &state = *state_;
  MutexLock lock(state.mutex);
  state.ending = true;
  state.work.notify_all();
  // For idle threads only, which leave at once.
  while (state.threads > state.late) state.left.wait(state.mutex, kIdleThreadsLeave);
}

std::size_t HelperThreads::late() const {
  MutexLock lock(state_->mutex);
  return state_->late;
}

Status HelperThreads::hand_over(const std::shared_ptr<Task> &task) {
  State &state = *state_;
  bool another = false;
  {
    MutexLock lock(state.mutex);
    state.tasks.push_back(task);
    // One idle thread for each waiting task, or a new one. At the limit the task waits for a thread; its deadline bounds that.
    if (state.tasks.size() <= state.idle) state.work.notify_one();
    else if (state.threads < state.most) {
      another = true;
      ++state.threads;
    }
  }
  if (!another) return {};
  try {
    // Signals are for the threads of the program's own.
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([state = state_] { work(state); }).detach();
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  } catch (const std::system_error &) {
    MutexLock lock(state.mutex);
    if (--state.threads == 0) {
      task->stage = Task::Stage::given_up;
      return fail(Error::system(EAGAIN, "device: no thread for a request"));
    }
  }
  return {};
}

Result<std::optional<Status>> HelperThreads::run(Job job, Clock::time_point deadline, DeviceHealth *health) {
  auto task = std::make_shared<Task>();
  task->job = std::move(job);
  TRY(hand_over(task));
  State &state = *state_;
  MutexLock lock(state.mutex);
  // For the device; bounded by the deadline.
  while (task->stage != Task::Stage::ended) {
    if (task->ended.wait_until(state.mutex, deadline) || task->stage == Task::Stage::ended) continue;
    if (health != nullptr) {
      lock.unlock();
      const std::optional<Clock::time_point> longer = health->wait_on();
      lock.lock();
      if (longer) deadline = *longer;
      if (longer || task->stage == Task::Stage::ended) continue;
    }
    if (task->begun) ++state.late;
    task->stage = Task::Stage::given_up;
    return std::optional<Status>{};
  }
  return std::optional<Status>(std::move(task->status));
}

bool HelperThreads::start(Job job) {
  auto task = std::make_shared<Task>();
  task->job = std::move(job);
  task->awaited = false;
  return hand_over(task).has_value();
}

namespace {
thread_local bool this_is_one = false;
}

bool HelperThreads::is_this_one() { return this_is_one; }

void HelperThreads::work(const std::shared_ptr<State> &shared) {
  this_is_one = true;
  State &state = *shared;
  MutexLock lock(state.mutex);
  for (;;) {
    ++state.idle;
    while (state.tasks.empty() && !state.ending) state.work.wait(state.mutex, kIdle);  // idle: for a task or the end
    --state.idle;
    if (state.ending) break;
    std::shared_ptr<Task> task = std::move(state.tasks.front());
    state.tasks.pop_front();
    if (task->stage == Task::Stage::given_up) continue;
    task->stage = Task::Stage::running;
    task->begun = true;
    // Nobody waits for it, so the end does not wait either.
    if (!task->awaited) ++state.late;
    lock.unlock();
    Status status = task->job();
    task->job = nullptr;
    lock.lock();
    const bool late = !task->awaited || task->stage == Task::Stage::given_up;
    if (!late) {
      task->status = std::move(status);
      task->stage = Task::Stage::ended;
      task->ended.notify_one();
      continue;
    }
    --state.late;
    if (!state.ending && task->awaited) {
      // `threads` counts us, and we are not late any more: the destructor waits until we are back.
      lock.unlock();
      state.on_late();
      lock.lock();
    }
  }
  --state.threads;
  state.left.notify_all();
}

}  // namespace outboard::device

// Threads that may get stuck in place of the thread that asked.
//
// run() hands a job over and waits for its end, but not beyond a deadline: then the job has its thread for itself, and whatever
// the job uses must be its own. Threads are made when there is no idle one. Thread-safe.
#pragma once

#include "base/mutex.h"
#include "base/result.h"
#include "device/device_health.h"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

namespace outboard::device {

class HelperThreads {
public:
  using Clock = std::chrono::steady_clock;
  using Job = std::move_only_function<Status()>;  // owns all that it touches

  // At most so many threads. `on_late`: a job that was given up has ended after all; called on its thread.
  HelperThreads(unsigned most, std::function<void()> on_late);
  // Leaves behind the threads that are stuck; they end when their job does.
  ~HelperThreads();
  HelperThreads(const HelperThreads &) = delete;
  HelperThreads &operator=(const HelperThreads &) = delete;

  // The job's status; nothing when the deadline came first. A job that had not begun by then never does. ENOMEM, EAGAIN when
  // there is no thread and none can be made. With `health`, that is asked at the deadline whether to wait on.
  Result<std::optional<Status>> run(Job job, Clock::time_point deadline, DeviceHealth *health = nullptr);
  // Runs it some time, for nobody. False when there is no thread for it.
  bool start(Job job);

  // The calling thread is a helper, of whatever pool: it may get stuck.
  static bool is_this_one();

  // Jobs that were given up and are still running.
  std::size_t late() const;

private:
  struct Task;
  struct State;
  static void work(const std::shared_ptr<State> &state);
  Status hand_over(const std::shared_ptr<Task> &task);

  const std::shared_ptr<State> state_;  // shared with the threads, which may outlive the object
};

}  // namespace outboard::device

// Work with fsyncs, done by several processes at once on a mount that will die under them, and what must be there afterwards.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <sys/types.h>
#include <vector>

namespace outboard::tests {

inline constexpr unsigned kWorkers = 3;
inline constexpr unsigned kFiles = 16;  // of each worker

// What has been acknowledged; shared with the workers.
struct Promised {
  std::array<std::array<std::atomic<std::uint32_t>, kFiles>, kWorkers> versions;  // of files replaced by rename
  std::array<std::atomic<std::uint32_t>, kWorkers> records;                       // in each append-only log
  std::array<std::atomic<std::uint32_t>, kWorkers> names;                         // newest hard link made
  std::array<std::atomic<std::uint64_t>, kWorkers> operations;
};

class Workload {
public:
  explicit Workload(std::string root);
  ~Workload();
  void prepare();                       // directories; before the first start()
  void start(std::uint64_t seed);
  void stop();                          // the workers have lost their mount or are told to end; waits for them
  // What is missing or wrong in the tree; empty when every promise is kept.
  std::vector<std::string> broken_promises(const std::string &root) const;
  std::uint64_t promises() const;
  std::uint64_t operations() const;

private:
  [[noreturn]] void work(unsigned worker, std::uint64_t seed);
  std::string root_;
  Promised *promised_;
  std::vector<pid_t> children_;
};

}  // namespace outboard::tests

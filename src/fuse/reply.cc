#include "fuse/reply.h"

#include "base/log.h"

#include <atomic>
#include <chrono>

namespace outboard::fuse {

namespace {

constexpr int kLinesPerSecond = 10;

// True when a line may be logged now. A damaged disk that is read in a loop must not fill the host's log.
bool may_log() {
  static std::atomic<std::int64_t> second{0};
  static std::atomic<int> lines{0};
  static std::atomic<int> dropped{0};
  const std::int64_t now =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
  if (second.exchange(now, std::memory_order_relaxed) != now) {
    lines.store(0, std::memory_order_relaxed);
    if (const int count = dropped.exchange(0, std::memory_order_relaxed); count > 0)
      log(LogLevel::error, "{} more errors were not logged", count);
  }
  if (lines.fetch_add(1, std::memory_order_relaxed) < kLinesPerSecond) return true;
  dropped.fetch_add(1, std::memory_order_relaxed);
  return false;
}

bool worth_a_line(ErrorKind kind) {
  return kind == ErrorKind::corrupt || kind == ErrorKind::bad_checksum || kind == ErrorKind::io;
}

}  // namespace

int error_number(const Error &error, const char *operation, std::uint64_t node) {
  if (worth_a_line(error.kind()) && may_log())
    log(LogLevel::error, "{} of node {}: {}", operation, node, error.message());
  const int code = error.code();
  return code >= 1 && code <= wire::kErrorMax ? code : EIO;
}

}  // namespace outboard::fuse

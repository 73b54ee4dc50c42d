#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <mutex>

namespace outboard {

namespace {
std::mutex sink_mutex;
LogSink sink;
std::atomic<LogLevel> least_level{LogLevel::info};
}  // namespace

void set_log_sink(LogSink new_sink) {
  std::lock_guard lock(sink_mutex);
  sink = std::move(new_sink);
}

void set_log_level(LogLevel least) { least_level = least; }

void log_line(LogLevel level, std::string_view line) {
  if (level < least_level.load(std::memory_order_relaxed)) return;
  std::lock_guard lock(sink_mutex);
  if (sink) sink(level, line);
  else std::fprintf(stderr, "outboard: %.*s\n", static_cast<int>(line.size()), line.data());
}

}  // namespace outboard

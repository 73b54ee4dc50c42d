// One line to the log. Lines go to standard error until a sink is set (the service sets syslog for a daemon).
// Not for hot paths: tracing is.
#pragma once

#include <fmt/format.h>
#include <functional>
#include <string>
#include <string_view>

namespace outboard {

enum class LogLevel { debug, info, warning, error };

using LogSink = std::function<void(LogLevel, std::string_view)>;
void set_log_sink(LogSink sink);
void set_log_level(LogLevel least);
void log_line(LogLevel level, std::string_view line);

template <class... Args> void log(LogLevel level, fmt::format_string<Args...> format, Args &&...args) {
  log_line(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace outboard

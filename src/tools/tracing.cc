// trace: live events of a mount.
#include "base/log.h"
#include "service/release.h"
#include "tools/commands.h"
#include "tools/trace_format.h"
#include "vfs/control.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fmt/format.h>
#include <sys/ioctl.h>

namespace outboard::tools {

namespace {

constexpr long kPollNanoseconds = 50'000'000;
// An event may reach the ring a little after its time: what is younger waits for the next round, so that lines come in order.
constexpr std::uint64_t kSettleNanoseconds = 20'000'000;

std::atomic<bool> g_stop{false};  // by a signal

struct TraceArguments {
  std::string target;
  std::vector<std::string> filters;
  std::uint64_t count = 0;  // 0: no end
  bool json = false;
  bool list = false;
};

class Tracer {
public:
  Tracer(const TraceArguments &arguments, const TraceFilter &filter) : arguments_(arguments), filter_(filter) {}

  int run() {
    std::uint32_t layers = filter_.layers();
    if (std::string why = control(vfs::kControlTraceStart, &layers); !why.empty()) {
      complain(fmt::format("{}: {}", arguments_.target, why));
      return service::kExitSystem;
    }
    start_ns_ = trace::now_ns();
    std::fprintf(stderr, "outboard: tracing %s; interrupt to end\n", arguments_.target.c_str());
    std::string why;
    while (!g_stop && !enough() && why.empty()) {
      why = take_all();
      // What was taken before the last look, up to what may still come late.
      print_until(looked_ns_ - std::min(looked_ns_, kSettleNanoseconds));
      const timespec pause{.tv_sec = 0, .tv_nsec = kPollNanoseconds};
      if (!enough() && why.empty()) ::nanosleep(&pause, nullptr);
    }
    if (why.empty() && !enough()) why = take_all();
    print_until(~std::uint64_t{0});
    (void)control(vfs::kControlTraceStop, nullptr);
    if (lost_ > 0) std::fprintf(stderr, "outboard: %llu events were lost\n", static_cast<unsigned long long>(lost_));
    if (!why.empty()) {
      complain(fmt::format("{}: {}", arguments_.target, why));
      return service::kExitSystem;
    }
    return 0;
  }

private:
  bool enough() const { return arguments_.count != 0 && printed_ >= arguments_.count; }

  // The root is open for no longer than it takes, so that the mount can be unmounted while it is traced.
  std::string control(std::uint32_t command, void *argument) {
    service::Outcome<UniqueFd> root = service::open_mount_root(arguments_.target);
    if (!root) return root.error().text;
    if (::ioctl(root->get(), command, argument) == 0) return {};
    if (errno == EBUSY) return "somebody else is tracing";
    if (errno == ESTALE) return "tracing was ended from elsewhere";
    return std::strerror(errno);
  }

  // Until the ring has been seen empty. Bounded, for a server that makes events faster than we take them.
  std::string take_all() {
    for (int batches = 0; batches < 256; ++batches) {
      if (std::string why = control(vfs::kControlTraceTake, &batch_); !why.empty()) return why;
      if (batches == 0) looked_ns_ = batch_.now_ns;
      lost_ = batch_.lost;
      const auto records = std::span(batch_.records).first(std::min<std::size_t>(batch_.count, std::size(batch_.records)));
      std::ranges::copy_if(records, std::back_inserter(waiting_), [this](const trace::Record &r) { return filter_.passes(r); });
      if (records.size() < std::size(batch_.records)) break;
    }
    return {};
  }

  void print_until(std::uint64_t time_ns) {
    std::ranges::stable_sort(waiting_, {}, &trace::Record::time_ns);
    std::size_t done = 0;
    for (; done < waiting_.size() && waiting_[done].time_ns < time_ns && !enough(); ++done, ++printed_) {
      const std::string line = arguments_.json ? trace_json(waiting_[done]) : trace_line(waiting_[done], start_ns_);
      std::puts(line.c_str());
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(done));
    std::fflush(stdout);
  }

  const TraceArguments &arguments_;
  const TraceFilter &filter_;
  vfs::ControlTraceBatch batch_{};
  std::vector<trace::Record> waiting_;
  std::uint64_t start_ns_ = 0, looked_ns_ = 0, lost_ = 0, printed_ = 0;
};

int list_events() {
  for (const trace::EventInfo &event : trace_events())
    fmt::print("{:10} {:16} {}\n{:10} {:16}   {}\n", trace::kLayerNames[static_cast<std::size_t>(event.layer())], event.name, event.meaning, "",
               "", event.fields);
  return 0;
}

int run_trace(const TraceArguments &arguments) {
  if (arguments.list) return list_events();
  if (arguments.target.empty()) {
    complain("trace: which mount?");
    return service::kExitUsage;
  }
  TraceFilter filter;
  for (const std::string &text : arguments.filters)
    if (std::string why = filter.add(text); !why.empty()) {
      complain(why);
      return service::kExitUsage;
    }
  struct sigaction action {};
  action.sa_handler = [](int) { g_stop = true; };
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  Tracer tracer(arguments, filter);
  return tracer.run();
}

}  // namespace

void add_trace_command(CLI::App &app, Outcome &outcome) {
  auto arguments = std::make_shared<TraceArguments>();
  CLI::App *command = app.add_subcommand("trace", "Show what a mount does while it does it, until interrupted");
  command->add_option("DIR", arguments->target, "The mount, or anything in it");
  command->add_option("--filter", arguments->filters, "Only these: layer=, event=, inode= or a field's name; VALUE[,VALUE...]; may be repeated")
      ->type_name("KEY=VALUE");
  command->add_option("--count", arguments->count, "End after so many events");
  command->add_flag("--json", arguments->json, "One JSON object a line");
  command->add_flag("--list", arguments->list, "Show the events there are, with their fields, and end");
  command->callback([arguments, &outcome] { outcome.exit_status = run_trace(*arguments); });
}

}  // namespace outboard::tools

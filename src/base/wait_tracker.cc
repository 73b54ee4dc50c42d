#include "base/wait_tracker.h"

#include "base/mutex.h"

#include <array>
#include <bitset>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <execinfo.h>
#include <fmt/format.h>
#include <map>
#include <mutex>
#include <unistd.h>
#include <vector>

// Of the sanitizers' run time, where there is one: names and lines instead of addresses.
extern "C" __attribute__((weak)) void __sanitizer_symbolize_pc(void *pc, const char *format, char *out, std::size_t size);

namespace outboard::wait_tracker {

namespace {

constexpr std::size_t kClasses = 256;
constexpr std::size_t kHeld = 64;  // that one thread can hold and owe at once
constexpr int kFrames = 24;

struct Stack {
  std::array<void *, kFrames> frames;
  int count = 0;
};

Stack stack_here() {
  Stack stack;
  stack.count = ::backtrace(stack.frames.data(), kFrames);
  return stack;
}

void print(const Stack &stack) {
  constexpr int kOwn = 2;  // frames of the tracker itself
  if (__sanitizer_symbolize_pc == nullptr) {
    ::backtrace_symbols_fd(stack.frames.data() + kOwn, std::max(stack.count - kOwn, 0), STDERR_FILENO);
    return;
  }
  for (int i = kOwn; i < stack.count; ++i) {
    char text[512];
    // The frames are return addresses: the call is before.
    void *call = static_cast<char *>(stack.frames[static_cast<std::size_t>(i)]) - 1;
    __sanitizer_symbolize_pc(call, "%f %S", text, sizeof text);
    std::fprintf(stderr, "    %s\n", text);
  }
}

// One for the process. Reading whether a dependency is known takes no lock; everything else takes mutex_, a plain one:
// the tracker does not track itself.
class Graph {
public:
  static Graph &instance() {
    static Graph *graph = new Graph();  // never destroyed: threads may outlive static objects
    return *graph;
  }

  Id id_of(std::string name, bool ordered) {
    const std::lock_guard lock(mutex_);
    const auto [place, made] = ids_.try_emplace(std::move(name), static_cast<Id>(names_.size()));
    if (made) {
      if (names_.size() == kClasses) {
        std::fprintf(stderr, "wait tracker: more than %zu classes\n", kClasses);
        std::abort();
      }
      names_.push_back(place->first);
      ordered_[place->second] = ordered;
    }
    return place->second;
  }

  bool knows(Id from, Id to) const { return edges_[from][to / 64].load(std::memory_order_relaxed) >> (to % 64) & 1; }

  void add(Id from, Id to) {
    const std::lock_guard lock(mutex_);
    if (knows(from, to)) return;
    edges_[from][to / 64].fetch_or(std::uint64_t{1} << (to % 64), std::memory_order_relaxed);
    if (from == to && ordered_[from]) return;  // several at once, in an order of their own (docs/locking.md)
    stacks_.emplace(std::pair(from, to), stack_here());
    std::vector<Id> path;
    std::bitset<kClasses> seen;
    if (find(to, from, seen, path)) report(from, path);
  }

  [[noreturn]] void report_idle(Id held) {
    const std::lock_guard lock(mutex_);
    std::fprintf(stderr, "wait tracker: waits for work while it holds or owes %s, here:\n", names_[held].c_str());
    print(stack_here());
    end_with_report();
  }

  Size size() {
    const std::lock_guard lock(mutex_);
    return {names_.size() - 1, stacks_.size()};
  }

private:
  Graph() {
    if (const char *directory = std::getenv("OUTBOARD_WAIT_GRAPH"); directory != nullptr && *directory != 0) {
      directory_ = directory;
      std::atexit([] { instance().write("graph"); });
    }
  }

  // A path of dependencies from `from` to `goal`, both included.
  bool find(Id from, Id goal, std::bitset<kClasses> &seen, std::vector<Id> &path) const {
    path.push_back(from);
    if (from == goal) return true;
    seen.set(from);
    for (Id next = 1; next < names_.size(); ++next) {
      if (knows(from, next) && !seen[next] && find(next, goal, seen, path)) return true;
    }
    path.pop_back();
    return false;
  }

  [[noreturn]] void report(Id from, const std::vector<Id> &path) {
    std::fprintf(stderr, "wait tracker: a deadlock has become possible\n");
    for (Id to : path) {
      std::fprintf(stderr, "  %s is held or owed, and %s is waited for, here:\n", names_[from].c_str(), names_[to].c_str());
      print(stacks_.at({from, to}));
      from = to;
    }
    end_with_report();
  }

  [[noreturn]] void end_with_report() {
    write("report");
    std::abort();
  }

  // What this process has seen, a line each, for whoever adds up the processes of a test suite.
  void write(const char *kind) {
    if (directory_.empty()) return;
    const std::string path = fmt::format("{}/{}-{}", directory_, kind, ::getpid());
    std::FILE *file = std::fopen(path.c_str(), "w");
    if (file == nullptr) return;
    for (std::size_t i = 1; i < names_.size(); ++i) std::fprintf(file, "class\t%s\n", names_[i].c_str());
    for (const auto &[edge, stack] : stacks_)
      std::fprintf(file, "dependency\t%s\t%s\n", names_[edge.first].c_str(), names_[edge.second].c_str());
    std::fclose(file);
  }

  std::mutex mutex_;
  std::string directory_;                        // where to write, or empty
  std::map<std::string, Id> ids_;                // guarded by mutex_, as are the next three
  std::vector<std::string> names_{"nothing"};    // by id; 0 is none
  std::bitset<kClasses> ordered_;
  std::map<std::pair<Id, Id>, Stack> stacks_;    // by dependency
  std::array<std::array<std::atomic<std::uint64_t>, kClasses / 64>, kClasses> edges_{};
};

struct Held {
  std::array<Id, kHeld> ids;
  std::size_t count = 0;
};
thread_local Held held;

// Mutexes are made all the time (one for each buffer): the classes of the places that make them are found without a lock.
struct Place {
  std::atomic<const char *> file{nullptr};  // written last
  std::uint64_t position = 0;
  Id id = 0;
};
std::array<Place, 1024> places;

}  // namespace

Id id_of_event(const char *name) { return Graph::instance().id_of(name, false); }

Id id_of_mutex(Rank rank, const std::source_location &where) {
  static std::mutex filling;
  const std::uint64_t position = std::uint64_t{where.line()} << 32 | where.column() << 16 | static_cast<std::uint16_t>(rank);
  std::size_t at = (reinterpret_cast<std::uintptr_t>(where.file_name()) ^ position * 0x9E3779B97F4A7C15ull) % places.size();
  for (std::size_t tries = 0; tries < places.size(); at = (at + 1) % places.size(), ++tries) {
    Place &place = places[at];
    const char *file = place.file.load(std::memory_order_acquire);
    if (file == nullptr) {
      const std::lock_guard lock(filling);
      file = place.file.load(std::memory_order_relaxed);
      if (file == nullptr) {
        const std::string_view path(where.file_name());
        const std::size_t source = path.rfind("src/");
        place.id = Graph::instance().id_of(
            fmt::format("mutex {}:{} (rank {})", source == path.npos ? path : path.substr(source), where.line(), static_cast<unsigned>(rank)),
            rank == Rank::inode);
        place.position = position;
        place.file.store(where.file_name(), std::memory_order_release);
        return place.id;
      }
    }
    if (file == where.file_name() && place.position == position) return place.id;
  }
  std::fprintf(stderr, "wait tracker: too many places that make mutexes\n");
  std::abort();
}

void about_to_wait(Id what, Id released) {
  Graph &graph = Graph::instance();
  bool passed = released == 0;
  for (std::size_t i = held.count; i-- > 0;) {
    const Id from = held.ids[i];
    if (!passed && from == released) {
      passed = true;
      continue;
    }
    if (!graph.knows(from, what)) graph.add(from, what);
  }
}

void about_to_idle(Id released) {
  for (std::size_t i = 0; i < held.count; ++i)
    if (held.ids[i] != released) Graph::instance().report_idle(held.ids[i]);
}

void hold(Id what) {
  if (held.count == kHeld) std::abort();
  held.ids[held.count++] = what;
}

void drop(Id what) {
  for (std::size_t i = held.count; i-- > 0;) {
    if (held.ids[i] != what) continue;
    for (std::size_t j = i + 1; j < held.count; ++j) held.ids[j - 1] = held.ids[j];
    --held.count;
    return;
  }
  std::abort();
}

Size size() { return Graph::instance().size(); }

}  // namespace outboard::wait_tracker

// Operations by chance: names from a few, positions near block boundaries, promises now and then.
#include "crash_explorer/workloads.h"

#include <fmt/format.h>
#include <linux/fs.h>
#include <random>

namespace outboard::crash_explorer {

namespace {

class Mix {
public:
  Mix(Script &script, std::uint64_t seed) : s_(script), random_(seed) {}

  void step() {
    const std::uint64_t choice = random_() % 100;
    if (choice < 50) contents();
    else if (choice < 78) names();
    else promise();
  }

private:
  bool one_in(std::uint64_t n) { return random_() % n == 0; }
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  std::string directory() {
    const std::string name = fmt::format("d{}", below(2));
    return s_.tree().contains(name) && !one_in(3) ? name + "/" : "";
  }
  std::string new_name() { return directory() + std::string(1, static_cast<char>('a' + below(5))); }
  // "" when there is none.
  std::string existing(Kind kind) {
    std::vector<std::string> paths;
    for (const auto &[path, node] : s_.tree())
      if (node.kind == kind) paths.push_back(path);
    return paths.empty() ? "" : paths[below(paths.size())];
  }
  std::uint64_t position() {
    const std::uint64_t base = one_in(3) ? below(40000) : below(12) * 4096;
    return one_in(2) ? base : base + below(1024);
  }

  void contents() {
    const std::string file = existing(Kind::file);
    if (file.empty()) return names();
    const std::uint64_t length = 1 + below(one_in(3) ? 20000 : 3000);
    switch (below(12)) {
    case 0: s_.truncate(file, one_in(3) ? 0 : position()); break;
    case 1: s_.punch(file, position(), length); break;
    case 2: s_.allocate(file, position(), length, one_in(2)); break;
    case 3: s_.zero_range(file, position(), length); break;
    case 4: s_.write_direct(file, below(10) * 4096, (1 + below(3)) * 4096); break;
    case 5: s_.write_sync(file, position(), length); break;
    case 6:
    case 7:
    case 8: s_.append(file, length); break;
    default: s_.write(file, position(), length);
    }
  }

  void names() {
    const std::string path = new_name();
    const bool there = s_.tree().contains(path);
    const std::string file = existing(Kind::file);
    switch (below(12)) {
    case 0: make_or_remove_directory(); break;
    case 1:
      if (!file.empty() && !there) s_.link(file, path);
      break;
    case 2:
    case 3:
      if (!file.empty()) s_.unlink(file, one_in(3));
      break;
    case 4:
    case 5:
    case 6:
      if (!file.empty() && file != path && (!there || s_.tree().at(path).kind == Kind::file))
        s_.rename(file, path, there && one_in(4) ? RENAME_EXCHANGE : 0);
      break;
    case 7:
      if (!there) s_.symlink(path, std::string(1 + below(100), 't'));
      else if (s_.tree().at(path).kind == Kind::symlink) s_.unlink(path);
      break;
    case 8:
      if (there && s_.tree().at(path).kind != Kind::symlink)
        s_.set_xattr(path, fmt::format("user.{}", below(3)), std::string(1 + below(one_in(4) ? 500 : 40), 'v'));
      break;
    case 9:
      s_.temporary(below(6000) + 1);
      if (!there) s_.link_temporary(path);
      break;
    default:
      if (!there) s_.create(path);
    }
  }

  void make_or_remove_directory() {
    const std::string name = fmt::format("d{}", below(2));
    if (!s_.tree().contains(name)) return s_.make_directory(name);
    const std::string other = name == "d0" ? "d1" : "d0";
    if (!s_.tree().contains(other)) return s_.rename(name, other);
    const auto next = s_.tree().upper_bound(name + "/");
    if (next == s_.tree().end() || !next->first.starts_with(name + "/")) s_.remove_directory(name);
  }

  void promise() {
    const std::string file = existing(Kind::file);
    switch (below(10)) {
    case 0: s_.sync_all(); break;
    case 1:
    case 2: s_.background(); break;
    case 3: s_.fsync(existing(Kind::directory)); break;
    case 4:
    case 5:
      if (!file.empty()) s_.fdatasync(file);
      break;
    case 6:
      if (one_in(4)) s_.remount();
      break;
    default: s_.fsync(file);
    }
  }

  Script &s_;
  std::mt19937_64 random_;
};

}  // namespace

Workload random_mix(std::uint64_t seed, unsigned operations, bool timers) {
  return {fmt::format("random mix {}{}", seed, timers ? " with timers" : ""),
          [seed, operations](Script &script) {
            Mix mix(script, seed);
            for (unsigned i = 0; i < operations && script.status(); ++i) mix.step();
          },
          timers};
}

}  // namespace outboard::crash_explorer

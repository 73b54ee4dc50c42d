// Fast commits that we write: small, replayed by us, by the kernel and by e2fsck to the same tree, and whole or not there at
// all after a power cut.
#include "ext4/directory.h"
#include "ext4/fast_commit_tracker.h"
#include "ext4/mapper.h"
#include "ext4/volume_test_support.h"
#include "ext4/xattrs.h"
#include "iomap/direct.h"
#include "testing/command.h"
#include "testing/kernel_mount.h"
#include "testing/write_log_device.h"

#include <fmt/format.h>
#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <thread>

namespace outboard::ext4 {
namespace {

// A volume with the feature over a device that remembers every write. Operations by name in the root and in "d".
class Bench {
public:
  explicit Bench(std::uint32_t block_size = 4096, std::vector<std::string> arguments = {}) {
    std::vector<std::string> all{"-O", "fast_commit", "-J", "size=16,fast_commit_size=512"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    EXPECT_OK(testing::make_image(file("image"), std::uint64_t{64} << 20, all, block_size));
    auto memory = device::MemoryDevice::from_file(file("image"));
    EXPECT_OK(memory);
    device_ = std::make_unique<testing::WriteLogDevice>(*std::move(memory));
    open();
    mkdir("d");
  }
  void open() {
    VolumeOptions options;
    options.commit_interval = std::chrono::hours(1);
    auto volume = Volume::open(*device_, options);
    EXPECT_OK(volume);
    if (!volume) std::abort();
    volume_ = *std::move(volume);
  }
  std::string file(const std::string &name) const { return directory_.file(name); }
  testing::WriteLogDevice &device() { return *device_; }
  Volume &volume() { return *volume_; }
  Volume *operator->() { return volume_.get(); }
  jbd2::Journal::Counters counters() { return volume_->journal().counters(); }

  Inode load(InodeNumber number) {
    auto inode = volume_->inodes().load(number);
    EXPECT_OK(inode);
    if (!inode) std::abort();
    return *std::move(inode);
  }
  Inode directory_of(const std::string &path) {
    Inode root = load(format::kRootInode);
    if (!path.starts_with("d/")) return root;
    const auto match = Directory::find(*volume_, root, "d");
    EXPECT_OK(match);
    return load(match->inode);
  }
  static std::string name_of(const std::string &path) { return path.starts_with("d/") ? path.substr(2) : path; }
  Inode find(const std::string &path) {
    Inode directory = directory_of(path);
    const auto match = Directory::find(*volume_, directory, name_of(path));
    EXPECT_OK(match) << path;
    if (!match) std::abort();
    return load(match->inode);
  }

  void mkdir(const std::string &path) {
    Inode directory = directory_of(path);
    EXPECT_OK(names::create(*volume_, directory, name_of(path), {.mode = 0040755}));
  }
  Inode create(const std::string &path) {
    Inode directory = directory_of(path);
    auto made = names::create(*volume_, directory, name_of(path), {.mode = 0100644});
    EXPECT_OK(made) << path;
    if (!made) std::abort();
    return *std::move(made);
  }
  void write(const std::string &path, std::uint64_t at, std::size_t count, char fill) {
    Inode inode = find(path);
    write(inode, at, count, fill);
  }
  void write(Inode &inode, std::uint64_t at, std::size_t count, char fill) {
    Mapper mapper(*volume_, inode);
    std::vector<std::byte> data(count, std::byte(fill));
    EXPECT_OK(iomap::direct::write(mapper, volume_->device(), volume_->block_size(), at, data, inode.fields.size));
  }
  void truncate(const std::string &path, std::uint64_t size) {
    Inode inode = find(path);
    EXPECT_OK(truncate::set_size(*volume_, inode, size));
  }
  void punch(const std::string &path, std::uint64_t at, std::uint64_t count) {
    Inode inode = find(path);
    EXPECT_OK(truncate::punch_hole(*volume_, inode, {at, count}));
  }
  void link(const std::string &old_path, const std::string &path) {
    Inode directory = directory_of(path), target = find(old_path);
    EXPECT_OK(names::link(*volume_, directory, name_of(path), target));
  }
  // `keep`: somebody has it open still.
  void unlink(const std::string &path, bool keep = false) {
    Inode directory = directory_of(path), target = find(path);
    EXPECT_OK(names::unlink(*volume_, directory, name_of(path), target));
    if (target.fields.links == 0 && !keep) {
      EXPECT_OK(truncate::delete_inode(*volume_, target));
    }
  }
  void rename(const std::string &from, const std::string &to) {
    Inode old_directory = directory_of(from), other = directory_of(to), source = find(from);
    const bool same = old_directory.number == other.number;
    Inode &new_directory = same ? old_directory : other;
    std::optional<Inode> target;
    if (Directory::find(*volume_, new_directory, name_of(to))) target = find(to);
    const std::string old_name = name_of(from), new_name = name_of(to);
    names::Rename what;
    what.old_directory = &old_directory;
    what.old_name = old_name;
    what.source = &source;
    what.new_directory = &new_directory;
    what.new_name = new_name;
    what.target = target ? &*target : nullptr;
    EXPECT_OK(names::rename(*volume_, what));
    if (target && target->fields.links == 0) {
      EXPECT_OK(truncate::delete_inode(*volume_, *target));
    }
  }
  void fsync() { EXPECT_OK(volume_->journal().commit_and_wait(volume_->journal().running_tid())); }
  void full() { EXPECT_OK(volume_->sync()); }
  // The same, and home.
  void checkpoint() { EXPECT_OK(volume_->journal().checkpoint_all()); }

  // As if the machine stopped now, with all that was written.
  std::unique_ptr<device::MemoryDevice> snapshot() {
    auto copy = testing::copy_to_memory(*device_);
    EXPECT_OK(copy);
    return *std::move(copy);
  }
  // What the volume holds: closes it.
  std::string close_and_dump() {
    EXPECT_OK(volume_->close());
    volume_.reset();
    EXPECT_OK(snapshot()->save(file("closed")));
    const testing::FsckReport report = testing::fsck(file("closed"));
    EXPECT_TRUE(report.clean) << report.text;
    auto dump = testing::debugfs_dump(file("closed"));
    EXPECT_OK(dump);
    return dump.value_or("");
  }
  void stop() { volume_.reset(); }

  std::string replayed_by_us(device::MemoryDevice &crashed, std::uint32_t *fast_commits = nullptr) {
    auto copy = crashed.clone();
    auto volume = Volume::open(*copy, {});
    EXPECT_OK(volume);
    if (!volume) return "";
    if (fast_commits != nullptr) *fast_commits = (*volume)->report().fast_commits;
    EXPECT_OK((*volume)->close());
    return judged(*copy, "ours");
  }
  std::string replayed_by_kernel(device::MemoryDevice &crashed) {
    EXPECT_OK(crashed.save(file("kernel")));
    auto mount = testing::KernelMount::mount(file("kernel"), file("mount"));
    EXPECT_OK(mount);
    if (!mount) return "";
    EXPECT_OK((*mount)->unmount());
    auto after = device::MemoryDevice::from_file(file("kernel"));
    return judged(**after, "kernel");
  }
  std::string replayed_by_e2fsck(device::MemoryDevice &crashed) {
    EXPECT_OK(crashed.save(file("e2fsck")));
    const auto result = testing::run_command({"e2fsck", "-fy", file("e2fsck")});
    EXPECT_OK(result);
    EXPECT_LE(result->exit, 1) << result->out;
    auto after = device::MemoryDevice::from_file(file("e2fsck"));
    // It takes away the name and not the inode: what lost its last name turns up again there.
    std::string without_found;
    std::istringstream lines(judged(**after, "e2fsck"));
    for (std::string line; std::getline(lines, line);)
      if (!line.starts_with("/lost+found/#")) without_found += line + "\n";
    return without_found;
  }

private:
  std::string judged(device::MemoryDevice &device, const std::string &name) {
    EXPECT_OK(device.save(file(name)));
    const testing::FsckReport report = testing::fsck(file(name));
    EXPECT_TRUE(report.clean) << name << "\n" << report.text;
    auto dump = testing::debugfs_dump(file(name));
    EXPECT_OK(dump);
    return dump.value_or("");
  }

  testing::TemporaryDirectory directory_;
  std::unique_ptr<testing::WriteLogDevice> device_;
  std::unique_ptr<Volume> volume_;
};

struct Cost {
  unsigned writes = 0, flushes = 0;
  std::uint64_t bytes = 0;
};
Cost cost_since(testing::WriteLogDevice &device, std::uint64_t position) {
  Cost cost;
  for (const testing::LogEntry &entry : device.entries()) {
    if (entry.begin < position) continue;
    if (entry.kind == testing::LogEntry::Kind::flush) ++cost.flushes;
    if (entry.kind == testing::LogEntry::Kind::write) {
      ++cost.writes;
      cost.bytes += entry.length;
    }
  }
  return cost;
}

TEST(FastCommit, AnFsyncOfASimpleChangeIsOneSmallWrite) {
  Bench bench;
  bench.create("first");
  bench.full();
  bench.create("second");
  bench.fsync();  // the first of its transaction has a block more
  const auto before = bench.counters();

  bench.create("third");
  std::uint64_t position = bench.device().position();
  bench.fsync();
  Cost cost = cost_since(bench.device(), position);
  EXPECT_EQ(cost.writes, 1U);
  EXPECT_EQ(cost.bytes, 4096U);
  EXPECT_EQ(cost.flushes, 1U);

  Inode third = bench.find("third");
  bench.write(third, 0, 10000, 'x');
  position = bench.device().position();
  bench.fsync();
  cost = cost_since(bench.device(), position);
  EXPECT_EQ(cost.writes, 1U);
  EXPECT_EQ(cost.bytes, 4096U);
  EXPECT_EQ(cost.flushes, 2U);  // the data must be there before what names it

  // Nothing new: only what was written in place may be waiting.
  position = bench.device().position();
  bench.fsync();
  cost = cost_since(bench.device(), position);
  EXPECT_EQ(cost.writes, 0U);
  EXPECT_EQ(cost.flushes, 1U);

  const auto after = bench.counters();
  EXPECT_EQ(after.fast_commits, before.fast_commits + 2);
  EXPECT_EQ(after.commits, before.commits);
}

TEST(FastCommit, WhatIsNotSimpleTakesAFullCommit) {
  Bench bench;
  Inode inode = bench.create("file");
  bench.mkdir("e");
  bench.full();
  const std::vector<std::pair<const char *, std::function<void()>>> changes{
      {"directory made", [&] { bench.mkdir("f"); }},
      {"attribute set",
       [&] { EXPECT_OK(xattrs::set(bench.volume(), inode, "user.a", std::as_bytes(std::span("bc", 2)), xattrs::SetMode::any)); }},
      {"directory renamed", [&] { bench.rename("e", "g"); }},
      {"file without a name",
       [&] {
         Inode root = bench.load(format::kRootInode);
         EXPECT_OK(names::create_temporary(bench.volume(), root, {.mode = 0100600}));
       }},
      {"symbolic link",
       [&] {
         Inode root = bench.load(format::kRootInode);
         EXPECT_OK(names::create(bench.volume(), root, "link", {.mode = 0120777, .symlink_target = "target"}));
       }},
  };
  for (const auto &[name, change] : changes) {
    SCOPED_TRACE(name);
    const auto before = bench.counters();
    change();
    bench.fsync();
    const auto after = bench.counters();
    EXPECT_EQ(after.commits, before.commits + 1);
    EXPECT_EQ(after.fast_commits, before.fast_commits);
    // And the next transaction is simple again.
    bench.create(std::string("after ") + name);
    bench.fsync();
    EXPECT_EQ(bench.counters().fast_commits, before.fast_commits + 1);
    EXPECT_EQ(bench.counters().commits, before.commits + 1);
    bench.full();
  }
}

TEST(FastCommit, WithoutTheFeatureThereIsNone) {
  Bench bench(4096, {"-O", "^fast_commit"});
  bench.create("file");
  bench.fsync();
  EXPECT_EQ(bench.counters().fast_commits, 0U);
  EXPECT_GT(bench.counters().commits, 0U);
}

TEST(FastCommit, AFullAreaTakesAFullCommitAndBeginsAnew) {
  Bench bench(4096);
  bench.full();
  for (int i = 0; i < 300; ++i) {
    bench.create("file" + std::to_string(i));
    bench.fsync();
  }
  EXPECT_GE(bench.counters().commits, 3U);
  EXPECT_GT(bench.counters().fast_commits, 250U);
  auto crashed = bench.snapshot();
  std::uint32_t fast_commits = 0;
  const std::string ours = bench.replayed_by_us(*crashed, &fast_commits);
  EXPECT_GT(fast_commits, 0U);
  EXPECT_EQ(ours, bench.close_and_dump());
}

#define SKIP_WITHOUT_KERNEL()                                                       \
  if (const std::string why = testing::why_no_kernel_mounts(); !why.empty()) GTEST_SKIP() << why

// Every judge comes to the tree that the volume had. e2fsck's replay is wrong when there are transactions to be replayed before
// the fast commits (docs/jbd2.md): it is asked only when there are none.
enum class Judges : std::uint8_t { all, all_but_e2fsck };
void expect_replayed(Bench &bench, Judges judges) {
  auto crashed = bench.snapshot();
  std::uint32_t fast_commits = 0;
  const std::string ours = bench.replayed_by_us(*crashed, &fast_commits);
  EXPECT_GT(fast_commits, 0U) << "no fast commits: this test shows nothing";
  const std::string kernels = bench.replayed_by_kernel(*crashed);
  const std::string e2fscks = judges == Judges::all ? bench.replayed_by_e2fsck(*crashed) : "";
  const std::string expected = bench.close_and_dump();
  EXPECT_EQ(ours, expected);
  EXPECT_EQ(kernels, expected);
  if (judges == Judges::all) {
    EXPECT_EQ(e2fscks, expected);
  }
}

TEST(FastCommit, TheFirstChangesAfterAMountNeedNoFullCommit) {
  SKIP_WITHOUT_KERNEL();
  Bench bench;
  EXPECT_OK(bench->close());
  bench.stop();
  bench.open();
  bench.full();
  bench.create("file");
  bench.fsync();
  EXPECT_EQ(bench.counters().fast_commits, 1U);
  expect_replayed(bench, Judges::all);
}

TEST(FastCommit, CreatedWrittenLinkedRenamedRemoved) {
  SKIP_WITHOUT_KERNEL();
  Bench bench;
  for (const char *name : {"one", "two", "three", "d/four", "five"}) {
    bench.create(name);
    bench.write(name, 0, 20000, name[0]);
  }
  bench.checkpoint();
  bench.create("new");
  bench.write("new", 5000, 9000, 'n');
  bench.fsync();
  bench.write("one", 20000, 30000, 'a');
  bench.fsync();
  bench.punch("two", 4096, 8192);
  bench.link("three", "d/three-too");
  bench.fsync();
  bench.unlink("three");
  bench.rename("d/four", "moved");
  bench.fsync();
  bench.truncate("one", 4096 * 3);
  bench.unlink("five");
  bench.fsync();
  bench.create("brief");
  bench.write("brief", 0, 100, 'b');
  bench.unlink("brief");
  bench.create("brief");
  bench.fsync();
  bench.rename("new", "one");
  bench.fsync();
  EXPECT_EQ(bench.counters().commits, 1U);  // the one of checkpoint()
  expect_replayed(bench, Judges::all);
}

TEST(FastCommit, AFileUnlinkedAndStillOpenIsGoneAfterACrash) {
  SKIP_WITHOUT_KERNEL();
  Bench bench;
  bench.create("doomed");
  bench.write("doomed", 0, 30000, 'd');
  bench.checkpoint();
  bench.unlink("doomed", true);
  bench.create("other");
  bench.fsync();
  auto crashed = bench.snapshot();
  std::uint32_t fast_commits = 0;
  const std::string ours = bench.replayed_by_us(*crashed, &fast_commits);
  EXPECT_GT(fast_commits, 0U);
  EXPECT_EQ(ours.find("doomed"), std::string::npos);
  EXPECT_NE(ours.find("/other "), std::string::npos);
  EXPECT_EQ(bench.replayed_by_kernel(*crashed), ours);
  EXPECT_EQ(bench.replayed_by_e2fsck(*crashed), ours);
}

TEST(FastCommit, AFreedNumberWaitsForTheFullCommit) {
  Bench bench;
  const InodeNumber number = bench.create("old").number;
  bench.full();
  bench.unlink("old");
  EXPECT_NE(bench.create("other").number, number);
  bench.fsync();
  EXPECT_EQ(bench.counters().fast_commits, 1U);
  EXPECT_NE(bench.create("another").number, number);
  bench.full();
  EXPECT_EQ(bench.create("last").number, number);
}

// Random simple operations, fsync after some of them.
class Operations {
public:
  Operations(Bench &bench, unsigned seed) : bench_(bench), random_(seed) {}
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
  void step() {
    const std::string fresh = (below(2) != 0 ? "d/name" : "name") + std::to_string(below(30));
    const auto what = below(11);
    if (what < 3 || names_.size() < 3) {
      if (!names_.insert(fresh).second) return;
      bench_.create(fresh);
      bench_.write(fresh, below(60000), 1 + below(40000), fill());
    } else if (what < 6) {
      bench_.write(pick(), below(200000), 1 + below(30000), fill());
    } else if (what == 6) {
      bench_.punch(pick(), below(50000), 1 + below(50000));
    } else if (what == 7) {
      bench_.truncate(pick(), below(100000));
    } else if (what == 8) {
      const std::string old = pick();
      if (names_.insert(fresh).second) bench_.link(old, fresh);
    } else if (what == 9) {
      const std::string old = pick();
      bench_.unlink(old);
      names_.erase(old);
    } else {
      const std::string old = pick();
      const bool same = names_.contains(fresh) && bench_.find(old).number == bench_.find(fresh).number;
      if (same) return;
      bench_.rename(old, fresh);
      names_.erase(old);
      names_.insert(fresh);
    }
  }

private:
  char fill() { return static_cast<char>('a' + below(26)); }
  std::string pick() {
    auto at = names_.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(below(names_.size())));
    return *at;
  }
  Bench &bench_;
  std::mt19937_64 random_;
  std::set<std::string> names_;
};

TEST(FastCommit, RandomOperationsAreReplayedByAll) {
  SKIP_WITHOUT_KERNEL();
  const char *wanted = std::getenv("OUTBOARD_FAST_COMMIT_ROUNDS");
  const unsigned rounds = wanted == nullptr ? 6 : static_cast<unsigned>(std::atoi(wanted));
  for (unsigned seed = 1; seed <= rounds; ++seed) {
    SCOPED_TRACE(seed);
    Bench bench(seed % 2 == 0 ? 4096 : 1024);
    Operations operations(bench, seed);
    for (int i = 0; i < 30; ++i) operations.step();
    bench.full();
    for (int i = 0; i < 60; ++i) {
      operations.step();
      if (operations.below(3) == 0) bench.fsync();
    }
    // What the last operation was decides whether the end is a fast commit: make sure of it.
    bench.full();
    for (int i = 0; i < 8; ++i) {
      bench.create("end" + std::to_string(i));
      bench.write("end" + std::to_string(i), 0, 5000, 'e');
      bench.fsync();
    }
    expect_replayed(bench, Judges::all_but_e2fsck);
    if (HasFailure()) return;
  }
}

// Power cuts at any write, with any part of the unflushed ones lost or torn: sound, and every fsync's promise kept.
TEST(FastCommit, EveryCrashKeepsWhatFsyncPromised) {
  Bench bench;
  bench.full();
  struct Promise {
    std::uint64_t position;
    std::string name;
    std::uint64_t size;
  };
  std::vector<Promise> promises;
  const std::uint64_t begin = bench.device().position();
  for (int i = 0; i < 12; ++i) {
    const std::string name = "file" + std::to_string(i);
    bench.create(name);
    bench.write(name, 0, 3000 + static_cast<std::size_t>(i) * 1000, 'x');
    if (i % 3 == 2) bench.unlink("file" + std::to_string(i - 2));
    bench.fsync();
    promises.push_back({bench.device().position(), name, 3000 + static_cast<std::uint64_t>(i) * 1000});
    if (i == 5) bench.full();
  }
  EXPECT_GT(bench.counters().fast_commits, 9U);
  unsigned states = 0, with_fast_commits = 0;
  std::vector<std::uint64_t> points;
  for (std::uint64_t point : bench.device().crash_points())
    if (point > begin) points.push_back(point);
  for (const std::uint64_t point : points) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      SCOPED_TRACE(fmt::format("crash at {}, seed {}", point, seed));
      ASSIGN_OK(auto state, bench.device().crash_state(point, seed));
      std::string refusal;
      auto volume = Volume::open(*state, {}, nullptr, &refusal);
      ASSERT_OK(volume) << refusal;
      ++states;
      with_fast_commits += (*volume)->report().fast_commits != 0 ? 1 : 0;
      ASSIGN_OK(Inode root, (*volume)->inodes().load(format::kRootInode));
      for (std::size_t i = 0; i < promises.size() && promises[i].position <= point; ++i) {
        // Removed by a later one?
        const bool may_be_gone = i % 3 == 0 && i + 2 < promises.size() &&
                                 (promises[i + 2].position <= point || (i + 1 < promises.size() && promises[i + 1].position <= point));
        const auto match = Directory::find(**volume, root, promises[i].name);
        if (!match && may_be_gone) continue;
        ASSERT_OK(match) << promises[i].name;
        ASSIGN_OK(Inode inode, (*volume)->inodes().load(match->inode));
        EXPECT_EQ(inode.fields.size, promises[i].size);
        // The data came before what names it.
        std::vector<std::byte> data(promises[i].size);
        Mapper mapper(**volume, inode);
        const auto got = iomap::direct::read(mapper, (*volume)->device(), 0, data, inode.fields.size);
        ASSERT_OK(got);
        EXPECT_TRUE(std::ranges::all_of(data, [](std::byte byte) { return byte == std::byte{'x'}; })) << promises[i].name;
      }
      EXPECT_OK((*volume)->close());
      volume->reset();
      if (seed < 2) {
        const testing::FsckReport report = testing::fsck(*state);
        ASSERT_TRUE(report.clean) << report.text;
      }
    }
  }
  EXPECT_GT(states, 100U);
  EXPECT_GT(with_fast_commits, states / 4);
}

// Threads that change and fsync at once, and full commits between: nothing is lost, nothing hangs.
TEST(FastCommit, ThreadsAndFullCommitsAtOnce) {
  Bench bench;
  bench.full();
  constexpr int kThreads = 4, kFiles = 60;
  std::vector<Inode> directories;
  for (int t = 0; t < kThreads; ++t) {
    bench.mkdir("t" + std::to_string(t));
    directories.push_back(bench.find("t" + std::to_string(t)));
  }
  bench.full();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Inode &directory = directories[static_cast<std::size_t>(t)];
      for (int i = 0; i < kFiles; ++i) {
        auto made = names::create(bench.volume(), directory, "file" + std::to_string(i), {.mode = 0100644});
        EXPECT_OK(made);
        if (!made) return;
        bench.write(*made, 0, 5000, 'x');
        if (i % 4 == 3) {
          auto match = Directory::find(bench.volume(), directory, "file" + std::to_string(i - 2));
          auto old = bench.volume().inodes().load(match->inode);
          EXPECT_OK(names::unlink(bench.volume(), directory, "file" + std::to_string(i - 2), *old));
          EXPECT_OK(truncate::delete_inode(bench.volume(), *old));
        }
        EXPECT_OK(bench.volume().journal().commit_and_wait(made->sync_tid));
        if (t == 0 && i % 20 == 19) {
          EXPECT_OK(bench.volume().sync());
        }
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  EXPECT_GT(bench.counters().fast_commits, 10U);
  auto crashed = bench.snapshot();
  const std::string ours = bench.replayed_by_us(*crashed);
  EXPECT_EQ(ours, bench.close_and_dump());
}

}  // namespace
}  // namespace outboard::ext4

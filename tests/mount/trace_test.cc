// `outboard trace` on a real mount, and the probes in the program.
#include "base/unique_fd.h"
#include "support/mounts.h"
#include "testing/expect.h"

#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <set>
#include <sstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace outboard::tests {
namespace {

using testing::run_command;

// "<layer>_<event>" of `outboard trace --list`.
std::set<std::string> vocabulary() {
  const auto listed = run_command({outboard_program(), "trace", "--list"});
  std::set<std::string> names;
  if (!listed) return names;
  std::istringstream lines(listed->out);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(' ')) continue;
    std::istringstream words(line);
    std::string layer, event;
    words >> layer >> event;
    names.insert(fmt::format("{}_{}", layer, event));
  }
  return names;
}

TEST(TraceProbes, OfTheProgramAreTheVocabulary) {
  if (!testing::have_program("readelf")) GTEST_SKIP() << "readelf is not installed";
  const auto notes = run_command({"readelf", "--wide", "--notes", outboard_program()});
  ASSERT_OK(notes);
  std::set<std::string> probes;
  std::istringstream lines(notes->out);
  bool ours = false;
  for (std::string line; std::getline(lines, line);) {
    if (const auto at = line.find("Provider: "); at != std::string::npos) ours = line.substr(at + 10) == "outboard";
    if (const auto at = line.find("Name: "); at != std::string::npos && ours) probes.insert(line.substr(at + 6));
    // All of them are switched on by the one word that the program looks at.
    if (const auto at = line.find("Semaphore: "); at != std::string::npos && ours) {
      static const std::string semaphore = line.substr(at);
      EXPECT_EQ(line.substr(at), semaphore);
      EXPECT_EQ(line.find("0x0000000000000000", at), std::string::npos) << "a probe without the semaphore: " << line;
    }
  }
  EXPECT_GT(probes.size(), 30u);
  EXPECT_EQ(probes, vocabulary());
}

// A tracer in the background; its output is complete after stop().
class Tracer {
public:
  Tracer(const testing::TemporaryDirectory &work, std::vector<std::string> arguments)
      : out_(work.file("trace.out")), err_(work.file("trace.err")) {
    arguments.insert(arguments.begin(), {outboard_program(), "trace"});
    std::vector<char *> argv;
    for (std::string &word : arguments) argv.push_back(word.data());
    argv.push_back(nullptr);
    // What an earlier one said is not taken for its words.
    ::unlink(err_.c_str());
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(::open(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), 1);
      ::dup2(::open(err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), 2);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    for (int i = 0; i < 5000 && testing::read_file(err_).value_or("").find("tracing") == std::string::npos; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ~Tracer() {
    if (process_ > 0) stop(SIGKILL);
  }
  // Its exit status; 0 as signal: waits for its own end.
  int stop(int signal) {
    if (process_ <= 0) return -1;
    if (signal != 0) ::kill(process_, signal);
    int status = 0;
    ::waitpid(process_, &status, 0);
    process_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> all;
    std::istringstream text(testing::read_file(out_).value_or(""));
    for (std::string line; std::getline(text, line);) all.push_back(line);
    return all;
  }
  std::string err() const { return testing::read_file(err_).value_or(""); }

private:
  std::string out_, err_;
  pid_t process_ = -1;
};

std::uint64_t number(const std::string &line, const std::string &field) {
  const auto at = line.find("\"" + field + "\":");
  return at == std::string::npos ? ~std::uint64_t{0} : std::strtoull(line.c_str() + at + field.size() + 3, nullptr, 10);
}

class Trace : public ::testing::Test {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
    ASSERT_OK(testing::make_image(image_, std::uint64_t{64} << 20));
  }
  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
};

// The place of the first line at or after `from` with all these words.
std::size_t find(const std::vector<std::string> &lines, std::size_t from, const std::vector<std::string> &words) {
  for (; from < lines.size(); ++from)
    if (std::ranges::all_of(words, [&](const std::string &word) { return lines[from].find(word) != std::string::npos; })) return from;
  return lines.size();
}

TEST_F(Trace, ShowsAWriteAndItsFsyncInOrderWithInodeAndTransaction) {
  OutboardMount mount(image_, work_.file("mnt"), {"commit=300"});
  ASSERT_TRUE(mount.mounted());
  Tracer tracer(work_, {"--json", mount.path()});
  const std::string path = mount.path() + "/traced";
  struct stat s {};
  {
    const UniqueFd fd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
    ASSERT_TRUE(fd);
    const std::string data(40000, 't');
    ASSERT_EQ(::write(fd.get(), data.data(), data.size()), static_cast<ssize_t>(data.size()));
    ASSERT_EQ(::fsync(fd.get()), 0);
    ASSERT_EQ(::fstat(fd.get(), &s), 0);
  }
  ASSERT_EQ(tracer.stop(SIGTERM), 0) << tracer.err();
  // A thread held up on a busy machine may deliver late; the time is what counts.
  std::vector<std::string> lines = tracer.lines();
  std::ranges::stable_sort(lines, {}, [](const std::string &line) { return number(line, "time_ns"); });
  const auto event = [](const char *layer, const char *name) { return fmt::format("\"layer\":\"{}\",\"event\":\"{}\"", layer, name); };
  const std::string inode = fmt::format("\"inode\":{},", s.st_ino);
  const auto all = [&] { return fmt::format("{}", fmt::join(lines, "\n")); };
  const auto expect_next = [&](std::size_t from, const std::vector<std::string> &words) {
    const std::size_t at = find(lines, from, words);
    EXPECT_LT(at, lines.size()) << fmt::format("{}", fmt::join(words, " ")) << " not after line " << from << " of\n" << all();
    return at;
  };

  const std::size_t create = expect_next(0, {event("ext4", "create"), "\"parent\":2,", inode});
  const std::size_t write = expect_next(create, {event("fuse", "request_begin"), "\"opcode\":\"write\"", fmt::format("\"inode\":{}}}", s.st_ino)});
  const std::size_t dirtied = expect_next(write, {event("pagecache", "dirtied"), inode, "\"offset\":0,"});
  const std::size_t taken = expect_next(dirtied, {event("pagecache", "write_back_begin"), inode, "\"length\":40000,"});
  const std::size_t data_written = expect_next(taken, {event("device", "write"), "\"length\":40960,"});
  expect_next(data_written, {event("pagecache", "write_back_end"), inode, "\"length\":40000}"});
  const std::size_t map = expect_next(write, {event("ext4", "map_insert"), inode, "\"first\":0,", "\"count\":10,"});
  const std::size_t claim = expect_next(write, {event("ext4", "blocks_claim"), "\"count\":10,"});
  const std::size_t sync = expect_next(std::max(map, claim), {event("vfs", "sync_begin"), inode});
  ASSERT_LT(std::max({create, write, map, claim, sync}), lines.size());
  const std::uint64_t tid = number(lines[sync], "tid");
  EXPECT_EQ(number(lines[claim], "tid"), tid) << "fsync waits for the transaction that found the blocks";
  const std::string this_tid = fmt::format("\"tid\":{},", tid);
  const std::size_t begin = expect_next(sync, {event("jbd2", "commit_begin"), this_tid});
  const std::size_t log = expect_next(begin, {event("jbd2", "commit_phase"), this_tid, "\"log\""});
  const std::size_t flush = expect_next(log, {event("jbd2", "commit_phase"), this_tid, "\"flush\""});
  const std::size_t flushed = expect_next(flush, {event("device", "flush"), "\"error\":0"});
  const std::size_t block = expect_next(flushed, {event("jbd2", "commit_phase"), this_tid, "\"commit_block\""});
  const std::size_t durable = expect_next(block, {event("device", "flush"), "\"error\":0"});
  const std::size_t end = expect_next(durable, {event("jbd2", "commit_end"), this_tid, "\"error\":0"});
  const std::size_t answered = expect_next(end, {event("vfs", "sync_end"), inode, this_tid, "\"error\":0"});
  expect_next(answered, {event("fuse", "request_end"), "\"opcode\":\"fsync\"", inode, "\"error\":0"});
  // The data went to the device before the transaction that finds it was logged.
  const std::size_t data = find(lines, write, {event("device", "write"), "\"length\":40960,"});
  EXPECT_LT(data, log) << all();
  EXPECT_EQ(find(lines, 0, {"\"opcode\":\"ioctl\""}), lines.size()) << "the tracer sees itself";
  EXPECT_EQ(mount.unmount(), "");
  EXPECT_EQ(fsck_complaint(image_), "");
}

TEST_F(Trace, FiltersCountsAndRefusesASecondReader) {
  OutboardMount mount(image_, work_.file("mnt"));
  ASSERT_TRUE(mount.mounted());
  Tracer tracer(work_, {"--filter", "layer=ext4", "--filter", "event=create,unlink", "--count", "3", mount.path()});
  const auto second = run_command({outboard_program(), "trace", "--count", "1", mount.path()});
  ASSERT_OK(second);
  EXPECT_EQ(second->exit, 2);
  EXPECT_NE(second->err.find("somebody else"), std::string::npos) << second->err;
  for (int i = 0; i < 2; ++i) {
    const std::string path = fmt::format("{}/f{}", mount.path(), i);
    ASSERT_OK(testing::write_file(path, "x"));
    ASSERT_EQ(::unlink(path.c_str()), 0);
  }
  EXPECT_EQ(tracer.stop(0), 0) << tracer.err();
  const auto lines = tracer.lines();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_NE(lines[0].find("ext4   create"), std::string::npos) << lines[0];
  EXPECT_NE(lines[0].find("parent=2"), std::string::npos) << lines[0];
  EXPECT_NE(lines[1].find("ext4   unlink"), std::string::npos) << lines[1];
  EXPECT_NE(lines[2].find("ext4   create"), std::string::npos) << lines[2];
  // The first has ended properly, so the next need not wait.
  Tracer next(work_, {mount.path()});
  EXPECT_NE(next.err().find("tracing"), std::string::npos) << next.err();
  EXPECT_EQ(mount.unmount(), "") << "a mount can be unmounted while it is traced";
  EXPECT_EQ(next.stop(0), 2) << "and the tracer ends then";
}

TEST(TraceCommand, UnknownFiltersAreWrongUsage) {
  for (const char *filter : {"layer=nosuch", "event=nosuch", "nosuch=1", "inode=x", "inode"}) {
    const auto result = run_command({outboard_program(), "trace", "--filter", filter, "/"});
    ASSERT_OK(result);
    EXPECT_EQ(result->exit, 1) << filter << ": " << result->err;
  }
}

}  // namespace
}  // namespace outboard::tests

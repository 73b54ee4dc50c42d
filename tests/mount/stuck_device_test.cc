// A real mount over a device that stops answering. Every client is back within the deadline and 5 s, none is left in
// uninterruptible sleep, unmounting works, and so does killing the server; the image holds what had been promised.
#include "base/unique_fd.h"
#include "support/mounts.h"
#include "support/sticky_file.h"
#include "testing/expect.h"
#include "testing/fsck_oracle.h"

#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <fmt/format.h>
#include <functional>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace outboard::tests {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Stuck = StickyFile::Stuck;
using testing::run_command;

// What the contract allows: the deadline, and 5 s.
constexpr auto kDeadline = 2s;
constexpr auto kAllowed = kDeadline + 5s;

bool within(std::chrono::milliseconds time, const std::function<bool()> &condition) {
  const auto end = Clock::now() + time;
  while (!condition()) {
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(5ms);
  }
  return true;
}

// The letter of /proc/PID/stat: D is uninterruptible sleep. 0: there is no such process.
char state_of(pid_t process) {
  const auto text = testing::read_file(fmt::format("/proc/{}/stat", process));
  if (!text) return 0;
  const std::size_t name_end = text->rfind(')');
  return name_end == std::string::npos || name_end + 2 >= text->size() ? '\0' : (*text)[name_end + 2];
}

// A program that runs while the test goes on.
class Client {
public:
  explicit Client(std::vector<std::string> words) : words_(std::move(words)) {
    std::vector<char *> argv;
    for (std::string &word : words_) argv.push_back(word.data());
    argv.push_back(nullptr);
    process_ = ::fork();
    if (process_ != 0) return;
    const int null = ::open("/dev/null", O_RDWR);
    for (int standard = 0; standard <= 2; ++standard) ::dup2(null, standard);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  Client(Client &&other) noexcept : words_(std::move(other.words_)), process_(std::exchange(other.process_, -1)), status_(other.status_) {}
  Client(const Client &) = delete;
  Client &operator=(const Client &) = delete;
  Client &operator=(Client &&) = delete;
  ~Client() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    // The sticky file may hold it still; whoever made that lets go of it later, and init collects the process then.
    within(5s, [this] { return over(); });
  }
  bool over() {
    if (process_ > 0 && ::waitpid(process_, &status_, WNOHANG) == process_) process_ = -1;
    return process_ <= 0;
  }
  int exit_status() const { return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_); }
  std::string name() const {
    std::string text;
    for (const std::string &word : words_) text += word + " ";
    return text;
  }
  char state() const { return state_of(process_); }

private:
  std::vector<std::string> words_;
  pid_t process_ = -1;
  int status_ = 0;
};

class StuckDevice : public ::testing::TestWithParam<bool> {  // plain
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
    for (const char *program : {"git", "dd", "find", "sync"})
      if (!testing::have_program(program)) GTEST_SKIP() << "no " << program;
    ASSERT_OK(testing::make_image(image_, std::uint64_t{96} << 20));
    ASSERT_NO_FATAL_FAILURE(fill());
    sticky_ = std::make_unique<StickyFile>(image_, work_.file("sticky"));
    ASSERT_TRUE(sticky_->served());
    std::vector<std::string> options = {fmt::format("io_timeout={}", kDeadline.count())};
    if (GetParam()) options.push_back("plain");
    mount_ = std::make_unique<OutboardMount>(sticky_->path(), work_.file("mnt"), options);
    ASSERT_TRUE(mount_->mounted());
  }
  void TearDown() override {
    // First whatever holds the server, or nothing could be taken away.
    if (sticky_) sticky_->die();
    if (mount_ && mount_->mounted()) mount_->kill();
    mount_.reset();
    sticky_.reset();
  }
  // Much that no cache of the next mount holds: a repository, directories, a large file.
  void fill() {
    OutboardMount mount(image_, work_.file("mnt"));
    ASSERT_TRUE(mount.mounted());
    const std::string root = mount.path();
    const auto git = [&](std::vector<std::string> words) {
      words.insert(words.begin(), {"git", "-C", root + "/repo", "-c", "user.name=t", "-c", "user.email=t@example.org"});
      const auto done = run_command(words);
      ASSERT_OK(done);
      ASSERT_EQ(done->exit, 0) << done->err;
    };
    ASSERT_EQ(::mkdir((root + "/repo").c_str(), 0755), 0);
    ASSERT_NO_FATAL_FAILURE(git({"init", "-q"}));
    for (int i = 0; i < 40; ++i) {
      const std::string directory = fmt::format("{}/repo/d{}", root, i);
      ASSERT_EQ(::mkdir(directory.c_str(), 0755), 0);
      for (int j = 0; j < 5; ++j) ASSERT_OK(testing::write_file(fmt::format("{}/f{}", directory, j), std::string(3000, 'x')));
    }
    ASSERT_NO_FATAL_FAILURE(git({"add", "."}));
    ASSERT_NO_FATAL_FAILURE(git({"commit", "-q", "-m", "all"}));
    ASSERT_OK(testing::write_file(root + "/big", std::string(8 << 20, 'b')));
    ASSERT_OK(testing::write_file(root + "/other", std::string(1 << 20, 'o')));
    ASSERT_EQ(mount.unmount(), "");
  }
  // ... within what the contract allows from now on, by themselves.
  void expect_all_return(std::vector<Client> &clients) {
    const auto end = Clock::now() + kAllowed;
    for (Client &client : clients) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
      EXPECT_TRUE(within(std::max(left, 0ms), [&] { return client.over(); }))
          << client.name() << "has not returned; its state is " << client.state();
    }
  }
  void expect_unmounts() {
    Client umount({"umount", mount_->path()});
    EXPECT_TRUE(within(kAllowed, [&] { return umount.over(); })) << "umount has not returned; its state is " << umount.state();
    EXPECT_EQ(umount.exit_status(), 0) << mount_->log();
  }
  // The device answers again: the server ends, and the image is what a crash would have left.
  void expect_server_ends_and_image_is_good() {
    sticky_->stick(Stuck::nothing);
    EXPECT_TRUE(mount_->wait_for_end());
    mount_.reset();
    sticky_.reset();
    OutboardMount again(image_, work_.file("again"));
    ASSERT_TRUE(again.mounted());
    EXPECT_EQ(testing::read_file(again.path() + "/other").value_or(""), std::string(1 << 20, 'o'));
    EXPECT_EQ(again.unmount(), "");
    EXPECT_EQ(fsck_complaint(image_), "");
  }
  std::string at(const std::string &name) const { return mount_->path() + "/" + name; }

  testing::TemporaryDirectory work_;
  const std::string image_ = work_.file("disk.img");
  std::unique_ptr<StickyFile> sticky_;
  std::unique_ptr<OutboardMount> mount_;
};

TEST_P(StuckDevice, UnderDdGitFindAndSyncEveryClientReturns) {
  // Something to sync: in the server's memory and in the kernel's.
  ASSERT_OK(testing::write_file(at("dirty"), std::string(300'000, 'd')));
  sticky_->stick(Stuck::everything);
  std::vector<Client> clients;
  clients.emplace_back(std::vector<std::string>{"dd", "if=/dev/zero", "of=" + at("new"), "bs=1M", "count=16", "conv=fsync"});
  clients.emplace_back(std::vector<std::string>{"dd", "if=" + at("big"), "of=/dev/null", "bs=1M"});
  clients.emplace_back(std::vector<std::string>{"git", "-C", at("repo"), "status"});
  clients.emplace_back(std::vector<std::string>{"git", "-C", at("repo"), "fsck"});
  clients.emplace_back(std::vector<std::string>{"find", mount_->path(), "-type", "f", "-size", "+1k"});
  clients.emplace_back(std::vector<std::string>{"sync", "-f", mount_->path()});
  clients.emplace_back(std::vector<std::string>{"sync", at("dirty")});
  ASSERT_TRUE(within(10s, [this] { return sticky_->held() > 0; })) << "nobody got stuck: nothing was tested";
  expect_all_return(clients);
  // Those that had to find out did; nobody was told that all was well.
  for (Client &client : clients)
    if (client.name().starts_with("dd if=/dev/zero") || client.name() == "sync " + at("dirty") + " ") {
      EXPECT_NE(client.exit_status(), 0) << client.name();
    }
  EXPECT_NE(::mkdir(at("late").c_str(), 0755), 0);
  expect_unmounts();
  expect_server_ends_and_image_is_good();
}

TEST_P(StuckDevice, AReadThatIsNotAnsweredFailsAndOtherWorkGoesOnWhenTheDeviceDoes) {
  sticky_->stick(Stuck::reads);
  std::vector<Client> clients;
  clients.emplace_back(std::vector<std::string>{"dd", "if=" + at("big"), "of=/dev/null", "bs=4k", "count=1"});
  expect_all_return(clients);
  EXPECT_NE(clients[0].exit_status(), 0);
  sticky_->stick(Stuck::nothing);
  // Through the same workers, while late answers come in.
  EXPECT_TRUE(within(kAllowed, [this] { return testing::write_file(at("written"), std::string(2 << 20, 'w')).has_value(); }));
  std::vector<Client> sync;
  sync.emplace_back(std::vector<std::string>{"sync", at("written")});
  expect_all_return(sync);
  EXPECT_EQ(sync[0].exit_status(), 0) << mount_->log();
  EXPECT_EQ(testing::read_file(at("big")).value_or(""), std::string(8 << 20, 'b'));
  EXPECT_EQ(mount_->unmount(), "");
  OutboardMount again(image_, work_.file("again"));
  ASSERT_TRUE(again.mounted());
  EXPECT_EQ(testing::read_file(again.path() + "/written").value_or(""), std::string(2 << 20, 'w'));
  EXPECT_EQ(again.unmount(), "");
  EXPECT_EQ(fsck_complaint(image_), "");
}

TEST_P(StuckDevice, ClientsOfAServerThatIsKilledReturn) {
  sticky_->stick(Stuck::everything);
  std::vector<Client> clients;
  clients.emplace_back(std::vector<std::string>{"cat", at("big")});
  clients.emplace_back(std::vector<std::string>{"find", mount_->path()});
  ASSERT_TRUE(within(10s, [this] { return sticky_->held() > 0; }));
  ASSERT_EQ(::kill(mount_->server(), SIGKILL), 0);
  expect_all_return(clients);
  // The kernel may hold the server itself until the device answers.
  sticky_->stick(Stuck::nothing);
  EXPECT_TRUE(mount_->wait_for_end());
  ::umount2(mount_->path().c_str(), MNT_DETACH);
}

INSTANTIATE_TEST_SUITE_P(Kinds, StuckDevice, ::testing::Values(false, true),
                         [](const auto &param) { return param.param ? "Plain" : "Fuseblk"; });

}  // namespace
}  // namespace outboard::tests

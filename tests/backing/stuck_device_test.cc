// A real mount over a device that stops answering. Every client is back within the deadline and 5 s, none is left in
// uninterruptible sleep, unmounting works, and so does killing the server; the image holds what had been promised.
#include "base/unique_fd.h"
#include "device/loop.h"
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

// What the contract allows: the deadline, and 5 s. The slack is for the clients' own work on a machine that is loaded with other tests;
// on an idle one they are back about 3 s after the device got stuck.
constexpr auto kDeadline = 2s;
constexpr auto kSlack = 5s;
constexpr auto kAllowed = kDeadline + 5s + kSlack;

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

// What gets stuck: a file (asked by helper threads), a loop device over that file, or a file in the kernel's ext4 on such a loop
// device (both asked by rings).
enum class On : std::uint8_t { file, block_device, ext4 };
struct Kind {
  On on;
  bool plain;
};

class StuckDevice : public ::testing::TestWithParam<Kind> {
protected:
  void SetUp() override {
    if (std::string why = why_no_mounts(); !why.empty()) GTEST_SKIP() << why;
    for (const char *program : {"git", "dd", "find", "sync"})
      if (!testing::have_program(program)) GTEST_SKIP() << "no " << program;
    ASSERT_OK(testing::make_image(image_, std::uint64_t{96} << 20));
    ASSERT_NO_FATAL_FAILURE(fill());
    ASSERT_NO_FATAL_FAILURE(put_it_on_something_sticky());
    std::vector<std::string> options = {fmt::format("io_timeout={}", kDeadline.count())};
    if (GetParam().plain) options.push_back("plain");
    mount_ = std::make_unique<OutboardMount>(source_, work_.file("mnt"), options);
    ASSERT_TRUE(mount_->mounted());
  }
  void TearDown() override {
    // First whatever holds the server, or nothing could be taken away.
    if (sticky_) sticky_->die();
    if (mount_ && mount_->mounted()) mount_->kill();
    mount_.reset();
    take_the_device_away();
  }
  void put_it_on_something_sticky() {
    const bool on_ext4 = GetParam().on == On::ext4;
    const std::string host = work_.file("host.img");
    if (on_ext4) {
      ASSERT_OK(testing::make_image(host, std::uint64_t{192} << 20));
    }
    sticky_ = std::make_unique<StickyFile>(on_ext4 ? host : image_, work_.file("sticky"));
    ASSERT_TRUE(sticky_->served());
    source_ = sticky_->path();
    if (GetParam().on == On::file) return;
    const UniqueFd backing(::open(source_.c_str(), O_RDWR | O_CLOEXEC));
    ASSIGN_OK(loop_, device::LoopDevice::attach(backing.get(), {}));
    source_ = loop_->path();
    if (!on_ext4) return;
    host_ = work_.file("host");
    ASSERT_EQ(::mkdir(host_.c_str(), 0755), 0);
    ASSERT_EQ(::mount(source_.c_str(), host_.c_str(), "ext4", 0, nullptr), 0) << strerrorname_np(errno);
    host_mounted_ = true;
    source_ = host_ + "/disk.img";
    const auto copied = run_command({"cp", image_, source_});
    ASSERT_OK(copied);
    ASSERT_EQ(copied->exit, 0) << copied->err;
    const UniqueFd copy(::open(source_.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(::fsync(copy.get()), 0);
    image_ = source_;
  }
  void take_the_device_away() {
    if (std::exchange(host_mounted_, false) && ::umount(host_.c_str()) != 0) ::umount2(host_.c_str(), MNT_DETACH);
    loop_.reset();
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
    EXPECT_EQ(mount_->wait_for_end(), "");
    mount_.reset();
    if (!host_mounted_) take_the_device_away();
    OutboardMount again(image_, work_.file("again"));
    ASSERT_TRUE(again.mounted());
    EXPECT_EQ(testing::read_file(again.path() + "/other").value_or(""), std::string(1 << 20, 'o'));
    EXPECT_EQ(again.unmount(), "");
    EXPECT_EQ(fsck_complaint(image_), "");
  }
  std::string at(const std::string &name) const { return mount_->path() + "/" + name; }

  testing::TemporaryDirectory work_;
  std::string image_ = work_.file("disk.img");
  std::unique_ptr<StickyFile> sticky_;
  std::optional<device::LoopDevice> loop_;
  std::string host_;  // where the kernel's ext4 is mounted
  bool host_mounted_ = false;
  std::string source_;
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
  EXPECT_EQ(mount_->wait_for_end(), "the server died of signal 9");
  ::umount2(mount_->path().c_str(), MNT_DETACH);
}

std::string name_of(const ::testing::TestParamInfo<Kind> &info) {
  static constexpr const char *kNames[] = {"File", "BlockDevice", "Ext4File"};
  return std::string(kNames[static_cast<std::size_t>(info.param.on)]) + (info.param.plain ? "Plain" : "Fuseblk");
}
constexpr Kind kKinds[] = {{On::file, false}, {On::file, true}, {On::block_device, false}, {On::ext4, false}};
INSTANTIATE_TEST_SUITE_P(Kinds, StuckDevice, ::testing::ValuesIn(kKinds), name_of);

}  // namespace
}  // namespace outboard::tests

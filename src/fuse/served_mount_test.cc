#include "fuse/served_mount.h"

#include "base/log.h"
#include "fuse/fusermount.h"

#include <csignal>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace outboard::fuse::testing {

std::string why_no_mounts() {
  if (::access("/dev/fuse", R_OK | W_OK) != 0) return "/dev/fuse is not there or not for us";
  if (::geteuid() != 0) return "mounting needs root";
  return {};
}

Result<std::unique_ptr<ServedMount>> ServedMount::start(ServedMountOptions options) {
  std::unique_ptr<ServedMount> served(new ServedMount);
  void *memory = ::mmap(nullptr, sizeof(Controls), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail(Error::system(errno, "shared memory"));
  served->controls_ = new (memory) Controls{};
  const std::string target = served->directory_.file("mount");
  ::mkdir(target.c_str(), 0755);
  options.mount.target = target;

  Mounted mounted;
  if (options.through_fusermount) {
    std::string words;
    Result<UniqueFd> descriptor = fusermount::mount(options.mount, target, &words);
    if (!descriptor) {
      log(LogLevel::error, "fusermount3: {}", words);
      return fail(std::move(descriptor).error());
    }
    mounted = {*std::move(descriptor), target, true};
  } else {
    mounted = TRY(fuse::mount(options.mount));
  }
  served->target_ = mounted.target;

  served->server_ = ::fork();
  if (served->server_ == 0) served->run_server(std::move(mounted.descriptor), options.session);
  if (served->server_ < 0) return fail(Error::system(errno, "fork"));
  served->watchdog_ = std::thread([raw = served.get(), deadline = options.deadline] { raw->watch(deadline); });
  return served;
}

void ServedMount::run_server(UniqueFd descriptor, const SessionOptions &options) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  MemoryFilesystem filesystem(*controls_);
  Result<std::unique_ptr<Session>> session = Session::create(std::move(descriptor), filesystem, options);
  if (!session) ::_exit(11);
  filesystem.question = [&] { return (*session)->requests() | (std::uint64_t{(*session)->workers()} << 48); };
  if (Status status = (*session)->negotiate(); !status) ::_exit(12);
  if (Status status = (*session)->serve(); !status) ::_exit(13);
  if (!(*session)->filesystem_unmounted() && !filesystem.unmount()) ::_exit(14);
  if (!(*session)->unmount_result()) ::_exit(15);
  session->reset();
  ::_exit(0);
}

void ServedMount::watch(std::chrono::seconds deadline) {
  std::unique_lock lock(mutex_);
  if (done_.wait_for(lock, deadline, [this] { return over_; })) return;
  std::fprintf(stderr, "the test took too long: killing the server %d\n", server_);
  if (server_ > 0) ::kill(server_, SIGKILL);  // closes the connection: clients get ENOTCONN
}

std::optional<int> ServedMount::wait_for_server(std::chrono::milliseconds time) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(server_, &status, WNOHANG);
    if (pid == server_) {
      std::lock_guard lock(mutex_);
      server_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (pid < 0 || std::chrono::steady_clock::now() > deadline) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void ServedMount::kill_server() {
  std::lock_guard lock(mutex_);
  if (server_ <= 0) return;
  ::kill(server_, SIGKILL);
  ::waitpid(server_, nullptr, 0);
  server_ = -1;
}

ServedMount::~ServedMount() {
  if (!target_.empty()) static_cast<void>(unmount(target_, true));  // fails when the test has done it
  if (server_ > 0) {
    const std::optional<int> status = wait_for_server(std::chrono::seconds(30));
    if (!status) kill_server();
    EXPECT_EQ(status.value_or(128 + SIGKILL), 0) << "how the server ended";
  }
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  done_.notify_all();
  if (watchdog_.joinable()) watchdog_.join();
  if (controls_ != nullptr) ::munmap(controls_, sizeof(Controls));
}

std::uint64_t ServedMount::ask() const {
  const UniqueFd root(::open(target_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::uint64_t answer = 0;
  if (!root || ::ioctl(root.get(), MemoryFilesystem::kAsk, &answer) != 0) return 0;
  return answer;
}

std::uint64_t ServedMount::requests() const { return ask() & ((1ull << 48) - 1); }
unsigned ServedMount::workers() const { return static_cast<unsigned>(ask() >> 48); }

}  // namespace outboard::fuse::testing

#include "fuse/fusermount.h"

#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <vector>

extern char **environ;

namespace outboard::fuse::fusermount {

namespace {

constexpr const char *kHelper = "fusermount3";
// The helper only asks the kernel; when it takes longer something is badly wrong.
constexpr std::chrono::seconds kDeadline{30};

// The descriptor's number in the helper.
constexpr int kSocketThere = 3;

std::string escape(std::string_view value) {
  std::string result;
  for (const char c : value) {
    if (c == ',' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

// A helper that is running: its words on standard error, and its end.
class Helper {
public:
  // `socket`, unless -1, becomes its descriptor kSocketThere.
  static Result<Helper> start(const std::vector<std::string> &arguments, int socket) {
    int pipe_ends[2];
    if (::pipe2(pipe_ends, O_CLOEXEC) != 0) return fail(Error::system(errno, "fusermount3"));
    Helper helper;
    helper.words_ = UniqueFd(pipe_ends[0]);
    const UniqueFd theirs(pipe_ends[1]);

    std::vector<char *> argv;
    for (const std::string &argument : arguments) argv.push_back(const_cast<char *>(argument.c_str()));
    argv.push_back(nullptr);
    std::string variable = fmt::format("_FUSE_COMMFD={}", kSocketThere);
    std::vector<char *> environment;
    for (char **entry = environ; *entry != nullptr; ++entry)
      if (std::strncmp(*entry, "_FUSE_COMMFD=", 13) != 0) environment.push_back(*entry);
    if (socket >= 0) environment.push_back(variable.data());
    environment.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDERR_FILENO);
    if (socket >= 0) ::posix_spawn_file_actions_adddup2(&actions, socket, kSocketThere);
    const int error = ::posix_spawnp(&helper.pid_, kHelper, &actions, nullptr, argv.data(), environment.data());
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
      helper.pid_ = -1;
      return fail(Error::system(error, "fusermount3 cannot be run (package fuse3)"));
    }
    return helper;
  }
  Helper(Helper &&other) noexcept : pid_(std::exchange(other.pid_, -1)), words_(std::move(other.words_)) {}
  ~Helper() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  // Waits for its end, at most until the deadline, after which it is killed. EPERM when it failed.
  Status finish(std::string *explanation) {
    const std::string text = read_words();
    int status = 0;
    const pid_t pid = std::exchange(pid_, -1);
    while (::waitpid(pid, &status, 0) < 0)
      if (errno != EINTR) return fail(Error::system(errno, "fusermount3"));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    if (explanation != nullptr) *explanation = text;
    return fail(Error::system(EPERM, "fusermount3 refused"));
  }

private:
  Helper() = default;

  // Until its standard error is closed, which its end does.
  std::string read_words() {
    std::string text;
    const auto end = std::chrono::steady_clock::now() + kDeadline;
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
      pollfd waiting{words_.get(), POLLIN, 0};
      if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) == 0) {
        ::kill(pid_, SIGKILL);
        return text + "timed out";
      }
      std::array<char, 512> piece;
      const ssize_t size = ::read(words_.get(), piece.data(), piece.size());
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) break;
      if (text.size() < 4096) text.append(piece.data(), static_cast<std::size_t>(size));
    }
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

  pid_t pid_ = -1;
  UniqueFd words_;
};

// The descriptor that the helper sent before it ended. EPERM when it sent none.
Result<UniqueFd> receive_descriptor(int socket) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t size = 0;
  do size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (size < 0 && errno == EINTR);
  const cmsghdr *header = size >= 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len < CMSG_LEN(sizeof(int)))
    return fail(Error::system(EPERM, "fusermount3 sent no descriptor"));
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  return UniqueFd(descriptor);
}

}  // namespace

std::string option_string(const MountRequest &request) {
  std::string options = fmt::format("fsname={},subtype={}", escape(request.source), escape(request.subtype));
  const auto add = [&options](bool wanted, const char *name) {
    if (wanted) options += std::string(",") + name;
  };
  options += request.read_only ? ",ro" : ",rw";
  add(request.allow_other, "allow_other");
  add(request.default_permissions, "default_permissions");
  add(request.nosuid, "nosuid");
  add(request.nodev, "nodev");
  add(request.noexec, "noexec");
  add(request.noatime, "noatime");
  add(request.nodiratime, "nodiratime");
  add(request.synchronous, "sync");
  add(request.dirsync, "dirsync");
  return options;
}

Result<UniqueFd> mount(const MountRequest &request, const std::string &target, std::string *explanation) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return fail(Error::system(errno, "fusermount3: socket"));
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  Helper helper = TRY(Helper::start({kHelper, "-o", option_string(request), "--", target}, theirs.get()));
  theirs.reset();
  TRY(helper.finish(explanation));
  return receive_descriptor(ours.get());
}

Status unmount(const std::string &target, bool lazy, std::string *explanation) {
  std::vector<std::string> arguments{kHelper, "-u"};
  if (lazy) arguments.emplace_back("-z");
  arguments.emplace_back("--");
  arguments.push_back(target);
  Helper helper = TRY(Helper::start(arguments, -1));
  return helper.finish(explanation);
}

}  // namespace outboard::fuse::fusermount

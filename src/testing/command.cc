#include "testing/command.h"

#include "base/unique_fd.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace outboard::testing {

namespace {

constexpr std::size_t kMostOutput = 256u << 20;  // bytes kept of each stream

struct Pipe {
  UniqueFd reader, writer;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(Error::system(errno, "command: pipe"));
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::string find_program(const std::string &name) {
  if (name.find('/') != std::string::npos) return name;
  const char *path = std::getenv("PATH");
  const std::string places =
      std::string(path != nullptr ? path : "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";
  for (std::size_t at = 0; at <= places.size();) {
    const std::size_t end = std::min(places.find(':', at), places.size());
    const std::string candidate = places.substr(at, end - at) + "/" + name;
    if (end > at && ::access(candidate.c_str(), X_OK) == 0) return candidate;
    at = end + 1;
  }
  return {};
}

Result<pid_t> spawn(const std::string &program, const std::vector<std::string> &argv,
                    const std::vector<std::string> &environment, const std::array<int, 3> &streams) {
  std::vector<char *> arguments, variables;
  for (const std::string &word : argv) arguments.push_back(const_cast<char *>(word.c_str()));
  arguments.push_back(nullptr);
  for (const std::string &word : environment) variables.push_back(const_cast<char *>(word.c_str()));  // first one wins
  for (char **word = environ; *word != nullptr; ++word) variables.push_back(*word);
  variables.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  for (int stream = 0; stream < 3; ++stream) ::posix_spawn_file_actions_adddup2(&actions, streams[stream], stream);
  pid_t child = -1;
  const int code = ::posix_spawn(&child, program.c_str(), &actions, nullptr, arguments.data(), variables.data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (code != 0) return fail(Error::system(code, "command: start"));
  return child;
}

// Feeds and empties the three pipes until both outputs are closed. False when the deadline passed first.
bool exchange(Pipe &in, Pipe &out, Pipe &err, const std::string &input, CommandResult &result,
              std::chrono::steady_clock::time_point deadline) {
  std::size_t fed = 0;
  if (input.empty()) in.writer.reset();
  const auto drain = [](UniqueFd &fd, std::string &text) {
    std::array<char, 65536> buffer;
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) return;
    if (got <= 0) fd.reset();
    else if (text.size() < kMostOutput) text.append(buffer.data(), static_cast<std::size_t>(got));
  };
  while (out.reader || err.reader) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    std::array<pollfd, 3> fds = {{{out.reader.get(), POLLIN, 0},
                                  {err.reader.get(), POLLIN, 0},
                                  {in.writer.get(), POLLOUT, 0}}};  // closed ones are -1, which poll skips
    if (::poll(fds.data(), fds.size(), static_cast<int>(left.count())) < 0) continue;
    if (fds[0].revents != 0) drain(out.reader, result.out);
    if (fds[1].revents != 0) drain(err.reader, result.err);
    if (fds[2].revents != 0) {
      const ssize_t put = ::write(in.writer.get(), input.data() + fed, input.size() - fed);
      if (put > 0) fed += static_cast<std::size_t>(put);
      else if (errno != EAGAIN && errno != EINTR) fed = input.size();  // the program reads no more
      if (fed == input.size()) in.writer.reset();
    }
  }
  return true;
}

}  // namespace

bool have_program(const std::string &name) { return !find_program(name).empty(); }

Result<CommandResult> run_command(const std::vector<std::string> &argv, const CommandOptions &options) {
  if (argv.empty()) return fail(Error::system(EINVAL, "command: no program named"));
  const std::string program = find_program(argv[0]);
  if (program.empty()) return fail(Error::system(ENOENT, "command: program not found"));
  static const bool ignores_broken_pipes = std::signal(SIGPIPE, SIG_IGN) != SIG_ERR;
  static_cast<void>(ignores_broken_pipes);
  Pipe in = TRY(make_pipe());
  Pipe out = TRY(make_pipe());
  Pipe err = TRY(make_pipe());
  ::fcntl(in.writer.get(), F_SETFL, O_NONBLOCK);
  const pid_t child =
      TRY(spawn(program, argv, options.environment, {in.reader.get(), out.writer.get(), err.writer.get()}));
  in.reader.reset();
  out.writer.reset();
  err.writer.reset();

  CommandResult result;
  const bool in_time =
      exchange(in, out, err, options.input, result, std::chrono::steady_clock::now() + options.deadline);
  if (!in_time) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return fail(Error::system(errno, "command: wait"));
  }
  if (!in_time) return fail(Error::system(ETIMEDOUT, "command: deadline passed"));
  result.exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace outboard::testing

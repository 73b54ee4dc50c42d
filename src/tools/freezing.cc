// freeze, thaw.
#include "service/freeze.h"
#include "tools/commands.h"

#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

namespace outboard::tools {

namespace {

struct FreezeArguments {
  std::string target;
  double timeout_seconds = 10;
  bool hold = false;
  std::vector<std::string> command;
};

int report(const service::Outcome<void> &done) {
  if (done) return 0;
  complain(done.error().text);
  return done.error().exit_status;
}

// Until somebody ends us. Signals are blocked before the freeze, so that none is missed.
void wait_for_signal(const sigset_t &ends) {
  std::fputs("outboard: frozen; interrupt to thaw\n", stderr);
  int signal = 0;
  while (::sigwait(&ends, &signal) == EINTR) {
  }
}

// The command's exit status, or 128 and its signal.
int run_command(std::vector<std::string> words) {
  std::vector<char *> argv;
  for (std::string &word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) {
    complain(std::strerror(errno));
    return service::kExitSystem;
  }
  if (child == 0) {
    ::execvp(argv[0], argv.data());
    complain(words[0] + ": " + std::strerror(errno));
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int freeze(const FreezeArguments &arguments) {
  const bool foreground = arguments.hold || !arguments.command.empty();
  sigset_t ends;
  sigemptyset(&ends);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&ends, signal);
  if (arguments.hold) ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  const auto timeout = std::chrono::milliseconds(std::llround(arguments.timeout_seconds * 1000));
  if (int status = report(service::freeze_mount(arguments.target, {.timeout = timeout, .hold = foreground})); status != 0) return status;
  if (!foreground) return 0;
  int status = 0;
  if (arguments.hold) wait_for_signal(ends);
  else status = run_command(arguments.command);
  // Somebody thawed it meanwhile: what was done in the belief that nothing changes is worth nothing.
  if (int thawed = report(service::thaw_mount(arguments.target)); thawed != 0) return thawed;
  return status;
}

}  // namespace

void add_freeze_commands(CLI::App &app, Outcome &outcome) {
  {
    auto arguments = std::make_shared<FreezeArguments>();
    CLI::App *command = app.add_subcommand("freeze", "Hold back changes, with the image as after a clean unmount, until thaw");
    command->add_option("DIR", arguments->target, "The mount, or anything in it")->required();
    command->add_option("--timeout", arguments->timeout_seconds, "Seconds for each of two tries")->type_name("S")->check(CLI::Range(0.001, 86400.0))->capture_default_str();
    CLI::Option *hold = command->add_flag("--hold", arguments->hold, "Stay, and thaw when this process ends, however it ends");
    command->add_option("COMMAND", arguments->command, "Thaw when this has ended; its exit status is ours")->excludes(hold);
    command->callback([arguments, &outcome] { outcome.exit_status = freeze(*arguments); });
  }
  {
    auto target = std::make_shared<std::string>();
    CLI::App *command = app.add_subcommand("thaw", "End a freeze");
    command->add_option("DIR", *target, "The mount, or anything in it")->required();
    command->callback([target, &outcome] { outcome.exit_status = report(service::thaw_mount(*target)); });
  }
}

}  // namespace outboard::tools

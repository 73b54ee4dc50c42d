// Runs programs for tests: no shell, no inherited input, a deadline.
#pragma once

#include "base/result.h"

#include <chrono>
#include <string>
#include <vector>

namespace outboard::testing {

struct CommandOptions {
  std::string input;                     // given to the program's standard input
  std::vector<std::string> environment;  // "NAME=value", added to ours
  std::chrono::seconds deadline{120};    // after it the program is killed and ETIMEDOUT returned
};

struct CommandResult {
  int exit = -1;  // exit status, or 128 + signal
  std::string out;
  std::string err;
};

// `argv[0]` is looked up in PATH, /usr/sbin and /sbin. An error means that the program could not be run (ENOENT) or had
// to be killed; an unsuccessful exit is not an error here.
Result<CommandResult> run_command(const std::vector<std::string> &argv, const CommandOptions &options = {});

// False when a program is not installed: the test is to be skipped then.
bool have_program(const std::string &name);

}  // namespace outboard::testing

// The subcommands of `outboard`. Each adds itself to the command line and, when chosen, returns the exit status.
#pragma once

#include <CLI/CLI.hpp>

namespace outboard::tools {

// Set by the subcommand that ran.
struct Outcome {
  int exit_status = 0;
};

void add_mount_commands(CLI::App &app, Outcome &outcome);    // mount, umount, sync, shutdown
void add_freeze_commands(CLI::App &app, Outcome &outcome);   // freeze, thaw
void add_info_command(CLI::App &app, Outcome &outcome);      // info
void add_reading_commands(CLI::App &app, Outcome &outcome);  // ls, cat, stat
void add_copy_command(CLI::App &app, Outcome &outcome);      // cp
void add_trace_command(CLI::App &app, Outcome &outcome);     // trace
void add_selftest_command(CLI::App &app, Outcome &outcome);  // selftest
void add_sample_command(CLI::App &app, Outcome &outcome);    // sample

// `mount.fuse.outboard SRC DIR [-sfnv] [-o OPTIONS] [-t TYPE]`, as mount(8) calls it.
int mount_helper(int argc, char **argv);

// One line on standard error, "outboard: ...".
void complain(const std::string &text);

}  // namespace outboard::tools

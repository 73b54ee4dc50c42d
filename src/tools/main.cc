// outboard: mount ext4 images, and work on them without mounting.
#include "base/log.h"
#include "tools/commands.h"

#include <cstdio>
#include <filesystem>

namespace outboard::tools {

void complain(const std::string &text) { std::fprintf(stderr, "outboard: %s\n", text.c_str()); }

namespace {

int run(int argc, char **argv) {
  CLI::App app{"ext4 outside the kernel: mount images and devices, and look into them without mounting"};
  app.name("outboard");
  app.set_version_flag("--version", "outboard " OUTBOARD_VERSION);
  app.require_subcommand(1);
  app.footer("Exit status: 0 success, 1 wrong usage, 2 the system failed, 32 the mount failed.\nSee outboard(1).");
  Outcome outcome;
  add_mount_commands(app, outcome);
  add_freeze_commands(app, outcome);
  add_info_command(app, outcome);
  add_reading_commands(app, outcome);
  add_copy_command(app, outcome);
  add_trace_command(app, outcome);
  add_selftest_command(app, outcome);
  add_sample_command(app, outcome);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : 1;
  }
  return outcome.exit_status;
}

}  // namespace
}  // namespace outboard::tools

int main(int argc, char **argv) {
  const std::string self = std::filesystem::path(argc > 0 ? argv[0] : "outboard").filename();
  if (self.starts_with("mount.")) return outboard::tools::mount_helper(argc, argv);
  return outboard::tools::run(argc, argv);
}

// mount, umount, sync, shutdown.
#include "service/release.h"
#include "service/serve.h"
#include "tools/commands.h"

#include <cstring>
#include <fmt/format.h>

namespace outboard::tools {

namespace {

struct MountArguments {
  std::string source, target;
  std::vector<std::string> lists;
  bool foreground = false;
  bool read_only = false;
};

int mount(const MountArguments &arguments) {
  service::MountSpec spec;
  spec.source = arguments.source;
  spec.target = arguments.target;
  if (arguments.read_only) spec.options.volume.volume.read_only = true;
  for (const std::string &list : arguments.lists) {
    if (auto parsed = service::parse_mount_options(list, spec.options); !parsed) {
      complain(parsed.error());
      return service::kExitUsage;
    }
  }
  service::Outcome<void> served = arguments.foreground
                                      ? service::serve(spec, [] { std::fputs("outboard: ready\n", stderr); })
                                      : service::serve_in_background(spec);
  if (served) return 0;
  complain(served.error().text);
  return served.error().exit_status;
}

int report(const service::Outcome<void> &done) {
  if (done) return 0;
  complain(done.error().text);
  return done.error().exit_status;
}

std::string option_text() {
  std::string text = "Options of -o:\n";
  for (const service::OptionHelp &help : service::mount_option_help()) text += fmt::format("  {:<14} {}\n", help.name, help.meaning);
  return text;
}

}  // namespace

void add_mount_commands(CLI::App &app, Outcome &outcome) {
  {
    auto arguments = std::make_shared<MountArguments>();
    CLI::App *command = app.add_subcommand("mount", "Mount an ext4 image or device; returns when it is usable");
    command->add_option("SRC", arguments->source, "Image file or block device")->required();
    command->add_option("DIR", arguments->target, "Where to mount it")->required();
    command->add_option("-o", arguments->lists, "Mount options, comma-separated")->type_name("OPTIONS");
    command->add_flag("-r,--read-only", arguments->read_only, "The same as -o ro");
    command->add_flag("-f,--foreground", arguments->foreground, "Serve in this process until unmounted; log to standard error");
    command->footer(option_text());
    command->callback([arguments, &outcome] { outcome.exit_status = mount(*arguments); });
  }
  {
    auto target = std::make_shared<std::string>();
    CLI::App *command =
        app.add_subcommand("umount", "Unmount; returns when everything is on disk and the image is released");
    command->add_option("DIR", *target, "The mount")->required();
    command->callback([target, &outcome] { outcome.exit_status = report(service::unmount_and_wait(*target)); });
  }
  {
    auto target = std::make_shared<std::string>();
    CLI::App *command = app.add_subcommand("sync", "Make everything written to a mount so far durable");
    command->add_option("DIR", *target, "The mount, or anything in it")->required();
    command->callback([target, &outcome] { outcome.exit_status = report(service::sync_mount(*target)); });
  }
  {
    struct Arguments {
      std::string target;
      bool flush = false, log = false, now = false;
    };
    auto arguments = std::make_shared<Arguments>();
    CLI::App *command =
        app.add_subcommand("shutdown", "Let nothing reach the disk any more, as if the machine had crashed; then unmount it");
    command->add_option("DIR", arguments->target, "The mount, or anything in it")->required();
    CLI::App *how = command->add_option_group("how");
    how->add_flag("--flush", arguments->flush, "After everything written so far is on disk (the default)");
    how->add_flag("--log", arguments->log, "After the journal has been committed; data is not waited for");
    how->add_flag("--now", arguments->now, "At once");
    how->require_option(0, 1);
    command->callback([arguments, &outcome] {
      const vfs::ShutdownMode mode = arguments->now   ? vfs::ShutdownMode::now
                                     : arguments->log ? vfs::ShutdownMode::log
                                                      : vfs::ShutdownMode::flush;
      outcome.exit_status = report(service::shut_down_mount(arguments->target, mode));
    });
  }
}

int mount_helper(int argc, char **argv) {
  MountArguments arguments;
  std::vector<std::string> places;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&]() -> std::string { return ++i < argc ? argv[i] : ""; };
    if (word == "-o") arguments.lists.push_back(value());
    else if (word == "-t" || word == "-N") value();
    else if (word == "-r") arguments.read_only = true;
    else if (word.starts_with("-")) continue;  // -s (sloppy), -f (fake), -n, -v: nothing to do
    else places.push_back(word);
    if (word.starts_with("-") && !word.starts_with("--") && word.find('f') != std::string::npos && word.size() <= 5 && word != "-o") return 0;
  }
  if (places.size() != 2) {
    complain("usage: mount.fuse.outboard SRC DIR [-o OPTIONS]");
    return service::kExitUsage;
  }
  arguments.source = places[0];
  arguments.target = places[1];
  return mount(arguments);
}

}  // namespace outboard::tools

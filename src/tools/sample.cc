// sample: the small file systems of src/sample, mounted as ext4 is.
#include "device/claim.h"
#include "sample/inline_files.h"
#include "sample/linear.h"
#include "sample/out_of_place.h"
#include "sample/sample_filesystem.h"
#include "service/serve.h"
#include "tools/commands.h"

#include <fmt/format.h>
#include <unistd.h>

namespace outboard::tools {

namespace {

struct SampleArguments {
  std::string name, source, target;
  bool format = false, direct = false, read_only = false, foreground = false;
};

service::Outcome<std::unique_ptr<device::FileDevice>> open_device(const SampleArguments &arguments) {
  std::string refusal;
  auto opened = device::FileDevice::open(arguments.source, {.read_only = arguments.read_only, .refusal = &refusal});
  if (opened) return std::move(*opened);
  return service::failure(service::kExitMount,
                          fmt::format("{}: {}", arguments.source, refusal.empty() ? opened.error().message() : refusal));
}

template <class T> Result<std::unique_ptr<sample::Volume>> open_formatted(device::BlockDevice &device, bool format) {
  if (format) TRY(T::format(device));
  return TRY(T::open(device));
}

service::Outcome<std::unique_ptr<sample::Volume>> open_volume(const SampleArguments &arguments, device::BlockDevice &device) {
  Result<std::unique_ptr<sample::Volume>> volume = nullptr;
  if (arguments.name == "linear") volume = std::make_unique<sample::LinearVolume>(device);
  else if (arguments.name == "inline") volume = open_formatted<sample::InlineVolume>(device, arguments.format);
  else volume = open_formatted<sample::OutOfPlaceVolume>(device, arguments.format);
  if (volume) return std::move(*volume);
  return service::failure(service::kExitMount,
                          fmt::format("{}: {}{}", arguments.source, volume.error().message(),
                                      volume.error().is_corrupt() ? " (--format makes a new, empty one)" : ""));
}

service::Outcome<void> serve(const SampleArguments &arguments, const std::function<void()> &ready) {
  service::SignalWatcher signals;
  auto device = open_device(arguments);
  if (!device) return std::unexpected(device.error());
  auto volume = open_volume(arguments, **device);
  if (!volume) return std::unexpected(volume.error());
  sample::SampleFilesystem filesystem(std::move(*volume), {.direct = arguments.direct, .read_only = arguments.read_only, .memory = {}});
  std::string explanation;
  auto mounted = fuse::mount({.source = arguments.source,
                              .target = arguments.target,
                              .read_only = arguments.read_only,
                              .allow_other = ::geteuid() == 0},
                             &explanation);
  if (!mounted)
    return service::failure(service::kExitMount, fmt::format("{}: cannot mount: {} {}", arguments.target,
                                                             mounted.error().message(), explanation));
  const fuse::SessionOptions options{
      .writeback_cache = !arguments.direct, .read_only = arguments.read_only, .owner_uid = ::getuid()};
  return service::serve_mounted(std::move(*mounted), filesystem, options, arguments.source, signals, ready);
}

int run(const SampleArguments &arguments) {
  const service::Server server = [&](const std::function<void()> &ready) { return serve(arguments, ready); };
  const service::Outcome<void> served =
      arguments.foreground ? server([] { std::fputs("outboard: ready\n", stderr); }) : service::in_background(server);
  if (served) return 0;
  complain(served.error().text);
  return served.error().exit_status;
}

}  // namespace

void add_sample_command(CLI::App &app, Outcome &outcome) {
  auto arguments = std::make_shared<SampleArguments>();
  CLI::App *command = app.add_subcommand("sample", "Mount one of the small file systems that show the I/O engine");
  command->add_option("NAME", arguments->name, "Which: linear, inline or out-of-place")
      ->required()
      ->check(CLI::IsMember({"linear", "inline", "out-of-place"}));
  command->add_option("SRC", arguments->source, "File or block device")->required();
  command->add_option("DIR", arguments->target, "Where to mount it")->required();
  command->add_flag("--format", arguments->format, "First make an empty file system in SRC (inline, out-of-place)");
  command->add_flag("--direct", arguments->direct, "No page cache in the server: a write is on the device when it returns");
  command->add_flag("-r,--read-only", arguments->read_only, "Mount read-only");
  command->add_flag("-f,--foreground", arguments->foreground, "Serve in this process until unmounted; log to standard error");
  command->footer("linear        SRC's blocks as one file, \"data\"\n"
                  "inline        small files inside their inodes, 3968 bytes each at most\n"
                  "out-of-place  every write goes to free blocks and holds in one step, also after a crash");
  command->callback([arguments, &outcome] { outcome.exit_status = run(*arguments); });
}

}  // namespace outboard::tools

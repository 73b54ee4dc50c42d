// Runs one load on a directory and prints what it did as a line of JSON. bench/compare/run decides which, when and on what.
#include "compare/load.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fmt/format.h>

namespace outboard::bench {

void give_up(const std::string &what) {
  fmt::print(stderr, "bench_load: {}\n", what);
  std::exit(1);
}

}  // namespace outboard::bench

int main(int argc, char **argv) {
  using namespace outboard::bench;
  std::vector<Load> loads = data_loads();
  loads.insert(loads.end(), metadata_loads().begin(), metadata_loads().end());

  CLI::App app("One load of bench/compare on a directory.");
  std::string name, directory;
  Size size;
  std::uint64_t mebibytes = size.file >> 20;
  app.add_option("load", name, "its name")->required();
  app.add_option("directory", directory, "of the mounted file system")->required();
  app.add_option("--file-mib", mebibytes, "size of the large file");
  app.add_option("--random", size.random, "random 4k requests");
  app.add_option("--syncs", size.syncs, "appends with fsync");
  app.add_option("--directories", size.directories, "with --files files each");
  app.add_option("--files", size.files, "of each directory");
  CLI11_PARSE(app, argc, argv);
  size.file = mebibytes << 20;
  for (const Load &load : loads) {
    if (name != load.name) continue;
    const Done done = load.run(directory, size);
    fmt::print("{{\"load\": \"{}\", \"unit\": \"{}\", \"amount\": {}, \"seconds\": {:.6f}}}\n", load.name, load.unit, done.amount, done.seconds);
    return 0;
  }
  give_up("no load is called " + name);
}

// The loads that bench/compare puts on a mounted file system. Each does its work once and returns how much was done in how long;
// what it needs (files of an earlier load) lies below the directory it is given.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace outboard::bench {

struct Size {
  std::uint64_t file = std::uint64_t{256} << 20;  // bytes of the large file
  unsigned random = 8192;                         // 4k requests
  unsigned syncs = 500;
  unsigned directories = 100, files = 100;        // of each directory
};

struct Done {
  double amount;   // in `unit`
  double seconds;
};

struct Load {
  const char *name;
  const char *unit;  // "MiB" or "operations"
  std::function<Done(const std::string &directory, const Size &size)> run;
};

// Ends the program with what went wrong.
[[noreturn]] void give_up(const std::string &what);

const std::vector<Load> &data_loads();      // load_data.cc
const std::vector<Load> &metadata_loads();  // load_metadata.cc

}  // namespace outboard::bench

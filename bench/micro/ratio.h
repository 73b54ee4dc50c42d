// Two ways of doing one thing, measured in one run and printed as a ratio.
//
// Benchmarks are named "what/off" and "what/on" and set items_processed; threads are part of what is compared. Rounds
// of both are interleaved at random, several of them, and medians compared. Two ratios: of rates (what a client sees;
// on a busy machine it is mostly the machine) and of the processor's time for one item (what the code costs).
#pragma once

#include <benchmark/benchmark.h>

#include <fmt/format.h>

#include <map>
#include <string>
#include <vector>

namespace outboard::bench {

class RatioReporter final : public benchmark::ConsoleReporter {
public:
  void ReportRuns(const std::vector<Run> &runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run &run : runs) {
      if (run.error_occurred || (run.repetitions > 1 && run.aggregate_name != "median")) continue;
      const std::string &name = run.run_name.function_name;
      const auto slash = name.rfind('/');
      const auto rate = run.counters.find("items_per_second");
      if (slash == std::string::npos || rate == run.counters.end()) continue;
      Row &row = rows_[{name.substr(0, slash), run.threads}];
      (name.substr(slash + 1) == "on" ? row.on : row.off) = {rate->second.value, run.GetAdjustedCPUTime()};
    }
  }
  void Finalize() override {
    fmt::print("\n{:<16} {:>7} {:>12} {:>12} {:>7} {:>9} {:>9} {:>7}\n", "", "threads", "off, 1/s", "on, 1/s", "on/off",
               "off, cpu", "on, cpu", "on/off");
    for (const auto &[what, row] : rows_)
      if (row.on.rate > 0 && row.off.rate > 0)
        fmt::print("{:<16} {:>7} {:>12.0f} {:>12.0f} {:>7.2f} {:>6.0f} ns {:>6.0f} ns {:>7.2f}\n", what.first,
                   what.second, row.off.rate, row.on.rate, row.on.rate / row.off.rate, row.off.cpu, row.on.cpu,
                   row.on.cpu / row.off.cpu);
  }

private:
  struct Median {
    double rate = 0, cpu = 0;  // items a second, all threads together; processor's ns for an item
  };
  struct Row {
    Median off, on;
  };
  std::map<std::pair<std::string, std::int64_t>, Row> rows_;
};

// main() of a program that compares. What the command line says goes before the defaults here.
inline int run_with_ratios(int argc, char **argv) {
  std::vector<std::string> words{argv[0], "--benchmark_repetitions=5", "--benchmark_enable_random_interleaving=true",
                                 "--benchmark_report_aggregates_only=true", "--benchmark_min_time=0.2"};
  words.insert(words.end(), argv + 1, argv + argc);
  std::vector<char *> pointers;
  for (std::string &word : words) pointers.push_back(word.data());
  int count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return 1;
  RatioReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return 0;
}

}  // namespace outboard::bench

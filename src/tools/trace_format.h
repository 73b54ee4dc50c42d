// Events as text: the vocabularies of all layers together, and what a record says in words or JSON.
#pragma once

#include "base/trace_ring.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace outboard::tools {

// Every event that any layer may emit, in the order of the layers from the top.
const std::vector<trace::EventInfo> &trace_events();
// Null for numbers of a server with another vocabulary.
const trace::EventInfo *trace_event(std::uint16_t id);

// A field's name without what follows the colon, and its place.
struct TraceField {
  std::string_view name;
  std::string_view set;  // of names for the values; "" none, "x" hexadecimal
  bool bits = false;     // the set names bits
};
std::vector<TraceField> fields_of(const trace::EventInfo &event);

// "0.001234 4711 jbd2 commit_end tid=7 ..."; the time in seconds since `start_ns`.
std::string trace_line(const trace::Record &record, std::uint64_t start_ns);
// One object, no line end. Values with names are strings, bit sets arrays of strings.
std::string trace_json(const trace::Record &record);

// KEY=VALUE[,VALUE...]: `layer`, `event`, `inode` (also parents and targets), or any field's name. All filters must hold.
class TraceFilter {
public:
  // What is wrong with it, or empty.
  std::string add(const std::string &text);
  bool passes(const trace::Record &record) const;
  // Bit i: events of layer i may pass.
  std::uint32_t layers() const;

private:
  struct Rule {
    std::string key;
    std::vector<std::string> words;      // of layer and event
    std::vector<std::uint64_t> numbers;  // of fields
  };
  std::vector<Rule> rules_;
};

}  // namespace outboard::tools

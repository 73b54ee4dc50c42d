#include "tools/trace_format.h"

#include "cache/trace.h"
#include "device/trace.h"
#include "ext4/trace.h"
#include "fuse/operation_table.h"
#include "fuse/trace.h"
#include "iomap/trace.h"
#include "jbd2/trace.h"
#include "pagecache/trace.h"
#include "vfs/trace.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fmt/format.h>

namespace outboard::tools {

namespace {

std::string_view layer_name(const trace::EventInfo &event) {
  return trace::kLayerNames[static_cast<std::size_t>(event.layer())];
}

std::string_view opcode_name(std::uint64_t opcode) {
  const char *name = opcode <= ~std::uint32_t{0} ? fuse::operation(static_cast<fuse::wire::Opcode>(opcode)).name : nullptr;
  return name == nullptr ? std::string_view() : name;
}

std::span<const trace::Name> names_of(std::string_view set) {
  for (const auto sets : {std::span<const trace::NameSet>(vfs::trace::kNames), std::span<const trace::NameSet>(iomap::trace::kNames),
                          std::span<const trace::NameSet>(jbd2::trace::kNames)})
    for (const trace::NameSet &one : sets)
      if (one.set == set) return one.names;
  return {};
}

// "" when the value has no name.
std::string_view name_of(std::string_view set, std::uint64_t value) {
  if (set == "opcode") return opcode_name(value);
  for (const trace::Name &name : names_of(set))
    if (name.value == value) return name.name;
  return {};
}

std::vector<std::string> bits_of(std::string_view set, std::uint64_t value) {
  std::vector<std::string> bits;
  for (const trace::Name &name : names_of(set))
    if ((value & name.value) != 0) {
      bits.emplace_back(name.name);
      value &= ~name.value;
    }
  if (value != 0) bits.push_back(fmt::format("{:#x}", value));
  return bits;
}

std::string error_name(std::uint64_t error) {
  const char *name = ::strerrorname_np(static_cast<int>(error));
  return name != nullptr ? name : std::to_string(error);
}

std::string value_text(const TraceField &field, std::uint64_t value) {
  if (field.set == "x") return fmt::format("{:#o}", value);
  if (field.bits) {
    const auto bits = bits_of(field.set, value);
    return bits.empty() ? "0" : fmt::format("{}", fmt::join(bits, "|"));
  }
  if (const std::string_view name = name_of(field.set, value); !name.empty()) return std::string(name);
  if (field.name == "error" && value != 0) return error_name(value);
  return std::to_string(value);
}

std::string value_json(const TraceField &field, std::uint64_t value) {
  if (field.bits) {
    const auto bits = bits_of(field.set, value);
    return bits.empty() ? "[]" : fmt::format("[\"{}\"]", fmt::join(bits, "\",\""));
  }
  if (const std::string_view name = name_of(field.set, value); !name.empty()) return fmt::format("\"{}\"", name);
  return std::to_string(value);
}

bool is_inode_field(std::string_view name) {
  return name == "inode" || name == "parent" || name == "old_parent" || name == "new_parent" || name == "target";
}

}  // namespace

const std::vector<trace::EventInfo> &trace_events() {
  static const std::vector<trace::EventInfo> all = [] {
    std::vector<trace::EventInfo> events;
    const auto add = [&events](std::span<const trace::EventInfo> layer) { events.insert(events.end(), layer.begin(), layer.end()); };
    add(fuse::trace::kEvents);
    add(vfs::trace::kEvents);
    add(iomap::trace::kEvents);
    add(pagecache::trace::kEvents);
    add(ext4::trace::kEvents);
    add(jbd2::trace::kEvents);
    add(cache::trace::kEvents);
    add(device::trace::kEvents);
    return events;
  }();
  return all;
}

const trace::EventInfo *trace_event(std::uint16_t id) {
  for (const trace::EventInfo &event : trace_events())
    if (event.id == id) return &event;
  return nullptr;
}

std::vector<TraceField> fields_of(const trace::EventInfo &event) {
  std::vector<TraceField> fields;
  for (std::string_view rest = event.fields; !rest.empty();) {
    const std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    TraceField field;
    const std::size_t colon = word.find(':');
    field.name = word.substr(0, colon);
    if (colon != std::string_view::npos) {
      field.set = word.substr(colon + 1);
      field.bits = field.set.starts_with('|');
      if (field.bits) field.set.remove_prefix(1);
    }
    fields.push_back(field);
  }
  return fields;
}

std::string trace_line(const trace::Record &record, std::uint64_t start_ns) {
  const std::uint64_t time = record.time_ns - std::min(record.time_ns, start_ns);
  std::string line = fmt::format("{:4}.{:06} {:7} ", time / 1'000'000'000, time / 1000 % 1'000'000, record.thread);
  const trace::EventInfo *event = trace_event(record.event);
  if (event == nullptr) return line + fmt::format("event {:#x}", record.event);
  line += fmt::format("{:6} {:14}", layer_name(*event), event->name);
  std::size_t place = 0;
  for (const TraceField &field : fields_of(*event)) line += fmt::format(" {}={}", field.name, value_text(field, record.fields[place++]));
  return line;
}

std::string trace_json(const trace::Record &record) {
  std::string text = fmt::format("{{\"time_ns\":{},\"thread\":{}", record.time_ns, record.thread);
  const trace::EventInfo *event = trace_event(record.event);
  if (event == nullptr) return text + fmt::format(",\"event_number\":{}}}", record.event);
  text += fmt::format(",\"layer\":\"{}\",\"event\":\"{}\"", layer_name(*event), event->name);
  std::size_t place = 0;
  for (const TraceField &field : fields_of(*event)) text += fmt::format(",\"{}\":{}", field.name, value_json(field, record.fields[place++]));
  return text + "}";
}

// --- filters --------------------------------------------------------------------------------------------------------------

std::string TraceFilter::add(const std::string &text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) return fmt::format("{}: not KEY=VALUE", text);
  Rule rule{text.substr(0, equals), {}, {}};
  const auto &events = trace_events();
  const auto known = [&](auto &&of) { return std::ranges::any_of(events, of); };
  if (rule.key != "layer" && rule.key != "event" &&
      !known([&](const auto &e) { return std::ranges::any_of(fields_of(e), [&](const TraceField &f) { return f.name == rule.key; }); }))
    return fmt::format("{}: no event has a field \"{}\"", text, rule.key);
  for (std::string_view rest = std::string_view(text).substr(equals + 1);;) {
    const std::string word(rest.substr(0, rest.find(',')));
    if (rule.key == "layer" && !known([&](const auto &e) { return layer_name(e) == word; })) return fmt::format("{}: no such layer", word);
    if (rule.key == "event" && !known([&](const auto &e) { return e.name == word; })) return fmt::format("{}: no such event", word);
    if (rule.key == "layer" || rule.key == "event") {
      rule.words.push_back(word);
    } else {
      std::uint64_t number = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
      if (error != std::errc() || end != word.data() + word.size()) return fmt::format("{}: not a number", word);
      rule.numbers.push_back(number);
    }
    if (rest.size() == word.size()) break;
    rest.remove_prefix(word.size() + 1);
  }
  rules_.push_back(std::move(rule));
  return {};
}

bool TraceFilter::passes(const trace::Record &record) const {
  const trace::EventInfo *event = trace_event(record.event);
  if (event == nullptr) return rules_.empty();
  return std::ranges::all_of(rules_, [&](const Rule &rule) {
    if (rule.key == "layer") return std::ranges::find(rule.words, layer_name(*event)) != rule.words.end();
    if (rule.key == "event") return std::ranges::find(rule.words, event->name) != rule.words.end();
    std::size_t place = 0;
    for (const TraceField &field : fields_of(*event)) {
      const std::uint64_t value = record.fields[place++];
      const bool asked = field.name == rule.key || (rule.key == "inode" && is_inode_field(field.name));
      if (asked && std::ranges::find(rule.numbers, value) != rule.numbers.end()) return true;
    }
    return false;
  });
}

std::uint32_t TraceFilter::layers() const {
  std::uint32_t layers = 0;
  for (const trace::EventInfo &event : trace_events()) {
    const bool wanted = std::ranges::all_of(rules_, [&](const Rule &rule) {
      if (rule.key == "layer") return std::ranges::find(rule.words, layer_name(event)) != rule.words.end();
      if (rule.key == "event") return std::ranges::find(rule.words, event.name) != rule.words.end();
      return true;
    });
    if (wanted) layers |= 1u << static_cast<unsigned>(event.layer());
  }
  return layers;
}

}  // namespace outboard::tools

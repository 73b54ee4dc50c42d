// Tracing: what the layers do, as events with numbers, for people who ask while it happens (docs/tracing.md).
//
// Each layer has one vocabulary, src/<layer>/trace.h: a list of EVENT(layer, name, "fields", "meaning"), from which
// OUTBOARD_TRACE_VOCABULARY makes a function for each event in namespace outboard::<layer>::trace:
//
//   trace::commit_end(tid, blocks, revokes, watch, status);
//
// Off, which is nearly always, an event costs one load of a word that nobody writes and one branch that is not taken;
// its arguments are looked at only behind the branch. On, it is a static probe (USDT, provider "outboard", name
// "<layer>_<event>": bpftrace, perf, systemtap) and, while `outboard trace` records, a Record in a ring. Both
// turn it on through the same word: its lower half is the semaphore of every probe, counted by the kernel, the upper half is ours.
//
// Fields: at most kFields, unsigned 64-bit. What a field is follows from its name: `offset`, `length`, `size`: bytes; `*block`,
// `*blocks`, `count`: file-system blocks; `tid`: a transaction's number; `inode`, `parent`...: inode numbers; `*_ns`: nanoseconds;
// `error`: a positive errno, 0 for success. "field:set" has names for its values (NameSet), "field:|set" for its bits, "field:x" is hexadecimal.
#pragma once

#include "base/result.h"

#include <array>
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>
// One semaphore for all probes instead of one for each: then one test says whether anybody listens to anything.
#undef _SDT_SEMAPHORE
#define _SDT_SEMAPHORE(provider, name) _SDT_ASM_1(_SDT_ASM_ADDR outboard_trace_users)
#undef _SDT_NOTE_SEMAPHORE_USE
#define _SDT_NOTE_SEMAPHORE_USE(provider, name)

// Who listens: bits 0-15 tools that have attached to probes, bits 16-31 recorders in this process.
extern "C" std::uint32_t outboard_trace_users;

namespace outboard::trace {

enum class Layer : std::uint8_t { fuse, vfs, iomap, pagecache, ext4, jbd2, cache, device };
inline constexpr std::array<std::string_view, 8> kLayerNames = {"fuse", "vfs",  "iomap", "pagecache",
                                                                "ext4", "jbd2", "cache", "device"};
inline constexpr std::size_t kFields = 5;

struct EventInfo {
  std::uint16_t id;  // layer << 8 | place in its vocabulary
  std::string_view name;
  std::string_view fields;  // separated by single spaces
  std::string_view meaning;
  Layer layer() const { return static_cast<Layer>(id >> 8); }
};

struct Name {
  std::uint64_t value;
  std::string_view name;
};
struct NameSet {
  std::string_view set;
  std::span<const Name> names;
};

inline bool on() { return __builtin_expect(__atomic_load_n(&outboard_trace_users, __ATOMIC_RELAXED) != 0, 0) != 0; }

std::uint64_t now_ns();  // CLOCK_MONOTONIC

// For events that say how long something took. Without listeners it does not look at the clock; whoever begins to
// listen in the middle sees 0.
class Stopwatch {
public:
  Stopwatch() : start_(on() ? now_ns() : 0) {}
  std::uint64_t elapsed() const { return start_ == 0 ? 0 : now_ns() - start_; }

private:
  std::uint64_t start_;
};

// What an argument of an event becomes.
template <class T>
  requires(std::is_integral_v<T> || std::is_enum_v<T>)
std::uint64_t to_field(T value) {
  return static_cast<std::uint64_t>(value);
}
inline std::uint64_t to_field(const Stopwatch &watch) { return watch.elapsed(); }
template <class T> std::uint64_t to_field(const Result<T> &result) {
  return result ? 0 : static_cast<std::uint64_t>(result.error().code());
}
template <class T>
  requires std::is_invocable_v<const T &>
std::uint64_t to_field(const T &compute) {  // what takes work to find out
  return to_field(compute());
}
template <class T>
  requires requires(const T &number) { { number.value() } -> std::integral; }
std::uint64_t to_field(const T &number) {  // BlockNumber and its kin
  return number.value();
}

constexpr std::size_t count_fields(std::string_view fields) {
  std::size_t count = fields.empty() ? 0 : 1;
  for (char c : fields) count += c == ' ' ? 1 : 0;
  return count;
}

// Puts a Record into the ring, if one is being recorded (trace_ring.h).
void record(std::uint16_t id, const std::array<std::uint64_t, kFields> &fields);

}  // namespace outboard::trace

#define OUTBOARD_TRACE_ENUM_(layer, name, fields, meaning) name##_,
#define OUTBOARD_TRACE_INFO_(layer, name, fields, meaning)                                                             \
  ::outboard::trace::EventInfo{id_of(Place::name##_), #name, fields, meaning},
#define OUTBOARD_TRACE_FUNCTION_(layer, name, fields, meaning)                                                         \
  [[gnu::cold, gnu::noinline]] inline void fire_##name(std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0,  \
                                                       std::uint64_t d = 0, std::uint64_t e = 0) {                     \
    ::outboard::trace::record(id_of(Place::name##_), {a, b, c, d, e});                                                 \
    STAP_PROBE5(outboard, layer##_##name, a, b, c, d, e);                                                              \
  }                                                                                                                    \
  template <class... Values> [[gnu::always_inline]] inline void name(const Values &...values) {                        \
    static_assert(sizeof...(Values) == ::outboard::trace::count_fields(fields), "the event's fields: " fields);        \
    static_assert(sizeof...(Values) <= ::outboard::trace::kFields);                                                    \
    if (::outboard::trace::on()) fire_##name(::outboard::trace::to_field(values)...);                                  \
  }

#define OUTBOARD_TRACE_VOCABULARY(layer_name, EVENTS)                                                                  \
  namespace outboard::layer_name::trace {                                                                              \
  enum class Place : std::uint8_t { EVENTS(OUTBOARD_TRACE_ENUM_) };                                                    \
  constexpr std::uint16_t id_of(Place place) {                                                                         \
    return static_cast<std::uint16_t>(static_cast<unsigned>(::outboard::trace::Layer::layer_name) << 8 |               \
                                      static_cast<unsigned>(place));                                                   \
  }                                                                                                                    \
  inline constexpr ::outboard::trace::EventInfo kEvents[] = {EVENTS(OUTBOARD_TRACE_INFO_)};                            \
  EVENTS(OUTBOARD_TRACE_FUNCTION_)                                                                                     \
  }

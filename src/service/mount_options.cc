#include "service/mount_options.h"

#include <array>
#include <charconv>
#include <fmt/format.h>
#include <functional>

namespace outboard::service {

namespace {

using Outcome = std::expected<void, std::string>;
using Value = std::optional<std::string_view>;

struct Option {
  const char *name;
  bool wants_value;
  const char *meaning;  // empty: accepted for fstab's sake and left out of the help
  std::function<Outcome(MountOptions &, std::string_view)> apply;
};

std::unexpected<std::string> bad(std::string_view option, std::string_view value, std::string_view expected) {
  return std::unexpected(fmt::format("option {}={}: expected {}", option, value, expected));
}

template <class Set> std::function<Outcome(MountOptions &, std::string_view)> flag(Set set) {
  return [set](MountOptions &o, std::string_view) -> Outcome {
    set(o);
    return {};
  };
}
std::function<Outcome(MountOptions &, std::string_view)> nothing() {
  return [](MountOptions &, std::string_view) -> Outcome { return {}; };
}

Outcome set_errors(MountOptions &o, std::string_view value) {
  if (value == "continue") o.volume.volume.errors = ext4::ErrorPolicy::continue_;
  else if (value == "remount-ro") o.volume.volume.errors = ext4::ErrorPolicy::remount_read_only;
  else if (value == "panic") o.volume.volume.errors = ext4::ErrorPolicy::panic;
  else return bad("errors", value, "continue, remount-ro or panic");
  return {};
}

Outcome set_data(MountOptions &o, std::string_view value) {
  // Data is on the device before the transaction that finds it, whatever the mode: writeback asks for less than it gets.
  o.volume.volume.journal_data = value == "journal";
  if (value == "ordered" || value == "writeback" || value == "journal") return {};
  return bad("data", value, "ordered, writeback or journal");
}

template <class T> std::optional<T> number(std::string_view text) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Outcome set_commit(MountOptions &o, std::string_view value) {
  auto seconds = number<std::uint32_t>(value);
  if (!seconds || *seconds > 86400) return bad("commit", value, "seconds, 0 to 86400");
  o.volume.volume.commit_interval = std::chrono::seconds(*seconds == 0 ? 5 : *seconds);  // 0 is the default, as in ext4
  return {};
}

Outcome set_offset(MountOptions &o, std::string_view value) {
  auto bytes = parse_size(value);
  if (!bytes) return bad("offset", value, "bytes");
  o.offset = *bytes;
  return {};
}

Outcome set_size_limit(MountOptions &o, std::string_view value) {
  auto bytes = parse_size(value);
  if (!bytes || *bytes == 0) return bad("sizelimit", value, "bytes");
  o.size_limit = *bytes;
  return {};
}

Outcome set_threads(MountOptions &o, std::string_view value) {
  auto count = number<unsigned>(value);
  if (!count || *count == 0 || *count > 256) return bad("threads", value, "1 to 256");
  o.threads = *count;
  return {};
}

const std::vector<Option> &table() {
  static const std::vector<Option> options = {
      {"ro", false, "read-only; a dirty journal is replayed in memory and the image left untouched",
       flag([](MountOptions &o) { o.volume.volume.read_only = true; })},
      {"rw", false, "read-write (the default)", flag([](MountOptions &o) { o.volume.volume.read_only = false; })},
      {"noload", false, "with ro: do not replay the journal, show the disk as it is",
       flag([](MountOptions &o) { o.volume.volume.no_recovery = true; })},
      {"norecovery", false, "the same", flag([](MountOptions &o) { o.volume.volume.no_recovery = true; })},
      {"offset", true, "where the file system starts in SRC, in bytes (k, M, G suffixes)", set_offset},
      {"sizelimit", true, "how many bytes of SRC belong to it", set_size_limit},
      {"errors", true, "continue, remount-ro or panic: what to do when the disk contradicts itself", set_errors},
      {"data", true, "ordered (the default) or writeback: both write data before the metadata that finds it; journal: data goes through the journal", set_data},
      {"commit", true, "seconds between journal commits (default 5)", set_commit},
      {"journal_path", true, "device or file of an external journal",
       [](MountOptions &o, std::string_view value) -> Outcome {
         o.journal_path = value;
         return {};
       }},
      {"discard", false, "tell the device about freed blocks", flag([](MountOptions &o) { o.volume.volume.discard = true; })},
      {"nodiscard", false, "do not (the default)", flag([](MountOptions &o) { o.volume.volume.discard = false; })},
      {"relatime", false, "update access times when the file has changed since, or daily (the default)",
       flag([](MountOptions &o) { o.volume.atime = vfs::AtimePolicy::relative; })},
      {"noatime", false, "never update access times", flag([](MountOptions &o) {
         o.volume.atime = vfs::AtimePolicy::never;
         o.no_atime = true;
       })},
      {"strictatime", false, "always update access times", flag([](MountOptions &o) { o.volume.atime = vfs::AtimePolicy::strict; })},
      {"lazytime", false, "access times wait in memory for the inode's next change, fsync or unmount (always so)", nothing()},
      {"nolazytime", false, "accepted, without effect", nothing()},
      {"nosuid", false, "ignore set-user-id bits", flag([](MountOptions &o) { o.no_suid = true; })},
      {"nodev", false, "ignore device nodes", flag([](MountOptions &o) { o.no_dev = true; })},
      {"noexec", false, "allow no program to run from it", flag([](MountOptions &o) { o.no_exec = true; })},
      {"sync", false, "every write waits for the disk", flag([](MountOptions &o) { o.synchronous = true; })},
      {"dirsync", false, "every change of a directory waits for the disk", flag([](MountOptions &o) { o.dir_sync = true; })},
      {"allow_other", false, "other users may use the mount (the default for root)",
       flag([](MountOptions &o) { o.allow_other = true; })},
      {"user_xattr", false, "user.* extended attributes (always on)", nothing()},
      {"acl", false, "POSIX ACLs (always on)", nothing()},
      {"plain", false, "a plain fuse mount even where fuseblk is possible: umount does not wait for the disk",
       flag([](MountOptions &o) { o.plain = true; })},
      {"buffered", false, "read and write the image through the host's page cache", flag([](MountOptions &o) { o.direct_io = false; })},
      {"nowriteback", false, "no write-back cache in the kernel: every write(2) is a request",
       flag([](MountOptions &o) { o.writeback_cache = false; })},
      {"threads", true, "how many requests are served at once", set_threads},
      // Words of fstab and mount(8) that mean nothing here.
      {"defaults", false, "", nothing()},    {"async", false, "", nothing()},      {"suid", false, "", nothing()},
      {"dev", false, "", nothing()},         {"exec", false, "", nothing()},       {"auto", false, "", nothing()},
      {"noauto", false, "", nothing()},      {"user", false, "", nothing()},       {"users", false, "", nothing()},
      {"nouser", false, "", nothing()},      {"nofail", false, "", nothing()},     {"_netdev", false, "", nothing()},
      {"atime", false, "", nothing()},       {"diratime", false, "", nothing()},   {"nodiratime", false, "", nothing()},
      {"default_permissions", false, "", nothing()}, {"barrier", false, "", nothing()},
      {"delalloc", false, "", nothing()},    {"silent", false, "", nothing()},     {"loop", false, "", nothing()},
  };
  return options;
}

Outcome apply_word(std::string_view word, MountOptions &options) {
  const std::size_t equals = word.find('=');
  const std::string_view name = word.substr(0, equals);
  if (name.starts_with("x-") || name.starts_with("X-")) return {};
  const Value value = equals == std::string_view::npos ? Value{} : Value{word.substr(equals + 1)};
  for (const Option &option : table()) {
    if (name != option.name) continue;
    if (option.wants_value && (!value || value->empty())) return std::unexpected(fmt::format("option {} wants a value", name));
    if (!option.wants_value && value) return std::unexpected(fmt::format("option {} takes no value", name));
    return option.apply(options, value.value_or(std::string_view{}));
  }
  return std::unexpected(fmt::format("unknown mount option '{}'", name));
}

}  // namespace

Outcome parse_mount_options(std::string_view list, MountOptions &options) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const std::string_view word = list.substr(0, comma);
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    if (word.empty()) continue;
    if (Outcome outcome = apply_word(word, options); !outcome) return outcome;
  }
  if (options.volume.volume.no_recovery && !options.volume.volume.read_only)
    return std::unexpected(std::string("option noload needs ro: writing without replaying the journal would lose what it holds"));
  return {};
}

const std::vector<OptionHelp> &mount_option_help() {
  static const std::vector<OptionHelp> help = [] {
    std::vector<OptionHelp> lines;
    for (const Option &option : table())
      if (*option.meaning != '\0') lines.push_back({option.name, option.meaning});
    return lines;
  }();
  return help;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  std::string_view suffix = text.substr(static_cast<std::size_t>(end - text.data()));
  if (suffix.ends_with("iB")) suffix.remove_suffix(2);
  else if (suffix.size() == 2 && suffix.ends_with("B")) suffix.remove_suffix(1);
  if (suffix.empty()) return value;
  constexpr std::string_view kUnits = "kmgtpKMGTP";
  const std::size_t unit = kUnits.find(suffix[0]);
  if (suffix.size() != 1 || unit == std::string_view::npos) return std::nullopt;
  const unsigned shift = 10 * static_cast<unsigned>(unit % 5 + 1);
  if (value > (~std::uint64_t{0} >> shift)) return std::nullopt;
  return value << shift;
}

}  // namespace outboard::service

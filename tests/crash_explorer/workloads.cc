#include "crash_explorer/workloads.h"

#include <fmt/format.h>
#include <linux/fs.h>

namespace outboard::crash_explorer {

namespace {

// The editor's way: a new file beside the old one, fsync, rename over it, fsync of the directory.
void replace_by_rename(Script &s) {
  s.create("config");
  s.write("config", 0, 3000);
  s.fsync("config");
  for (const std::size_t size : {5000, 700, 12000}) {
    s.create("config.new");
    s.write("config.new", 0, size);
    s.fsync("config.new");
    s.rename("config.new", "config");
    s.fsync("");
  }
}

// The same by whoever forgets fsync: the old contents or the new ones, whole.
void replace_without_fsync(Script &s) {
  s.create("config");
  s.write("config", 0, 6000);
  s.sync_all();
  for (const std::size_t size : {9000, 400, 15000}) {
    s.create("config.new");
    s.write("config.new", 0, size);
    s.rename("config.new", "config");
    if (size == 400) s.background();
  }
  s.fsync("config");
}

void append(Script &s) {
  s.create("log");
  for (const std::size_t size : {100, 900, 24, 5000, 1, 4096, 333}) {
    s.append("log", size);
    if (size % 2 == 1) s.fsync("log");
    else if (size > 1000) s.background();
  }
  s.append("log", 2000);
  s.fdatasync("log");
  s.write_sync("log", s.size("log"), 3000);
}

void overwrite(Script &s) {
  s.create("db");
  s.write("db", 0, 30000);
  s.fsync("db");
  s.write("db", 5000, 4000);
  s.fdatasync("db");
  s.write("db", 512, 512);
  s.background();
  s.write_sync("db", 20000, 2000);
  s.write_direct("db", 8192, 8192);
  s.fdatasync("db");
  s.write("db", 0, 30000);
  s.write("db", 29000, 9000);
  s.fsync("db");
}

void hard_links(Script &s) {
  s.make_directory("d");
  s.create("d/a");
  s.write("d/a", 0, 2000);
  s.link("d/a", "b");
  s.fsync("d/a");
  s.unlink("d/a");
  s.fsync("b");
  s.link("b", "d/c");
  s.link("b", "e");
  s.background();
  s.append("e", 1500);
  s.unlink("b");
  s.rename("d/c", "e");  // the same file: both names stay
  s.fsync("d");
  s.unlink("e");
  s.unlink("d/c");
  s.fsync("d");
}

void directory_fsync(Script &s) {
  s.make_directory("d");
  s.fsync("");
  for (int i = 0; i < 4; ++i) {
    s.create(fmt::format("d/file{}", i));
    if (i == 1) s.fsync("d");
  }
  s.fsync("d");
  s.make_directory("d/below");
  s.create("d/below/deep");
  s.write("d/below/deep", 0, 1000);
  s.fsync("d/below");
  s.fsync("d/below/deep");
  s.unlink("d/file0");
  s.fsync("d");
  s.unlink("d/below/deep");
  s.remove_directory("d/below");
  s.fsync("d");
}

void unlinked_while_open(Script &s) {
  for (const char *name : {"a", "b", "c"}) {
    s.create(name);
    s.write(name, 0, 9000);
  }
  s.sync_all();
  s.unlink("a", true);
  s.fsync("");
  s.unlink("b", true);
  s.create("a");  // the name is free, its old number is not
  s.write("a", 0, 5000);
  s.fsync("a");
  s.unlink("c");
  s.background();
  s.create("c");
  s.write("c", 0, 20000);
  s.fsync("c");
}

void truncate_down_and_up(Script &s) {
  s.create("f");
  s.write("f", 0, 9900);
  s.fsync("f");
  for (const std::uint64_t size : {6200, 2500, 700}) {
    s.truncate("f", size);
    s.fsync("f");
    s.truncate("f", size + 3000);
    s.fsync("f");
  }
  s.truncate("f", 300);
  s.background();
  s.write("f", 900, 50);  // in the same block, behind a gap
  s.fsync("f");
  s.write("f", 0, 20000);
  s.truncate("f", 10100);
  s.write("f", 16000, 2000);
  s.fdatasync("f");
  s.truncate("f", 0);
  s.write("f", 0, 4000);
  s.fsync("f");
}

void allocate_and_punch(Script &s) {
  s.create("f");
  s.allocate("f", 0, 32768);
  s.fsync("f");
  s.write("f", 5000, 9000);
  s.fdatasync("f");
  s.write("f", 20000, 100);
  s.background();
  s.punch("f", 6000, 6000);
  s.fsync("f");
  s.write("f", 8000, 1000);
  s.allocate("f", 40000, 9000, true);
  s.write("f", 40000, 3000);
  s.fsync("f");
  s.zero_range("f", 1000, 20000);
  s.write("f", 3000, 12000);
  s.fsync("f");
  s.punch("f", 0, 16384);
  s.background();
}

void attributes(Script &s) {
  s.create("f");
  s.make_directory("d");
  s.set_xattr("f", "user.small", "one");
  s.fsync("f");
  s.set_xattr("f", "user.small", "two");
  s.set_xattr("f", "user.large", std::string(700, 'x'));  // a block of its own
  s.fsync("f");
  s.create("g");
  s.set_xattr("g", "user.large", std::string(700, 'x'));  // ... that others may share
  s.set_xattr("d", "user.mark", std::string(300, 'm'));
  s.fsync("g");
  s.set_mode("f", 0600);
  s.set_xattr("g", "user.large", std::string(650, 'y'));
  s.background();
  s.remove_xattr("f", "user.large");
  s.fsync("f");
  s.unlink("g");
  s.set_mode("d", 0700);
  s.fsync("d");
}

void rename_directories(Script &s) {
  for (const char *path : {"a", "b", "a/sub", "a/sub/deep", "b/empty"}) s.make_directory(path);
  s.create("a/sub/f");
  s.write("a/sub/f", 0, 3000);
  s.sync_all();
  s.rename("a/sub", "b/sub");
  s.fsync("b");
  s.rename("b/sub/deep", "b/empty");  // over an empty one
  s.fsync("b/sub");
  s.rename("b/sub", "a/back");
  s.background();
  s.rename("a", "c");
  s.rename("c/back/f", "c/back/g");
  s.fsync("c/back");
  s.rename("c", "b/empty", RENAME_EXCHANGE);
  s.fsync("");
}

void nameless_files(Script &s) {
  s.temporary(5000);
  s.link_temporary("first");
  s.fsync("first");
  s.temporary(300);
  s.link_temporary("second");
  s.background();
  s.temporary(9000);  // never linked
  s.background();
  s.temporary(2000);
  s.link_temporary("third");
  s.append("third", 4000);
  s.fsync("");
}

// A directory's blocks become a file's: what the log has of the directory must not be replayed over them.
void metadata_blocks_become_data(Script &s) {
  for (int round = 0; round < 3; ++round) {
    const std::uint64_t free = s.free_inodes();
    s.make_directory("d");
    for (int i = 0; i < 24; ++i) s.symlink(fmt::format("d/{}-{}", i, std::string(100, 'n')), "x");
    s.set_xattr("d", "user.block", std::string(600, 'b'));
    s.sync_all();
    for (int i = 0; i < 24; ++i) s.unlink(fmt::format("d/{}-{}", i, std::string(100, 'n')));
    s.remove_directory("d");
    s.until_free(free);  // or the file gets other blocks
    s.sync_all();
    const std::string file = fmt::format("data{}", round);
    s.create(file);
    s.write(file, 0, 60000);
    s.fsync(file);
  }
}

void directory_grows_and_shrinks(Script &s) {
  s.make_directory("d");
  const auto name = [](int i) { return fmt::format("d/{:03}{}", i, std::string(180, 'n')); };
  for (int i = 0; i < 45; ++i) {
    s.create(name(i));
    if (i % 15 == 14) s.fsync("d");
  }
  for (int i = 0; i < 45; i += 2) s.unlink(name(i));
  s.background();
  for (int i = 1; i < 45; i += 4) s.rename(name(i), fmt::format("moved{}", i));
  s.fsync("d");
}

void symbolic_links(Script &s) {
  s.symlink("short", "a");
  s.fsync("");
  s.symlink("long", std::string(500, 'l'));
  s.symlink("other", std::string(59, 'o'));
  s.background();
  s.rename("long", "short");
  s.fsync("");
  s.unlink("other");
  s.fsync("");
}

void mounted_again(Script &s) {
  s.create("f");
  s.write("f", 0, 7000);
  s.remount();
  s.append("f", 5000);
  s.fsync("f");
  s.make_directory("d");
  s.rename("f", "d/f");
  s.remount();
  s.truncate("d/f", 100);
  s.create("g");
  s.fsync("g");
}

// Nothing is acknowledged: only what may be shown is at stake.
void nobody_asks(Script &s) {
  for (int i = 0; i < 5; ++i) {
    const std::string file = fmt::format("f{}", i % 3);
    if (i < 3) s.create(file);
    s.append(file, 3000);
    s.background();
    s.write(file, 10000, 2000);  // behind a hole
    if (i == 2) s.unlink("f0");
    if (i == 2) s.create("f0");
    s.background();
  }
}

// A file's blocks become another one's at once.
void blocks_change_hands(Script &s) {
  s.create("old");
  s.write("old", 0, 50000);
  s.fsync("old");
  for (int i = 0; i < 3; ++i) {
    s.truncate("old", 1000);
    const std::string file = fmt::format("new{}", i);
    s.create(file);
    s.write(file, 0, 50000);
    if (i == 1) s.fsync(file);
    else s.background();
    s.unlink(file);
    s.write("old", 1000, 40000);
    s.fdatasync("old");
  }
}

}  // namespace

std::vector<Workload> patterns() {
  return {{"create, write, fsync, rename", replace_by_rename},
          {"rename without fsync", replace_without_fsync},
          {"append", append},
          {"overwrite", overwrite},
          {"hard links", hard_links},
          {"directory fsync", directory_fsync},
          {"unlink of open files", unlinked_while_open},
          {"truncate down and up", truncate_down_and_up},
          {"fallocate and punch", allocate_and_punch},
          {"extended attributes", attributes},
          {"rename of directories", rename_directories},
          {"nameless files", nameless_files},
          {"metadata blocks become data", metadata_blocks_become_data},
          {"a directory grows and shrinks", directory_grows_and_shrinks},
          {"symbolic links", symbolic_links},
          {"mounted again", mounted_again},
          {"nobody asks", nobody_asks},
          {"blocks change hands", blocks_change_hands}};
}

}  // namespace outboard::crash_explorer

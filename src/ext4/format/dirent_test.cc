#include "ext4/format/dirent.h"

#include "ext4/format/test_volume.h"

#include <gtest/gtest.h>

#include <map>

namespace outboard::ext4::format {
namespace {

DirFormat format_of(std::uint32_t block_size, bool checksum = true) {
  DirFormat format;
  format.block_size = block_size;
  format.inodes_count = 1000;
  format.has_checksum = checksum;
  return format;
}

std::map<std::string, std::uint32_t> contents(std::span<const std::byte> block, const DirFormat &format) {
  std::map<std::string, std::uint32_t> all;
  DirCursor cursor(block, format);
  for (;;) {
    const Result<bool> more = cursor.next();
    EXPECT_OK(more);
    if (!more || !*more) return all;
    if (cursor.entry().used()) all[std::string(cursor.entry().name)] = cursor.entry().inode.value();
  }
}

TEST(DirBlock, NewDirectoryHasItsDots) {
  for (const bool checksum : {false, true}) {
    const DirFormat format = format_of(4096, checksum);
    Bytes block(4096);
    init_dot_entries(block, format, InodeNumber(20), InodeNumber(2));
    EXPECT_OK(verify_dir_block(block, format));
    EXPECT_EQ(contents(block, format), (std::map<std::string, std::uint32_t>{{".", 20}, {"..", 2}}));
    ASSIGN_OK(const auto parent, find_entry(block, format, ".."));
    ASSERT_TRUE(parent.has_value());
    EXPECT_EQ(parent->offset, 12u);
    EXPECT_EQ(parent->rec_len, format.usable() - 12);
    EXPECT_EQ(parent->file_type, kFileTypeDirectory);
    set_entry_inode(block, format, parent->offset, InodeNumber(3), kFileTypeDirectory);
    EXPECT_EQ(contents(block, format)[".."], 3u);
  }
}

TEST(DirBlock, TypeIsUnknownWhereItIsNotKept) {
  DirFormat format = format_of(1024);
  format.has_file_type = false;
  Bytes block(1024);
  init_dir_block(block, format);
  ASSIGN_OK(const bool done, insert_entry(block, format, "x", InodeNumber(5), kFileTypeRegular));
  EXPECT_TRUE(done);
  EXPECT_EQ(view_as<RawDirEntry>(block).file_type, 0);
  ASSIGN_OK(const auto entry, find_entry(block, format, "x"));
  EXPECT_EQ(entry->file_type, kFileTypeUnknown);
}

// Random insertions and removals against a map, on every block size with and without a tail.
TEST(DirBlock, KeepsWhatAMapKeeps) {
  std::mt19937 random(7);
  for (const std::uint32_t size : {1024u, 2048u, 4096u, 65536u})
    for (const bool checksum : {false, true}) {
      const DirFormat format = format_of(size, checksum);
      Bytes block(size);
      init_dir_block(block, format);
      std::map<std::string, std::uint32_t> model;
      bool was_full = false;
      for (int step = 0; step < 3000; ++step) {
        const std::string name =
            std::to_string(random() % 400) + std::string(random() % (step % 10 == 0 ? 200 : 20), 'n');
        if (random() % 3 != 0 && !model.contains(name)) {
          const InodeNumber inode(static_cast<std::uint32_t>(random() % 1000 + 1));
          ASSIGN_OK(const bool room, has_room(block, format, name.size()));
          ASSIGN_OK(const bool done, insert_entry(block, format, name, inode, kFileTypeRegular));
          EXPECT_EQ(room, done);
          if (done) model[name] = inode.value();
          else was_full = true;
        } else if (!model.empty()) {
          const auto victim = std::next(model.begin(), static_cast<std::ptrdiff_t>(random() % model.size()));
          ASSIGN_OK(const auto found, find_entry(block, format, victim->first));
          ASSERT_TRUE(found.has_value());
          EXPECT_EQ(found->inode.value(), victim->second);
          ASSERT_OK(remove_entry(block, format, found->offset));
          model.erase(victim);
        }
        if (step % 50 == 0) {
          ASSERT_OK(verify_dir_block(block, format));
          EXPECT_EQ(contents(block, format), model);
        }
      }
      EXPECT_EQ(was_full, size <= 4096);
      EXPECT_EQ(contents(block, format), model);
      seal_dir_block(block, format, 9);
      EXPECT_TRUE(dir_checksum_matches(block, format, 9));
      EXPECT_EQ(dir_checksum_matches(block, format, 10), !checksum);

      // Packed anew from copies, the same names are there and nothing but the end is free.
      const Bytes copy = block;
      std::vector<DirEntryView> entries;
      DirCursor cursor(copy, format);
      for (;;) {
        ASSIGN_OK(const bool more, cursor.next());
        if (!more) break;
        if (cursor.entry().used()) entries.push_back(cursor.entry());
      }
      fill_dir_block(block, format, entries);
      ASSERT_OK(verify_dir_block(block, format));
      EXPECT_EQ(contents(block, format), model);
    }
}

TEST(DirBlock, RemovedNamesLeaveNoTrace) {
  const DirFormat format = format_of(1024);
  Bytes block(1024);
  init_dir_block(block, format);
  for (const char *name : {"first-secret", "second-secret"})
    ASSERT_OK(insert_entry(block, format, name, InodeNumber(5), kFileTypeRegular));
  for (const char *name : {"second-secret", "first-secret"}) {
    ASSIGN_OK(const auto found, find_entry(block, format, name));
    ASSERT_OK(remove_entry(block, format, found->offset));
  }
  Bytes empty(1024);
  init_dir_block(empty, format);
  EXPECT_EQ(block, empty);
  EXPECT_FALSE(remove_entry(block, format, 0).has_value());
  EXPECT_FALSE(remove_entry(block, format, 16).has_value());
}

TEST(DirBlock, LengthOf64kIsWrittenInSixteenBits) {
  EXPECT_EQ(encode_rec_len(65536, 65536), 65535);
  EXPECT_EQ(decode_rec_len(65535, 65536), 65536u);
  EXPECT_EQ(decode_rec_len(0, 65536), 65536u);
  EXPECT_EQ(decode_rec_len(0, 4096), 0u);
  EXPECT_EQ(encode_rec_len(65524, 65536), 65524);
  EXPECT_EQ(decode_rec_len(65524, 65536), 65524u);
}

TEST(DirBlock, BrokenEntriesAreCorrupt) {
  const DirFormat format = format_of(1024);
  const auto expect_corrupt = [&](const char *what, auto change) {
    Bytes block(1024);
    init_dot_entries(block, format, InodeNumber(20), InodeNumber(2));
    ASSERT_OK(insert_entry(block, format, "name", InodeNumber(30), kFileTypeRegular));
    ASSERT_OK(verify_dir_block(block, format));
    change(edit_as<RawDirEntry>(block, 12), std::span(block));
    const Status status = verify_dir_block(block, format);
    ASSERT_FALSE(status.has_value()) << what;
    EXPECT_EQ(status.error().kind(), ErrorKind::corrupt) << what;
  };
  using D = RawDirEntry &;
  using B = std::span<std::byte>;
  expect_corrupt("length 0", [](D d, B) { d.rec_len.set(0); });
  expect_corrupt("length 8", [](D d, B) { d.rec_len.set(8); });
  expect_corrupt("length odd", [](D d, B) { d.rec_len.set(14); });
  expect_corrupt("length beyond", [](D d, B) { d.rec_len.set(1024); });
  expect_corrupt("length into the tail", [](D d, B) { d.rec_len.set(1012); });
  expect_corrupt("name longer than its entry", [](D d, B) { d.name_len = 255; });
  expect_corrupt("no name", [](D d, B) { d.name_len = 0; });
  expect_corrupt("inode number", [](D d, B) { d.inode.set(1001); });
  expect_corrupt("no tail", [](D, B b) { b[1024 - 5] = std::byte{0}; });
}

TEST(DirBlock, NoiseNeverCrashesAndWalksEnd) {
  std::mt19937 random(8);
  for (const std::uint32_t size : {1024u, 65536u}) {
    const DirFormat format = format_of(size, false);
    Bytes block(size);
    for (int i = 0; i < (size == 1024 ? 20000 : 200); ++i) {
      fill_random(block, random);
      // Plausible lengths, so that the walk goes on for a while.
      for (std::size_t at = 0; at + 8 <= size;) {
        auto &entry = edit_as<RawDirEntry>(block, at);
        const auto length = static_cast<std::uint32_t>(random() % 20 * 4);
        entry.rec_len.set(static_cast<std::uint16_t>(random() % 50 == 0 ? random() : length));
        entry.name_len = static_cast<std::uint8_t>(random() % 40);
        entry.inode.set(static_cast<std::uint32_t>(random() % 1003));
        at += std::max(length, 4u);
      }
      DirCursor cursor(block, format);
      std::uint32_t steps = 0;
      for (Result<bool> more = cursor.next(); more && *more; more = cursor.next()) {
        ++steps;
        EXPECT_LE(cursor.entry().offset + cursor.entry().rec_len, size);
        EXPECT_LE(dir_entry_size(cursor.entry().name.size()), cursor.entry().rec_len);
      }
      EXPECT_LE(steps, size / 12);
      Bytes copy = block;
      (void)find_entry(copy, format, "x");
      (void)insert_entry(copy, format, std::string(random() % 255 + 1, 'x'), InodeNumber(1), 1);
      (void)remove_entry(copy, format, static_cast<std::uint32_t>(random() % size));
      const DirFormat sealed = format_of(size, true);
      (void)verify_dir_block(copy, sealed);
      (void)dir_checksum_matches(copy, sealed, 1);
    }
  }
}

TEST(DirBlock, PlainNamesAreThoseThatSystemCallsMake) {
  EXPECT_TRUE(is_plain_name("a"));
  EXPECT_TRUE(is_plain_name(std::string(255, 'x')));
  EXPECT_FALSE(is_plain_name(""));
  EXPECT_FALSE(is_plain_name("a/b"));
  EXPECT_FALSE(is_plain_name(std::string_view("a\0b", 3)));
}

TEST(DirBlock, FileTypeFollowsFromTheMode) {
  EXPECT_EQ(file_type_of_mode(0100644), kFileTypeRegular);
  EXPECT_EQ(file_type_of_mode(0040755), kFileTypeDirectory);
  EXPECT_EQ(file_type_of_mode(0020600), kFileTypeCharDevice);
  EXPECT_EQ(file_type_of_mode(0060600), kFileTypeBlockDevice);
  EXPECT_EQ(file_type_of_mode(0010600), kFileTypeFifo);
  EXPECT_EQ(file_type_of_mode(0140600), kFileTypeSocket);
  EXPECT_EQ(file_type_of_mode(0120777), kFileTypeSymlink);
  EXPECT_EQ(file_type_of_mode(0), kFileTypeUnknown);
}

}  // namespace
}  // namespace outboard::ext4::format

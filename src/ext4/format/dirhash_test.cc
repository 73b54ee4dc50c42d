#include "ext4/format/dirhash.h"

#include "testing/command.h"
#include "testing/expect.h"
#include "testing/image_builder.h"

#include <gtest/gtest.h>

#include <random>
#include <regex>
#include <set>

namespace outboard::ext4::format {
namespace {

struct Seed {
  const char *uuid;                    // as debugfs takes it
  std::array<std::uint32_t, 4> words;  // its bytes as little-endian words
};
const Seed kSeeds[] = {
    {"00000000-0000-0000-0000-000000000000", {0, 0, 0, 0}},
    {"6e54b5b4-7d5b-4b8a-8d8e-000102030405", {0xb4b5546e, 0x8a4b5b7d, 0x01008e8d, 0x05040302}},
    {"00000000-0000-0000-0000-000000000001", {0, 0, 0, 0x01000000}},
};

std::vector<std::string> names() {
  std::vector<std::string> all{
      "a", "hello", "lost+found", "exactly-sixteen-", "exactly-thirty-two-characters-xx", std::string(255, 'z')};
  // High bytes are where signed and unsigned part ways. No white space nor quotes: debugfs would split there.
  std::mt19937 random(3);
  for (std::size_t length = 1; length <= 70; ++length) {
    std::string name;
    for (std::size_t i = 0; i < length; ++i) {
      const auto c = static_cast<unsigned char>(random() % 160 + 96);
      name += static_cast<char>(c == 0x7f || c == '|' ? 'a' : c);
    }
    all.push_back(name);
  }
  return all;
}

// The oracle: debugfs' dx_hash, once for all names, versions and seeds.
TEST(NameHash, AgreesWithDebugfs) {
  const testing::TemporaryDirectory directory;
  std::string script;
  for (const Seed &seed : kSeeds)
    for (int version = 0; version < 6; ++version)
      for (const std::string &name : names())
        script += "dx_hash -h " + std::to_string(version) + " -s " + seed.uuid + " " + name + "\n";
  ASSERT_OK(testing::write_file(directory.file("script"), script));
  ASSIGN_OK(const testing::CommandResult result, testing::run_command({"debugfs", "-f", directory.file("script")}));
  const std::regex line("is 0x([0-9a-f]+) \\(minor 0x([0-9a-f]+)\\)");
  std::sregex_iterator found(result.out.begin(), result.out.end(), line);
  std::size_t compared = 0;
  for (const Seed &seed : kSeeds)
    for (int version = 0; version < 6; ++version) {
      const NameHash hash(static_cast<HashVersion>(version), seed.words);
      for (const std::string &name : names()) {
        ASSERT_NE(found, std::sregex_iterator());
        const Hash ours = hash(name);
        EXPECT_EQ(ours.major, std::stoul((*found)[1], nullptr, 16)) << version << " " << name;
        EXPECT_EQ(ours.minor, std::stoul((*found)[2], nullptr, 16)) << version << " " << name;
        ++found, ++compared;
      }
    }
  EXPECT_EQ(compared, std::size(kSeeds) * 6 * names().size());
}

TEST(NameHash, SignednessComesFromTheSuperblock) {
  Superblock sb;
  ASSIGN_OK(const NameHash as_signed, NameHash::of(sb, 1));
  sb.unsigned_hash = true;
  ASSIGN_OK(const NameHash as_unsigned, NameHash::of(sb, 1));
  EXPECT_EQ(as_signed.version(), HashVersion::half_md4);
  EXPECT_EQ(as_unsigned.version(), HashVersion::half_md4_unsigned);
  EXPECT_EQ(as_unsigned.stored_version(), 1);
  EXPECT_EQ(as_signed("plain"), as_unsigned("plain"));
  EXPECT_NE(as_signed("\xe4"), as_unsigned("\xe4"));
}

TEST(NameHash, OfUnknownVersionIsRefused) {
  const Superblock sb;
  EXPECT_EQ(NameHash::of(sb, 6).error().kind(), ErrorKind::unsupported);
  for (const int version : {3, 4, 5, 7, 255})
    EXPECT_EQ(NameHash::of(sb, static_cast<std::uint8_t>(version)).error().kind(), ErrorKind::corrupt);
}

TEST(NameHash, MajorIsEvenAndNeverTheEnd) {
  const NameHash hash(HashVersion::tea, {1, 2, 3, 4});
  for (int i = 0; i < 10000; ++i) {
    const Hash h = hash(std::to_string(i));
    EXPECT_EQ(h.major % 2, 0u);
    EXPECT_LT(h.major, kHashEnd);
  }
}

}  // namespace
}  // namespace outboard::ext4::format

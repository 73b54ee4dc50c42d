#include "device/probe.h"

#include "device/memory_device.h"
#include "testing/expect.h"
#include "testing/image_builder.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string_view>
#include <unistd.h>

namespace outboard::device {
namespace {

using Kind = Probe::Kind;
using namespace std::string_view_literals;

constexpr std::uint64_t kDisk = 64 << 20;

class Head {
public:
  explicit Head(std::size_t size = kProbeBytes) : bytes_(size) {}
  Head &put(std::size_t offset, std::string_view text) {
    std::memcpy(bytes_.data() + offset, text.data(), text.size());
    return *this;
  }
  template <class T> Head &number(std::size_t offset, T value) {
    for (std::size_t i = 0; i < sizeof value; ++i)
      bytes_[offset + i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i));
    return *this;
  }
  Head &mbr_entry(std::size_t sector_at, std::size_t index, unsigned char type, std::uint32_t start,
                  std::uint32_t sectors, unsigned char status = 0) {
    const std::size_t at = sector_at + 446 + index * 16;
    number(sector_at + 510, std::uint16_t{0xaa55});
    return number(at, status).number(at + 4, type).number(at + 8, start).number(at + 12, sectors);
  }
  std::span<std::byte> bytes() { return bytes_; }
  Probe probe(std::uint64_t size = kDisk) const { return device::probe(bytes_, size); }
  std::unique_ptr<MemoryDevice> disk() const {
    auto device = std::make_unique<MemoryDevice>(kDisk);
    EXPECT_OK(device->write(0, bytes_));
    return device;
  }

private:
  std::vector<std::byte> bytes_;
};

TEST(Probe, KnowsOtherFormatsByTheirSignatures) {
  const struct {
    Kind kind;
    std::size_t offset;
    std::string_view magic;
  } cases[] = {
      {Kind::xfs, 0, "XFSB"sv},
      {Kind::btrfs, 65600, "_BHRfS_M"sv},
      {Kind::luks, 0, "LUKS\xba\xbe"sv},
      {Kind::swap, 4086, "SWAPSPACE2"sv},
      {Kind::swap, 65526, "SWAPSPACE2"sv},
      {Kind::squashfs, 0, "hsqs"sv},
      {Kind::ntfs, 3, "NTFS    "sv},
      {Kind::iso9660, 32769, "CD001"sv},
      {Kind::gzip, 0, "\x1f\x8b\x08"sv},
      {Kind::xz, 0,
       "\xfd"
       "7zXZ\0"sv},
      {Kind::qcow, 0, "QFI\xfb"sv},
  };
  for (const auto &one : cases) {
    const Probe found = Head().put(one.offset, one.magic).probe();
    EXPECT_EQ(found.kind, one.kind) << found.description;
    EXPECT_FALSE(found.description.empty());
    // Cut off before the signature, it is something else; and nothing is read outside.
    const Probe cut = Head(std::max<std::size_t>(one.offset, 512)).probe();
    EXPECT_NE(cut.kind, one.kind);
  }
}

TEST(Probe, KnowsRealFilesWhereTheirToolsAreInstalled) {
  const testing::TemporaryDirectory directory;
  const auto kind_of = [&](const std::string &path) {
    const auto device = MemoryDevice::from_file(path);
    EXPECT_OK(device);
    const auto found = probe(**device);
    EXPECT_OK(found);
    return found->kind;
  };
  const std::string ext = directory.file("ext");
  ASSERT_OK(testing::make_image(ext, 8 << 20));
  EXPECT_EQ(kind_of(ext), Kind::ext);
  const std::string journal = directory.file("journal");
  ASSERT_OK(testing::make_image(journal, 8 << 20, {"-O", "journal_dev"}));
  EXPECT_EQ(kind_of(journal), Kind::ext_journal);
  const struct {
    Kind kind;
    std::vector<std::string> argv;  // the file's name is added
  } tools[] = {
      {Kind::swap, {"mkswap"}},       {Kind::gzip, {"gzip", "-k"}},  {Kind::xz, {"xz", "-k"}},
      {Kind::xfs, {"mkfs.xfs"}},      {Kind::btrfs, {"mkfs.btrfs"}}, {Kind::fat, {"mkfs.vfat"}},
      {Kind::ntfs, {"mkntfs", "-F"}}, {Kind::f2fs, {"mkfs.f2fs"}},   {Kind::exfat, {"mkfs.exfat"}},
  };
  for (const auto &tool : tools) {
    if (!testing::have_program(tool.argv[0])) continue;
    std::string file = directory.file(tool.argv[0]);
    ASSERT_OK(testing::write_file(file, "x"));
    const bool packs = tool.kind == Kind::gzip || tool.kind == Kind::xz;
    ASSERT_EQ(::truncate(file.c_str(), packs ? 4096 : 320 << 20), 0);
    std::vector<std::string> argv = tool.argv;
    argv.push_back(file);
    ASSIGN_OK(const auto done, testing::run_command(argv));
    ASSERT_EQ(done.exit, 0) << done.err;
    if (tool.kind == Kind::gzip) file += ".gz";
    if (tool.kind == Kind::xz) file += ".xz";
    EXPECT_EQ(kind_of(file), tool.kind) << tool.argv[0];
  }
}

TEST(Probe, ListsMbrPartitionsWithTheirOffsets) {
  Head head;
  head.mbr_entry(0, 0, 0x83, 2048, 20480, 0x80).mbr_entry(0, 2, 0x82, 40960, 2048);
  const Probe found = head.probe();
  ASSERT_EQ(found.kind, Kind::mbr);
  ASSERT_EQ(found.partitions.size(), 2u);
  EXPECT_EQ(found.partitions[0].number, 1u);
  EXPECT_EQ(found.partitions[0].offset, 1048576u);
  EXPECT_EQ(found.partitions[0].size, 10485760u);
  EXPECT_EQ(found.partitions[0].type, "Linux");
  EXPECT_EQ(found.partitions[1].number, 3u);
  EXPECT_EQ(found.partitions[1].type, "Linux swap");
}

TEST(Probe, SaysWhichPartitionHoldsExt) {
  const testing::TemporaryDirectory directory;
  ASSERT_OK(testing::make_image(directory.file("ext"), 8 << 20));
  ASSIGN_OK(auto image, MemoryDevice::from_file(directory.file("ext")));
  std::vector<std::byte> contents(8 << 20);
  ASSERT_OK(image->read(0, contents));
  Head head;
  head.mbr_entry(0, 0, 0x0c, 2048, 2048).mbr_entry(0, 1, 0x83, 8192, 16384);
  auto disk = head.disk();
  ASSERT_OK(disk->write(8192 * 512, contents));
  ASSIGN_OK(const Probe found, probe(*disk));
  ASSERT_EQ(found.partitions.size(), 2u);
  EXPECT_FALSE(found.partitions[0].ext);
  EXPECT_TRUE(found.partitions[1].ext);
  EXPECT_EQ(found.message(), "found a disk with an MBR partition table; its ext file systems are "
                             "partition 2 (Linux, 8192 KiB): offset=4194304");
}

TEST(Probe, FollowsLogicalPartitionsAndTheirLoopsEnd) {
  Head head;
  head.mbr_entry(0, 0, 0x05, 2048, 60000);
  auto disk = head.disk();
  Head first(512), second(512);
  first.mbr_entry(0, 0, 0x83, 64, 1000).mbr_entry(0, 1, 0x05, 4096, 2000);
  second.mbr_entry(0, 0, 0x82, 64, 500);
  ASSERT_OK(disk->write(2048 * 512, first.bytes()));
  ASSERT_OK(disk->write((2048 + 4096) * 512, second.bytes()));
  ASSIGN_OK(const Probe found, probe(*disk));
  ASSERT_EQ(found.partitions.size(), 3u);
  EXPECT_EQ(found.partitions[1].number, 5u);
  EXPECT_EQ(found.partitions[1].offset, (2048u + 64) * 512);
  EXPECT_EQ(found.partitions[2].number, 6u);
  EXPECT_EQ(found.partitions[2].offset, (2048u + 4096 + 64) * 512);
  second.mbr_entry(0, 1, 0x05, 4096, 2000);  // now it points to itself
  ASSERT_OK(disk->write((2048 + 4096) * 512, second.bytes()));
  ASSIGN_OK(const Probe looped, probe(*disk));
  EXPECT_LE(looped.partitions.size(), 200u);
}

TEST(Probe, BootCodeIsNoPartitionTable) {
  std::mt19937 random(1);
  int tables = 0;
  for (int round = 0; round < 2000; ++round) {
    Head head;
    for (std::byte &b : head.bytes().first(510)) b = static_cast<std::byte>(random());
    head.number(510, std::uint16_t{0xaa55});
    if (head.probe().kind == Kind::mbr) ++tables;
  }
  EXPECT_EQ(tables, 0);
  EXPECT_NE(Head().number(510, std::uint16_t{0xaa55}).probe().kind, Kind::mbr);  // no entry at all
  EXPECT_NE(Head().mbr_entry(0, 0, 0x83, 2048, 0).probe().kind, Kind::mbr);
  EXPECT_NE(Head().mbr_entry(0, 0, 0x83, 2048, 100).probe(2048 * 512).kind, Kind::mbr);  // begins behind the end
  EXPECT_NE(Head().mbr_entry(0, 0, 0x83, 2048, 100).mbr_entry(0, 1, 0x83, 2100, 100).probe().kind, Kind::mbr);
}

TEST(Probe, AnExtFileSystemWithABootSectorIsNoDisk) {
  const testing::TemporaryDirectory directory;
  ASSERT_OK(testing::make_image(directory.file("ext"), 8 << 20));
  ASSIGN_OK(auto image, MemoryDevice::from_file(directory.file("ext")));
  Head boot(512);
  boot.mbr_entry(0, 0, 0x83, 2048, 2048, 0x80);
  ASSERT_OK(image->write(0, boot.bytes()));
  ASSIGN_OK(const Probe found, probe(*image));
  EXPECT_EQ(found.kind, Kind::ext);
  EXPECT_TRUE(found.partitions.empty());
}

// A header and one entry as sgdisk makes them; the CRC was computed with Python's zlib.crc32.
Head gpt(std::size_t sector) {
  Head head;
  head.mbr_entry(0, 0, 0xee, 1, 0xffffffff);
  head.put(sector, "EFI PART"sv).number(sector + 8, std::uint32_t{0x00010000}).number(sector + 12, std::uint32_t{92});
  head.number(sector + 24, std::uint64_t{1}).number(sector + 72, std::uint64_t{2});
  head.number(sector + 80, std::uint32_t{128}).number(sector + 84, std::uint32_t{128});
  head.number(sector + 16, std::uint32_t{0xaa4d52ec});
  const std::size_t entry = 2 * sector + 128;  // the second of the table
  head.put(entry, "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4"sv);
  head.number(entry + 32, std::uint64_t{2048}).number(entry + 40, std::uint64_t{4095});
  return head;
}

TEST(Probe, ListsGptPartitionsForBothSectorSizes) {
  for (const std::size_t sector : {std::size_t{512}, std::size_t{4096}}) {
    const Probe found = gpt(sector).probe();
    ASSERT_EQ(found.kind, Kind::gpt);
    ASSERT_EQ(found.partitions.size(), 1u);
    EXPECT_EQ(found.partitions[0].number, 2u);
    EXPECT_EQ(found.partitions[0].offset, 2048 * sector);
    EXPECT_EQ(found.partitions[0].size, 2048 * sector);
    EXPECT_EQ(found.partitions[0].type, "Linux filesystem");
  }
}

TEST(Probe, AGptHeaderWithAWrongChecksumIsNotBelieved) {
  Head head = gpt(512);
  head.number(512 + 80, std::uint32_t{127});
  EXPECT_NE(head.probe().kind, Kind::gpt);
}

TEST(Probe, NothingIsTakenForSomething) {
  EXPECT_EQ(Head().probe().kind, Kind::zeros);
  EXPECT_EQ(Head(100).probe(100).kind, Kind::too_small);
  EXPECT_EQ(Head(0).probe(0).kind, Kind::too_small);
  EXPECT_EQ(Head().put(700, "hello").probe().kind, Kind::unknown);
  MemoryDevice empty(0);
  ASSIGN_OK(const Probe found, probe(empty));
  EXPECT_EQ(found.kind, Kind::too_small);
}

TEST(Probe, AnyBytesAreSafe) {
  std::mt19937 random(9);
  for (int round = 0; round < 3000; ++round) {
    Head head = round % 2 == 0 ? gpt(round % 4 == 0 ? 512 : 4096) : Head(random() % kProbeBytes);
    for (int i = 0; i < 40 && !head.bytes().empty(); ++i)
      head.bytes()[random() % std::min<std::size_t>(head.bytes().size(), 2048)] = static_cast<std::byte>(random());
    const Probe found = head.probe(random() % kDisk);
    EXPECT_LE(found.partitions.size(), 128u);
    EXPECT_FALSE(found.message().empty());
  }
}

}  // namespace
}  // namespace outboard::device

#include "device/probe.h"

#include "base/endian.h"

#include <algorithm>
#include <bit>
#include <fmt/format.h>
#include <optional>
#include <string_view>

namespace outboard::device {

namespace {

using Kind = Probe::Kind;
using Bytes = std::span<const std::byte>;
using namespace std::string_view_literals;

constexpr std::uint64_t kSector = 512;
constexpr std::size_t kMostPartitions = 128;
constexpr unsigned kFirstLogical = 5;

struct Signature {
  Kind kind;
  std::size_t offset;
  std::string_view magic;
  std::string_view description;
};

// Found before partition tables are looked for: these formats either leave no room for a table, or (iso9660) often
// carry one as well and are better called by their own name.
constexpr Signature kSignatures[] = {
    {Kind::luks, 0, "LUKS\xba\xbe"sv, "a LUKS encrypted volume"},
    {Kind::xfs, 0, "XFSB"sv, "an XFS file system"},
    {Kind::squashfs, 0, "hsqs"sv, "a squashfs file system"},
    {Kind::gzip, 0, "\x1f\x8b\x08"sv, "a gzip-compressed file"},
    {Kind::xz, 0, "\xfd\x37zXZ\0"sv, "an xz-compressed file"},
    {Kind::zstd, 0, "\x28\xb5\x2f\xfd"sv, "a zstd-compressed file"},
    {Kind::bzip2, 0, "BZh"sv, "a bzip2-compressed file"},
    {Kind::zip, 0, "PK\x03\x04"sv, "a zip archive"},
    {Kind::qcow, 0, "QFI\xfb"sv, "a QEMU qcow image"},
    {Kind::vmdk, 0, "KDMV"sv, "a VMDK image"},
    {Kind::vhdx, 0, "vhdxfile"sv, "a VHDX image"},
    {Kind::android_sparse, 0, "\x3a\xff\x26\xed"sv, "an Android sparse image"},
    {Kind::ntfs, 3, "NTFS    "sv, "an NTFS file system"},
    {Kind::exfat, 3, "EXFAT   "sv, "an exFAT file system"},
    {Kind::iso9660, 32769, "CD001"sv, "an ISO 9660 file system"},
};

// Looked for after partition tables: they lie where a table leaves room, and may be left from an earlier use.
constexpr Signature kLateSignatures[] = {
    {Kind::btrfs, 65536 + 64, "_BHRfS_M"sv, "a btrfs file system"},
    {Kind::f2fs, 1024, "\x10\x20\xf5\xf2"sv, "an F2FS file system"},
    {Kind::raid, 4096, "\xfc\x4e\x2b\xa9"sv, "a member of a Linux RAID array"},
    {Kind::raid, 0, "\xfc\x4e\x2b\xa9"sv, "a member of a Linux RAID array"},
    {Kind::swap, 4096 - 10, "SWAPSPACE2"sv, "a swap area"},
    {Kind::swap, 8192 - 10, "SWAPSPACE2"sv, "a swap area"},
    {Kind::swap, 16384 - 10, "SWAPSPACE2"sv, "a swap area"},
    {Kind::swap, 65536 - 10, "SWAPSPACE2"sv, "a swap area"},
};

bool has(Bytes head, std::size_t offset, std::string_view magic) {
  return offset + magic.size() <= head.size() && std::memcmp(head.data() + offset, magic.data(), magic.size()) == 0;
}

template <class T> T field(Bytes head, std::size_t offset) { return view_as<T>(head, offset); }

struct SuperblockLook {
  bool ext = false;
  bool journal_only = false;
};

// `at` is where the superblock would lie. More than the magic, which alone comes up by chance.
SuperblockLook look_for_ext(Bytes bytes, std::size_t at) {
  if (at + 128 > bytes.size() || field<le16>(bytes, at + 56).get() != 0xef53) return {};
  const bool plausible = field<le32>(bytes, at + 4).get() != 0 && field<le32>(bytes, at + 24).get() <= 6;
  constexpr std::uint32_t kJournalDevice = 0x8;  // of the incompatible features
  const bool journal_only = (field<le32>(bytes, at + 96).get() & kJournalDevice) != 0;
  return {plausible && !journal_only, plausible && journal_only};
}

// A FAT boot sector, by its parameter block; the label of the type is optional.
bool looks_like_fat(Bytes head) {
  if (head.size() < kSector || field<le16>(head, 510).get() != 0xaa55) return false;
  const auto byte = [&](std::size_t at) { return std::to_integer<unsigned>(head[at]); };
  const bool jump = (byte(0) == 0xeb && byte(2) == 0x90) || byte(0) == 0xe9;
  const unsigned sector = field<le16>(head, 11).get();
  const unsigned media = byte(21);
  return jump && sector >= 512 && sector <= 4096 && std::has_single_bit(sector) && std::has_single_bit(byte(13)) &&
         field<le16>(head, 14).get() != 0 && (byte(16) == 1 || byte(16) == 2) && (media == 0xf0 || media >= 0xf8);
}

// ---- GPT (UEFI specification, chapter 5) ----

// The CRC of GPT: IEEE 802.3, reflected. Small inputs, so bit by bit.
std::uint32_t crc32(Bytes data, std::uint32_t crc) {
  for (const std::byte b : data) {
    crc ^= std::to_integer<std::uint32_t>(b);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0u);
  }
  return crc;
}

bool gpt_header_checks(Bytes header) {
  const std::uint32_t length = field<le32>(header, 12).get();
  if (length < 92 || length > header.size()) return false;
  const std::byte zeros[4] = {};
  std::uint32_t crc = crc32(header.first(16), ~0u);
  crc = crc32(zeros, crc);  // its own place counts as zero
  crc = crc32(header.subspan(20, length - 20), crc);
  return ~crc == field<le32>(header, 16).get();
}

std::string guid_text(Bytes guid) {
  std::string text = fmt::format("{:08X}-{:04X}-{:04X}-", field<le32>(guid, 0).get(), field<le16>(guid, 4).get(),
                                 field<le16>(guid, 6).get());
  for (std::size_t i = 8; i < 16; ++i)
    text += fmt::format("{}{:02X}", i == 10 ? "-" : "", std::to_integer<unsigned>(guid[i]));
  return text;
}

std::string gpt_type_name(const std::string &guid) {
  constexpr std::pair<std::string_view, std::string_view> names[] = {
      {"0FC63DAF-8483-4772-8E79-3D69D8477DE4", "Linux filesystem"},
      {"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "Linux root (x86-64)"},
      {"933AC7E1-2EB4-4F13-B844-0E14E2AEF915", "Linux home"},
      {"0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "Linux swap"},
      {"E6D6D379-F507-44C2-A23C-238F2A3DF928", "Linux LVM"},
      {"A19D880F-05FC-4D3B-A006-743F0F84911E", "Linux RAID"},
      {"C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "EFI System"},
      {"21686148-6449-6E6F-744E-656564454649", "BIOS boot"},
      {"EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "Microsoft basic data"},
  };
  for (const auto &[known, name] : names) {
    if (guid == known) return std::string(name);
  }
  return guid;
}

std::optional<Probe> probe_gpt(Bytes head, std::uint64_t size) {
  for (const std::uint64_t sector : {std::uint64_t{512}, std::uint64_t{4096}}) {
    if (!has(head, sector, "EFI PART"sv) || head.size() < 2 * sector) continue;
    const Bytes header = head.subspan(sector, sector);
    if (!gpt_header_checks(header)) continue;
    Probe found{Kind::gpt, "a disk with a GPT partition table", {}};
    const std::uint64_t table = field<le64>(header, 72).get();
    const std::uint32_t count = field<le32>(header, 80).get();
    const std::uint32_t entry_size = field<le32>(header, 84).get();
    if (table > head.size() / sector || entry_size < 128 || entry_size > 4096) return found;
    for (std::uint32_t i = 0; i < std::min<std::uint32_t>(count, kMostPartitions); ++i) {
      const std::uint64_t at = table * sector + std::uint64_t{i} * entry_size;
      if (at + 128 > head.size()) break;
      const Bytes entry = head.subspan(at, 128);
      const std::uint64_t first = field<le64>(entry, 32).get();
      const std::uint64_t last = field<le64>(entry, 40).get();
      const bool unused = std::ranges::all_of(entry.first(16), [](std::byte b) { return b == std::byte{0}; });
      if (unused || first == 0 || last < first || last >= size / sector) continue;
      found.partitions.push_back(
          {i + 1, first * sector, (last - first + 1) * sector, gpt_type_name(guid_text(entry.first(16))), false});
    }
    return found;
  }
  return std::nullopt;
}

// ---- MBR ----

bool is_extended(unsigned type) { return type == 0x05 || type == 0x0f || type == 0x85; }

std::string mbr_type_name(unsigned type) {
  switch (type) {
  case 0x05:
  case 0x0f:
  case 0x85: return "extended";
  case 0x07: return "NTFS or exFAT";
  case 0x01:
  case 0x04:
  case 0x06:
  case 0x0b:
  case 0x0c:
  case 0x0e: return "FAT";
  case 0x82: return "Linux swap";
  case 0x83: return "Linux";
  case 0x8e: return "Linux LVM";
  case 0xee: return "GPT protective";
  case 0xef: return "EFI System";
  case 0xfd: return "Linux RAID";
  default: return fmt::format("type 0x{:02x}", type);
  }
}

struct MbrEntry {
  unsigned status = 0, type = 0;
  std::uint64_t start = 0, sectors = 0;
  bool unused() const { return type == 0 && start == 0 && sectors == 0; }
};

MbrEntry mbr_entry(Bytes sector, std::size_t index) {
  const std::size_t at = 446 + index * 16;
  return {std::to_integer<unsigned>(sector[at]), std::to_integer<unsigned>(sector[at + 4]),
          field<le32>(sector, at + 8).get(), field<le32>(sector, at + 12).get()};
}

// Boot code and boot sectors of file systems end in the same two bytes: every entry must make sense, and one be used.
std::optional<Probe> probe_mbr(Bytes head, std::uint64_t size) {
  if (head.size() < kSector || field<le16>(head, 510).get() != 0xaa55) return std::nullopt;
  Probe found{Kind::mbr, "a disk with an MBR partition table", {}};
  for (std::size_t i = 0; i < 4; ++i) {
    const MbrEntry entry = mbr_entry(head, i);
    if (entry.unused()) continue;
    if ((entry.status != 0 && entry.status != 0x80) || entry.type == 0 || entry.start == 0 || entry.sectors == 0)
      return std::nullopt;
    // A copy may have been cut short behind a partition's start, but not before it.
    if (entry.start >= size / kSector) return std::nullopt;
    for (const Partition &other : found.partitions) {
      const std::uint64_t start = entry.start * kSector;
      if (start < other.offset + other.size && other.offset < start + entry.sectors * kSector) return std::nullopt;
    }
    found.partitions.push_back({static_cast<unsigned>(i + 1), entry.start * kSector, entry.sectors * kSector,
                                mbr_type_name(entry.type), false});
  }
  if (found.partitions.empty()) return std::nullopt;
  return found;
}

// Each logical partition is described by a sector of its own: one entry for it, relative to that sector, and one for
// the next such sector, relative to the extended partition. The chain may be a loop: its length is bounded.
Status add_logical(BlockDevice &device, const Partition &extended, std::vector<Partition> &out) {
  std::uint64_t at = extended.offset;
  for (unsigned number = kFirstLogical; number < kFirstLogical + kMostPartitions; ++number) {
    std::byte sector[kSector];
    const std::uint64_t size = device.properties().size;
    if (at > size || size - at < kSector) return {};
    TRY(device.read(at, sector));
    if (field<le16>(sector, 510).get() != 0xaa55) return {};
    const MbrEntry entry = mbr_entry(sector, 0);
    const MbrEntry next = mbr_entry(sector, 1);
    if (!entry.unused() && entry.sectors != 0)
      out.push_back({number, at + entry.start * kSector, entry.sectors * kSector, mbr_type_name(entry.type), false});
    if (!is_extended(next.type) || next.start == 0) return {};
    at = extended.offset + next.start * kSector;
  }
  return {};
}

std::optional<Probe> find_signature(Bytes head, std::span<const Signature> table) {
  for (const Signature &signature : table) {
    if (has(head, signature.offset, signature.magic))
      return Probe{signature.kind, std::string(signature.description), {}};
  }
  return std::nullopt;
}

bool is_lvm(Bytes head) {
  for (std::size_t sector = 0; sector < 4; ++sector) {
    if (has(head, sector * kSector, "LABELONE"sv) && has(head, sector * kSector + 24, "LVM2 001"sv)) return true;
  }
  return false;
}

std::string size_text(std::uint64_t bytes) {
  constexpr const char *units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  while (bytes >= 10240 && unit + 1 < std::size(units)) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{} {}", bytes, units[unit]);
}

}  // namespace

Probe probe(Bytes head, std::uint64_t size) {
  if (head.size() < kSector)
    return find_signature(head, kSignatures).value_or(Probe{Kind::too_small, "too small for a file system", {}});
  const SuperblockLook ext = look_for_ext(head, 1024);
  if (ext.ext) return {Kind::ext, "an ext2, ext3 or ext4 file system", {}};
  if (ext.journal_only) return {Kind::ext_journal, "an external journal of an ext4 file system", {}};
  if (auto found = find_signature(head, kSignatures)) return *found;
  if (auto found = probe_gpt(head, size)) return *found;
  if (looks_like_fat(head)) return {Kind::fat, "a FAT file system", {}};
  if (auto found = probe_mbr(head, size)) return *found;
  if (is_lvm(head)) return {Kind::lvm, "an LVM physical volume", {}};
  if (auto found = find_signature(head, kLateSignatures)) return *found;
  if (std::ranges::all_of(head, [](std::byte b) { return b == std::byte{0}; }))
    return {Kind::zeros, "nothing but zeros at its start", {}};
  return {Kind::unknown, "nothing known", {}};
}

Result<Probe> probe(BlockDevice &device) {
  const std::uint64_t size = device.properties().size;
  std::vector<std::byte> head(std::min<std::uint64_t>(size, kProbeBytes));
  TRY(device.read(0, head));
  Probe found = probe(head, size);
  if (found.kind == Kind::mbr) {
    for (const Partition &partition : std::vector<Partition>(found.partitions)) {
      if (partition.type == "extended") TRY(add_logical(device, partition, found.partitions));
    }
  }
  for (Partition &partition : found.partitions) {
    std::byte superblock[1024];
    if (partition.offset > size || size - partition.offset < 1024 + sizeof superblock) continue;
    // An unreadable place in some partition does not spoil what is known of the others.
    if (device.read(partition.offset + 1024, superblock)) partition.ext = look_for_ext(superblock, 0).ext;
  }
  return found;
}

std::string Probe::message() const {
  std::string text = kind == Kind::too_small ? "it is " + description : "found " + description;
  switch (kind) {
  case Kind::gzip:
  case Kind::xz:
  case Kind::zstd:
  case Kind::bzip2:
  case Kind::zip: return text + "; unpack it first";
  case Kind::qcow:
  case Kind::vmdk:
  case Kind::vhdx: return text + "; convert it with \"qemu-img convert -O raw\" first";
  case Kind::android_sparse: return text + "; convert it with simg2img first";
  case Kind::luks: return text + "; open it with cryptsetup first";
  default: break;
  }
  if (partitions.empty()) return text;
  const auto is_ext = [](const Partition &partition) { return partition.ext; };
  const bool any_ext = std::ranges::any_of(partitions, is_ext);
  std::string list;
  for (const Partition &partition : partitions) {
    if (any_ext && !partition.ext) continue;
    list += fmt::format("{}partition {} ({}, {}): offset={}", list.empty() ? "" : "; ", partition.number,
                        partition.type, size_text(partition.size), partition.offset);
  }
  return text + (any_ext ? "; its ext file systems are " : "; none of its partitions looks like ext; they are ") + list;
}

}  // namespace outboard::device

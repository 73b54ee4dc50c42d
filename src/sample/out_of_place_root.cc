#include "sample/out_of_place_root.h"

#include "base/checksum.h"
#include "base/units.h"

#include <algorithm>
#include <cstring>

namespace outboard::sample::out_of_place {
namespace {

constexpr std::uint32_t kMagic = 0x4F4F5031;

template <class T> void append(std::vector<std::byte> &bytes, const T &value) {
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

std::uint32_t seal(std::span<std::byte> bytes) {
  edit_as<DiskHead>(bytes).checksum.set(0);
  return crc32c(~0u, bytes);
}

// Takes structures from the front.
class Cursor {
public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}
  template <class T> Result<const T *> next() {
    if (bytes_.size() - at_ < sizeof(T)) return fail(Error::corrupt("out-of-place: root ends early"));
    const T *value = &view_as<T>(bytes_, at_);
    at_ += sizeof(T);
    return value;
  }

private:
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

Result<RootFile> decode_file(Cursor &cursor, const Layout &layout) {
  const DiskFile &raw = *TRY(cursor.next<DiskFile>());
  if (raw.name_length.get() == 0 || raw.name_length.get() > kNameRoom) return fail(Error::corrupt("out-of-place: name"));
  RootFile file{.name = {raw.name.data(), raw.name_length.get()}, .size = raw.size.get(), .extents = {}};
  if (file.size > std::uint64_t{1} << 62) return fail(Error::corrupt("out-of-place: size"));
  for (std::uint32_t n = 0; n < raw.extents.get(); ++n) {
    const DiskExtent &extent = *TRY(cursor.next<DiskExtent>());
    const Extent e{extent.file_block.get(), extent.device_block.get(), extent.count.get()};
    if (e.device_block < layout.first() || e.count > layout.blocks || e.device_block + e.count > layout.blocks ||
        e.file_block > std::uint64_t{1} << 50)
      return fail(Error::corrupt("out-of-place: extent").in_block(e.device_block));
    file.extents.push_back(e);
  }
  return file;
}

}  // namespace

Result<Layout> layout_of(const device::BlockDevice &device) {
  Layout layout{.blocks = device.properties().size / kBlock, .slot_blocks = 0};
  if (layout.blocks > ~std::uint32_t{0}) return fail(Error::user(EFBIG, "out-of-place: the device is too large"));
  const std::uint64_t most = sizeof(DiskHead) + kMostFiles * sizeof(DiskFile) + layout.blocks * sizeof(DiskExtent);
  layout.slot_blocks = divide_up<std::uint64_t>(most, kBlock);
  if (layout.blocks <= layout.first()) return fail(Error::user(ENOSPC, "out-of-place: the device is too small"));
  return layout;
}

std::vector<std::byte> encode(const Root &root) {
  std::vector<std::byte> bytes;
  DiskHead head{};
  head.magic.set(kMagic);
  head.generation.set(root.generation);
  head.files.set(static_cast<std::uint32_t>(root.files.size()));
  append(bytes, head);
  for (const RootFile &file : root.files) {
    DiskFile raw{};
    raw.size.set(file.size);
    raw.extents.set(static_cast<std::uint32_t>(file.extents.size()));
    raw.name_length.set(static_cast<std::uint32_t>(file.name.size()));
    std::ranges::copy(file.name, raw.name.begin());
    append(bytes, raw);
    for (const Extent &extent : file.extents) {
      DiskExtent e{};
      e.file_block.set(extent.file_block);
      e.device_block.set(static_cast<std::uint32_t>(extent.device_block));
      e.count.set(static_cast<std::uint32_t>(extent.count));
      append(bytes, e);
    }
  }
  edit_as<DiskHead>(bytes).length.set(bytes.size());
  const std::uint32_t checksum = seal(bytes);
  edit_as<DiskHead>(bytes).checksum.set(checksum);
  return bytes;
}

Result<Root> read_slot(device::BlockDevice &device, const Layout &layout, unsigned number) {
  std::array<std::byte, sizeof(DiskHead)> start;
  TRY(device.read(layout.slot(number), start));
  const auto &head = view_as<DiskHead>(start);
  const std::uint64_t length = head.length.get();
  if (head.magic.get() != kMagic) return fail(Error::corrupt("out-of-place: magic"));
  if (length < sizeof head || length > layout.slot_blocks * kBlock) return fail(Error::corrupt("out-of-place: length"));
  std::vector<std::byte> bytes(length);
  TRY(device.read(layout.slot(number), bytes));
  if (const std::uint32_t told = view_as<DiskHead>(bytes).checksum.get(); seal(bytes) != told)
    return fail(Error::bad_checksum("out-of-place: root"));
  Cursor cursor(bytes);
  const DiskHead &whole = *TRY(cursor.next<DiskHead>());
  Root root{.generation = whole.generation.get(), .files = {}};
  if (whole.files.get() > kMostFiles) return fail(Error::corrupt("out-of-place: number of files"));
  for (std::uint32_t n = 0; n < whole.files.get(); ++n) root.files.push_back(TRY(decode_file(cursor, layout)));
  return root;
}

}  // namespace outboard::sample::out_of_place

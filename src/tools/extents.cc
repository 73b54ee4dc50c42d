// info --extents: iomap::report of each file, printed.
#include "tools/extents.h"

#include "ext4/inode_alloc.h"
#include "ext4/mapper.h"
#include "iomap/report.h"
#include "service/node_path.h"
#include "tools/commands.h"

#include <fmt/format.h>
#include <set>
#include <sys/stat.h>

namespace outboard::tools {

namespace {

std::string flags_of(const iomap::ReportedExtent &extent) {
  std::string flags;
  if (extent.mapping.type == iomap::MappingType::unwritten) flags = "unwritten";
  if (extent.last) flags += flags.empty() ? "last" : ",last";
  return flags;
}

class ExtentPrinter {
public:
  explicit ExtentPrinter(vfs::MountedVolume &filesystem) : fs_(filesystem) {}

  Status show(const vfs::Entry &entry, const std::string &path) {
    if (S_ISDIR(entry.attributes.mode)) return show_below(entry, path == "/" ? "" : path);
    if (!S_ISREG(entry.attributes.mode)) return fail(Error::user(EINVAL, "neither a regular file nor a directory"));
    return show_file(entry, path);
  }
  void show_total() const { fmt::print("total: {} extents in {} files\n", extents_, files_); }

private:
  // The map is asked for in pieces, so that a file of any fragmentation fits into memory.
  static constexpr std::size_t kAtOnce = 4096;

  Status show_file(const vfs::Entry &entry, const std::string &path) {
    if (!seen_.insert(entry.attributes.inode).second) return {};
    ext4::Volume &volume = fs_.volume();
    ext4::Inode inode = TRY(volume.inodes().load(InodeNumber(static_cast<std::uint32_t>(entry.attributes.inode))));
    ext4::Mapper mapper(volume, inode);
    const std::uint64_t block = volume.block_size();
    fmt::print("{}: inode {}, {} bytes, blocks of {}\n", path, entry.attributes.inode, inode.fields.size, block);
    std::uint64_t count = 0;
    for (std::uint64_t at = 0;;) {
      const iomap::Report report = TRY(iomap::report(mapper, {at, ~std::uint64_t{0} - at}, kAtOnce));
      for (const iomap::ReportedExtent &extent : report.extents) {
        const iomap::Mapping &m = extent.mapping;
        const std::uint64_t logical = m.offset / block, physical = m.address / block, length = m.length / block;
        if (count == 0) fmt::print("{:>6} {:>21} {:>25} {:>8}  flags\n", "ext", "logical", "physical", "length");
        fmt::print("{:>6} {:>9}..{:>10} {:>11}..{:>12} {:>8}{}{}\n", count++, logical, logical + length - 1, physical,
                   physical + length - 1, length, flags_of(extent).empty() ? "" : "  ", flags_of(extent));
      }
      if (report.complete) break;
      at = report.extents.back().mapping.end();
    }
    fmt::print("{}: {} extents\n", path, count);
    extents_ += count;
    ++files_;
    return {};
  }

  Status show_below(const vfs::Entry &directory, const std::string &path) {
    // A directory that contains itself is met once.
    if (!seen_.insert(directory.attributes.inode).second) return {};
    for (const ListedName &item : TRY(list_directory(fs_, directory.node))) {
      if (item.name == "." || item.name == "..") continue;
      const service::NodeHold child(fs_, TRY(fs_.lookup(directory.node, item.name)));
      if (S_ISDIR(child->attributes.mode)) TRY(show_below(*child, path + "/" + item.name));
      else if (S_ISREG(child->attributes.mode)) TRY(show_file(*child, path + "/" + item.name));
    }
    return {};
  }

  vfs::MountedVolume &fs_;
  std::set<std::uint64_t> seen_;  // inodes
  std::uint64_t extents_ = 0, files_ = 0;
};

}  // namespace

int show_extents(const std::string &source, const std::string &path, const MountWords &words) {
  return with_image(source, words, [&](vfs::MountedVolume &fs) -> Result<void> {
    const service::NodeHold node = TRY(service::walk(fs, path, true));
    ExtentPrinter printer(fs);
    TRY(printer.show(*node, path));
    printer.show_total();
    return {};
  });
}

}  // namespace outboard::tools

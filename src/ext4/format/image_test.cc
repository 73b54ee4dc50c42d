// The rooms on images that mkfs.ext4 made with many sets of features: everything that stands on disk is read, agrees
// with what dumpe2fs says, and is written back as it was.
#include "ext4/format/bitmap.h"
#include "ext4/format/dirent.h"
#include "ext4/format/htree.h"
#include "ext4/format/orphan_file.h"
#include "ext4/format/test_volume.h"
#include "ext4/format/xattr.h"
#include "testing/command.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <set>
#include <sstream>

namespace outboard::ext4::format {
namespace {

struct Recipe {
  const char *name;
  std::uint32_t block_size;
  std::uint64_t megabytes;
  std::vector<std::string> arguments;
};
void PrintTo(const Recipe &recipe, std::ostream *out) { *out << recipe.name; }

const Recipe kRecipes[] = {
    {"plain", 4096, 32, {}},
    {"small_groups", 4096, 64, {"-g", "1024"}},
    {"blocks_1k", 1024, 40, {}},
    {"blocks_2k", 2048, 40, {"-g", "2048"}},
    {"blocks_64k", 65536, 64, {}},
    {"no_checksums", 4096, 32, {"-g", "1024", "-O", "^metadata_csum"}},
    {"uninit_bg", 4096, 32, {"-g", "1024", "-O", "^metadata_csum,uninit_bg"}},
    {"uninit_bg_32bit", 1024, 40, {"-O", "^metadata_csum,uninit_bg,^64bit"}},
    {"checksums_32bit", 4096, 32, {"-g", "1024", "-O", "^64bit"}},
    {"meta_bg", 1024, 64, {"-g", "1024", "-O", "meta_bg,^resize_inode"}},
    {"meta_bg_no_flex", 1024, 64, {"-g", "1024", "-O", "meta_bg,^resize_inode,^flex_bg,^64bit"}},
    {"no_flex", 4096, 32, {"-g", "1024", "-O", "^flex_bg"}},
    {"sparse_super2", 4096, 64, {"-g", "1024", "-O", "sparse_super2,^resize_inode"}},
    {"no_sparse_super", 4096, 32, {"-g", "1024", "-O", "^sparse_super,^resize_inode"}},
    {"csum_seed", 4096, 32, {"-O", "metadata_csum_seed"}},
    {"orphan_file", 4096, 32, {"-O", "orphan_file"}},
    {"large_inodes", 4096, 32, {"-I", "512", "-O", "project"}},
    {"small_inodes", 1024, 32, {"-I", "128"}},
    {"bigalloc", 4096, 64, {"-O", "bigalloc", "-C", "16384"}},
    {"bigalloc_1k", 1024, 64, {"-O", "bigalloc", "-C", "8192"}},
    {"ext2", 1024, 32, {"-t", "ext2"}},
    {"ext3", 4096, 32, {"-t", "ext3"}},
};

class Image : public ::testing::TestWithParam<Recipe> {
protected:
  void SetUp() override {
    const std::string path = path_ = directory_.file("image");
    const Recipe &recipe = GetParam();
    fill();
    std::vector<std::string> arguments = recipe.arguments;
    arguments.insert(arguments.end(), {"-d", directory_.file("tree")});
    ASSERT_OK(testing::make_image(path, recipe.megabytes << 20, arguments, recipe.block_size));
    ASSERT_OK(testing::debugfs_write(path, {"mknod pipe p", "mknod disk b 8 17", "mknod far c 5 1",
                                            "set_inode_field far block[0] 0", "set_inode_field far block[1] 0x11112c70",
                                            "symlink fast target", "symlink slow " + std::string(200, 's'),
                                            "ea_set small user.note value",
                                            "ea_set many/f5 user.long " + std::string(300, 'v')}));
    // Indexes directories. It may exit with 1: something was changed.
    ASSIGN_OK(const testing::CommandResult checked, testing::run_command({"e2fsck", "-fyD", path}));
    ASSERT_LE(checked.exit, 1) << checked.out << checked.err;
    ASSIGN_OK(volume_, TestVolume::load(path));
  }

  void fill() {
    const std::filesystem::path tree = directory_.file("tree");
    std::filesystem::create_directories(tree / "many");
    for (int i = 0; i < 100; ++i) ASSERT_OK(testing::write_file(tree / "many" / ("f" + std::to_string(i)), ""));
    for (int i = 0; i < 150; ++i)
      ASSERT_OK(testing::write_file(
          tree / "many" / ("a name that is rather long " + std::string(100, 'n') + std::to_string(i)), ""));
    ASSERT_OK(testing::write_file(tree / "small", "contents"));
    ASSERT_OK(testing::write_file(tree / "large", std::string(3 << 20, 'x')));
    // Holes: many extents, so that the tree has blocks of its own.
    std::string holes;
    for (int i = 0; i < 12; ++i) holes += std::string(65536, static_cast<char>('a' + i)) + std::string(65536, '\0');
    ASSERT_OK(testing::write_file(tree / "holes", holes));
  }

  std::string dumpe2fs(const std::vector<std::string> &options = {}) {
    std::vector<std::string> argv{"dumpe2fs"};
    argv.insert(argv.end(), options.begin(), options.end());
    argv.push_back(path_);
    const Result<testing::CommandResult> result = testing::run_command(argv);
    return result && result->exit == 0 ? result->out : "";
  }

  template <class Visit> void each_group(Visit visit) {
    for (std::uint32_t g = 0; g < volume_.superblock.group_count; ++g) {
      SCOPED_TRACE("group " + std::to_string(g));
      visit(GroupNumber(g));
    }
  }
  // Inodes that the bitmap says are used.
  template <class Visit> void each_inode(Visit visit) {
    each_group([&](GroupNumber group) {
      ASSIGN_OK(const GroupDesc desc, volume_.desc(group));
      if (desc.inode_uninit) return;
      const BitmapView bits(volume_.block(desc.inode_bitmap), volume_.superblock.inodes_per_group);
      for (std::uint32_t i = 0; i < bits.size(); ++i) {
        if (!bits.test(i)) continue;
        const InodeNumber number = volume_.geometry.inode_at(group, i);
        SCOPED_TRACE("inode " + std::to_string(number.value()));
        visit(number);
      }
    });
  }

  // A directory's blocks. Of block-mapped ones direct and single indirect blocks: enough here.
  std::vector<std::pair<FileBlock, BlockNumber>> blocks_of(InodeNumber number, const InodeFields &fields) {
    std::vector<std::pair<FileBlock, BlockNumber>> blocks;
    if (fields.uses_extents()) {
      EXPECT_OK(volume_.each_extent(number, [&](const Extent &extent) {
        for (std::uint32_t i = 0; i < extent.len; ++i) blocks.emplace_back(extent.logical + i, extent.start + i);
      }));
      return blocks;
    }
    const auto add = [&](std::span<const std::byte> pointers) {
      for (std::size_t at = 0; at < pointers.size(); at += sizeof(le32))
        if (const std::uint32_t place = view_as<le32>(pointers, at).get(); place != 0)
          blocks.emplace_back(FileBlock(static_cast<std::uint32_t>(blocks.size())), BlockNumber(place));
    };
    add(std::span(fields.block).first(48));
    if (const BlockNumber indirect(view_as<le32>(fields.block, 48).get()); indirect) add(volume_.block(indirect));
    return blocks;
  }

  // Names in a linear block; each must lead to an inode of its type.
  std::uint32_t check_names(std::span<const std::byte> block, const DirFormat &format,
                            const std::function<void(const DirEntryView &)> &check) {
    std::uint32_t names = 0;
    DirCursor cursor(block, format);
    for (Result<bool> more = cursor.next(); more && *more; more = cursor.next()) {
      const DirEntryView &entry = cursor.entry();
      if (!entry.used()) continue;
      ++names;
      EXPECT_TRUE(is_plain_name(entry.name));
      const Result<InodeFields> target = volume_.inode(entry.inode);
      EXPECT_OK(target);
      EXPECT_EQ(entry.file_type, format.has_file_type && target ? file_type_of_mode(target->mode) : 0) << entry.name;
      check(entry);
    }
    return names;
  }

  testing::TemporaryDirectory directory_;
  std::string path_;
  TestVolume volume_;
};

INSTANTIATE_TEST_SUITE_P(Recipes, Image, ::testing::ValuesIn(kRecipes),
                         [](const auto &param) { return param.param.name; });

TEST_P(Image, FeatureNamesAreThoseOfDumpe2fs) {
  const std::string text = dumpe2fs({"-h"});
  std::smatch match;
  ASSERT_TRUE(std::regex_search(text, match, std::regex("Filesystem features: +(.*)")));
  const auto words = [](const std::string &line) {
    std::istringstream in(line);
    return std::set<std::string>(std::istream_iterator<std::string>(in), {});
  };
  EXPECT_EQ(words(feature_names(volume_.superblock.features)), words(match[1]));
}

TEST_P(Image, SuperblockAndItsBackupsParse) {
  const Bytes before(volume_.raw_superblock().begin(), volume_.raw_superblock().end());
  seal_superblock(volume_.raw_superblock());
  EXPECT_TRUE(std::ranges::equal(volume_.raw_superblock(), before));
  each_group([&](GroupNumber group) {
    if (group.value() == 0 || !volume_.geometry.group_has_super(group)) return;
    const auto raw = volume_.block(volume_.geometry.group_first_block(group)).first(kSuperblockSize);
    ASSIGN_OK(const Superblock backup, parse_superblock(raw));
    EXPECT_EQ(backup.blocks_count, volume_.superblock.blocks_count);
    EXPECT_EQ(view_as<RawSuperblock>(raw).s_block_group_nr.get(), group.value() & 0xffff);
  });
}

// dumpe2fs tells for each group where its blocks, superblock, descriptors, bitmaps and table are, and what is free.
TEST_P(Image, GeometryAndDescriptorsAgreeWithDumpe2fs) {
  const std::string text = dumpe2fs();
  ASSERT_FALSE(text.empty());
  const std::regex head("Group (\\d+): \\(Blocks (\\d+)-(\\d+)\\)([^\n]*)\n([\\s\\S]*?)(?=\nGroup |\n*$)");
  const auto number = [](const std::string &s) { return std::stoull(s); };
  const auto find = [](const std::string &where, const char *what) {
    std::smatch match;
    return std::regex_search(where, match, std::regex(what)) ? std::vector<std::string>(match.begin(), match.end())
                                                             : std::vector<std::string>{};
  };
  const Geometry &geometry = volume_.geometry;
  std::uint32_t seen = 0;
  for (std::sregex_iterator it(text.begin(), text.end(), head), end; it != end; ++it, ++seen) {
    const GroupNumber group(static_cast<std::uint32_t>(number((*it)[1])));
    const std::string flags = (*it)[4], body = (*it)[5];
    SCOPED_TRACE((*it)[0]);
    EXPECT_EQ(geometry.group_first_block(group).value(), number((*it)[2]));
    EXPECT_EQ(geometry.group_first_block(group).value() + geometry.blocks_in_group(group) - 1, number((*it)[3]));

    const auto super = find(body, "(Primary|Backup) superblock at (\\d+)");
    EXPECT_EQ(!super.empty(), geometry.group_has_super(group));
    const auto table = find(body, "Group descriptors? at (\\d+)(?:-(\\d+))?");
    const std::uint64_t table_blocks = table.empty()      ? 0
                                       : table[2].empty() ? 1
                                                          : number(table[2]) - number(table[1]) + 1;
    EXPECT_EQ(table_blocks, geometry.descriptor_blocks_in(group));
    const auto reserved = find(body, "Reserved GDT blocks at (\\d+)-(\\d+)");
    EXPECT_EQ(reserved.empty() ? 0 : number(reserved[2]) - number(reserved[1]) + 1,
              geometry.reserved_descriptor_blocks_in(group));

    ASSIGN_OK(const GroupDesc desc, volume_.desc(group));
    EXPECT_EQ(desc.block_bitmap.value(), number(find(body, "Block bitmap at (\\d+)").at(1)));
    EXPECT_EQ(desc.inode_bitmap.value(), number(find(body, "Inode bitmap at (\\d+)").at(1)));
    const auto inodes = find(body, "Inode table at (\\d+)-(\\d+)");
    EXPECT_EQ(desc.inode_table.value(), number(inodes.at(1)));
    EXPECT_EQ(desc.inode_table.value() + geometry.inode_table_blocks() - 1, number(inodes.at(2)));
    const auto free = find(
        body, "(\\d+) free (?:blocks|clusters), (\\d+) free inodes, (\\d+) directories(?:, (\\d+) unused inodes)?");
    EXPECT_EQ(desc.free_blocks, number(free.at(1)));
    EXPECT_EQ(desc.free_inodes, number(free.at(2)));
    EXPECT_EQ(desc.used_dirs, number(free.at(3)));
    if (!free.at(4).empty()) {
      EXPECT_EQ(desc.itable_unused, number(free.at(4)));
    }
    EXPECT_EQ(desc.block_uninit, flags.find("BLOCK_UNINIT") != std::string::npos);
    EXPECT_EQ(desc.inode_uninit, flags.find("INODE_UNINIT") != std::string::npos);
    EXPECT_EQ(desc.itable_zeroed, flags.find("ITABLE_ZEROED") != std::string::npos);
  }
  EXPECT_EQ(seen, volume_.superblock.group_count);
}

TEST_P(Image, DescriptorsAreWrittenBackAsTheyWere) {
  each_group([&](GroupNumber group) {
    const auto raw = volume_.raw_desc(group);
    const Bytes before(raw.begin(), raw.end());
    ASSIGN_OK(const GroupDesc desc, volume_.desc(group));
    encode_group_desc(volume_.superblock, group, desc, raw);
    EXPECT_TRUE(std::ranges::equal(raw, before));
    GroupDesc changed = desc;
    changed.used_dirs ^= 1;
    encode_group_desc(volume_.superblock, group, changed, raw);
    ASSIGN_OK(const GroupDesc again, volume_.desc(group));
    EXPECT_EQ(again, changed);
    std::copy(before.begin(), before.end(), raw.begin());
  });
}

TEST_P(Image, DamagedDescriptorsAreRefused) {
  const Superblock &sb = volume_.superblock;
  const GroupNumber group(sb.group_count - 1);
  ASSIGN_OK(const GroupDesc good, volume_.desc(group));
  const auto raw = volume_.raw_desc(group);
  const auto expect_refused = [&](const char *what, auto change) {
    GroupDesc bad = good;
    change(bad);
    encode_group_desc(sb, group, bad, raw);
    const auto parsed = volume_.desc(group);
    ASSERT_FALSE(parsed.has_value()) << what;
    EXPECT_EQ(parsed.error().kind(), ErrorKind::corrupt) << what;
  };
  expect_refused("bitmap outside", [&](GroupDesc &d) { d.block_bitmap = BlockNumber(sb.blocks_count); });
  expect_refused("bitmap at 0", [&](GroupDesc &d) { d.inode_bitmap = BlockNumber(0); });
  expect_refused("table outside", [&](GroupDesc &d) { d.inode_table = BlockNumber(sb.blocks_count - 1); });
  expect_refused("bitmaps the same", [&](GroupDesc &d) { d.block_bitmap = d.inode_bitmap; });
  expect_refused("bitmap in the table", [&](GroupDesc &d) { d.block_bitmap = d.inode_table; });
  expect_refused("bitmap on the superblock", [&](GroupDesc &d) { d.block_bitmap = volume_.geometry.super_block(); });
  expect_refused("bitmap on descriptors", [&](GroupDesc &d) { d.block_bitmap = volume_.geometry.descriptor_block(0); });
  expect_refused("free inodes", [&](GroupDesc &d) { d.free_inodes = sb.inodes_per_group + 1; });
  encode_group_desc(sb, group, good, raw);
  ASSERT_OK(volume_.desc(group));
  if (!sb.has_group_checksums()) return;
  raw[0x10] ^= std::byte{1};
  EXPECT_EQ(volume_.desc(group).error().kind(), ErrorKind::bad_checksum);
}

TEST_P(Image, BitmapsHaveTheirChecksumsAndCounts) {
  const Superblock &sb = volume_.superblock;
  std::uint64_t free_clusters = 0, free_inodes = 0;
  Bytes initial(sb.block_size);
  each_group([&](GroupNumber group) {
    ASSIGN_OK(const GroupDesc desc, volume_.desc(group));
    free_clusters += desc.free_blocks;
    free_inodes += desc.free_inodes;
    const std::uint32_t bits = volume_.geometry.clusters_in_group(group);
    if (desc.block_uninit) {
      initial_block_bitmap(volume_.geometry, group, desc, initial);
      EXPECT_EQ(BitmapView(initial, bits).count_zeros(), desc.free_blocks);
      EXPECT_TRUE(BitmapView(initial, sb.block_size * 8).all_set(bits, sb.block_size * 8 - bits));
    } else {
      const auto bitmap = volume_.block(desc.block_bitmap);
      EXPECT_EQ(BitmapView(bitmap, bits).count_zeros(), desc.free_blocks);
      EXPECT_TRUE(bitmap_checksum_matches(sb, desc.block_bitmap_csum, block_bitmap_checksum(sb, bitmap)));
      bitmap[0] ^= std::byte{4};
      EXPECT_EQ(bitmap_checksum_matches(sb, desc.block_bitmap_csum, block_bitmap_checksum(sb, bitmap)),
                !sb.has_metadata_checksums());
      bitmap[0] ^= std::byte{4};
      EXPECT_TRUE(BitmapView(bitmap, bits)
                      .all_set(0, std::min(bits, volume_.geometry.base_metadata_blocks(group) >> sb.cluster_bits)));
    }
    if (desc.inode_uninit) {
      initial_inode_bitmap(volume_.geometry, initial);
      EXPECT_EQ(BitmapView(initial, sb.block_size * 8).count_zeros(), sb.inodes_per_group);
      EXPECT_EQ(desc.free_inodes, sb.inodes_per_group);
    } else {
      const auto bitmap = volume_.block(desc.inode_bitmap);
      EXPECT_EQ(BitmapView(bitmap, sb.inodes_per_group).count_zeros(), desc.free_inodes);
      EXPECT_TRUE(bitmap_checksum_matches(sb, desc.inode_bitmap_csum, inode_bitmap_checksum(sb, bitmap)));
    }
  });
  EXPECT_EQ(free_clusters << sb.cluster_bits, sb.free_blocks);
  EXPECT_EQ(free_inodes, sb.free_inodes);
}

TEST_P(Image, InodesAreWrittenBackAsTheyWere) {
  const Superblock &sb = volume_.superblock;
  std::uint32_t seen = 0, with_fields = 0;
  each_inode([&](InodeNumber number) {
    ASSIGN_OK(const InodeFields fields, volume_.inode(number));
    const auto raw = volume_.raw_inode(number);
    const Bytes before(raw.begin(), raw.end());
    ASSERT_OK(encode_inode(sb, number, fields, raw));
    if (fields.mode != 0 || sb.has_metadata_checksums() == false) {
      EXPECT_TRUE(std::ranges::equal(raw, before));
    }
    std::copy(before.begin(), before.end(), raw.begin());
    ++seen;
    if (fields.mode == 0) return;
    ++with_fields;
    if (sb.inode_size > kGoodOldInodeSize) {
      EXPECT_GE(fields.extra_isize, kKnownExtraSize);
    }
    if (!sb.has_metadata_checksums()) return;
    for (std::size_t i = 0; i < raw.size(); i += 13) {
      raw[i] ^= std::byte{0x40};
      EXPECT_FALSE(volume_.inode(number).has_value());
      raw[i] ^= std::byte{0x40};
    }
  });
  EXPECT_GT(with_fields, 255u);
  EXPECT_GT(seen, with_fields);
}

TEST_P(Image, ExtentTreesAreGoodAndLinksKnowTheirKind) {
  const Superblock &sb = volume_.superblock;
  std::uint32_t with_nodes = 0, fast_links = 0, slow_links = 0;
  each_inode([&](InodeNumber number) {
    ASSIGN_OK(const InodeFields fields, volume_.inode(number));
    if (fields.uses_extents()) {
      with_nodes += !ExtentNodeView(fields.block).is_leaf();
      EXPECT_OK(volume_.each_extent(number, [](const Extent &) {}));
    }
    if (!fields.is_symlink()) return;
    EXPECT_EQ(is_fast_symlink(sb, fields), fields.size < 60);
    ++(is_fast_symlink(sb, fields) ? fast_links : slow_links);
  });
  EXPECT_EQ(with_nodes != 0, sb.has(Incompat::extents));
  EXPECT_EQ(fast_links, 1u);
  EXPECT_EQ(slow_links, 1u);
}

TEST_P(Image, AttributesAreReadAndLaidOutAsTheyWere) {
  const Superblock &sb = volume_.superblock;
  std::size_t attributes = 0;
  each_inode([&](InodeNumber number) {
    ASSIGN_OK(const InodeFields fields, volume_.inode(number));
    const auto area = inline_xattr_area(volume_.raw_inode(number), fields.extra_isize);
    ASSIGN_OK(const XattrCursor inline_cursor, XattrCursor::in_inode(area));
    ASSIGN_OK(const auto inline_items, read_xattrs(inline_cursor));
    attributes += inline_items.size();
    if (!fields.file_acl) return;
    const auto block = volume_.block(fields.file_acl);
    EXPECT_TRUE(xattr_checksum_matches(sb, fields.file_acl, block));
    ASSIGN_OK(const XattrCursor cursor, XattrCursor::in_block(block));
    ASSIGN_OK(const auto items, read_xattrs(cursor));
    attributes += items.size();
    Bytes rebuilt(block.size());
    ASSERT_TRUE(build_xattr_block(rebuilt, items));
    EXPECT_EQ(xattr_block_hash(rebuilt), view_as<RawXattrEntry>(block, sizeof(RawXattrBlockHeader)).e_hash.get());
    edit_as<RawXattrBlockHeader>(rebuilt).h_hash.set(0);  // e2fsprogs does not care to share blocks
    seal_xattr_block(sb, fields.file_acl, rebuilt);
    EXPECT_TRUE(std::ranges::equal(rebuilt, block));
    EXPECT_TRUE(same_xattr_block(rebuilt, block));
  });
  EXPECT_EQ(attributes, 2u);
}

// Every block of every directory: entries, checksums, index; and that the index leads to each name.
TEST_P(Image, DirectoriesCanBeWalked) {
  const Superblock &sb = volume_.superblock;
  const DirFormat format = DirFormat::of(sb);
  std::uint32_t names = 0, indexed = 0;
  each_inode([&](InodeNumber number) {
    ASSIGN_OK(const InodeFields fields, volume_.inode(number));
    if (!fields.is_directory()) return;
    const std::uint32_t seed = inode_checksum_seed(sb, number, fields.generation);
    const bool has_index = fields.has_flag(kInodeFlagIndex);
    indexed += has_index;
    std::optional<DxView> root;
    std::optional<NameHash> hash;
    for (const auto &[file_block, place] : blocks_of(number, fields)) {
      const auto block = volume_.block(place);
      ASSERT_OK(verify_any_dir_block(block, format, seed));
      const Bytes before(block.begin(), block.end());
      seal_any_dir_block(block, format, seed);
      EXPECT_TRUE(std::ranges::equal(block, before));
      if (has_index && file_block.value() == 0) {
        ASSERT_OK(verify_dx_root(block, format, static_cast<std::uint32_t>(fields.size / sb.block_size)));
        root.emplace(block, DxKind::root);
        ASSIGN_OK(hash, NameHash::of(sb, root->hash_version()));
        continue;
      }
      if (sb.has_metadata_checksums() && dir_block_kind(block, format) != DirBlockKind::linear) continue;
      names += check_names(block, format, [&](const DirEntryView &entry) {
        if (!root || root->indirect_levels() != 0) return;
        EXPECT_EQ(root->get(root->find((*hash)(entry.name).major)).block, file_block) << entry.name;
      });
    }
  });
  EXPECT_GT(names, 260u);
  if (sb.has(Compat::dir_index) && sb.block_size <= 4096) {
    EXPECT_EQ(indexed, 1u);
  }
}

TEST_P(Image, DeviceNumbersAreRead) {
  std::vector<DeviceNumber> found;
  each_inode([&](InodeNumber number) {
    ASSIGN_OK(InodeFields fields, volume_.inode(number));
    if (!fields.is_device()) return;
    found.push_back(decode_device(fields));
    const auto before = fields.block;
    encode_device(fields, found.back());
    EXPECT_EQ(fields.block, before);
  });
  ASSERT_EQ(found.size(), 2u);
  ASSIGN_OK(const testing::CommandResult shown, testing::run_command({"debugfs", "-R", "stat far", path_}));
  EXPECT_NE(shown.out.find("300:70000"), std::string::npos) << shown.out;
  EXPECT_EQ(found[0], (DeviceNumber{8, 17}));
  EXPECT_EQ(found[1], (DeviceNumber{300, 70000}));
}

class ImageWithOrphanFile : public Image {};
INSTANTIATE_TEST_SUITE_P(Recipes, ImageWithOrphanFile,
                         ::testing::Values(Recipe{"blocks_4k", 4096, 32, {"-O", "orphan_file"}},
                                           Recipe{"blocks_1k", 1024, 32, {"-O", "orphan_file"}}),
                         [](const auto &param) { return param.param.name; });

TEST_P(ImageWithOrphanFile, OrphanFileBlocksAreGood) {
  const Superblock &sb = volume_.superblock;
  ASSERT_TRUE(sb.has(Compat::orphan_file));
  const InodeNumber number = sb.orphan_file_inode;
  ASSIGN_OK(const InodeFields fields, volume_.inode(number));
  const std::uint32_t seed = inode_checksum_seed(sb, number, fields.generation);
  std::uint32_t blocks = 0;
  ASSERT_OK(volume_.each_extent(number, [&](const Extent &extent) {
    for (std::uint32_t i = 0; i < extent.len; ++i, ++blocks) {
      const BlockNumber place = extent.start + i;
      const auto block = volume_.block(place);
      EXPECT_OK(verify_orphan_block(block, true, place, seed));
      EXPECT_EQ(orphan_slot(block, 0), InodeNumber(0));
      set_orphan_slot(block, orphan_slots(block.size()) - 1, InodeNumber(77));
      EXPECT_FALSE(verify_orphan_block(block, true, place, seed).has_value());
      seal_orphan_block(block, place, seed);
      EXPECT_OK(verify_orphan_block(block, true, place, seed));
      EXPECT_FALSE(verify_orphan_block(block, true, place + 1, seed).has_value());
    }
  }));
  EXPECT_GT(blocks, 0u);
}

}  // namespace
}  // namespace outboard::ext4::format

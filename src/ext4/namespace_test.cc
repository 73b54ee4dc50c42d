// Operations on names: what they do to names, link counts, types and times, and what they refuse. e2fsck judges each result.
#include "ext4/namespace.h"

#include "ext4/block_alloc.h"
#include "ext4/inode_flags.h"
#include "ext4/orphans.h"
#include "ext4/test_image.h"
#include "ext4/truncate.h"

#include <map>

namespace outboard::ext4 {
namespace {

constexpr std::uint32_t kFile = 0100644, kDir = 0040755, kLink = 0120777;

// Operations by path, as a client would ask; inodes are loaded afresh each time.
class NamespaceTest : public ::testing::Test {
protected:
  void start(std::uint64_t size = 16 << 20, const std::vector<std::string> &mkfs = {}, std::uint32_t block_size = 1024) {
    image_ = std::make_unique<TestImage>(size, mkfs, block_size);
    ASSERT_TRUE(image_->open());
  }
  void TearDown() override {
    if (image_) finish();
  }
  void finish() {
    image_->close();
    image_->expect_clean();
    image_.reset();
  }
  Volume &volume() { return image_->volume(); }
  Inode find(const std::string &path) { return image_->find(path); }
  static std::string parent(const std::string &path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  }
  static std::string leaf(const std::string &path) { return path.substr(path.rfind('/') + 1); }
  bool exists(const std::string &path) {
    const Inode directory = find(parent(path));
    return Directory::find(volume(), directory, leaf(path)).has_value();
  }

  Result<Inode> create(const std::string &path, std::uint32_t mode, std::string_view target = "") {
    Inode directory = find(parent(path));
    return names::create(volume(), directory, leaf(path), {.mode = mode, .uid = 1, .gid = 2, .symlink_target = target});
  }
  Status link(const std::string &old_path, const std::string &path) {
    Inode directory = find(parent(path)), target = find(old_path);
    return names::link(volume(), directory, leaf(path), target);
  }
  // As vfs does when nobody else holds the inode: what lost its last name is deleted.
  Status drop(Inode &inode) {
    if (inode.fields.links != 0) return {};
    EXPECT_TRUE(inode.on_orphan_list);
    return truncate::delete_inode(volume(), inode);
  }
  Status unlink(const std::string &path) {
    Inode directory = find(parent(path)), target = find(path);
    TRY(names::unlink(volume(), directory, leaf(path), target));
    return drop(target);
  }
  Status remove_directory(const std::string &path) {
    Inode directory = find(parent(path)), target = find(path);
    TRY(names::remove_directory(volume(), directory, leaf(path), target));
    return drop(target);
  }
  Status rename(const std::string &from, const std::string &to, bool exchange = false, bool whiteout = false) {
    Inode old_directory = find(parent(from)), new_directory = find(parent(to)), source = find(from);
    const bool same = old_directory.number == new_directory.number;
    std::optional<Inode> target;
    if (exists(to)) target = find(to);
    const std::string old_name = leaf(from), new_name = leaf(to);
    const names::Rename what{.old_directory = &old_directory,
                             .old_name = old_name,
                             .source = &source,
                             .new_directory = same ? &old_directory : &new_directory,
                             .new_name = new_name,
                             .target = target ? &*target : nullptr,
                             .exchange = exchange,
                             .whiteout = whiteout,
                             .uid = 5,
                             .gid = 6};
    const std::optional<Inode> left = TRY(names::rename(volume(), what));
    EXPECT_EQ(left.has_value(), whiteout);
    if (left) { EXPECT_EQ(left->fields.mode, 0020000); }
    if (target && !exchange && target->number != source.number) return drop(*target);
    return {};
  }

  std::unique_ptr<TestImage> image_;
};

TEST_F(NamespaceTest, CreatesEveryTypeOfInode) {
  start();
  struct Case {
    const char *name;
    std::uint32_t mode;
    std::uint8_t type;
  };
  for (const Case &c : {Case{"file", kFile, 1}, {"dir", kDir, 2}, {"char", 0020600, 3}, {"block", 0060600, 4},
                        {"fifo", 0010600, 5}, {"socket", 0140600, 6}}) {
    Inode root = find("");
    const format::Timestamp before = root.fields.mtime;
    const auto made = names::create(volume(), root, c.name,
                                    {.mode = c.mode, .umask = 022, .uid = 70000, .gid = 80000, .device_major = 259, .device_minor = 70000});
    ASSERT_OK(made) << c.name;
    EXPECT_GE(root.fields.mtime, before);
    EXPECT_EQ(root.fields.mtime, root.fields.ctime);
    const Inode loaded = find(c.name);
    EXPECT_EQ(loaded.fields.mode, c.mode & ~022u);
    EXPECT_EQ(loaded.fields.uid, 70000u);
    EXPECT_EQ(loaded.fields.gid, 80000u);
    EXPECT_EQ(loaded.fields.links, c.type == 2 ? 2u : 1u);
    EXPECT_EQ(loaded.fields, made->fields);
    EXPECT_EQ(Directory::find(volume(), root, c.name)->file_type, c.type);
    if (loaded.fields.is_device()) { EXPECT_EQ(format::decode_device(loaded.fields), (format::DeviceNumber{259, 70000})); }
    EXPECT_NE(made->sync_tid, 0u);
    EXPECT_ERROR(names::create(volume(), root, c.name, {.mode = c.mode}), EEXIST);
  }
  EXPECT_EQ(find("").fields.links, 4u);  // itself, its "..", lost+found, dir
  EXPECT_EQ(Directory::find(volume(), find("dir"), "..")->inode, format::kRootInode);
  EXPECT_ERROR(create("none", 0644), EINVAL);
}

TEST_F(NamespaceTest, BadNamesAreRefused) {
  start();
  Inode root = find("");
  const auto make = [&](std::string_view name) { return names::create(volume(), root, name, {.mode = kFile}); };
  EXPECT_ERROR(make(""), EINVAL);
  EXPECT_ERROR(make("."), EEXIST);
  EXPECT_ERROR(make(".."), EEXIST);
  EXPECT_ERROR(make("a/b"), EINVAL);
  EXPECT_ERROR(make(std::string_view("a\0b", 3)), EINVAL);
  EXPECT_ERROR(make(std::string(256, 'x')), ENAMETOOLONG);
  EXPECT_OK(make(std::string(255, 'x')));
  ASSERT_OK(create("d", kDir));
  Inode d = find("d");
  EXPECT_ERROR(names::remove_directory(volume(), root, ".", d), EINVAL);
  EXPECT_ERROR(names::remove_directory(volume(), root, "..", d), ENOTEMPTY);
}

TEST_F(NamespaceTest, SymlinksAreKeptInTheInodeOrInABlock) {
  for (const char *features : {"extents", "^extents,^64bit"}) {
    start(16 << 20, {"-O", features});
    for (const std::size_t length : {1, 10, 58, 59, 60, 61, 500, 1023}) {
      const std::string target(length, 'p');
      const auto made = create("l" + std::to_string(length), kLink, target);
      ASSERT_OK(made) << length;
      EXPECT_EQ(made->fields.sectors, length < 60 ? 0u : 2u);
      EXPECT_EQ(made->fields.size, length);
      const auto read = names::read_link(volume(), find("l" + std::to_string(length)));
      ASSERT_OK(read);
      EXPECT_EQ(*read, target);
    }
    EXPECT_ERROR(create("long", kLink, std::string(1024, 'p')), ENAMETOOLONG);
    EXPECT_ERROR(create("empty", kLink, ""), ENOENT);
    EXPECT_ERROR(create("zero", kLink, std::string_view("a\0b", 3)), EINVAL);
    EXPECT_ERROR(names::read_link(volume(), find("")), EINVAL);
    image_->close();
    image_->expect_clean();
    const auto text = testing::debugfs(image_->path(), "stat l500");
    ASSERT_OK(text);
    EXPECT_NE(text->find("Type: symlink"), std::string::npos);
    ASSERT_TRUE(image_->open());
    for (const std::size_t length : {1, 10, 58, 59, 60, 61, 500, 1023}) {
      EXPECT_EQ(*names::read_link(volume(), find("l" + std::to_string(length))), std::string(length, 'p'));
      EXPECT_OK(unlink("l" + std::to_string(length)));
    }
    finish();
  }
  start(16 << 20, {}, 4096);
  EXPECT_OK(create("longest", kLink, std::string(4095, 'p')));
  EXPECT_EQ(names::read_link(volume(), find("longest"))->size(), 4095u);
}

TEST_F(NamespaceTest, SetGroupIdDirectoriesHandTheirGroupOn) {
  start();
  ASSERT_OK(create("shared", kDir | 02000));
  Inode shared = find("shared");
  const auto file = names::create(volume(), shared, "file", {.mode = kFile, .uid = 7, .gid = 8});
  const auto dir = names::create(volume(), shared, "dir", {.mode = kDir, .uid = 7, .gid = 8});
  ASSERT_OK(file);
  ASSERT_OK(dir);
  EXPECT_EQ(file->fields.gid, 2u);
  EXPECT_EQ(file->fields.mode, kFile);
  EXPECT_EQ(dir->fields.gid, 2u);
  EXPECT_EQ(dir->fields.mode, kDir | 02000);
}

TEST_F(NamespaceTest, LinksAreCountedAndLimited) {
  start();
  ASSERT_OK(create("file", kFile));
  ASSERT_OK(create("dir", kDir));
  ASSERT_OK(link("file", "dir/other"));
  EXPECT_EQ(find("file").fields.links, 2u);
  EXPECT_EQ(find("dir/other").number, find("file").number);
  EXPECT_ERROR(link("file", "dir/other"), EEXIST);
  EXPECT_ERROR(link("dir", "dir2"), EPERM);
  ASSERT_OK(unlink("file"));
  EXPECT_EQ(find("dir/other").fields.links, 1u);
  EXPECT_ERROR(unlink("dir"), EISDIR);
  EXPECT_ERROR(remove_directory("dir/other"), ENOTDIR);
  EXPECT_ERROR(remove_directory("dir"), ENOTEMPTY);
  ASSERT_OK(unlink("dir/other"));
  ASSERT_OK(remove_directory("dir"));
  EXPECT_EQ(find("").fields.links, 3u);

  ASSERT_OK(create("popular", kFile));
  Inode popular = find("popular"), root = find("");
  popular.fields.links = 65000;
  EXPECT_ERROR(names::link(volume(), root, "once more", popular), EMLINK);
}

TEST_F(NamespaceTest, TheSubdirectoriesOfAnIndexedDirectoryAreNotCountedBeyond65000) {
  start();
  ASSERT_OK(create("many", kDir));
  Inode many = find("many");
  for (int i = 0; i < 40; ++i)
    ASSERT_OK(names::create(volume(), many, "n" + std::to_string(i) + std::string(40, 'x'), {.mode = kFile}));
  ASSERT_TRUE(many.fields.has_flag(format::kInodeFlagIndex));
  many.fields.links = 64999;  // as if it had so many
  auto a = names::create(volume(), many, "a", {.mode = kDir});
  ASSERT_OK(a);
  EXPECT_EQ(many.fields.links, 65000u);
  auto b = names::create(volume(), many, "b", {.mode = kDir});
  ASSERT_OK(b);
  EXPECT_EQ(many.fields.links, 1u);
  ASSERT_OK(names::remove_directory(volume(), many, "a", *a));
  EXPECT_EQ(many.fields.links, 1u);
  ASSERT_OK(drop(*a));
  // 1 is what e2fsck wants to see only when there really are too many.
  ASSERT_OK(names::remove_directory(volume(), many, "b", *b));
  ASSERT_OK(drop(*b));
  many.fields.links = 2;
  auto handle = volume().journal().start(1);
  ASSERT_OK(volume().inodes().store(*handle, many));
  handle->finish();

  ASSERT_OK(create("few", kDir));
  Inode few = find("few");
  few.fields.links = 65000;
  EXPECT_ERROR(names::create(volume(), few, "a", {.mode = kDir}), EMLINK);  // not indexed
}

TEST_F(NamespaceTest, TemporaryFilesAreOrphansUntilLinked) {
  start();
  Inode root = find("");
  auto kept = names::create_temporary(volume(), root, {.mode = kFile, .umask = 077});
  auto lost = names::create_temporary(volume(), root, {.mode = kFile});
  ASSERT_OK(kept);
  ASSERT_OK(lost);
  EXPECT_EQ(kept->fields.links, 0u);
  EXPECT_EQ(kept->fields.mode, 0100600);
  EXPECT_TRUE(volume().orphans().contains(kept->number));
  ASSERT_OK(names::link(volume(), root, "kept", *kept));
  EXPECT_EQ(kept->fields.links, 1u);
  EXPECT_FALSE(volume().orphans().contains(kept->number));
  EXPECT_ERROR(names::create_temporary(volume(), root, {.mode = kDir}), EINVAL);
  ASSERT_OK(volume().sync());
  image_->crash();
  ASSERT_TRUE(image_->open());  // recovery deletes the other
  EXPECT_EQ(volume().report().orphans_deleted, 1u);
  EXPECT_TRUE(exists("kept"));
}

TEST_F(NamespaceTest, ImmutableAndAppendOnlyInodesKeepTheirNames) {
  start();
  ASSERT_OK(create("d", kDir));
  ASSERT_OK(create("d/f", kFile));
  ASSERT_OK(create("g", kFile));
  const auto with_flag = [&](const std::string &path, std::uint32_t flag) {
    Inode inode = find(path);
    inode.fields.flags = flag == 0 ? inode.fields.flags & ~(inode_flags::kImmutable | inode_flags::kAppend) : inode.fields.flags | flag;
    auto handle = volume().journal().start(1);
    ASSERT_OK(handle);
    ASSERT_OK(volume().inodes().store(*handle, inode));
    handle->finish();
  };
  with_flag("d", inode_flags::kImmutable);
  EXPECT_ERROR(create("d/new", kFile), EPERM);
  EXPECT_ERROR(unlink("d/f"), EPERM);
  EXPECT_ERROR(rename("d/f", "f"), EPERM);
  EXPECT_ERROR(rename("g", "d/g"), EPERM);
  with_flag("d", 0);
  with_flag("d", inode_flags::kAppend);
  EXPECT_OK(create("d/new", kFile));
  EXPECT_ERROR(unlink("d/f"), EPERM);
  EXPECT_ERROR(rename("g", "d/f"), EPERM);
  EXPECT_OK(rename("g", "d/g"));
  with_flag("d", 0);
  for (const std::uint32_t flag : {inode_flags::kImmutable, inode_flags::kAppend}) {
    with_flag("d/f", flag);
    EXPECT_ERROR(unlink("d/f"), EPERM);
    EXPECT_ERROR(rename("d/f", "d/h"), EPERM);
    EXPECT_ERROR(rename("d/g", "d/f"), EPERM);
    EXPECT_ERROR(link("d/f", "d/h"), EPERM);
    with_flag("d/f", 0);
  }
}

// Every sort of source onto nothing and every sort of target, in one directory and across two.
TEST_F(NamespaceTest, RenameMatrix) {
  const std::map<std::string, std::uint32_t> sorts{{"file", kFile}, {"dir", kDir}, {"link", kLink}};
  for (const bool across : {false, true}) {
    for (const auto &[source, source_mode] : sorts) {
      for (const std::string target : {"nothing", "file", "dir", "link", "full"}) {
        SCOPED_TRACE(source + (across ? " across to " : " to ") + target);
        start();
        ASSERT_OK(create("a", kDir));
        ASSERT_OK(create("b", kDir));
        const std::string from = "a/source", to = across ? "b/target" : "a/target";
        ASSERT_OK(create(from, source_mode, source == "link" ? "somewhere" : ""));
        if (target != "nothing") { ASSERT_OK(create(to, target == "full" ? kDir : sorts.at(target), target == "link" ? "elsewhere" : "")); }
        if (target == "full") { ASSERT_OK(create(to + "/child", kFile)); }
        const Inode before = find(from);
        const Status done = rename(from, to);

        const bool target_is_dir = target == "dir" || target == "full";
        if (target != "nothing" && source == "dir" && !target_is_dir) {
          EXPECT_ERROR(done, ENOTDIR);
        } else if (source != "dir" && target_is_dir) {
          EXPECT_ERROR(done, EISDIR);
        } else if (target == "full") {
          EXPECT_ERROR(done, ENOTEMPTY);
        } else {
          ASSERT_OK(done);
          EXPECT_FALSE(exists(from));
          EXPECT_EQ(find(to).number, before.number);
          EXPECT_EQ(find(to).fields.mode, before.fields.mode);
          const Inode parent_of_to = find(parent(to));
          EXPECT_EQ(parent_of_to.fields.links, source == "dir" ? 3u : 2u);
          EXPECT_EQ(find("a").fields.links, source == "dir" && !across ? 3u : 2u);
          if (source == "dir") { EXPECT_EQ(Directory::find(volume(), find(to), "..")->inode, parent_of_to.number); }
          EXPECT_EQ(Directory::find(volume(), parent_of_to, "target")->file_type, source == "file" ? 1 : source == "dir" ? 2 : 7);
        }
        if (!done) {
          EXPECT_TRUE(exists(from));
          EXPECT_TRUE(exists(to));
        }
        finish();
      }
    }
  }
}

TEST_F(NamespaceTest, ExchangeSwapsAnyTwoNames) {
  const std::map<std::string, std::uint32_t> sorts{{"file", kFile}, {"dir", kDir}, {"link", kLink}};
  for (const bool across : {false, true}) {
    for (const auto &[first, first_mode] : sorts) {
      for (const auto &[second, second_mode] : sorts) {
        SCOPED_TRACE(first + (across ? " across with " : " with ") + second);
        start();
        ASSERT_OK(create("a", kDir));
        ASSERT_OK(create("b", kDir));
        const std::string one = "a/one", two = across ? "b/two" : "a/two";
        ASSERT_OK(create(one, first_mode, first == "link" ? "x" : ""));
        ASSERT_OK(create(two, second_mode, second == "link" ? "y" : ""));
        if (first == "dir") { ASSERT_OK(create(one + "/child", kFile)); }
        const InodeNumber was_one = find(one).number, was_two = find(two).number;
        ASSERT_OK(rename(one, two, true));
        EXPECT_EQ(find(one).number, was_two);
        EXPECT_EQ(find(two).number, was_one);
        if (first == "dir") { EXPECT_EQ(Directory::find(volume(), find(two), "..")->inode, find(parent(two)).number); }
        if (second == "dir") { EXPECT_EQ(Directory::find(volume(), find(one), "..")->inode, find("a").number); }
        finish();
      }
    }
  }
}

TEST_F(NamespaceTest, WhiteoutTakesTheOldName) {
  start();
  ASSERT_OK(create("a", kDir));
  ASSERT_OK(create("b", kDir));
  ASSERT_OK(create("a/f", kFile));
  ASSERT_OK(create("a/d", kDir));
  ASSERT_OK(create("b/f", kFile));
  for (const char *path : {"a/f", "a/d"}) {
    const InodeNumber moved = find(path).number;
    ASSERT_OK(rename(path, std::string("b/") + leaf(path), false, true));
    const Inode whiteout = find(path);
    EXPECT_EQ(whiteout.fields.mode, 0020000);
    EXPECT_EQ(whiteout.fields.uid, 5u);
    EXPECT_EQ(whiteout.fields.links, 1u);
    EXPECT_EQ(format::decode_device(whiteout.fields), (format::DeviceNumber{0, 0}));
    EXPECT_EQ(Directory::find(volume(), find("a"), leaf(path))->file_type, 3);
    EXPECT_EQ(find(std::string("b/") + leaf(path)).number, moved);
  }
  EXPECT_ERROR(rename("b/f", "b/d", true, true), EINVAL);
}

TEST_F(NamespaceTest, RenameOfTwoNamesOfOneFileDoesNothing) {
  start();
  ASSERT_OK(create("a", kFile));
  ASSERT_OK(link("a", "b"));
  ASSERT_OK(rename("a", "b"));
  EXPECT_TRUE(exists("a"));
  EXPECT_TRUE(exists("b"));
  EXPECT_EQ(find("a").fields.links, 2u);
}

TEST_F(NamespaceTest, RenameIntoAGrowingDirectoryKeepsTheOldNameFindable) {
  start();
  ASSERT_OK(create("d", kDir));
  // Each rename may split the leaf that holds the old name.
  for (int i = 0; i < 400; ++i) ASSERT_OK(create("d/" + std::to_string(i) + std::string(50, 'o'), kFile));
  for (int i = 0; i < 400; ++i)
    ASSERT_OK(rename("d/" + std::to_string(i) + std::string(50, 'o'), "d/" + std::to_string(i) + std::string(120, 'n')));
  for (int i = 0; i < 400; ++i) {
    EXPECT_FALSE(exists("d/" + std::to_string(i) + std::string(50, 'o')));
    EXPECT_TRUE(exists("d/" + std::to_string(i) + std::string(120, 'n')));
  }
}

// --- A full volume

struct Space {
  std::uint64_t blocks, inodes;
  [[maybe_unused]] friend bool operator==(const Space &, const Space &) = default;
};

TEST_F(NamespaceTest, OutOfInodesLeavesNothingBehind) {
  start(16 << 20, {"-N", "32"});
  int made = 0;
  Result<Inode> last = create("f0", kFile);
  while (last) last = create("f" + std::to_string(++made), kFile);
  EXPECT_ERROR(last, ENOSPC);
  EXPECT_GT(made, 5);
  EXPECT_ERROR(create("dir", kDir), ENOSPC);
  EXPECT_ERROR(rename("f0", "g0", false, true), ENOSPC);
  EXPECT_TRUE(exists("f0"));
  EXPECT_FALSE(exists("g0"));
  Inode root = find("");
  EXPECT_ERROR(names::create_temporary(volume(), root, {.mode = kFile}), ENOSPC);
  ASSERT_OK(unlink("f1"));
  ASSERT_OK(volume().sync());
  EXPECT_OK(create("again", kFile));
}

TEST_F(NamespaceTest, OutOfBlocksLeavesNothingBehind) {
  for (const char *features : {"extents", "^extents,^64bit", "^dir_index"}) {
    SCOPED_TRACE(features);
    start(4 << 20, {"-O", features, "-N", "2048", "-m", "0"});
    ASSERT_OK(create("d", kDir));
    for (int i = 0; i < 13; ++i) ASSERT_OK(create("d/" + std::to_string(i) + std::string(50, 'x'), kFile));
    // All but a few blocks are somebody's, then fewer and fewer.
    std::vector<BlockRun> taken;
    for (std::uint64_t left : {3, 2, 1, 0}) {
      ASSERT_OK(volume().sync());  // what was given back is free only then
      for (;;) {
        const auto run = volume().blocks().reserve({}, 1);
        if (!run) break;
        taken.push_back(*run);
      }
      for (std::uint64_t i = 0; i < left; ++i, taken.pop_back()) volume().blocks().release(taken.back());
      int made = 0;
      Status status;
      while (status && made < 500) {  // names until the directory must grow and cannot
        const auto inode = create("d/" + std::to_string(left) + "-" + std::to_string(made++) + std::string(100, 'y'), kFile);
        if (!inode) status = std::unexpected(inode.error());
      }
      EXPECT_ERROR(status, ENOSPC);
    }
    EXPECT_ERROR(create("d/sub", kDir), ENOSPC);
    EXPECT_ERROR(create("d/link", kLink, std::string(100, 'p')), ENOSPC);
    // What needs no block can still be made; the room of a name is good for the same name only (others have another hash).
    const std::string again = "d/0" + std::string(50, 'x');
    ASSERT_OK(unlink(again));
    EXPECT_OK(create(again, kLink, "p"));
    ASSERT_OK(volume().sync());
    for (const BlockRun &run : taken) volume().blocks().release(run);
    finish();
  }
}

}  // namespace
}  // namespace outboard::ext4
